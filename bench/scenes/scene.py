"""What rr-bench gate needs of a scene: cmd 1 echoes, cmd 2 goes to all, cmd 3 echoes through JSON.

Cmd 5 only decodes it, cmd 6 only encodes it:
rr-bench gate echo --body json --cmd N --reply-cmd N --ready now
"""

import ffext

PAD = "hijklmnopqrstuvwxyzabcdefg"  # as the generator's, for 64 bytes


@ffext.session_call(1, "raw")
def echo(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 1, body)


@ffext.session_call(2, "raw")
def broadcast(session_id: str, body: bytes) -> None:
    ffext.broadcast_msg_session(2, body)


@ffext.session_call(3, "json")
def echo_json(session_id: str, message: object) -> None:
    ffext.send_msg_session(session_id, 3, message)


@ffext.session_call(5, "json")
def json_in(session_id: str, message: dict[str, str]) -> None:
    ffext.send_msg_session(session_id, 5, '{"n": "' + message["n"] + '"}')


@ffext.session_call(6, "raw")
def json_out(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 6, {"n": body[7:23].decode(), "pad": PAD})
