"""One object per class, by module and qualified name, that lives through reloads."""

from __future__ import annotations

from typing import Any, TypeVar, cast

__all__ = ["singleton"]

T = TypeVar("T")
Snapshot = list[tuple[tuple[str, str], Any, type]]

_objects: dict[tuple[str, str], Any] = {}


def _swap(instance: Any, cls: type) -> None:
    if type(instance) is not cls:
        instance.__class__ = cls


def singleton(cls: type[T]) -> T:
    """The one instance of a class, made on first use.

    After a reload it takes the new class and keeps its attributes."""
    key = (cls.__module__, cls.__qualname__)
    instance = _objects.get(key)
    if instance is None:
        instance = _objects[key] = cls()
    elif type(instance) is not cls:
        _swap(instance, cls)
    return cast(T, instance)


def snapshot() -> Snapshot:
    return [(key, instance, type(instance)) for key, instance in _objects.items()]


def restore(before: Snapshot) -> None:
    _objects.clear()
    for key, instance, cls in before:
        _objects[key] = instance
        _swap(instance, cls)


def adopt(module: str, namespace: dict[str, Any]) -> None:
    """After a reload of a module: its instances take the classes that are there now."""
    for (owner, path), instance in _objects.items():
        if owner != module:
            continue
        first, *rest = path.split(".")
        found: Any = namespace.get(first)
        for part in rest:
            found = getattr(found, part, None)
        if isinstance(found, type):
            _swap(instance, found)


def modules() -> list[str]:
    return sorted({module for module, _ in _objects})
