"""What rr-bench gate multicast needs of a scene: cmd 1 echoes, cmd 4 goes to a list of everybody."""

import ffext

members: list[str] = []


@ffext.session_enter_callback
def enter(session_id: str, from_scene: str, extra: str) -> None:
    members.append(session_id)


@ffext.session_offline_callback
def offline(session_id: str, online_time: int) -> None:
    members.remove(session_id)


@ffext.session_call(1, "raw")
def echo(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 1, body)


@ffext.session_call(4, "raw")
def multicast(session_id: str, body: bytes) -> None:
    ffext.multi_send_msg_session(members, 4, body)
