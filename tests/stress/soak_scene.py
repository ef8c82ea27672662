"""The script of every scene of the soak: calls the others at random, serves them and the clients, and writes each step down.

A line of the journal is one write(), so it outlives kill -9. Its words: what, CLOCK_MONOTONIC in ns, the own epoch, then
  T                               a turn began (every 20 ms)
  C number to timeout_ms          a call is made
  E number status epoch           it ended; epoch: the answer's, else 0
  X from life number epoch        somebody's call is executed; epoch: the caller's
  M client number                 a client's message is handled
"""

from __future__ import annotations

import os
import pathlib
import random
import time

import redrabbit
from redrabbit import CallError, Session

NAME = redrabbit.scene()
LIFE = f"{os.getpid()}.{os.urandom(4).hex()}"
OTHERS = [name for name in ("scene@0", "work@0", "work@1") if name != NAME]
CODES = {"NOROUTE", "STALE", "OVERLOAD", "DIED", "LINKDOWN", "TIMEOUT", "CANCELLED"}
MOST = 64  # calls under way

folder = pathlib.Path(__file__).parent / "journal"
folder.mkdir(exist_ok=True)
journal = os.open(folder / f"{NAME} {LIFE}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
under_way = 0


def note(what: str, *words: object) -> None:
    line = " ".join(map(str, (what, time.monotonic_ns(), redrabbit.epoch(), *words))) + "\n"
    if os.write(journal, line.encode()) != len(line):
        raise OSError("the journal is cut")


def status_of(error: CallError) -> str:
    code = str(error).split(":")[0]
    return code if code in CODES else "HANDLER"


async def ask(to: str, timeout: float, size: int) -> None:
    global number, under_way
    number += 1
    mine = number
    under_way += 1
    note("C", mine, to, int(timeout * 1000))
    status, epoch = "CANCELLED", 0  # its handler is, as its client has gone; or the scene ends
    try:
        echo, epoch = await redrabbit.call(to, "work", [NAME, LIFE, mine, redrabbit.epoch(), "x" * size], timeout=timeout)
        status = "OK" if echo == mine else "SPOILT"
    except CallError as error:
        status = status_of(error)
    finally:
        note("E", mine, status, epoch)
        under_way -= 1


def tick() -> None:
    note("T")
    for _ in range(random.choice((0, 0, 1, 1, 3))):
        if under_way < MOST:
            size = random.choice((0, 10, 100, 100, 3000, 60_000 if random.random() < 0.1 else 0))
            redrabbit.spawn(ask(random.choice(OTHERS), random.uniform(0.2, 2.5), size))


redrabbit.every(0.02, tick)


@redrabbit.service("work")
async def work(msg: list) -> list:
    name, life, mine, epoch, _ = msg
    note("X", name, life, mine, epoch)
    chance = random.random()
    if chance < 0.02:
        raise ValueError("as it was told")
    if chance < 0.2:
        await redrabbit.sleep(random.uniform(0, 0.6))
    return [mine, redrabbit.epoch()]


@redrabbit.message(1)
def echo(session: Session, n: int) -> None:
    note("M", session.id, n)
    session.send(1, [n, redrabbit.epoch()])


@redrabbit.message(2)
async def relay(session: Session, n: int) -> None:
    note("M", session.id, n)
    await ask(random.choice(OTHERS), 1.0, 10)
    session.send(1, [n, redrabbit.epoch()])
