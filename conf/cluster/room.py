"""room@1, room@2 …: a place to be apart."""

from __future__ import annotations

import random

import redrabbit
import world
from redrabbit import Session


async def roll(session: Session, rest: str) -> str | None:
    """/roll: all in the room see the same dice."""
    line = f"{session.id} rolls {random.randint(1, 6)}"
    redrabbit.broadcast(world.NOTICE, world.notice(line))
    return None


world.COMMANDS["/roll"] = roll
