"""Every message of cmd 1 goes back to its sender, byte for byte. Without a verifier the key is the session's id."""

import ffext


@ffext.session_call(1, "raw")
def echo(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 1, body)
