"""@NAME@: what the server does."""

from __future__ import annotations

import ffext

SAY = 1  # the command that clients send; the body is JSON


@ffext.session_verify_callback
def verify(session_key: str, online_time: int, ip: str, gate_name: str) -> list[str]:
    """The first message of a client: its key becomes the session's id, [] refuses."""
    return [session_key] if session_key else []


@ffext.session_enter_callback
def enter(session_id: str, from_scene: str, extra_data: str) -> None:
    ffext.send_msg_session(session_id, SAY, f"welcome, {session_id}")


@ffext.session_call(SAY)
def say(session_id: str, msg: list[str]) -> None:
    ffext.broadcast_msg_session(SAY, f"{session_id}: {msg[0]}")


@ffext.session_offline_callback
def offline(session_id: str, online_time: int) -> None:
    ffext.broadcast_msg_session(SAY, f"{session_id} left")
