"""Events between the parts of one scene: who emits need not know who listens.

    import event_bus

    class login_event:
        def __init__(self, uid): self.uid = uid

    @event_bus.bind(login_event)              # or bind(login_event, function)
    def greet(event): ...

    @event_bus.bind_pre(login_event)          # before all others; returning False stops the event
    def banned(event): return event.uid not in BANNED

    @event_bus.bind_post(login_event)         # after all others
    def count(event): ...

    event_bus.emit(login_event(7))            # True, unless a `pre` listener stopped it

An event's type is its class (listeners of its base classes hear it too, after the class's own), or
any hashable value: `event_bus.emit('stage_clear', 3)` calls those bound to 'stage_clear' with (3).
Listeners of one phase run in the order in which they were bound. One that raises is logged, the
others still run. An `async def` listener runs by itself. Binding a function of the same module and
name again replaces the old one, so a reload leaves no doubles.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any

import redrabbit
from redrabbit import _host

__all__ = ["bind", "bind_post", "bind_pre", "clear", "emit", "unbind"]

Listener = Callable[..., Any]
PRE, NORMAL, POST = range(3)
_BY_NAME = object()

_listeners: dict[Hashable, tuple[list[Listener], list[Listener], list[Listener]]] = {}


def _key(kind: Hashable) -> Hashable:
    """A class counts by its name: a reload makes it anew, and its listeners must not be lost."""
    return (_BY_NAME, kind.__module__, kind.__qualname__) if isinstance(kind, type) else kind


def _same(one: Listener, other: Listener) -> bool:
    if one == other:
        return True
    name = getattr(one, "__qualname__", None)
    return (
        name is not None
        and "<" not in name
        and not hasattr(one, "__self__")
        and name == getattr(other, "__qualname__", None)
        and getattr(one, "__module__", None) == getattr(other, "__module__", None)
    )


def _bind(kind: Hashable, function: Listener | None, phase: int) -> Any:
    def add(function: Listener) -> Listener:
        phases = _listeners.setdefault(_key(kind), ([], [], []))
        for index, old in enumerate(phases[phase]):
            if _same(old, function):
                phases[phase][index] = function
                return function
        phases[phase].append(function)
        return function

    return add if function is None else add(function)


def bind(kind: Hashable, function: Listener | None = None) -> Any:
    """Listens to an event type; as a decorator or with the function."""
    return _bind(kind, function, NORMAL)


def bind_pre(kind: Hashable, function: Listener | None = None) -> Any:
    """Listens before all others; returning False stops the event."""
    return _bind(kind, function, PRE)


def bind_post(kind: Hashable, function: Listener | None = None) -> Any:
    """Listens after all others."""
    return _bind(kind, function, POST)


def unbind(kind: Hashable, function: Listener) -> bool:
    """Ends listening, in every phase; False if it did not listen."""
    found = False
    for phase in _listeners.get(_key(kind), ()):
        while function in phase:
            phase.remove(function)
            found = True
    return found


def clear(kind: Hashable | None = None) -> None:
    """Drops all listeners, of one event type or of all."""
    if kind is None:
        _listeners.clear()
    else:
        _listeners.pop(_key(kind), None)


def _call(function: Listener, args: tuple[Any, ...]) -> Any:
    try:
        result = function(*args)
    except Exception as error:
        _host.report(error, f"event listener {getattr(function, '__qualname__', function)}")
        return None
    if isinstance(result, Coroutine):
        redrabbit.spawn(result)
        return None
    return result


def _kinds(event: Any) -> list[Hashable]:
    if isinstance(event, (str, bytes, int, tuple, type)):
        return [_key(event)]
    return [_key(cls) for cls in type(event).__mro__ if cls is not object]


def emit(event: Any, *args: Any) -> bool:
    """Tells all listeners. False if a `pre` listener stopped it."""
    kinds = _kinds(event)
    named = isinstance(event, (str, bytes, int, tuple, type))
    passed = args if named else (event, *args)
    for phase in (PRE, NORMAL, POST):
        for kind in kinds:
            for function in list(_listeners.get(kind, ((), (), ()))[phase]):
                if _call(function, passed) is False and phase == PRE:
                    return False
    return True
