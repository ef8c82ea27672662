"""The package's functions, on top of the C module `_redrabbit`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

import _redrabbit
from _redrabbit import CallError, Future, HandlerTimeout, Session, Task
from _redrabbit import alloc_id, broadcast, broadcast_gate, close, epoch, exists
from _redrabbit import move, multi_send, send, session

from . import _codec, _reload

__all__ = [
    "CallError",
    "CancelledError",
    "DeadLetter",
    "Future",
    "HandlerTimeout",
    "Login",
    "Refuse",
    "Session",
    "Task",
    "after",
    "alloc_id",
    "broadcast",
    "broadcast_gate",
    "call",
    "call_soon_threadsafe",
    "cancel_timer",
    "close",
    "config",
    "drain",
    "epoch",
    "every",
    "exists",
    "gather",
    "log",
    "message",
    "move",
    "multi_send",
    "on_dead_letter",
    "on_drain",
    "on_enter",
    "on_leave",
    "on_login",
    "on_offline",
    "reload",
    "scene",
    "send",
    "service",
    "session",
    "sessions",
    "sleep",
    "spawn",
    "wait_for",
]

SessionId: TypeAlias = str | int
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Body: TypeAlias = Any
Protocol: TypeAlias = Literal["json", "raw", "buffer", "text"] | type

MESSAGE, SERVICE, VERIFY, ENTER, OFFLINE, LEAVE, DRAIN, DEAD_LETTER = range(8)
_PROTOCOLS = {"json": 0, "raw": 1, "buffer": 2, "text": 3}
_TYPED = 4
MODERN, CONCURRENT = 1, 2


def _protocol(protocol: Any) -> tuple[int, type | None]:
    if isinstance(protocol, str) and protocol in _PROTOCOLS:
        return _PROTOCOLS[protocol], None
    if isinstance(protocol, type) and _codec.is_message_class(protocol):
        return _TYPED, protocol
    raise TypeError(
        "protocol must be 'json', 'raw', 'buffer', 'text' or a thrift or protobuf class, "
        f"not {protocol!r}"
    )


def _caller(depth: int = 2) -> str:
    """The module that registers: reload replaces what a module registered itself."""
    name = sys._getframe(depth).f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def register(
    kind: int,
    key: Any,
    function: Callable[..., Any],
    module: str,
    *,
    protocol: Any = "json",
    convert: Callable[[Any], Any] | None = None,
    flags: int = 0,
) -> None:
    number, cls = _protocol(protocol)
    _redrabbit.register(kind, key, function, number, cls, convert, 0, flags, module)


# ---- Handlers ----


class Login(NamedTuple):
    """A client that wants in. online_time: Unix time of its connect. key: str; what on_login(protocol=…) makes of
    it otherwise (then annotate the handler's argument as Any)."""

    key: str
    online_time: int
    ip: str
    gate: str


class Refuse(Exception):
    """Raised by an on_login handler: the client is refused; `extra` is sent first, as cmd 0."""

    def __init__(self, extra: Body = None) -> None:
        super().__init__("refused")
        self.extra = extra


def _answer(value: Any) -> list[Any] | None:
    if value is None or value is False:
        return [0]
    if isinstance(value, tuple):
        return list(value)
    return [value]


def _wrap_login(function: Callable[[Login], Any]) -> Callable[..., Any]:
    async def finish(awaitable: Awaitable[Any]) -> list[Any] | None:
        try:
            return _answer(await awaitable)
        except Refuse as refusal:
            return [0, refusal.extra]

    def verify(key: Any, online_time: int, ip: str, gate: str) -> Any:
        try:
            value = function(Login(key, online_time, ip, gate))
        except Refuse as refusal:
            return [0, refusal.extra]
        return finish(value) if isinstance(value, Coroutine) else _answer(value)

    return verify


def on_login(function: F | None = None, /, *, protocol: Any = "text") -> Any:
    """`f(login)` returns the session's id (str or int), or (id, extra) to send `extra` first.

    None or False refuses, and so does raising Refuse(extra). May be `async def`. Written as
    `@on_login(protocol='raw')` the key arrives in another form."""
    module = _caller()

    def bind(function: F) -> F:
        register(VERIFY, None, _wrap_login(function), module, protocol=protocol)
        return function

    return bind if function is None else bind(function)


def on_enter(function: F) -> F:
    """`f(session[, from_scene[, extra]])` when a session enters; from_scene '' is the login.

    from_scene is this scene's own name when the session was here before: the scene (or its node)
    was lost or ended, and started anew, and the gate kept the client (its option scene_lost: wait).
    Then extra is the state that on_drain gave, if it could, else that of its last enter."""
    register(ENTER, None, function, _caller(), flags=MODERN)
    return function


def on_offline(function: F) -> F:
    """`f(session[, reason[, online_time]])`, once per login, when the client has gone."""
    register(OFFLINE, None, function, _caller(), flags=MODERN)
    return function


def on_leave(function: F) -> F:
    """`f(session[, to_scene])` when a session has moved to another scene. to_scene is this
    scene's own name when its node ends, nobody takes the session, and its gate keeps it for the scene's
    next start (scene_lost: wait): there is no on_offline then, so save what must be saved."""
    register(LEAVE, None, function, _caller(), flags=MODERN)
    return function


def on_drain(function: F) -> F:
    """`f(session)` when this scene hands its sessions over, because its node is drained, say.

    Returns the scene that takes the session, or (scene, state): state (str, bytes, or what JSON can
    hold) is the extra of its enter there, as str if it is text. None means the scene's option
    `drain_to`, also in (None, state). False keeps the session here until the scene ends, which is
    its end, too, whatever its gate's scene_lost says: on_offline, then it is closed (1001).

    No handler of the session runs meanwhile, and its messages wait: what the new scene gets to
    handle begins exactly where this scene ended. One that runs is waited for up to the scene's
    option `offline_wait`, at most three quarters of the hand-over's time (half of the option
    `drain`); then the session goes without it: its message is not handled again, what it still
    sends to the session is dropped. May be `async def`. After an exception the session
    stays. When the node ends, a session that nobody takes goes by its gate's option scene_lost: with
    `wait` the state (of at most 65,535 bytes) is the extra of its enter after the restart."""
    register(DRAIN, None, function, _caller(), flags=MODERN)
    return function


class DeadLetter(NamedTuple):
    """A message that was not delivered, or not handled, and whose sender waits for no answer.

    to, sender: names (of a gate, a scene …), `#NODE:SLOT` of what has none (any more); sender ''
    is none. reason: 'NOROUTE' (it is not there), 'LINKDOWN' (its node was lost: it may have been
    handled), 'DIED' (it ended first), 'OVERLOAD', 'STALE' … as those of a CallError. what: 'to
    clients' (from a scene to a gate, as a rule several messages at once), 'from clients', 'call' or
    'other'. size: bytes. lost: so many were not told before this one, because there were too many."""

    to: str
    sender: str
    reason: str
    what: str
    size: int
    lost: int


def on_dead_letter(function: F) -> F:
    """`f(letter)` for each message that got lost in this process, or on its way from it to another
    node: for logs and alarms. May be `async def`.

    A scene has one; at most 16 scenes of a process can have one (RuntimeError). A scene that does
    not keep up is not told of all: 256 wait at most, letter.lost counts the others. Calls are no
    dead letters: their callers see the error."""
    def dead_letter(*fields: Any) -> Any:
        return function(DeadLetter(*fields))

    register(DEAD_LETTER, None, dead_letter, _caller(), flags=MODERN)
    return function


def message(cmd: int, protocol: Protocol = "json", *, concurrent: bool = False) -> Callable[[F], F]:
    """`f(session, msg)` for a client's messages with this number.

    The body arrives as JSON value, as bytes ('raw'), as a read-only buffer without a copy
    ('buffer'), as str ('text'), or as an object of a thrift or protobuf class.

    One handler per session runs at a time, also while it awaits; concurrent=True opts out."""
    module = _caller()

    def bind(function: F) -> F:
        flags = MODERN | (CONCURRENT if concurrent else 0)
        register(MESSAGE, cmd, function, module, protocol=protocol, flags=flags)
        return function

    return bind


def service(method: int | str, protocol: Protocol = "json") -> Callable[[F], F]:
    """`f(msg)` for calls from other actors; what it returns is the reply."""
    module = _caller()

    def bind(function: F) -> F:
        register(SERVICE, method, function, module, protocol=protocol, flags=MODERN)
        return function

    return bind


# ---- Sessions ----


def sessions() -> list[SessionId]:
    """The ids of all sessions that this scene holds."""
    return _redrabbit.session_ids()


def drain(to: str | None = None, *, timeout: float = 60.0) -> Awaitable[list[int]]:
    """Hands all sessions of this scene over, as on_drain says, else to the scene `to`, else to its
    option `drain_to`: `moved, left = await redrabbit.drain()`.

    Meanwhile nobody new comes in: logins wait at their gates. Afterwards the scene goes on. A
    session's running handler is waited for, up to the scene's option `offline_wait` (then the
    session goes without it, see on_drain); so a handler of one of these sessions should not await
    this itself, but spawn() what does."""
    return _redrabbit.drain(to, _ms(timeout))


# ---- Time ----


def _ms(seconds: float) -> int:
    ms = int(seconds * 1000)
    return ms if ms >= seconds * 1000 else ms + 1


def after(seconds: float, function: Callable[..., Any], *args: Any) -> int:
    """Calls function(*args) once; returns the number for cancel_timer. May be `async def`."""
    return _redrabbit.timer(_ms(seconds), 0, function, args)


def every(seconds: float, function: Callable[..., Any], *args: Any) -> int:
    """Calls function(*args) again and again; not while its last async run goes on."""
    period = max(1, _ms(seconds))
    return _redrabbit.timer(period, period, function, args)


def cancel_timer(timer: int) -> bool:
    """False if it is over already."""
    return _redrabbit.timer_cancel(timer)


# ---- Calls ----

_CODES = frozenset(
    "NOROUTE STALE OVERLOAD DIED LINKDOWN TIMEOUT CANCELLED FULL STATE TOOBIG NOMEM PROTO STOPPING".split()
)
_NOT_EXECUTED = frozenset({"NOROUTE", "STALE", "OVERLOAD"})


def _code(error: CallError) -> str:
    """How its text begins; what a handler raised has the exception's name there."""
    code = str(error).partition(":")[0]
    return code if code in _CODES else "HANDLER"


# Here, as CallError is a class of C inside of a server and one of Python outside.
setattr(CallError, "code", property(_code))
setattr(CallError, "executed", property(lambda error: _code(error) not in _NOT_EXECUTED))


def call(
    name: str,
    method: int | str,
    msg: Body = None,
    *,
    timeout: float = 5.0,
    reply: Literal["json", "raw"] | type = "json",
    group: str | None = None,
) -> Awaitable[Any]:
    """Calls a service of another actor by name: `await call("guild@0", "join", [1, 2])`.

    Always ends: with the reply, or with CallError, whose text begins with its `code`: NOROUTE (nobody has
    that name), STALE, OVERLOAD: surely not executed; TIMEOUT, LINKDOWN, DIED: maybe executed. With code
    HANDLER the text is that of the exception there. `executed` is False if it surely was not.

    bytes, thrift and protobuf objects go as they are, all else as JSON. reply says how the answer's body is read ('json': bytes for what is not
    JSON). group: the actor is one of another group, which this group's bridge knows.
    """
    form = None if reply == "json" else True if reply == "raw" else reply
    return _redrabbit.call(name, method, msg, True, _ms(timeout) or 1, group, form)


# ---- Asynchronous code ----

_asyncio = bool(_redrabbit.facts()["asyncio"])

if TYPE_CHECKING or not _asyncio:
    from _redrabbit import CancelledError, sleep, spawn

    async def _just(awaitable: Awaitable[T]) -> T:
        return await awaitable

    def _task(awaitable: Awaitable[Any]) -> Any:
        if isinstance(awaitable, (Future, Task)):
            return awaitable
        if isinstance(awaitable, Coroutine):
            return spawn(awaitable)
        return spawn(_just(awaitable))

    async def gather(*awaitables: Awaitable[Any]) -> list[Any]:
        """Runs them together; the list of their results, or the first error."""
        tasks = [_task(awaitable) for awaitable in awaitables]
        try:
            return [await task for task in tasks]
        except BaseException:
            for task in tasks:
                task.cancel()
            raise

    async def wait_for(awaitable: Awaitable[T], timeout: float | None) -> T:
        """The result, or TimeoutError after so many seconds; then it is cancelled."""
        task = _task(awaitable)
        if timeout is None:
            return await task  # type: ignore[no-any-return]
        late = False

        def expire() -> None:
            nonlocal late
            late = not task.done()
            task.cancel()

        timer = after(timeout, expire)
        try:
            return await task  # type: ignore[no-any-return]
        except CancelledError:
            if late:
                raise TimeoutError from None
            task.cancel()
            raise
        finally:
            cancel_timer(timer)

else:
    import asyncio

    CancelledError = asyncio.CancelledError
    sleep = asyncio.sleep

    def spawn(coroutine: Coroutine[Any, Any, T]) -> Any:
        """Runs a coroutine by itself; the result can be awaited."""
        return asyncio.get_running_loop().create_task(coroutine)

    async def gather(*awaitables: Awaitable[Any]) -> list[Any]:
        """Runs them together; the list of their results, or the first error."""
        return list(await asyncio.gather(*awaitables))

    wait_for = asyncio.wait_for


def call_soon_threadsafe(function: Callable[..., Any], *args: Any) -> None:
    """From a thread of the script's own: function(*args) runs in the scene's next turn."""
    _redrabbit.call_soon(function, args)


# ---- The scene ----


def scene() -> str:
    """This scene's name, e.g. 'scene@0'."""
    return _redrabbit.name()


def config(option: str) -> str | None:
    """The value of an option of this process, e.g. config('-gate'), or None."""
    return _redrabbit.config(option)


def reload(module: str) -> str:
    """Runs a module's new source in its namespace, at once: '' or the error's text.

    After an error everything is as before; otherwise its handlers are the new ones, timers go on,
    and singletons take their new class. init() does not run again. Only this module: what others
    have taken by `from module import name` is the old. In a run with --watch a saved file is
    reloaded by itself, with the modules that import it."""
    return _reload.reload(module)


class _Log:
    """log.info("text"): into the server's log, with the scene's name."""

    __slots__ = ()

    def __call__(self, level: int, text: str, module: str = "SCRIPT") -> None:
        _redrabbit.log(level, module, text)

    def fatal(self, text: str) -> None:
        _redrabbit.log(1, "SCRIPT", text)

    def error(self, text: str) -> None:
        _redrabbit.log(2, "SCRIPT", text)

    def warning(self, text: str) -> None:
        _redrabbit.log(3, "SCRIPT", text)

    def info(self, text: str) -> None:
        _redrabbit.log(4, "SCRIPT", text)

    def debug(self, text: str) -> None:
        _redrabbit.log(5, "SCRIPT", text)

    def trace(self, text: str) -> None:
        _redrabbit.log(6, "SCRIPT", text)


log = _Log()
