"""A chat room. Edit it while people talk; nobody has to reconnect.

Try it: let decorate() return text.upper(), or add a command to COMMANDS.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redrabbit
from redrabbit import Login, Session

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


room = redrabbit.singleton(Room)


def decorate(name: str, text: str) -> str:
    """What everybody gets to see of a line that name wrote."""
    return text


def roll(name: str, rest: str) -> str:
    sides = int(rest) if rest in ("4", "8", "10", "12", "20", "100") else 6
    return f"{name} rolls {random.randint(1, sides)} of {sides}"


def uptime(name: str, rest: str) -> str:
    minutes, seconds = divmod(int(time.time() - room.people[name]), 60)
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


@redrabbit.on_login
def login(who: Login) -> tuple[str, Any]:
    """The key is the name. A refused client is told why before it is closed."""
    name = " ".join(who.key.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise redrabbit.Refuse({"error": f"A name has 1 to {LONGEST_NAME} characters."})
    return name, {"name": name}


@redrabbit.on_enter
def enter(session: Session) -> None:
    name = str(session.id)
    room.people[name] = time.time()
    session.send(HISTORY, list(room.history))
    session.send(NOTICE, notice(GREETING.format(name=name)))
    redrabbit.broadcast(NOTICE, notice(f"{name} has joined"))
    redrabbit.broadcast(ONLINE, list(room.people))


@redrabbit.message(SAY)
def say(session: Session, msg: list[str]) -> None:
    name, text = str(session.id), str(msg[0]).strip()[:LONGEST_LINE]
    if not text:
        return
    word, _, rest = text.partition(" ")
    if word in COMMANDS:
        answer = COMMANDS[word](name, rest.strip())
        redrabbit.broadcast(NOTICE, notice(answer))
        return
    line = {"from": name, "text": decorate(name, text), "at": int(time.time())}
    room.history.append(line)
    redrabbit.broadcast(SAY, line)


@redrabbit.on_offline
def offline(session: Session) -> None:
    room.people.pop(str(session.id), None)
    redrabbit.broadcast(NOTICE, notice(f"{session.id} has left"))
    redrabbit.broadcast(ONLINE, list(room.people))
