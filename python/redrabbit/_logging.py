"""The standard library's logging goes into the server's log, with the logger's name as the module.

It is set up when a script, or what that uses, imports logging: others pay nothing.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

import _redrabbit

from . import _host

_finders: list[Any] = sys.meta_path
_LEVELS = ("fatal", "error", "warn", "info", "debug", "trace")  # of the server: 1 to 6


def _server_level() -> int:
    text = _redrabbit.config("-log_level") or "info"
    return _LEVELS.index(text) + 1 if text in _LEVELS else int(text)


def _mend_dummies() -> None:
    """logging asks for the thread's name, whose stand-in CPython before 3.13.3 takes away when `threading` is already empty: a
    TypeError on standard error at each scene's end. With what it needs at hand, as later ones have it."""
    import threading

    dummy: Any = getattr(threading, "_DeleteDummyThreadOnDel", None)
    active: Any = getattr(threading, "_active", None)
    lock: Any = getattr(threading, "_active_limbo_lock", None)
    if dummy is None or active is None or lock is None or sys.version_info >= (3, 13, 3):
        return

    def forget(self: Any) -> None:
        with lock:
            if active.get(self._tident) is self._dummy_thread:
                active.pop(self._tident, None)

    dummy.__del__ = forget


def _adopt(logging: Any) -> None:
    class Handler(logging.Handler):  # type: ignore[misc]
        def emit(self, record: Any) -> None:
            try:
                level = 6 - min(max(record.levelno // 10, 0), 5)  # DEBUG 10 is 5, CRITICAL 50 is 1
                _redrabbit.log(level, "PYTHON" if record.name == "root" else record.name, self.format(record))
            except Exception:
                self.handleError(record)

    def handle_error(self: Any, record: Any) -> None:
        error = sys.exc_info()[1]
        if logging.raiseExceptions and error is not None:
            _host.report(error, "logging", (record.pathname, record.lineno))

    logging.Handler.handleError = handle_error  # of all handlers: else whole, on standard error, each time
    _mend_dummies()
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(Handler())
        root.setLevel(max(1, (6 - _server_level()) * 10))  # what the server would not write is not made


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "logging":
            return None
        _finders.remove(_Finder)
        spec = PathFinder.find_spec(name)
        loader: Any = spec.loader if spec else None
        if loader is None:
            return spec
        run = loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            _adopt(module)

        loader.exec_module = exec_module
        return spec


def begin() -> None:
    if "logging" in sys.modules:
        _adopt(sys.modules["logging"])
    elif _Finder not in _finders:
        _finders.insert(0, _Finder)
