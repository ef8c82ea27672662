"""A chat room. Edit it while people talk; nobody has to reconnect.

Try it: let decorate() return text.upper(), or add a command to COMMANDS.
"""

from __future__ import annotations

import json
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import ffext

# Commands on the wire: JSON. Clients send SAY as ["text"]; they get:
SAY = 1  # {"from": name, "text": text, "at": seconds}
ONLINE = 2  # [name, …]
NOTICE = 3  # {"text": text, "at": seconds}
HISTORY = 4  # a list of SAY, oldest first: what a newcomer has missed

GREETING = "Welcome, {name}! Say something, or try /help."
LONGEST_NAME = 24
LONGEST_LINE = 2000


class Room:
    """What outlives a reload: singleton() keeps the instance, with the new class."""

    def __init__(self) -> None:
        self.people: dict[str, float] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=50)


def room() -> Room:
    return ffext.singleton(Room)


def decorate(name: str, text: str) -> str:
    """What everybody gets to see of a line that name wrote."""
    return text


def roll(name: str, rest: str) -> str:
    sides = int(rest) if rest in ("4", "8", "10", "12", "20", "100") else 6
    return f"{name} rolls {random.randint(1, sides)} of {sides}"


def uptime(name: str, rest: str) -> str:
    minutes, seconds = divmod(int(time.time() - room().people[name]), 60)
    return f"{name} has been here for {minutes} min {seconds} s"


def usage(name: str, rest: str) -> str:
    return "Commands: " + ", ".join(sorted(COMMANDS))


COMMANDS: dict[str, Callable[[str, str], str]] = {
    "/help": usage,
    "/roll": roll,
    "/uptime": uptime,
}


def notice(text: str) -> dict[str, Any]:
    return {"text": text, "at": int(time.time())}


@ffext.session_verify_callback
def verify(session_key: str, online_time: int, ip: str, gate_name: str) -> list[Any]:
    """The key is the name. A refused client is told why before it is closed."""
    name = " ".join(session_key.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        return [0, json.dumps({"error": f"A name has 1 to {LONGEST_NAME} characters."})]
    return [name, json.dumps({"name": name})]


@ffext.session_enter_callback
def enter(session_id: str, from_scene: str, extra_data: str) -> None:
    room().people[session_id] = time.time()
    ffext.send_msg_session(session_id, HISTORY, list(room().history))
    ffext.send_msg_session(session_id, NOTICE, notice(GREETING.format(name=session_id)))
    ffext.broadcast_msg_session(NOTICE, notice(f"{session_id} has joined"))
    ffext.broadcast_msg_session(ONLINE, room().people.keys())


@ffext.session_call(SAY)
def say(session_id: str, msg: list[str]) -> None:
    text = str(msg[0]).strip()[:LONGEST_LINE]
    if not text:
        return
    word, _, rest = text.partition(" ")
    if word in COMMANDS:
        answer = COMMANDS[word](session_id, rest.strip())
        ffext.broadcast_msg_session(NOTICE, notice(answer))
        return
    line = {
        "from": session_id,
        "text": decorate(session_id, text),
        "at": int(time.time()),
    }
    room().history.append(line)
    ffext.broadcast_msg_session(SAY, line)


@ffext.session_offline_callback
def offline(session_id: str, online_time: int, reason: str) -> None:
    room().people.pop(session_id, None)
    ffext.broadcast_msg_session(NOTICE, notice(f"{session_id} has left"))
    ffext.broadcast_msg_session(ONLINE, room().people.keys())
