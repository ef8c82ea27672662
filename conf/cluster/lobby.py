"""scene@0: who comes in, and where one meets first."""

from __future__ import annotations

from typing import Any

import redrabbit
import world  # its handlers are this scene's too
from redrabbit import Login, Session


@redrabbit.on_login
def login(who: Login) -> tuple[str, Any]:
    """The key is the name. A refused client is told why before it is closed."""
    name = " ".join(who.key.split())
    if not name or len(name) > 24 or not name.isprintable():
        raise redrabbit.Refuse({"error": "A name has 1 to 24 characters."})
    return name, {"name": name}


async def shout(session: Session, rest: str) -> str | None:
    """/shout east good evening: into the lobby of another group."""
    group, _, text = rest.partition(" ")
    if not text:
        return "/shout needs the name of a group and a text, as in: /shout east good evening"
    heard = await redrabbit.call("scene@0", "shout", [str(session.id), text], group=group)
    return f"heard by {heard} in {group}"


world.COMMANDS["/shout"] = shout


@redrabbit.service("shout")
def hear(msg: list[str]) -> int:
    name, text = msg
    redrabbit.broadcast(world.NOTICE, world.notice(f"{name} shouts from afar: {text}"))
    return len(redrabbit.sessions())
