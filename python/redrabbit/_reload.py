"""Reload: the new text of a module is run in the module's own namespace; or everything is as before.

What was saved is told by its text, never by a time: `_texts` has what was run. Only scenes whose saves are watched keep it.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import _redrabbit

from . import _host
from . import singletons as _singletons

_roots: list[str] = []  # folders of the project: the script's and python_path
_texts: dict[str, bytes] = {}  # by module; what the project's modules were made of
_watched = False
_failed: list[str] = []  # what the last look could not run
_away: set[str] = set()  # files that are not there, or empty, which was said


class _Module(NamedTuple):
    name: str
    module: ModuleType
    path: str
    source: bytes


# ---- Which modules are the project's ----


def _is_project(folder: str) -> bool:
    """Not of a library: a virtual environment may lie in the project's folder."""
    venv = _host.facts["venv"]
    if "site-packages" in folder.split(os.sep) or (venv and _is_below(folder, venv)):
        return False
    return any(_is_below(folder, root) for root in _roots)


def _is_below(folder: str, root: str) -> bool:
    return folder == root or folder.startswith(root.rstrip(os.sep) + os.sep)


def begin(roots: list[str], watched: bool) -> None:
    """Before the script is loaded. watched: what is imported from these folders is remembered by its text."""
    global _watched
    _roots[:] = [root for root in roots if root]
    if watched and not _watched:
        _watched = True  # the main interpreter serves one scene after the other
        _hook_imports()


def _hook_imports() -> None:
    from importlib.machinery import (
        BYTECODE_SUFFIXES,
        EXTENSION_SUFFIXES,
        SOURCE_SUFFIXES,
        ExtensionFileLoader,
        FileFinder,
        SourceFileLoader,
        SourcelessFileLoader,
    )

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> CodeType | None:
            # From the source: a .pyc may be of another text of the same second and size.
            path = self.get_filename(fullname)
            source = _texts[fullname] = self.get_data(path)
            code: CodeType = _host.compile_source(source, path)
            return code

    find = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (Loader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def hook(folder: str) -> Any:
        if not _is_project(folder):
            raise ImportError("not of the project", path=folder)
        return find(folder)

    sys.path_hooks.insert(0, hook)
    for folder in sys.path:
        sys.path_importer_cache.pop(folder, None)


def ran(name: str, source: bytes) -> None:
    """This text is the module's now."""
    if _watched:
        _texts[name] = source


# ---- Timers call what is there now ----

_Spaces = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # of each module that was run: before, and now


def _at(path: str, space: dict[str, Any]) -> Any:
    first, *rest = path.split(".")
    found = space.get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


def _renewed(function: Any, spaces: _Spaces) -> Any:
    """What the function's name, or the method's in its object, stands for now; itself if that is not how it was reached."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(plain, FunctionType) or plain.__module__ not in spaces:
        return function
    if isinstance(function, MethodType):
        method = getattr(function.__self__, plain.__name__, function)
        return method if isinstance(method, MethodType) else function
    before, now = spaces[plain.__module__]
    found = _at(plain.__qualname__, now) if _at(plain.__qualname__, before) is plain else None
    return found if callable(found) else function


# ---- Running new text ----


def _forget_new(before: set[str]) -> None:
    """What a failed attempt imported: its registrations are taken back, so the next one must import it again."""
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path and path.endswith(".py") and _is_project(os.path.dirname(path)):
            del sys.modules[name]


def _run(modules: list[_Module]) -> None:
    """All of them, in this order, or none: after an exception modules and registrations are as before."""
    import importlib

    codes = [_host.compile_source(m.source, m.path) for m in modules]
    importlib.invalidate_caches()  # a file of this very moment is imported, too
    names = {m.name for m in modules}
    loaded, texts = set(sys.modules), dict(_texts)
    spaces = [dict(m.module.__dict__) for m in modules]
    registered = _redrabbit.registrations()
    objects = _singletons.snapshot()
    _redrabbit.restore([handler for handler in registered if handler.module not in names])
    try:
        for m, code in zip(modules, codes):
            exec(code, m.module.__dict__)
            _singletons.adopt(m.name, m.module.__dict__)
            ran(m.name, m.source)
        renewed = {m.name: (before, m.module.__dict__) for m, before in zip(modules, spaces)}
        timers = [(timer, _renewed(function, renewed)) for timer, function in _redrabbit.timers()]
    except BaseException:
        for m, before in zip(modules, spaces):
            m.module.__dict__.update(before)
            for key in [key for key in m.module.__dict__ if key not in before]:
                del m.module.__dict__[key]
        _redrabbit.restore(registered)
        _singletons.restore(objects)
        _forget_new(loaded)
        _texts.clear()
        _texts.update(texts)
        raise
    finally:
        for m in modules:
            linecache.checkcache(m.path)
    for timer, function in timers:
        _redrabbit.timer_set(timer, function)
    script = [m.source for m in modules if m.path == _host.facts["file"]]
    _redrabbit.set_version(script[0] if script else None, True)


def _source_of(name: str) -> tuple[ModuleType, str]:
    module = sys.modules.get(name)
    if module is None:
        raise ImportError(f"module '{name}' is not loaded: import it first")
    if name.partition(".")[0] in {"redrabbit", "_redrabbit", "ff", "ffext"}:
        raise ImportError(f"module '{name}' belongs to RedRabbit and is not reloaded")
    path = getattr(module, "__file__", None)
    if not path or not path.endswith(".py"):
        raise ImportError(f"module '{name}' has no Python source to reload")
    return module, path


def reload(name: str) -> str:
    """'' or the error's text; on an error the module and its registrations are as before."""
    try:
        module, path = _source_of(name)
        _run([_Module(name, module, path, _host.read(path))])
    except BaseException as error:
        return _host.text_of(error)
    return ""


# ---- What was saved ----


def _shown(path: str) -> str:
    folder = os.path.dirname(_host.facts["file"])
    return _host.utf8(os.path.relpath(path, folder) if _is_below(path, folder) else path)


def _tell_away(path: str, how: str) -> None:
    if path not in _away:
        _away.add(path)
        _redrabbit.log(_host.INFO, "RELOAD", f"{_shown(path)} is {how}: what was loaded of it goes on")


def _on_disk() -> dict[str, _Module]:
    """The project's modules with their files' texts. A file that is away, or empty, is about to be written: it is as it was."""
    found: dict[str, _Module] = {}
    for name, old in list(_texts.items()):
        module = sys.modules.get(name)
        path = getattr(module, "__file__", None)
        if module is None or not path:
            continue
        how = "empty"
        try:
            source = _host.read(path)
        except FileNotFoundError:
            source, how = b"", "away"
        if source or (not old and how == "empty"):
            _away.discard(path)
        else:
            _tell_away(path, how)
        found[name] = _Module(name, module, path, source or old)
    return found


def _imported(m: _Module) -> set[str]:
    """The names of what may be modules that its own statements import; not what its functions do when they are called."""
    import ast

    names: set[str] = set()
    package = str(m.module.__dict__.get("__package__") or "").split(".")
    todo: list[ast.AST] = [_host.compile_source(m.source, m.path, ast.PyCF_ONLY_AST)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*base, *filter(None, [node.module])])
            names.add(whole)
            names.update(f"{whole}.{alias.name}" for alias in node.names)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            todo.extend(ast.iter_child_nodes(node))
    parents = {name[:at] for name in names for at, sign in enumerate(name) if sign == "."}
    return names | parents


def _in_order(changed: Iterable[str], modules: dict[str, _Module]) -> list[_Module]:
    """These and all that import them, each behind what it imports."""
    imports = {name: (_imported(m) & modules.keys()) - {name} for name, m in modules.items()}
    affected = set(changed)
    while more := {name for name in imports if name not in affected and imports[name] & affected}:
        affected |= more
    ordered: list[_Module] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for other in sorted(imports[name] & affected):
            visit(other)
        ordered.append(modules[name])

    for name in sorted(affected):
        visit(name)
    return ordered


def _look(failed: list[str]) -> list[str]:
    modules = _on_disk()
    changed = [name for name, m in modules.items() if m.source != _texts[name]]
    if not changed:
        return failed  # mended by taking it back
    _failed[:] = [modules[name].path for name in changed]
    ordered = _in_order(changed, modules)
    _run(ordered)
    return [m.path for m in ordered if m.path not in _away]  # without its file, what imports it ran its old text


def look() -> tuple[bool, str]:
    """Runs what was saved since: (True, the files that were run; '' if none), or (False, the error's text).

    A failed attempt is made again each time, until it is mended: what mends it may be a file that is no module yet.
    """
    failed = list(_failed)
    try:
        paths = _look(failed)
    except BaseException as error:
        return False, _host.text_of(error)
    _failed.clear()
    return True, ", ".join(_shown(p) for p in paths)


def asked(name: str) -> tuple[bool, str]:
    error = reload(name)
    return not error, error
