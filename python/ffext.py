"""The original RedRabbit's API for scripts, on Python 3: a thin layer over the package `redrabbit`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import redrabbit  # first: outside of a server it stands in for _redrabbit  # noqa: F401

import _redrabbit
from _redrabbit import alloc_id, close as close_session, exists as is_exist
from _redrabbit import move_now as _move_now, multi_send as _multi_send
from _redrabbit import send as send_msg_session
from _redrabbit import timer_cancel as cancel_timer
from _redrabbit import verdict as on_verify_auth_callback
from redrabbit import _api, _codec, _database
from redrabbit._reload import reload
from redrabbit.singletons import singleton

__all__ = [
    "ERROR",
    "INFO",
    "LOGDEBUG",
    "LOGERROR",
    "LOGFATAL",
    "LOGINFO",
    "LOGTRACE",
    "LOGWARN",
    "TRACE",
    "WARN",
    "alloc_id",
    "bridge_call",
    "bridge_call_service",
    "broadcast_msg_gate",
    "broadcast_msg_session",
    "call_service",
    "cancel_timer",
    "change_session_scene",
    "close_session",
    "connect_to_outer_service",
    "decode_buff",
    "decode_msg",
    "dump_stdout_to_log",
    "encode_msg",
    "escape",
    "every_timer",
    "ffdb_create",
    "ffdb_t",
    "get_config",
    "is_exist",
    "json_to_value",
    "multi_send_msg_session",
    "on_verify_auth_callback",
    "once_timer",
    "protobuf_to_value",
    "query_result_t",
    "reg_service",
    "reload",
    "send_msg_session",
    "session_call",
    "session_drain_callback",
    "session_enter_callback",
    "session_leave_callback",
    "session_offline_callback",
    "session_verify_callback",
    "singleton",
    "to_str",
]

F = TypeVar("F", bound=Callable[..., Any])
_CALL_MS = 5000


# ---- Sessions ----


def _callback(kind: int, function: F | None, protocol: Any = "text") -> Any:
    module = _api._caller(3)

    def bind(function: F) -> F:
        _api.register(kind, None, function, module, protocol=protocol)
        return function

    return bind if function is None else bind(function)


def session_verify_callback(function: F | None = None, /, *, protocol: Any = "text") -> Any:
    """f(session_key, online_time, ip, gate_name[, cb_id]) -> [id] or [id, extra]."""
    return _callback(_api.VERIFY, function, protocol)


def session_enter_callback(function: F | None = None, /) -> Any:
    """f(session_id, from_scene, extra_data)."""
    return _callback(_api.ENTER, function)


def session_offline_callback(function: F | None = None, /) -> Any:
    """f(session_id, online_time[, reason])."""
    return _callback(_api.OFFLINE, function)


def session_leave_callback(function: F | None = None, /) -> Any:
    """f(session_id, to_scene): the session has moved to another scene."""
    return _callback(_api.LEAVE, function)


def session_drain_callback(function: F | None = None, /) -> Any:
    """f(session_id) -> scene, (scene, state), None or False: redrabbit.on_drain, with the id."""
    return _callback(_api.DRAIN, function)


def session_call(
    cmd: int,
    protocol: Any = "json",
    convert: Callable[[Any], Any] | None = None,
    *,
    concurrent: bool = False,
) -> Callable[[F], F]:
    """f(session_id, msg) for client messages with this number; convert maps the id first."""
    module = _api._caller()

    def bind(function: F) -> F:
        _api.register(
            _api.MESSAGE,
            cmd,
            function,
            module,
            protocol=protocol,
            convert=convert,
            flags=_api.CONCURRENT if concurrent else 0,
        )
        return function

    return bind


def multi_send_msg_session(session_ids: Iterable[Any], cmd: int, body: Any) -> bool:
    """False if this scene does not hold all of them."""
    ids = session_ids if isinstance(session_ids, Sequence) else list(session_ids)
    return _multi_send(ids, cmd, body) == len(ids)


broadcast_msg_session = _redrabbit.broadcast
broadcast_msg_gate = _redrabbit.broadcast_gate


def change_session_scene(session_id: Any, scene: str, extra: Any = "") -> bool:
    """True if the move began; should it fail later, the session stays and the log says why."""
    return _move_now(session_id, scene, extra)


# ---- Timers ----


def once_timer(ms: float, function: Callable[..., Any], data: Any = None) -> int:
    """Calls function() once, or function(data) if data is given."""
    return _redrabbit.timer(max(0, int(ms)), 0, function, () if data is None else (data,))


def every_timer(ms: float, function: Callable[..., Any], data: Any = None) -> int:
    """The same again and again, until cancel_timer."""
    period = max(1, int(ms))
    return _redrabbit.timer(period, period, function, () if data is None else (data,))


# ---- Services ----


def reg_service(cmd: int | str, msg_type: Any = None) -> Callable[[F], F]:
    """f(msg) answers call_service(name, cmd, …).

    What it returns is the reply; a str is JSON text already."""
    module = _api._caller()

    def bind(function: F) -> F:
        protocol = "json" if msg_type is None else msg_type
        _api.register(_api.SERVICE, cmd, function, module, protocol=protocol)
        return function

    return bind


def call_service(
    name: str, cmd: int | str, msg: Any, callback: Callable[[str | None, Any], Any] | None = None
) -> None:
    """Calls a service of another scene; callback(err, msg), err is None on success.

    A str body is JSON text already."""
    _redrabbit.call_back(name, cmd, msg, False, _CALL_MS, None, callback)


def bridge_call_service(
    group: str,
    name: str,
    cmd: int | str,
    msg: Any,
    callback: Callable[[str | None, Any], Any] | None = None,
) -> None:
    """As call_service, in another group: through this group's bridge."""
    _redrabbit.call_back(name, cmd, msg, False, _CALL_MS, group, callback)


def bridge_call(
    group: str,
    cmd: int | str,
    msg: Any,
    callback: Callable[[str | None, Any], Any] | None = None,
) -> None:
    """bridge_call_service to the group's scene@0."""
    bridge_call_service(group, "scene@0", cmd, msg, callback)


def connect_to_outer_service(name: str, address: str) -> int:
    """The service `name` of the outer group whose broker is at the address ('tcp://host:port') can
    be called by name from now on, by every scene of this process: call_service(name, ...).

    0: it is being connected to (calls meanwhile end in an error), or was already. -1: a bad address,
    or a name that is in use here; the log says which."""
    return 0 if _redrabbit.connect_outer(name, address) == 0 else -1


# ---- Databases ----


class query_result_t:
    """What a query brought: .flag (it worked), .result (rows, lists of str, NULL is ''), .column
    (names); after a failure .error says why."""

    def __init__(
        self, flag: bool, result: list[list[str]], column: list[str], error: str = ""
    ) -> None:
        self.flag = flag
        self.result = result
        self.column = column
        self.error = error

    def dump(self) -> None:
        print(self.flag, self.result, self.column, *([self.error] if self.error else []))


def _result(rows: Any) -> query_result_t:
    return query_result_t(True, [list(row) for row in rows], list(rows.columns))


def _failure(error: BaseException) -> query_result_t:
    _redrabbit.log(2, "DB", f"{type(error).__name__}: {error}")
    return query_result_t(False, [], [], str(error))


class ffdb_t:
    """A database connection, made by ffdb_create: its queries run one after another.

    A failed query is logged, and its result's flag is False."""

    def __init__(self, host: str, db_id: int, name: str) -> None:
        self._host = host
        self._name = name
        self.db_id = db_id
        self._driver = ""
        self._patience = 0  # ms that the database takes at most; 0 = as by default

    def _connect(self) -> None:
        """Waits for the first connection."""
        describe = (_database.DESCRIBE, None, None, _database.ONE, 0, 0, None, 0, 0)
        # An older node's database says nothing of its patience.
        self._driver, _, *patience = _redrabbit.query_wait(self._name, *describe, 0)
        self._patience = patience[0] if patience else 0
        self._wait("SELECT 1")

    def _wait(self, sql: str) -> Any:
        return _redrabbit.query_wait(*self._words(sql), self._patience)

    def host(self) -> str:
        return self._host

    def _words(self, sql: str) -> tuple[str, int, str, None, int, int, int, str, int, int]:
        shape = _database.ROWS | _database.SEED
        # One key for all keeps their order, also when others use the same pool.
        key = f"ffdb {self.db_id}"
        return (self._name, _database.QUERY, sql, None, shape, 0, _database.TEXTS, key, 0, 0)

    def query(self, sql: str, callback: Callable[..., Any] | None = None, data: Any = None) -> None:
        """callback(result), or callback(result, data) if data is given; this does not wait."""

        def ended(future: Any) -> Any:
            if future.cancelled():
                return None
            error = future.exception()
            result = _result(future.result()) if error is None else _failure(error)
            if callback is None:
                return None
            outcome = callback(result) if data is None else callback(result, data)
            if _api._asyncio and isinstance(outcome, Coroutine):
                return _api.spawn(outcome)
            return outcome

        query: Any = _redrabbit.query(*self._words(sql))
        query.add_done_callback(ended)

    def sync_query(self, sql: str) -> query_result_t:
        """Waits for the result: this scene, and no other actor, stands still meanwhile. For as long
        as the database lets a query wait and run (its acquire_timeout and query_timeout), and 2 s
        more, at most: 17 s by default. Whatever became of the query then: a failure."""
        try:
            return _result(self._wait(sql))
        except _database.DatabaseError as error:
            return _failure(error)

    def escape(self, text: str) -> str:
        """A string as it may stand between single quotes in this database's SQL."""
        return escape(text) if self._driver == "mysql" else str(text).replace("'", "''")


_last_db = 0


def ffdb_create(host: str) -> ffdb_t | None:
    """'sqlite://./x.db' or 'mysql://host:port/user/password/db', or any URL or name that
    redrabbit.database() takes. Waits for the connection; None on failure, which is logged."""
    global _last_db
    try:
        name = _redrabbit.database_open(host, 1) if "://" in host else host
        db = ffdb_t(host, _last_db + 1, name)
        db._connect()
    except (ValueError, _database.DatabaseError) as error:
        _failure(error)
        return None
    _last_db += 1
    return db


_ESCAPES = str.maketrans(
    {"'": "''", "\\": "\\\\", "\0": "\\0", "\n": "\\n", "\r": "\\r", '"': '\\"', "\x1a": "\\Z"}
)


def escape(text: str) -> str:
    """A string as it may stand between quotes in MySQL's SQL; db.escape() knows the others', too.
    Parameters (redrabbit.database) need none of this."""
    return str(text).translate(_ESCAPES)


# ---- Bodies ----


def to_str(msg: Any) -> str | bytes:
    """A body as it would be sent: str as it is, thrift, protobuf as bytes, the rest JSON text."""
    if isinstance(msg, (str, bytes)):
        return msg
    data = _redrabbit.encode(msg)
    cls = type(msg)
    if hasattr(cls, "thrift_spec") or hasattr(cls, "SerializeToString"):
        return data
    return data.decode("utf-8", "replace")


encode_msg = to_str


def decode_buff(dest: Any, data: bytes) -> Any:
    """Fills a thrift or protobuf object from bytes and returns it."""
    return _codec.decode_into(dest, data)


decode_msg = decode_buff
json_to_value = _redrabbit.decode_json


def protobuf_to_value(msg_type: type, data: bytes) -> Any:
    return _codec.decode_into(msg_type(), data)


# ---- The process ----


def get_config(option: str) -> str:
    """The value of an option of this process; '' if it is not set."""
    value = _redrabbit.config(option)
    return "" if value is None else value


def dump_stdout_to_log() -> None:
    """print() goes to the log from now on."""
    _redrabbit.stdout_to_log(True)


def LOGTRACE(module: str, text: Any) -> None:
    _redrabbit.log(6, module, str(text))


def LOGDEBUG(module: str, text: Any) -> None:
    _redrabbit.log(5, module, str(text))


def LOGINFO(module: str, text: Any) -> None:
    _redrabbit.log(4, module, str(text))


def LOGWARN(module: str, text: Any) -> None:
    _redrabbit.log(3, module, str(text))


def LOGERROR(module: str, text: Any) -> None:
    _redrabbit.log(2, module, str(text))


def LOGFATAL(module: str, text: Any) -> None:
    _redrabbit.log(1, module, str(text))


def TRACE(text: Any) -> None:
    _redrabbit.log(6, "PY", str(text))


def INFO(text: Any) -> None:
    _redrabbit.log(4, "PY", str(text))


def WARN(text: Any) -> None:
    _redrabbit.log(3, "PY", str(text))


def ERROR(text: Any) -> None:
    _redrabbit.log(2, "PY", str(text))


# ---- g_session_…_callback: module names that scripts in the wild assign ----


def _current(kind: int) -> Callable[..., Any] | None:
    for handler in _redrabbit.registrations():
        if handler.kind == kind:
            return handler.function
    return None


def _assign(kind: int, function: Callable[..., Any] | None) -> None:
    if function is None:
        _redrabbit.restore([h for h in _redrabbit.registrations() if h.kind != kind])
    else:
        _api.register(kind, None, function, _api._caller(3), protocol="text")


class _Module(_redrabbit.Api):
    """This module's own class: its g_session_…_callback are what is registered."""

    @property
    def g_session_verify_callback(self) -> Callable[..., Any] | None:
        return _current(_api.VERIFY)

    @g_session_verify_callback.setter
    def g_session_verify_callback(self, function: Callable[..., Any] | None) -> None:
        _assign(_api.VERIFY, function)

    @property
    def g_session_enter_callback(self) -> Callable[..., Any] | None:
        return _current(_api.ENTER)

    @g_session_enter_callback.setter
    def g_session_enter_callback(self, function: Callable[..., Any] | None) -> None:
        _assign(_api.ENTER, function)

    @property
    def g_session_offline_callback(self) -> Callable[..., Any] | None:
        return _current(_api.OFFLINE)

    @g_session_offline_callback.setter
    def g_session_offline_callback(self, function: Callable[..., Any] | None) -> None:
        _assign(_api.OFFLINE, function)


sys.modules[__name__].__class__ = _Module
