"""Accounts and a leaderboard: register, log in, score, the top ten. The database is the graph's db@main.

The same SQL runs on SQLite, MariaDB and PostgreSQL.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
from typing import Any

import redrabbit
from redrabbit import DatabaseError, IntegrityError, Login, Refuse, Session

# Commands on the wire: JSON. A client's login is {"name": …, "password": …}, with "register": true for a new account; it is
# refused with {"error": …}, or gets {"name": …, "best": …}. Both are cmd 0.
SCORE = 1  # from clients: a number. To the client: {"score": …, "best": …}
TOP = 2  # to all, when it changes: [[name, best], …]; from clients: anything, to be told it
ERROR = 3  # {"error": …}

LONGEST_NAME, SHORTEST_PASSWORD, LONGEST_PASSWORD = 24, 8, 200
HIGHEST = 2**31 - 1

db: redrabbit.Database


async def init() -> None:
    global db
    db = await redrabbit.database("db@main")
    redrabbit.spawn(prepare())  # the server may still be starting: logins are told so until then


async def prepare() -> None:
    # MariaDB's usual order takes müller and muller for one.
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if db.driver == "mysql" else ""
    while True:
        try:
            await db.query(
                "CREATE TABLE IF NOT EXISTS player ("
                f" name VARCHAR(64){exact} PRIMARY KEY,"
                " secret VARCHAR(200) NOT NULL,"
                " best INTEGER NOT NULL DEFAULT 0)"
            )
            return
        except DatabaseError as error:
            redrabbit.log.warning(f"the table is not there yet: {error}")
            await redrabbit.sleep(1)


# ---- Passwords: scrypt, in threads of its own ----

HASH_MEMORY = {"n": 2**14, "r": 8, "p": 1}  # 16 MiB and some 50 ms each: that is the point of it
AT_ONCE, WAITING = 2, 100  # hashes that run, and that wait to: a crowd at the door must not take all memory

_running = asyncio.Semaphore(AT_ONCE)
_waiting = 0


async def digest(password: str, salt: bytes) -> bytes:
    """The password's hash. The scene goes on meanwhile: hashlib gives the GIL back."""
    global _waiting
    if _waiting >= WAITING:
        raise Refuse({"error": "Too many people log in right now. Try again in a moment."})
    _waiting += 1
    try:
        async with _running:
            return await asyncio.to_thread(hashlib.scrypt, password.encode(), salt=salt, **HASH_MEMORY)
    finally:
        _waiting -= 1


async def new_secret(password: str) -> str:
    salt = os.urandom(16)
    hashed = await digest(password, salt)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(hashed).decode()}"


async def matches(password: str, secret: str) -> bool:
    _, salt, hashed = secret.split("$")
    wanted = base64.b64decode(hashed)
    return hmac.compare_digest(await digest(password, base64.b64decode(salt)), wanted)


NOBODY = f"scrypt${base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(64)).decode()}"


# ---- Logging in ----


def credentials(key: str) -> tuple[str, str, bool]:
    try:
        fields = json.loads(key)
        name, password = str(fields["name"]), str(fields["password"])
        register = bool(fields.get("register"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refuse({"error": "A login has a name and a password."}) from None
    name = " ".join(name.split()).casefold()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Refuse({"error": f"A name has 1 to {LONGEST_NAME} characters."})
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Refuse({"error": f"A password has at least {SHORTEST_PASSWORD} characters."})
    return name, password, register


async def check_player(name: str, password: str) -> int:
    row = await db.one("SELECT secret, best FROM player WHERE name = ?", (name,))
    # An unknown name takes as long as a wrong password, and says the same.
    secret, best = row or (NOBODY, 0)
    if not await matches(password, secret) or row is None:
        raise Refuse({"error": "Name or password is wrong."})
    return int(best)


async def register_player(name: str, password: str) -> int:
    secret = await new_secret(password)
    try:
        await db.query("INSERT INTO player (name, secret) VALUES (?, ?)", (name, secret))
        return 0
    except IntegrityError:
        pass
    try:
        return await check_player(name, password)  # the page says "register" again after a lost connection
    except Refuse:
        raise Refuse({"error": "That name is taken."}) from None


@redrabbit.on_login
async def login(who: Login) -> tuple[str, Any]:
    name, password, register = credentials(who.key)
    try:
        best = await (register_player if register else check_player)(name, password)
    except DatabaseError as error:
        redrabbit.log.error(f"login: {error}")
        raise Refuse({"error": "The database does not answer. Try again in a moment."}) from None
    return name, {"name": name, "best": best}


# ---- The game ----


async def top() -> list[Any]:
    return await db.query("SELECT name, best FROM player WHERE best > 0 ORDER BY best DESC, name LIMIT 10")


@redrabbit.on_enter
async def enter(session: Session) -> None:
    session.send(TOP, await top())


@redrabbit.message(TOP)
async def tell_top(session: Session, msg: Any) -> None:
    session.send(TOP, await top())


@redrabbit.message(SCORE)
async def score(session: Session, points: int) -> None:
    if isinstance(points, bool) or not isinstance(points, int) or not 0 <= points <= HIGHEST:
        session.send(ERROR, {"error": f"A score is a number from 0 to {HIGHEST}."})
        return
    name = str(session.id)
    try:
        # The key keeps one player's queries in their order, whatever connection they take.
        better = await db.query("UPDATE player SET best = ? WHERE name = ? AND best < ?", (points, name, points), key=name)
        best = await db.value("SELECT best FROM player WHERE name = ?", (name,), key=name)
        session.send(SCORE, {"score": points, "best": best})
        if better.affected:
            redrabbit.broadcast(TOP, await top())
    except DatabaseError as error:
        redrabbit.log.error(f"score: {error}")
        session.send(ERROR, {"error": "The score could not be kept. Try again in a moment."})
