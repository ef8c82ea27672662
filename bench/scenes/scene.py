"""What rr-bench gate needs of a scene: cmd 1 echoes, cmd 2 goes to all, cmd 3 echoes through JSON."""

import ffext


@ffext.session_call(1, "raw")
def echo(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 1, body)


@ffext.session_call(2, "raw")
def broadcast(session_id: str, body: bytes) -> None:
    ffext.broadcast_msg_session(2, body)


@ffext.session_call(3, "json")
def echo_json(session_id: str, message: object) -> None:
    ffext.send_msg_session(session_id, 3, message)
