"""RedRabbit: real-time servers whose logic is plain Python.

    import redrabbit

    @redrabbit.on_login
    def login(who: redrabbit.Login) -> str:
        return who.key

    @redrabbit.on_enter
    def enter(session: redrabbit.Session) -> None:
        session.send(1, f"welcome, {session.id}")

    @redrabbit.message(1)
    async def say(session: redrabbit.Session, text: list[str]) -> None:
        await redrabbit.sleep(0.1)
        redrabbit.broadcast(1, f"{session.id}: {text[0]}")

The package works inside of a server. Outside of one scripts can be imported, for tests: decorators give the function back, and
what needs a server says so when it is called; `redrabbit.client` works anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "CallError",
    "CancelledError",
    "DataError",
    "Database",
    "DatabaseAuthError",
    "DatabaseBusy",
    "DatabaseCancelled",
    "DatabaseConnectionError",
    "DatabaseError",
    "DatabaseStateError",
    "DatabaseSyntaxError",
    "DatabaseTimeout",
    "DeadLetter",
    "DeadlockError",
    "Future",
    "HandlerTimeout",
    "IntegrityError",
    "Login",
    "Pipeline",
    "Redis",
    "Refuse",
    "Result",
    "ResultTooBig",
    "Savepoint",
    "Session",
    "Stream",
    "Subscription",
    "Task",
    "Transaction",
    "after",
    "alloc_id",
    "broadcast",
    "broadcast_gate",
    "call",
    "call_soon_threadsafe",
    "cancel_timer",
    "close",
    "config",
    "database",
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
    "redis",
    "reload",
    "scene",
    "send",
    "service",
    "session",
    "sessions",
    "singleton",
    "sleep",
    "spawn",
    "wait_for",
]

if TYPE_CHECKING:
    _inside = True
else:
    try:
        import _redrabbit
    except ModuleNotFoundError:
        import sys

        from . import _outside

        sys.modules["_redrabbit"] = _outside
        _inside = False
    else:
        _inside = True

if _inside:
    from ._api import (
        CallError,
        CancelledError,
        DeadLetter,
        Future,
        HandlerTimeout,
        Login,
        Refuse,
        Session,
        Task,
        after,
        alloc_id,
        broadcast,
        broadcast_gate,
        call,
        call_soon_threadsafe,
        cancel_timer,
        close,
        config,
        drain,
        epoch,
        every,
        exists,
        gather,
        log,
        message,
        move,
        multi_send,
        on_dead_letter,
        on_drain,
        on_enter,
        on_leave,
        on_login,
        on_offline,
        reload,
        scene,
        send,
        service,
        session,
        sessions,
        sleep,
        spawn,
        wait_for,
    )
    from ._database import (
        Database,
        DatabaseAuthError,
        DatabaseBusy,
        DatabaseCancelled,
        DatabaseConnectionError,
        DatabaseError,
        DatabaseStateError,
        DatabaseSyntaxError,
        DatabaseTimeout,
        DataError,
        DeadlockError,
        IntegrityError,
        Result,
        ResultTooBig,
        Savepoint,
        Stream,
        Transaction,
        database,
        redis,
    )
    from ._redis import Pipeline, Redis, Subscription
    from .singletons import singleton
else:

    def __getattr__(name: str) -> Any:  # clients, which need none of this, do not wait for it
        if name not in __all__:
            raise AttributeError(f"module 'redrabbit' has no attribute {name!r}")
        from . import _api, _database, _redis, singletons

        return next(getattr(m, name) for m in (_api, _database, _redis, singletons) if hasattr(m, name))
