"""What lobby and rooms share: the numbers on the wire, and a hall of people who talk.

The same scripts run in one process, in four, and in two groups that a bridge joins: nothing here knows where anybody lives.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import redrabbit
from redrabbit import CallError, Session

# Commands on the wire: JSON, as the chat's page speaks them. Clients send SAY as ["text"]; they get:
SAY = 1  # {"from": name, "text": text, "at": seconds}
ONLINE = 2  # [name, …]
NOTICE = 3  # {"text": text, "at": seconds}

Command = Callable[[Session, str], Awaitable[str | None]]


def notice(text: str) -> dict[str, Any]:
    return {"text": text, "at": int(time.time())}


def tell_online() -> None:
    redrabbit.broadcast(ONLINE, [str(name) for name in redrabbit.sessions()])


async def go(session: Session, where: str) -> str | None:
    """/go room@1: to another scene, wherever it runs."""
    if not where:
        return "/go needs the name of a room, as in: /go room@1"
    await session.move(where)  # its enter has run there when this returns
    return None


async def who(session: Session, where: str) -> str | None:
    """/who room@1: a service of another scene."""
    if not where:
        return "/who needs the name of a room, as in: /who room@1"
    names = await redrabbit.call(where, "who", None)
    return f"in {where}: {', '.join(names) or 'nobody'}"


async def top(session: Session, rest: str) -> str | None:
    """/top: a service of a scene that has no sessions."""
    lines = await redrabbit.call("board@0", "top", None)
    return "most talkative: " + (", ".join(f"{name} {count}" for name, count in lines) or "nobody yet")


async def usage(session: Session, rest: str) -> str | None:
    return "Commands: " + ", ".join(sorted(COMMANDS))


COMMANDS: dict[str, Command] = {"/go": go, "/help": usage, "/top": top, "/who": who}


@redrabbit.on_enter
def enter(session: Session) -> None:
    session.send(NOTICE, notice(f"You are in {redrabbit.scene()}. /help shows what you can do."))
    redrabbit.broadcast(NOTICE, notice(f"{session.id} has come to {redrabbit.scene()}"))
    tell_online()


@redrabbit.message(SAY)
async def say(session: Session, msg: list[str]) -> None:
    name, text = str(session.id), str(msg[0]).strip()[:2000]
    word, _, rest = text.partition(" ")
    if word in COMMANDS:
        try:
            answer = await COMMANDS[word](session, rest.strip())
        except CallError as error:
            answer = f"{word}: {error}"
        if answer:
            session.send(NOTICE, notice(answer))
    elif text:
        redrabbit.broadcast(SAY, {"from": name, "text": text, "at": int(time.time())})
        try:
            await redrabbit.call("board@0", "count", name)
        except CallError as error:
            redrabbit.log.warning(f"a line of {name} is not counted: {error}")


@redrabbit.on_leave
def leave(session: Session, to_scene: str) -> None:
    redrabbit.broadcast(NOTICE, notice(f"{session.id} has gone to {to_scene}"))
    tell_online()


@redrabbit.on_offline
def offline(session: Session) -> None:
    redrabbit.broadcast(NOTICE, notice(f"{session.id} has left"))
    tell_online()


@redrabbit.service("who")
def who_is_here(msg: None) -> list[str]:
    return [str(name) for name in redrabbit.sessions()]
