"""An asyncio event loop that the scene's turns step forward; it never blocks.

Its selector only looks (time-out 0). The runtime watches the selector's epoll instance and gives
the scene a turn when a socket, an executor's result or call_soon_threadsafe has something; timers
are told to the runtime as "run me in n ms".
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
from asyncio import events
from collections.abc import Callable
from typing import Any

import _redrabbit


class _Glance(selectors.EpollSelector):
    """Never waits: the turn must end."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(0)


class QueryFuture(asyncio.Future[Any]):
    """What a query will bring: its database hears that nobody waits any more."""

    token: int

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            _redrabbit.query_drop(self.token)
        return cancelled


class HostLoop(asyncio.SelectorEventLoop):
    def __init__(self, on_error: Callable[[BaseException | None, str], None]) -> None:
        super().__init__(_Glance())
        self._told: float | None = None  # when the runtime will call again by itself
        self.set_exception_handler(
            lambda loop, context: on_error(context.get("exception"), str(context.get("message")))
        )

    def fileno(self) -> int:
        return self._selector.fileno()  # type: ignore[attr-defined,no-any-return]

    def create_query_future(self, token: int) -> QueryFuture:
        future = QueryFuture(loop=self)
        future.token = token
        return future

    def running(self, on: bool) -> None:
        """Around each turn, on the turn's thread: makes this the running loop there."""
        self._thread_id = threading.get_ident() if on else None
        events._set_running_loop(self if on else None)

    def _next(self) -> float | None:
        """When something is to be done, in loop time; None = when somebody calls."""
        if self._ready:  # type: ignore[attr-defined]
            return 0.0
        scheduled = self._scheduled  # type: ignore[attr-defined]
        return scheduled[0]._when if scheduled else None

    def pending(self) -> bool:
        """Whether a turn is wanted earlier than the runtime knows."""
        when = self._next()
        return when is not None and (self._told is None or when < self._told)

    def step(self) -> int:
        """One round of callbacks; milliseconds until the next is due, -1 = none."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
            finalizer=self._asyncgen_finalizer_hook,  # type: ignore[attr-defined]
        )
        try:
            self._run_once()  # type: ignore[attr-defined]
        finally:
            sys.set_asyncgen_hooks(*hooks)
        when = self._told = self._next()
        if when is None:
            return -1
        return max(0, int((when - self.time()) * 1000) + 1) if when else 0

    def shut_down(self) -> None:
        """Cancels what is left, lets it run a little, closes."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        for _ in range(100):
            if all(task.done() for task in tasks):
                break
            self._run_once()  # type: ignore[attr-defined]
        executor = self._default_executor  # type: ignore[attr-defined]
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        self.running(False)
        self.close()
