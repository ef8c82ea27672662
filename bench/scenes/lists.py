"""What rr-bench gate multicast and rooms need of a scene: cmd 1 echoes, cmd 4 goes to a list of everybody, cmd 5 to its sender's room."""

import os

import ffext

ROOM = int(os.environ.get("RR_BENCH_ROOM", "20"))  # rr-bench gate rooms --room
members: list[str] = []
rooms: dict[str, list[str]] = {}  # session -> the sessions of its room
by_number: dict[int, list[str]] = {}


@ffext.session_enter_callback
def enter(session_id: str, from_scene: str, extra: str) -> None:
    members.append(session_id)
    number = session_id.rpartition("-")[2]
    if number.isdigit():
        rooms[session_id] = by_number.setdefault(int(number) // ROOM, [])
        rooms[session_id].append(session_id)


@ffext.session_offline_callback
def offline(session_id: str, online_time: int) -> None:
    members.remove(session_id)
    if session_id in rooms:
        rooms.pop(session_id).remove(session_id)


@ffext.session_call(1, "raw")
def echo(session_id: str, body: bytes) -> None:
    ffext.send_msg_session(session_id, 1, body)


@ffext.session_call(4, "raw")
def multicast(session_id: str, body: bytes) -> None:
    ffext.multi_send_msg_session(members, 4, body)


@ffext.session_call(5, "raw")
def say(session_id: str, body: bytes) -> None:
    ffext.multi_send_msg_session(rooms[session_id], 5, body)
