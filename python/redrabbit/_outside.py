"""Stands in for the C module outside of a server, so that tests and tools can import a script.

Decorators register nothing and give the function back; singletons, messages and errors are real. What needs a server says so
when it is called: a test replaces it (unittest.mock.patch) or starts a server.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class CancelledError(BaseException):
    pass


class HandlerTimeout(BaseException):
    pass


class CallError(Exception):
    pass


class Future(Generic[T]):
    pass


class Task(Generic[T]):
    pass


class Session:
    """A session for tests: it keeps what is sent to it."""

    def __init__(self, id: str | int) -> None:
        self.id = id
        self.online = True
        self.sent: list[tuple[int, Any]] = []

    def send(self, cmd: int, body: Any, /) -> bool:
        self.sent.append((cmd, body))
        return self.online

    def close(self) -> bool:
        self.online = False
        return True

    async def move(self, scene: str, extra: Any = "", /) -> None:
        raise RuntimeError(_why("Session.move"))


class Api(ModuleType):
    pass


class Buffer(bytes):
    pass


class Result(list[T]):
    columns: tuple[str, ...] = ()
    affected = 0
    last_id: int | None = None


class Handler:
    pass


def facts() -> dict[str, Any]:
    return {"asyncio": True}  # sleep, gather and wait_for are asyncio's


def name() -> str:
    return ""


def config(option: str, /) -> str | None:
    return None


def register(kind: int, key: Any, function: Callable[..., Any], *rest: Any) -> None:
    if rest[-1] == "__main__":  # the module
        raise RuntimeError(
            "this is the script of a scene: `redrabbit -gate gate@0 -gate_listen tcp://127.0.0.1:10242 -scene scene@0 "
            f"-script {sys.argv[0]}` runs it, or a graph"
        )


def registrations() -> list[Handler]:
    return []


def restore(handlers: Any, /) -> None:
    pass


def database_setup(*functions: Any) -> None:
    pass


def log(level: int, module: str, text: str, /) -> None:
    print(f"{('FATAL', 'ERROR', 'WARN', 'INFO', 'DEBUG', 'TRACE')[level - 1]:5} {module}: {text}", file=sys.stderr)


def encode(value: Any, json_text: bool = False, /) -> bytes:
    import json

    if isinstance(value, bytes):
        return value
    if isinstance(value, str) and not json_text:
        return value.encode()
    serialize = getattr(value, "SerializeToString", None)
    if serialize is not None:
        return bytes(serialize())
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=json_default).encode()


def json_default(value: Any, /) -> Any:
    return list(value)


def decode_json(body: str | bytes, /) -> Any:
    import json

    return json.loads(body)


def _why(name: str) -> str:
    return f"{name}() works only inside of a server; in a test replace it, or start one"


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*args: Any, **options: Any) -> Any:
        raise RuntimeError(_why(name))

    missing.__name__ = missing.__qualname__ = name
    return missing
