"""Redis from scripts: commands, pipelines, publish and subscribe."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import _redrabbit

from . import _api, _host
from ._database import (
    ATOMIC,
    BYTES,
    CLOSE,
    COMMANDS,
    ID,
    NONE,
    PATTERN,
    REPLIES,
    REPLY,
    STR,
    SUBSCRIBE,
    DatabaseError,
    Hints,
    milliseconds,
)

if TYPE_CHECKING:
    from types import TracebackType

V = TypeVar("V", str, bytes)
Word: TypeAlias = str | bytes | int | float
Handler: TypeAlias = Callable[[str, Any], Any]

_MAX_EARLY = 1000  # events kept for a subscription whose answer is on its way


# ---- What replies become ----


def _yes(reply: Any) -> bool:
    return reply is not None and reply != 0


def _number(reply: Any) -> float | None:
    return None if reply is None else float(reply)


def _pairs(reply: Any) -> list[tuple[Any, float]]:
    flat = [word for item in reply for word in item] if reply and isinstance(reply[0], list) else reply
    return [(flat[i], float(flat[i + 1])) for i in range(0, len(flat), 2)]


def _mapping(reply: Any) -> dict[Any, Any]:
    if isinstance(reply, dict):
        return reply
    return {reply[i]: reply[i + 1] for i in range(0, len(reply), 2)}


async def _converted(reply: Awaitable[Any], convert: Callable[[Any], Any]) -> Any:
    return convert(await reply)


# ---- Commands ----


# What other libraries call it, and what it is here.
_SUBSCRIBE = "write `await redis.subscribe(channel, handler)`"
_ELSEWHERE = {
    "aclose": "none is needed, all scenes of a process share its connections",
    "close": "none is needed, all scenes of a process share its connections",
    "execute_command": 'write `await redis.command("NAME", …)`',
    "hmset": "write `await redis.hset(key, {field: value})`",
    "keys": "write `async for key in redis.scan(pattern):`",
    "listen": _SUBSCRIBE,
    "lock": "write `await redis.set(key, token, nx=True, ex=seconds)`",
    "multi": "write `async with redis.pipeline(atomic=True) as pipe:`",
    "psetex": "write `await redis.set(key, value, ex=seconds)`",
    "pubsub": _SUBSCRIBE,
    "query": 'this is Redis, no SQL: write `await redis.get(key)`, or `await redis.command("NAME", …)`',
    "scan_iter": "write `async for key in redis.scan(pattern):`",
    "select": "the database is part of the URL",
    "setex": "write `await redis.set(key, value, ex=seconds)`",
    "setnx": "write `await redis.set(key, value, nx=True)`",
    "transaction": "write `async with redis.pipeline(atomic=True) as pipe:`",
    "watch": "write a script, `await redis.eval(…)`: the connection is everybody's",
}


class Commands(Hints, Generic[V]):
    """Redis' commands as methods; any other by command("NAME", …).

    Keys, members and values are str, bytes, int or float; what comes back is str (Redis[str]), or
    bytes by `redis.raw`. Times are in seconds and may be fractions."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def _elsewhere(self):
            return _ELSEWHERE

    def _run(self, convert: Callable[[Any], Any] | None, *words: Word) -> Awaitable[Any]:
        raise NotImplementedError

    def command(self, *words: Word) -> Awaitable[Any]:
        """Any command, as it is written: `await redis.command("GETEX", "key", "EX", 10)`.

        Brings the reply as it is: None, int, float, str (bytes by .raw), or lists of them."""
        return self._run(None, *words)

    # ---- Strings and numbers ----

    def get(self, key: Word) -> Awaitable[V | None]:
        """The value, or None."""
        return self._run(None, "GET", key)

    def set(
        self,
        key: Word,
        value: Word,
        *,
        ex: float | None = None,
        nx: bool = False,
        xx: bool = False,
        keepttl: bool = False,
    ) -> Awaitable[bool]:
        """ex: it expires after so many seconds. nx: only if it is absent, xx: only if it is there;
        False if it was not set for that."""
        words: list[Word] = ["SET", key, value]
        if ex is not None:
            words += ["PX", _api._ms(ex)]
        words += [word for word, on in (("NX", nx), ("XX", xx), ("KEEPTTL", keepttl)) if on]
        return self._run(_yes, *words)

    def getdel(self, key: Word) -> Awaitable[V | None]:
        """The value, which is gone then, or None."""
        return self._run(None, "GETDEL", key)

    def mget(self, *keys: Word) -> Awaitable[list[V | None]]:
        """The values of many keys."""
        return self._run(None, "MGET", *keys)

    def mset(self, values: Mapping[Any, Word]) -> Awaitable[bool]:
        """Sets many keys at once."""
        return self._run(_yes, "MSET", *[word for pair in values.items() for word in pair])

    def append(self, key: Word, value: Word) -> Awaitable[int]:
        """Brings the new length."""
        return self._run(None, "APPEND", key, value)

    def incr(self, key: Word, by: int = 1) -> Awaitable[int]:
        """Brings the new number."""
        return self._run(None, "INCRBY", key, by)

    def decr(self, key: Word, by: int = 1) -> Awaitable[int]:
        """Brings the new number."""
        return self._run(None, "DECRBY", key, by)

    def incrbyfloat(self, key: Word, by: float) -> Awaitable[float]:
        """Brings the new number."""
        return self._run(float, "INCRBYFLOAT", key, by)

    # ---- Keys ----

    def delete(self, *keys: Word) -> Awaitable[int]:
        """How many of them there were."""
        return self._run(None, "DEL", *keys)

    def exists(self, *keys: Word) -> Awaitable[int]:
        """How many of them there are."""
        return self._run(None, "EXISTS", *keys)

    def expire(self, key: Word, seconds: float) -> Awaitable[bool]:
        """False: there is no such key."""
        return self._run(_yes, "PEXPIRE", key, _api._ms(seconds))

    def persist(self, key: Word) -> Awaitable[bool]:
        """It does not expire any more. False: there is no such key, or it did not."""
        return self._run(_yes, "PERSIST", key)

    def ttl(self, key: Word) -> Awaitable[float | None]:
        """Seconds until it expires; None: it does not, or is not there."""
        return self._run(lambda ms: ms / 1000 if ms >= 0 else None, "PTTL", key)

    def rename(self, key: Word, to: Word) -> Awaitable[bool]:
        return self._run(_yes, "RENAME", key, to)

    def type(self, key: Word) -> Awaitable[V]:
        """'string', 'list', 'set', 'zset', 'hash', 'stream' or 'none'."""
        return self._run(None, "TYPE", key)

    def dbsize(self) -> Awaitable[int]:
        """How many keys there are."""
        return self._run(None, "DBSIZE")

    def ping(self) -> Awaitable[bool]:
        return self._run(_yes, "PING")

    # ---- Hashes ----

    def hget(self, key: Word, field: Word) -> Awaitable[V | None]:
        return self._run(None, "HGET", key, field)

    def hset(self, key: Word, fields: Mapping[Any, Word]) -> Awaitable[int]:
        """How many fields are new."""
        return self._run(None, "HSET", key, *[word for pair in fields.items() for word in pair])

    def hmget(self, key: Word, *fields: Word) -> Awaitable[list[V | None]]:
        return self._run(None, "HMGET", key, *fields)

    def hgetall(self, key: Word) -> Awaitable[dict[V, V]]:
        return self._run(_mapping, "HGETALL", key)

    def hdel(self, key: Word, *fields: Word) -> Awaitable[int]:
        return self._run(None, "HDEL", key, *fields)

    def hexists(self, key: Word, field: Word) -> Awaitable[bool]:
        return self._run(_yes, "HEXISTS", key, field)

    def hincr(self, key: Word, field: Word, by: int = 1) -> Awaitable[int]:
        """Brings the new number."""
        return self._run(None, "HINCRBY", key, field, by)

    def hkeys(self, key: Word) -> Awaitable[list[V]]:
        return self._run(None, "HKEYS", key)

    def hlen(self, key: Word) -> Awaitable[int]:
        return self._run(None, "HLEN", key)

    # ---- Lists ----

    def lpush(self, key: Word, *values: Word) -> Awaitable[int]:
        """Brings the new length."""
        return self._run(None, "LPUSH", key, *values)

    def rpush(self, key: Word, *values: Word) -> Awaitable[int]:
        """Brings the new length."""
        return self._run(None, "RPUSH", key, *values)

    def lpop(self, key: Word) -> Awaitable[V | None]:
        return self._run(None, "LPOP", key)

    def rpop(self, key: Word) -> Awaitable[V | None]:
        return self._run(None, "RPOP", key)

    def lrange(self, key: Word, first: int = 0, last: int = -1) -> Awaitable[list[V]]:
        """From first to last, both included; -1 is the last."""
        return self._run(None, "LRANGE", key, first, last)

    def ltrim(self, key: Word, first: int, last: int) -> Awaitable[bool]:
        """Keeps only these."""
        return self._run(_yes, "LTRIM", key, first, last)

    def llen(self, key: Word) -> Awaitable[int]:
        return self._run(None, "LLEN", key)

    # ---- Sets ----

    def sadd(self, key: Word, *members: Word) -> Awaitable[int]:
        """How many are new."""
        return self._run(None, "SADD", key, *members)

    def srem(self, key: Word, *members: Word) -> Awaitable[int]:
        """How many there were."""
        return self._run(None, "SREM", key, *members)

    def smembers(self, key: Word) -> Awaitable[builtins.set[V]]:
        return self._run(_set, "SMEMBERS", key)

    def sismember(self, key: Word, member: Word) -> Awaitable[bool]:
        return self._run(_yes, "SISMEMBER", key, member)

    def scard(self, key: Word) -> Awaitable[int]:
        """How many members it has."""
        return self._run(None, "SCARD", key)

    # ---- Sorted sets ----

    def zadd(
        self, key: Word, scores: Mapping[Any, float], *, nx: bool = False, gt: bool = False
    ) -> Awaitable[int]:
        """{member: score}. nx: only new members; gt: only to a greater score. How many are new."""
        words: list[Word] = [word for word, on in (("NX", nx), ("GT", gt)) if on]
        for member, score in scores.items():
            words += [score, member]
        return self._run(None, "ZADD", key, *words)

    def zincr(self, key: Word, member: Word, by: float = 1) -> Awaitable[float]:
        """Brings the new score."""
        return self._run(float, "ZINCRBY", key, by, member)

    def zscore(self, key: Word, member: Word) -> Awaitable[float | None]:
        return self._run(_number, "ZSCORE", key, member)

    def zrank(self, key: Word, member: Word, *, desc: bool = False) -> Awaitable[int | None]:
        """0 is the lowest score, with desc the highest; None: no such member."""
        return self._run(None, "ZREVRANK" if desc else "ZRANK", key, member)

    def zrange(
        self, key: Word, first: int = 0, last: int = -1, *, desc: bool = False
    ) -> Awaitable[list[tuple[V, float]]]:
        """[(member, score)] by rank, both ends included; the best ten: zrange(key, 0, 9, desc=True)."""
        command = "ZREVRANGE" if desc else "ZRANGE"
        return self._run(_pairs, command, key, first, last, "WITHSCORES")

    def zrangebyscore(
        self, key: Word, least: Word = "-inf", most: Word = "+inf"
    ) -> Awaitable[list[tuple[V, float]]]:
        return self._run(_pairs, "ZRANGEBYSCORE", key, least, most, "WITHSCORES")

    def zrem(self, key: Word, *members: Word) -> Awaitable[int]:
        """How many there were."""
        return self._run(None, "ZREM", key, *members)

    def zremrangebyrank(self, key: Word, first: int, last: int) -> Awaitable[int]:
        return self._run(None, "ZREMRANGEBYRANK", key, first, last)

    def zcard(self, key: Word) -> Awaitable[int]:
        """How many members it has."""
        return self._run(None, "ZCARD", key)

    # ---- Others ----

    def publish(self, channel: Word, message: Word) -> Awaitable[int]:
        """How many subscribers of this server got it."""
        return self._run(None, "PUBLISH", channel, message)

    def eval(self, script: str, keys: tuple[Word, ...] = (), args: tuple[Word, ...] = ()) -> Awaitable[Any]:
        """A script in Lua, which runs alone; its reply."""
        return self._run(None, "EVAL", script, len(keys), *keys, *args)


def _set(reply: Any) -> set[Any]:
    return set(reply)


class Redis(Commands[V]):
    """A Redis, as `await redrabbit.redis(…)` gives it. Everybody may use it at once."""

    __slots__ = ("_name", "_style", "_timeout", "version")

    driver = "redis"

    def __init__(self, name: str, version: str | None, style: int = STR, timeout: int = 0) -> None:
        self._name = name
        self._style = style
        self._timeout = timeout
        self.version = version  # the server's; None if there was no connection yet

    def __repr__(self) -> str:
        return f"<Redis {self._name}>"

    @property
    def name(self) -> str:
        """The name by which scenes find it; of one opened by URL, a name within this process."""
        return self._name

    @property
    def raw(self) -> Redis[bytes]:
        """The same Redis, whose replies are bytes: for values that are not UTF-8."""
        return cast("Redis[bytes]", Redis(self._name, self.version, BYTES, self._timeout))

    def within(self, seconds: float) -> Redis[V]:
        """The same Redis, with this time-out for each command: `await redis.within(0.5).get("x")`."""
        return Redis(self._name, self.version, self._style, milliseconds(seconds))

    def _run(self, convert: Callable[[Any], Any] | None, *words: Word) -> Awaitable[Any]:
        reply = _redrabbit.query(
            self._name,
            COMMANDS,
            None,
            (words,),
            REPLY | self._style,
            self._timeout,
            0,
            None,
            0,
            0,
        )
        return reply if convert is None else _converted(reply, convert)

    def pipeline(self, *, atomic: bool = False) -> Pipeline[V]:
        """Many commands, sent together: one way there and back for all.

            async with redis.pipeline() as pipe:
                pipe.incr("visits")
                name = pipe.get("name")
            print(await name)

        atomic: as one MULTI … EXEC: nobody else's commands run in between."""
        return Pipeline(self, atomic)

    async def scan(self, match: str | None = None, *, count: int = 100) -> AsyncIterator[V]:
        """Every key, or those that match ('player:*'), without stopping the server: `async for`."""
        cursor: Any = "0"
        extra: list[Word] = ["COUNT", count] if match is None else ["MATCH", match, "COUNT", count]
        while True:
            cursor, keys = await self.command("SCAN", cursor, *extra)
            for key in keys:
                yield key
            if int(cursor) == 0:
                return

    async def subscribe(self, channel: str, *more: str | Handler) -> Subscription:
        """handler(channel, message) is called for every message that is published there:

            news = await redis.subscribe("news", on_news)
            …
            await news.unsubscribe()

        More channels before the handler: subscribe("news", "weather", on_news). The handler may be
        `async def`. It ends with the scene; a connection that is lost is made anew, and what was
        published meanwhile is lost (see Subscription.lost)."""
        return await self._subscribe(0, (channel, *more))

    async def psubscribe(self, pattern: str, *more: str | Handler) -> Subscription:
        """The same for all channels that match: psubscribe("room:*", on_room)."""
        return await self._subscribe(PATTERN, (pattern, *more))

    async def _subscribe(self, flags: int, words: tuple[Any, ...]) -> Subscription:
        *channels, handler = words
        if not callable(handler) or not channels or not all(isinstance(c, str) for c in channels):
            raise TypeError("subscribe() wants channels, which are str, and then a handler")
        subscription = Subscription(self, tuple(channels), handler, flags)
        await subscription._begin()
        return subscription


# ---- Pipelines ----


class Pipeline(Commands[V]):
    """Commands that are sent together; made by Redis.pipeline(). Its methods are Redis' own; what
    they bring can be awaited after the block, and is in `results`, in order."""

    __slots__ = ("_atomic", "_commands", "_futures", "_redis", "results")

    def __init__(self, redis: Redis[V], atomic: bool) -> None:
        self._redis: Redis[V] = redis
        self._atomic = atomic
        self._commands: list[tuple[Word, ...]] = []
        self._futures: list[tuple[Any, Callable[[Any], Any] | None]] = []
        self.results: list[Any] = []

    def _run(self, convert: Callable[[Any], Any] | None, *words: Word) -> Awaitable[Any]:
        future: Any = _host.create_future() if _api._asyncio else _redrabbit.Future()
        self._commands.append(words)
        self._futures.append((future, convert))
        return cast("Awaitable[Any]", future)

    async def execute(self, *, raise_errors: bool = True) -> list[Any]:
        """Sends what was asked for and brings the results. The first error among the replies is
        raised, after all have come; with raise_errors=False they are in the list. The end of the
        block does the same. The pipeline is empty then, and can be used again."""
        commands, self._commands = self._commands, []
        futures, self._futures = self._futures, []
        if not commands:
            return []
        redis = self._redis
        try:
            replies = await _redrabbit.query(
                redis._name,
                COMMANDS,
                None,
                commands,
                REPLIES | redis._style,
                redis._timeout,
                ATOMIC if self._atomic else 0,
                None,
                0,
                0,
            )
        except BaseException as error:
            for future, _ in futures:
                _end(future, error)
            raise
        self.results = [
            _end(future, reply if isinstance(reply, DatabaseError) or not convert else convert(reply))
            for (future, convert), reply in zip(futures, replies)
        ]
        if raise_errors:
            for result in self.results:
                if isinstance(result, DatabaseError):
                    raise result
        return self.results

    async def __aenter__(self) -> Pipeline[V]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.execute()
        for future, _ in self._futures:
            future.cancel()


def _end(future: Any, result: Any) -> Any:
    if future.done():
        return result
    if isinstance(result, Exception):
        future.set_exception(result)
        future.exception()  # seen: execute() raises it
    elif isinstance(result, BaseException):
        future.cancel()
    else:
        future.set_result(result)
    return result


# ---- Subscriptions ----


class Subscription:
    """Channels that a handler hears; made by Redis.subscribe() and psubscribe()."""

    __slots__ = ("_at_server", "_flags", "_number", "_redis", "channels", "handler", "lost")

    def __init__(
        self, redis: Redis[Any], channels: tuple[str, ...], handler: Handler, flags: int
    ) -> None:
        self._redis: Redis[Any] = redis
        self._flags = flags
        self._number = 0  # of its request, which its events name
        self._at_server = 0
        self.channels = channels
        self.handler = handler
        self.lost = 0  # messages missed, at least: the scene did not keep up, the connection was lost

    async def _begin(self) -> None:
        global _subscribing
        _subscribing += 1
        try:
            self._at_server, self._number = await _redrabbit.query(
                self._redis._name, SUBSCRIBE, None, self.channels, ID, 0, self._flags, None, 0, 0
            )
            _subscriptions[self._number] = self
            for event in [event for event in _early if event[0] == self._number]:
                _early.remove(event)
                _api.after(0, self._hear, *event[1:])
        finally:
            _subscribing -= 1
            if not _subscribing:
                _early.clear()

    async def _begin_anew(self) -> None:
        pause = 0.1
        while self in _lost:
            try:
                await self._begin()
                if self not in _lost:  # unsubscribed meanwhile
                    await self.unsubscribe()
                _lost.discard(self)
            except DatabaseError as error:
                _redrabbit.log(3, "DB", f"{self.channels} of {self._redis._name}: {error}")
                await _api.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def unsubscribe(self) -> None:
        """The handler hears no more, from now on."""
        _lost.discard(self)
        if _subscriptions.pop(self._number, None) is None:
            return
        await _redrabbit.query(
            self._redis._name, CLOSE, None, None, NONE, 0, 0, None, 0, self._at_server
        )

    def _hear(self, channel: str, message: bytes, lost: int) -> Any:
        self.lost += lost
        if self._redis._style == BYTES:
            return self.handler(channel, message)
        return self.handler(channel, message.decode("utf-8", "replace"))


_subscriptions: dict[int, Subscription] = {}
_lost: set[Subscription] = set()  # whose database is gone: they begin anew
_subscribing = 0  # whose answers are on their way: their first events may be faster
_early: list[tuple[int, str, bytes, int]] = []


def deliver(number: int, channel: str, pattern: str | None, message: bytes, lost: int) -> Any:
    subscription = _subscriptions.get(number)
    if subscription is not None:
        return subscription._hear(channel, message, lost)
    if _subscribing and len(_early) < _MAX_EARLY:
        _early.append((number, channel, message, lost))
    return None


def resubscribe(name: str) -> None:
    """The database of that name is gone, and with it what was subscribed there."""
    for number, subscription in list(_subscriptions.items()):
        if subscription._redis._name == name:
            del _subscriptions[number]
            subscription.lost += 1
            _lost.add(subscription)
            _api.spawn(subscription._begin_anew())
