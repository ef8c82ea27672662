"""Databases from scripts: connections, queries, transactions, streams. Redis: _redis.py."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast, overload

import _redrabbit
from _redrabbit import Result as Result

from . import _api

if TYPE_CHECKING:
    from types import TracebackType

    from ._redis import Redis

# The numbers of runtime/query.h, and of the shapes in python/database.h.
QUERY, BATCH, BEGIN, COMMIT, ROLLBACK, STREAM, NEXT, CLOSE, COMMANDS, SUBSCRIBE, DESCRIBE = range(
    1, 12
)
READ_ONLY, ATOMIC, PATTERN, TEXTS = 2, 4, 8, 16
ROWS, ONE, VALUE, COUNT, ID, PART, REPLIES, REPLY, NONE = range(9)
DICTS = 16
STR, BYTES, SEED = 32, 64, 96

Row: TypeAlias = tuple[Any, ...]
Dict: TypeAlias = dict[str, Any]
Params: TypeAlias = Sequence[Any] | dict[str, Any] | None
Isolation: TypeAlias = Literal[
    "read uncommitted", "read committed", "repeatable read", "serializable"
]
R = TypeVar("R", Row, Dict)

_ISOLATIONS = {
    None: 0,
    "read uncommitted": 1 << 8,
    "read committed": 2 << 8,
    "repeatable read": 3 << 8,
    "serializable": 4 << 8,
}


# ---- Errors ----


class DatabaseError(Exception):
    """A query failed; its classes say why, this one itself: the server says so, see code and state.

    executed: False: it surely had no effect. True: it may have been executed; the server, or the
    way to it, was lost too early to know. Queries are never executed twice by the runtime.
    code: the server's number, 0 = none (1062 of MariaDB, 2067 of SQLite).
    state: the SQLSTATE ('23505'), or the driver's word.
    sql: the first line of the statement, without its parameters."""

    executed: bool = False
    code: int = 0
    state: str = ""
    sql: str = ""


class DatabaseConnectionError(DatabaseError, ConnectionError):
    """There is no connection, or it was lost (see executed)."""


class DatabaseAuthError(DatabaseError):
    """The server lets us not in: user, password, unknown database."""


class DatabaseSyntaxError(DatabaseError):
    """The statement is wrong, or names a table or column that is not there."""


class IntegrityError(DatabaseError):
    """A constraint forbids it: unique, foreign key, not null, check."""


class DeadlockError(DatabaseError):
    """Two transactions stood in each other's way and this one was given up: try it again."""


class DatabaseTimeout(DatabaseError, TimeoutError):
    """The query took longer than its time-out and was cancelled on the server."""


class DatabaseBusy(DatabaseError):
    """No connection became free in time, or too many queries wait. Not executed."""


class DataError(DatabaseError):
    """A value does not fit: range, type, encoding, number of parameters."""


class DatabaseStateError(DatabaseError):
    """Not now, or not here: the transaction or stream is over, this kind of database cannot."""


class ResultTooBig(DatabaseError):
    """The result is over the database's limit (result_bytes): stream it."""


class DatabaseCancelled(DatabaseError):
    """The query was given up, or the database stops."""


_CLASSES: list[type[DatabaseError]] = [
    DatabaseError,  # ok: one reply of several that is an error
    DatabaseConnectionError,
    DatabaseAuthError,
    DatabaseSyntaxError,
    IntegrityError,
    DeadlockError,
    DatabaseTimeout,
    DatabaseBusy,
    DataError,
    DatabaseStateError,
    ResultTooBig,
    DatabaseCancelled,
    DatabaseError,  # server
]
_STATE = _CLASSES.index(DatabaseStateError)
for _class in _CLASSES:
    _class.__module__ = "redrabbit"  # what tracebacks call them, and scripts


# How replies of Redis begin that are errors.
_REPLIES: dict[str, type[DatabaseError]] = {
    "WRONGTYPE": DataError,
    "ERR value is not": DataError,
    "ERR min or max is not": DataError,
    "ERR hash value is not": DataError,
    "ERR increment": DataError,
    "ERR unknown command": DatabaseSyntaxError,
    "ERR unknown subcommand": DatabaseSyntaxError,
    "ERR wrong number of arguments": DatabaseSyntaxError,
    "ERR syntax error": DatabaseSyntaxError,
    "NOAUTH": DatabaseAuthError,
    "NOPERM": DatabaseAuthError,
    "WRONGPASS": DatabaseAuthError,
    "BUSY": DatabaseBusy,
    "LOADING": DatabaseBusy,
}


def _reply_error(message: str) -> DatabaseError:
    for words, kind in _REPLIES.items():
        if message.startswith(words):
            break
    else:
        kind = DatabaseError
    error = kind(message)
    error.state = message.partition(" ")[0]
    return error


def make_error(
    kind: int, executed: bool, code: int, state: str, message: str, sql: str
) -> DatabaseError:
    """What C calls for every error."""
    if kind == 0:
        return _reply_error(message)
    marks = " ".join(str(mark) for mark in (code, state) if mark)
    text = message or _CLASSES[kind].__name__
    if marks:
        text += f" [{marks}]"
    if executed and "maybe executed" not in text:
        text += " (maybe executed)"
    if sql:
        text += f' in "{sql}"'
    error = _CLASSES[kind](text)
    error.executed = executed
    error.code = code
    error.state = state
    error.sql = sql
    return error


def _state_error(message: str) -> DatabaseError:
    return make_error(_STATE, False, 0, "", message, "")


# ---- Queries ----


def milliseconds(timeout: float | None) -> int:
    """0 = the database's own."""
    if timeout is None:
        return 0
    if isinstance(timeout, (str, bytes)):
        raise TypeError(f"a time-out is a number of seconds, not {timeout!r}")
    if not 0 < timeout <= 86400:
        raise ValueError("a time-out is more than 0 and at most 86,400 seconds")
    return _api._ms(timeout)


def key_text(key: str | int | None) -> str | None:
    return key if key is None or isinstance(key, str) else str(key)


def _dicts(rows: Any) -> int:
    if rows is dict:
        return DICTS
    if rows is tuple:
        return 0
    raise ValueError(f"rows is tuple or dict, not {rows!r}")


# What other libraries call it, and what it is here.
_BEGIN, _SAVEPOINT = "write `async with db.transaction() as tx:`", "write `async with tx.savepoint():`"
_QUERY, _ONE = "write `await db.query(sql, params)`", "write `await db.one(sql, params)`"
_ELSEWHERE = {
    "begin": _BEGIN,
    "close": "none is needed, all scenes of a process share its connections",
    "cursor": _QUERY,
    "execute": _QUERY,
    "executemany": "write `await db.batch(sql, rows)`",
    "fetch": _QUERY,
    "fetchall": _QUERY,
    "fetchone": _ONE,
    "fetchrow": _ONE,
    "fetchval": "write `await db.value(sql, params)`",
}


class _Async:
    """Says what to write to who forgets `async`, or awaits what is no query. Type checkers say it themselves."""

    __slots__ = ()

    if not TYPE_CHECKING:
        _written = ""

        def __enter__(self):
            raise TypeError(f"write `{self._written}`")

        __exit__ = __iter__ = __enter__

        def __await__(self):
            raise TypeError(f"this is not awaited: write `{self._written}`")


class Hints:
    """Says what to write to who takes the names of another library."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            hint = self._elsewhere().get(name)
            text = f"a {type(self).__name__} has no {name!r}"
            raise AttributeError(f"{text}: {hint}" if hint else text, name=name, obj=self)


class Queries(Hints):
    """What can be asked of a database and, in the same words, within a transaction.

    sql has one statement with its parameters as `?` (a sequence) or `:name` (a dict), whatever the
    database; PostgreSQL takes `$1`, too; `??` is a question mark. BEGIN and COMMIT are refused:
    Database.transaction() keeps a connection for what stands in it; SET, USE, CREATE TEMPORARY and
    the like, which stay on a connection, are possible only there. The parameters are sent beside
    it, never pasted in: None, bool, int (64 bits), float, Decimal, str, bytes, date, time, datetime,
    timedelta, UUID; dict and list go as JSON. actors/database/GUIDE.md and VALUES.md tell
    more, and what each database brings back of values.

    timeout in seconds; by default the database's (10 s). When it is over, the query is cancelled on
    the server. So it is when the handler that awaits it is cancelled."""

    __slots__ = ("_name",)
    _name: str

    def _id(self) -> int:
        """The transaction to ask within, 0 = none."""
        return 0

    if not TYPE_CHECKING:

        def _elsewhere(self):
            return _ELSEWHERE

    @overload
    def query(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] = tuple,
    ) -> Awaitable[Result[Row]]: ...

    @overload
    def query(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[dict[Any, Any]],
    ) -> Awaitable[Result[Dict]]: ...

    def query(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] | type[dict[Any, Any]] = tuple,
    ) -> Awaitable[Any]:
        """One statement: `result = await db.query("SELECT name FROM player WHERE id = ?", [7])`.

        The result is a list of rows (tuples, or dicts with rows=dict) that also has `columns`,
        `affected` rows, `last_id` and `dicts()`.

        It starts at once; awaiting it is only for the end. Queries with the same key (a player's
        id, say), whoever asks, run one after another in this order; others on whatever connection
        is free."""
        return _redrabbit.query(
            self._name,
            QUERY,
            sql,
            params,
            ROWS if rows is tuple else _dicts(rows),
            0 if timeout is None else milliseconds(timeout),
            0,
            key_text(key),
            self._id(),
            0,
        )

    @overload
    def one(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] = tuple,
    ) -> Awaitable[Row | None]: ...

    @overload
    def one(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[dict[Any, Any]],
    ) -> Awaitable[Dict | None]: ...

    def one(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] | type[dict[Any, Any]] = tuple,
    ) -> Awaitable[Any]:
        """The first row, or None."""
        return _redrabbit.query(
            self._name,
            QUERY,
            sql,
            params,
            ONE if rows is tuple else ONE | _dicts(rows),
            milliseconds(timeout),
            0,
            key_text(key),
            self._id(),
            0,
        )

    def value(
        self,
        sql: str,
        params: Params = (),
        *,
        key: str | int | None = None,
        timeout: float | None = None,
    ) -> Awaitable[Any]:
        """The first value of the first row, or None: `await db.value("SELECT count(*) FROM t")`."""
        return _redrabbit.query(
            self._name,
            QUERY,
            sql,
            params,
            VALUE,
            milliseconds(timeout),
            0,
            key_text(key),
            self._id(),
            0,
        )

    def batch(
        self,
        sql: str,
        rows: Iterable[Sequence[Any] | dict[str, Any]],
        *,
        key: str | int | None = None,
        timeout: float | None = None,
    ) -> Awaitable[int]:
        """The statement once for each of the rows, all of them or none: in a transaction of its own,
        unless this is one. Brings the number of affected rows."""
        return _redrabbit.query(
            self._name,
            BATCH,
            sql,
            rows if isinstance(rows, (list, tuple)) else list(rows),
            COUNT,
            milliseconds(timeout),
            0,
            key_text(key),
            self._id(),
            0,
        )

    @overload
    def stream(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] = tuple,
    ) -> Stream[Row]: ...

    @overload
    def stream(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float | None = None,
        rows: type[dict[Any, Any]],
    ) -> Stream[Dict]: ...

    def stream(
        self,
        sql: str,
        params: Params = (),
        *,
        timeout: float | None = None,
        rows: type[tuple[Any, ...]] | type[dict[Any, Any]] = tuple,
    ) -> Any:
        """A result of any size, in bounded memory: `async for row in db.stream("SELECT …"): …`.

        It begins with the loop, fetches one part ahead, and is closed when the loop is left. It
        keeps a connection for itself meanwhile. timeout: for each part."""
        return Stream(self, sql, params, milliseconds(timeout), _dicts(rows))


class Database(Queries):
    """A database, as `await redrabbit.database(…)` gives it. Everybody may use it at once."""

    __slots__ = ("driver", "version")

    if not TYPE_CHECKING:

        def _elsewhere(self):
            savepoint = _SAVEPOINT + " within a transaction `tx`"
            return _ELSEWHERE | {"commit": _BEGIN, "rollback": _BEGIN, "savepoint": savepoint}

    def __init__(self, name: str, driver: str, version: str | None) -> None:
        self._name = name
        self.driver = driver  # 'sqlite', 'mysql' or 'postgresql'
        self.version = version  # the server's; None if there was no connection yet

    def __repr__(self) -> str:
        return f"<Database {self._name} ({self.driver})>"

    @property
    def name(self) -> str:
        """The name by which scenes find it; of one opened by URL, a name within this process."""
        return self._name

    def transaction(
        self,
        *,
        isolation: Isolation | None = None,
        read_only: bool = False,
        timeout: float | None = None,
    ) -> Transaction:
        """`async with db.transaction() as tx: await tx.query(…)`.

        Committed when the block ends, rolled back when an exception leaves it, when the handler is
        cancelled, and when the scene stops. A transaction has one connection for itself, so keep it
        short; what is asked of `db` meanwhile runs beside it, on another one (SQLite has only one:
        there it waits until the transaction is over). Within a block, a part that can be undone is a
        savepoint(); another transaction is another connection. isolation: the server's own by default.
        timeout: for its begin, commit and rollback."""
        return Transaction(self, isolation, read_only, timeout)


# ---- Transactions ----


# The latest one that began in this handler, or in the one that spawned it.
_latest: ContextVar[Transaction | None] = ContextVar("redrabbit.transaction", default=None)


class Transaction(Queries, _Async):
    """One transaction; made by Database.transaction()."""

    __slots__ = ("_before", "_flags", "_handler", "_number", "_points", "_state", "_timeout", "_token")

    def __init__(
        self,
        database: Database,
        isolation: Isolation | None,
        read_only: bool,
        timeout: float | None,
    ) -> None:
        if isolation not in _ISOLATIONS:
            wanted = ", ".join(repr(name) for name in _ISOLATIONS if name)
            raise ValueError(f"isolation is one of {wanted}, not {isolation!r}")
        self._name = database._name
        self._flags = _ISOLATIONS[isolation] | (READ_ONLY if read_only else 0)
        self._timeout = milliseconds(timeout)
        self._number = 0
        self._points = 0
        self._handler: object = None
        self._before: Transaction | None = None
        self._token: Token[Transaction | None] | None = None
        self._state = "has not begun: use `async with`"

    if not TYPE_CHECKING:
        _written = "async with db.transaction() as tx:"

        def _elsewhere(self):
            close = "write `await tx.commit()` or `await tx.rollback()`"
            return _ELSEWHERE | {"begin": _SAVEPOINT, "transaction": _SAVEPOINT, "close": close}

    def _id(self) -> int:
        if not self._number:
            raise _state_error(f"the transaction {self._state}")
        return self._number

    async def __aenter__(self) -> Transaction:
        if self._state == "is over":
            raise _state_error("a transaction begins only once")
        self._handler, self._before = _redrabbit.context(), _latest.get()
        self._number, _ = await self._ask(BEGIN, ID, self._flags, self._around())
        self._state = "is over"
        self._token = _latest.set(self)
        return self

    def _around(self) -> int:
        """The transaction that this handler keeps open while it waits for this one, 0 = none."""
        other = self._before
        while other is not None:
            if other._number and other._handler is self._handler and other._name == self._name:
                return other._number
            other = other._before
        return 0

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None and _latest.get() is self and self._handler is _redrabbit.context():
            _latest.reset(self._token)
        self._handler = self._before = self._token = None
        if not self._number:
            return  # ended by commit() or rollback()
        if error is None:
            await self.commit()
        elif kind is GeneratorExit:  # nothing can be awaited: the scene stops
            number, self._number = self._number, 0
            _redrabbit.query_forget(self._name, ROLLBACK, number, 0)
        else:
            await _undo(self.rollback(), error)

    def _ask(self, op: int, shape: int, flags: int, number: int) -> Awaitable[Any]:
        return _redrabbit.query(
            self._name, op, None, None, shape, self._timeout, flags, None, number, 0
        )

    async def commit(self) -> None:
        """Commits now; the transaction is over, also if this fails."""
        number, self._number = self._id(), 0
        await self._ask(COMMIT, NONE, 0, number)

    async def rollback(self) -> None:
        """Rolls back now; the transaction is over."""
        number, self._number = self._id(), 0
        await self._ask(ROLLBACK, NONE, 0, number)

    def savepoint(self) -> Savepoint:
        """`async with tx.savepoint(): …`: an exception that leaves the block undoes only what was
        done in it; catch it outside of the block, and the transaction goes on. They may be nested."""
        self._points += 1
        return Savepoint(self, f"redrabbit_{self._points}")


class Savepoint(_Async):
    """A part of a transaction that can be undone alone; made by Transaction.savepoint()."""

    __slots__ = ("_transaction", "name")

    if not TYPE_CHECKING:
        _written = "async with tx.savepoint():"

    def __init__(self, transaction: Transaction, name: str) -> None:
        self._transaction = transaction
        self.name = name

    async def __aenter__(self) -> Savepoint:
        await self._transaction.query(f"SAVEPOINT {self.name}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._transaction._number or kind is GeneratorExit:
            return  # the whole transaction is over, or will be
        if error is None:
            await self._transaction.query(f"RELEASE SAVEPOINT {self.name}")
        else:
            await _undo(self._roll_back(), error)

    async def _roll_back(self) -> None:
        await self._transaction.query(f"ROLLBACK TO SAVEPOINT {self.name}")


async def _undo(rollback: Awaitable[None], error: BaseException) -> None:
    """Undoes for the sake of `error`, which is what the script is to see."""
    try:
        await rollback
    except DatabaseConnectionError:
        pass  # what is lost is rolled back
    except DatabaseStateError as another:
        if another.executed:  # what is over is rolled back, but for this
            error.add_note(f"The transaction was not rolled back: {another}")
    except DatabaseError as another:
        error.add_note(f"The rollback failed, too: {type(another).__name__}: {another}")


# ---- Streams ----


class Stream(_Async, Generic[R]):
    """The rows of a big result; made by Database.stream()."""

    __slots__ = ("_asked", "_columns", "_flags", "_id", "_next", "_params", "_rows", "_timeout", "_within")

    if not TYPE_CHECKING:
        _written = "async for row in db.stream(sql):"

    def __init__(
        self, within: Queries, sql: str, params: Params, timeout: int, flags: int
    ) -> None:
        self._within = within
        self._asked: str | None = sql  # None: it has begun
        self._params = params
        self._timeout = timeout
        self._flags = flags
        self._id = 0  # 0: not open on the server
        self._next: Any = None  # the part after this one
        self._rows: Any = iter(())
        self._columns: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, once the first row is there."""
        return self._columns

    def __aiter__(self) -> Stream[R]:
        return self

    async def __anext__(self) -> R:
        while True:
            for row in self._rows:
                return cast(R, row)
            if self._asked is not None:
                await self._begin()
            elif self._next is not None:
                await self._take(self._next)
            else:
                raise StopAsyncIteration

    def _ask(self, op: int, sql: str | None, params: Params, transaction: int) -> Any:
        return _redrabbit.query(
            self._within._name,
            op,
            sql,
            params,
            PART | self._flags,
            self._timeout,
            0,
            None,
            transaction,
            self._id,
        )

    async def _begin(self) -> None:
        sql, self._asked = self._asked, None
        await self._take(self._ask(STREAM, sql, self._params, self._within._id()))

    async def _take(self, part: Any) -> None:
        self._next = None
        number, more, rows = await part
        self._rows = iter(rows)
        self._columns = rows.columns
        if self._id == 0 and more:
            self._id = number
        if more:
            self._next = self._ask(NEXT, None, None, 0)
        else:
            self._id = 0

    def _give_up(self) -> int:
        """The stream that is open on the server, which this one forgets."""
        number, self._id, self._asked = self._id, 0, None
        self._rows = iter(())
        if self._next is not None:
            if not isinstance(self._within, Transaction):  # there it would abort it on PostgreSQL
                self._next.cancel()
            self._next = None
        return number

    async def close(self) -> None:
        """The rest is not wanted. Leaving the loop does the same."""
        number = self._give_up()
        if number:
            await _redrabbit.query(
                self._within._name, CLOSE, None, None, NONE, 0, 0, None, 0, number
            )

    async def __aenter__(self) -> Stream[R]:
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._id:
            try:
                _redrabbit.query_forget(self._within._name, CLOSE, 0, self._give_up())
            except (RuntimeError, AttributeError):
                pass  # the scene, or its interpreter, is over, and its streams with it


# ---- Opening ----


async def _describe(name: str, timeout: float) -> tuple[str, str | None]:
    """Waits until there is a database of that name: its node may just be joining."""
    pause = 0.01
    while True:
        try:
            row = await _redrabbit.query(name, DESCRIBE, None, None, ONE, 0, 0, None, 0, 0)
            return row[0], row[1]
        except DatabaseConnectionError as error:
            if error.state not in ("NOROUTE", "STALE") or timeout <= 0:
                raise
        await _api.sleep(pause)
        timeout -= pause
        pause = min(pause * 2, 0.25)


def _is_file(name: str) -> bool:
    if "@" in name or "://" in name:
        return False
    return "/" in name or name == ":memory:" or name.endswith((".db", ".db3", ".sqlite", ".sqlite3"))


async def _open(
    name_or_url: str, pool: int | None, timeout: float
) -> tuple[str, str, str | None]:
    name = name_or_url
    if not isinstance(name, str) or not name:
        raise TypeError(f"a database is named by a str, its name or URL, not {name!r}")
    if pool is not None and not 1 <= pool <= 1024:
        raise ValueError(f"pool is 1 to 1024 connections, not {pool}")
    if "://" in name_or_url:
        name = _redrabbit.database_open(name_or_url, pool or 0)
    elif _is_file(name):
        url = f"sqlite://{name if name[0] in '/.:' else './' + name}"
        raise ValueError(f"{name!r} is a file: a database is opened by its URL, {url!r}")
    elif pool is not None:
        raise ValueError("the pool of a database with a name is set in the graph")
    driver, version = await _describe(name, timeout)
    return name, driver, version


async def database(
    name_or_url: str, *, pool: int | None = None, timeout: float = 5.0
) -> Database:
    """A database, by its name in the graph, or by URL:

        db = await redrabbit.database("db@main")
        db = await redrabbit.database("mysql://user:password@host:3306/game", pool=4)

    URLs: sqlite://./file.db, mysql://, mariadb://, postgresql://, redis:// (which gives a Redis, see
    redrabbit.redis). All scenes of a process that open the same URL share its connections (pool, 8).

    The server need not be up: connecting goes on in the background, and queries fail clearly until
    then. timeout: for a name of the cluster to appear. ValueError: a bad URL;
    DatabaseConnectionError: there is no database of that name."""
    name, driver, version = await _open(name_or_url, pool, timeout)
    if driver == "redis":
        from ._redis import Redis

        return cast(Database, Redis(name, version))
    return Database(name, driver, version)


async def redis(
    name_or_url: str, *, pool: int | None = None, timeout: float = 5.0
) -> Redis[str]:
    """A Redis by name or URL: `redis = await redrabbit.redis("redis://127.0.0.1:6379/0")`."""
    from ._redis import Redis

    name, driver, version = await _open(name_or_url, pool, timeout)
    if driver != "redis":
        raise _state_error(f"{name} is no Redis, but {driver}")
    return Redis(name, version)


def on_event(number: int, channel: str, pattern: str | None, payload: bytes, lost: int) -> Any:
    """What C calls for an event of a subscription."""
    from ._redis import deliver

    return deliver(number, channel, pattern, payload, lost)


def on_down(name: str) -> Any:
    """What C calls when a database is gone that this scene has asked."""
    from ._redis import resubscribe

    return resubscribe(name)


_redrabbit.database_setup(make_error, on_event, on_down)
