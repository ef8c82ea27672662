"""What the C host does in Python: setting up, loading, writing errors down.

Only the host calls this module; scripts use the package itself.
"""

from __future__ import annotations

import _thread
import errno
import io
import linecache
import os
import re
import stat
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any, NoReturn, TextIO, cast

import _json
import _redrabbit

from . import _codec
from . import singletons as _singletons

ERROR, WARN, INFO = 2, 3, 4

facts: dict[str, Any] = {}
_loop: Any = None  # the HostLoop of an asyncio scene


# ---- Output: whole lines go to the host, with the scene's name ----


class _Output(io.TextIOBase):
    """sys.stdout and sys.stderr of a scene; each thread has its own unfinished line."""

    LONGEST = 8192  # an unfinished line is passed on at this length

    def __init__(self, error: bool) -> None:
        super().__init__()
        self._error = error
        self._tails = _thread._local()  # type: ignore[attr-defined]

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        tail = getattr(self._tails, "text", "") + text
        if "\n" in text:
            *lines, tail = tail.split("\n")
            for line in lines:
                _redrabbit.print_line(self._error, line)
        while len(tail) > self.LONGEST:
            _redrabbit.print_line(self._error, tail[: self.LONGEST])
            tail = tail[self.LONGEST :]
        self._tails.text = tail
        return len(text)

    def finish(self) -> None:
        tail = getattr(self._tails, "text", "")
        if tail:
            self._tails.text = ""
            _redrabbit.print_line(self._error, tail)


# ---- Setting up ----


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"the body is not JSON: {name}")


if sys.version_info < (3, 13):
    import json.decoder  # noqa: F401  the C scanner looks for its error class there


def _configure(cancelled: type[BaseException] | None) -> None:
    options: Any = SimpleNamespace(
        strict=True,
        object_hook=None,
        object_pairs_hook=None,
        parse_float=float,
        parse_int=int,
        parse_constant=_reject_constant,
    )
    scan = _json.make_scanner(options)
    encode = _json.make_encoder(
        None,
        _redrabbit.json_default,
        _json.encode_basestring,  # type: ignore[attr-defined]
        None,
        ": ",
        ", ",
        False,
        False,
        False,
    )
    _redrabbit.configure(scan, encode, _codec.thrift_encode, _codec.typed_decode, cancelled)


def _set_path(extra: list[str]) -> None:
    package = facts["package_path"]
    first = [os.path.dirname(facts["file"]), *extra, package]
    rest = [folder for folder in sys.path if folder not in first]
    sys.path[:] = list(dict.fromkeys(first)) + rest
    if facts["venv"]:
        import site

        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        site.addsitedir(os.path.join(facts["venv"], "lib", version, "site-packages"))


def _warn_shadows(folders: list[str]) -> None:
    ours = {"ff", "ffext", "redrabbit", "event_bus", "_redrabbit"}
    package = os.path.realpath(facts["package_path"])
    for folder in dict.fromkeys(folders):
        if os.path.realpath(folder) == package:
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in sorted(names):
            stem, dot, end = name.partition(".")
            is_package = not dot and os.path.isfile(os.path.join(folder, name, "__init__.py"))
            if end != "py" and not is_package:
                continue
            if stem in ours or stem in sys.stdlib_module_names:
                path = os.path.join(folder, name)
                whose = "RedRabbit's" if stem in ours else "the standard library's"
                _redrabbit.log(
                    WARN, "PYTHON", f"{path} hides {whose} module '{stem}': better rename it"
                )


def setup(extra_path: list[str]) -> None:
    global _loop
    from . import _logging, _reload

    facts.update(_redrabbit.facts())
    sys.setswitchinterval(facts["switch_interval"])
    if sys.version_info < (3, 13) and facts["interpreter"] != "main":
        # Its one context variable is shared by all interpreters, whose thread states have the same
        # numbers: they would see each other's freed contexts. decimal falls back to pure Python.
        sys.modules["_decimal"] = cast(ModuleType, None)
    sys.stdout = cast(TextIO, _Output(False))
    sys.stderr = cast(TextIO, _Output(True))
    sys.argv = [facts["file"]]
    _set_path(extra_path)
    folders = [os.path.dirname(facts["file"]), *extra_path]
    _warn_shadows(folders)
    _reload.begin(folders, facts["reload_on_save"])
    _logging.begin()
    if facts["asyncio"]:
        import asyncio

        from . import _loop as module

        _loop = module.HostLoop(_loop_error)
        _configure(asyncio.CancelledError)
    else:
        _configure(None)


# ---- The script ----


LARGEST = 4 << 20  # bytes of a script: compiling takes up to 450 bytes of memory for each, and a second for each MiB


def read(path: str) -> bytes:
    """A script's text. What is no file of that size at most is not read: a pipe would never end."""
    with open(path, "rb", opener=_open_file) as file:
        return file.read()


def _open_file(path: str, flags: int) -> int:
    fd = os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for its writer
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        code, text = errno.EISDIR, os.strerror(errno.EISDIR)
    elif not stat.S_ISREG(status.st_mode):
        code, text = errno.EINVAL, "a script is a plain file"
    elif status.st_size > LARGEST:
        code, text = errno.EFBIG, f"{status.st_size} bytes are too many for a script, {LARGEST} at most"
    else:
        return fd
    os.close(fd)
    raise OSError(code, text, path)


_CODING = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")  # PEP 263


def compile_source(source: bytes, path: str, flags: int = 0) -> Any:
    """As `python FILE` does it. Whatever is wrong is a SyntaxError that names the file, and the line, which compile() leaves out at
    times."""
    _check_bytes(source, path)
    try:
        return compile(source, path, "exec", flags, dont_inherit=True)
    except SyntaxError as error:
        if not error.lineno:
            error.lineno = 1  # of the declared encoding
        raise
    except (RecursionError, MemoryError) as error:
        line = _line_of(type(error), source, path, flags)
    raise _syntax_error("nested too deeply, or too large, to be compiled", source, path, line)


def _check_bytes(source: bytes, path: str) -> None:
    declared = list(filter(None, map(_CODING.match, source.split(b"\n", 2)[:2])))
    encoding = declared[0][1].decode() if declared else "utf-8"
    if b"\0" in source:
        at, why = source.index(b"\0"), "a null byte; a script is plain text, in UTF-8 (not UTF-16)"
    else:
        try:
            source.decode(encoding)
            return
        except LookupError:
            return  # compile() says so
        except UnicodeDecodeError as error:
            at = error.start
            why = f"byte {source[at]:#04x} is not {encoding}; save the file as UTF-8, or declare its encoding (PEP 263)"
    raise _syntax_error(why, source, path, source.count(b"\n", 0, at) + 1)


def _syntax_error(why: str, source: bytes, path: str, line: int) -> SyntaxError:
    if not line:
        return SyntaxError(why, (path, None, None, None))
    text = source.split(b"\n")[line - 1][:200].decode("utf-8", "replace")
    return SyntaxError(why, (path, line, None, text.replace("\0", "\ufffd")))


def _line_of(kind: type[BaseException], source: bytes, path: str, flags: int) -> int:
    """The line with which compile() begins to fail like this; 0 if that is not found in a second or two."""
    lines = source.splitlines(keepends=True)
    until = time.monotonic() + 1

    def fails(count: int) -> bool:
        try:
            compile(b"".join(lines[:count]), path, "exec", flags, dont_inherit=True)
        except kind:
            return True
        except SyntaxError:
            pass  # cut in the middle of something
        return False

    good, bad = 0, len(lines)
    while bad - good > 1 and time.monotonic() < until:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return bad if bad - good == 1 else 0


def load() -> ModuleType:
    """Imports the scene's script under its stem."""
    from importlib.machinery import ModuleSpec, SourceFileLoader

    from . import _reload

    path, name = facts["file"], facts["module"]
    source = read(path)
    code = compile_source(source, path)
    module = ModuleType(name)
    loader = SourceFileLoader(name, path)
    module.__file__ = path
    module.__loader__ = loader
    module.__spec__ = ModuleSpec(name, loader, origin=path)
    module.__spec__.has_location = True
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    _reload.ran(name, source)
    _redrabbit.set_version(source, False)
    return module


# ---- Errors ----

# So many whole, per (file, line, type), in so many seconds; then one count line.
FIRST, WINDOW = 5, 10.0


class _Seen:
    __slots__ = ("until", "level", "count", "timer")

    def __init__(self, until: float, level: int) -> None:
        self.until = until
        self.level = level
        self.count = 0
        self.timer = False


_seen: dict[tuple[Any, ...], _Seen] = {}


def _count_line(key: tuple[Any, ...], where: str) -> None:
    seen = _seen.pop(key, None)
    if seen and seen.count > FIRST:
        _redrabbit.log(
            seen.level, "PYTHON", f"{where}: {seen.count - FIRST} more like it in {WINDOW:g} s"
        )


def _admit(level: int, key: tuple[Any, ...], where: str) -> bool:
    """Whether this one is to be written whole; after the first that is not, the count follows."""
    now = time.monotonic()
    seen = _seen.get(key)
    if seen is None or now >= seen.until:
        if seen is not None:
            _count_line(key, where)
        if len(_seen) > 1000:
            _seen.clear()
        seen = _seen[key] = _Seen(now + WINDOW, level)
    seen.count += 1
    if seen.count > FIRST and not seen.timer:
        seen.timer = True
        left = max(0, int((seen.until - now) * 1000)) + 1
        try:
            _redrabbit.timer(left, 0, _count_line, (key, where))
        except RuntimeError:  # a thread of the script's own has no timers: the count comes with the next error
            seen.timer = False
    return seen.count <= FIRST


def _place(error: BaseException) -> tuple[str, int]:
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 0
    at = error.__traceback__
    if at is None:
        return "", 0
    while at.tb_next is not None:
        at = at.tb_next
    return at.tb_frame.f_code.co_filename, at.tb_lineno


def _hint(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, RuntimeError) and "no running event loop" in text:
        return "\nHint: asyncio needs an event loop: set `asyncio: true` for this scene"
    if isinstance(error, _redrabbit.HandlerTimeout):
        return "\nHint: it ran longer than the scene's option `watchdog` allows"
    no_module = isinstance(error, ImportError) and ("subinterpreter" in text or "interpreters" in text)
    no_thread = isinstance(error, RuntimeError) and "daemon threads are disabled" in text
    if no_module or no_thread:
        return "\nHint: set `interpreter: main` for this scene"
    return ""


# A URL's password, also in the seed's form mysql://host:port/user/password/database: a script's line in a traceback may
# hold one.
_SECRET = re.compile(r"""(://[^\s:/?#'"]*:)[^\s'"]*(?=@)|(mysql://[^\s/'"]+/[^\s/'"]+/)[^\s/'"]+(?=/)""")


def _explains_nothing(at: TracebackType) -> bool:
    code = at.tb_frame.f_code
    return code.co_filename.startswith("<frozen importlib") or at.tb_frame.f_globals.get("__name__") in _SILENT


_SILENT = (__name__, f"{__package__}._reload")


def utf8(text: str) -> str:
    """Lone surrogates, which no log can take, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def text_of(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and _explains_nothing(at):
        at = at.tb_next
    here = at
    while here is not None:
        while here.tb_next is not None and _explains_nothing(here.tb_next):
            here.tb_next = here.tb_next.tb_next
        here = here.tb_next
    lines = traceback.format_exception(type(error), error, at)
    return utf8(_SECRET.sub(r"\1\2***", "".join(lines)).rstrip("\n") + _hint(error))


def report(error: BaseException, where: str, place: tuple[str, int] | None = None) -> None:
    """Writes an error down: whole, or only counted when the same comes again and again.

    place: the line that it is said of and counted for, if that is not the one that raised it.
    """
    file, line = place or _place(error)
    name = type(error).__name__
    # The count stands for many sessions: it names none.
    kind = where.partition(", session")[0]
    if _admit(
        ERROR,
        (file, line, name),
        f"{kind}: {name} at {file}:{line}" if kind else f"{name} at {file}:{line}",
    ):
        linecache.checkcache(file)
        head = f"{where} at {file}:{line}: " if place else f"{where}: " if where else ""
        _redrabbit.log(ERROR, "PYTHON", f"{head}{text_of(error)}")


def note(level: int, where: str, what: str, error: BaseException | None) -> None:
    """One line, e.g. about a message nobody handles; limited like errors."""
    detail = f": {error}" if error is not None else ""
    head = f"{where}: " if where else ""
    # Whatever a client chooses (its cmd, its id) is no part of the key: it could fill the log with that.
    kind = where.partition(" ")[0].rstrip(",")
    if _admit(level, (kind, what), f"{kind}: {what}" if kind else what):
        _redrabbit.log(level, "PYTHON", f"{head}{what}{detail}")


def explain(error: BaseException) -> str:
    """One line that says what and where, for a start that failed."""
    text = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        file, line = _place(error)
        text = error.msg or text
    elif isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    else:
        file, line = _place_in_project(error)
    where = f"{file}:{line}: " if line else f"{file}: " if file else ""
    hint = _hint(error).replace("\nHint: ", ": ")
    return f"{where}{type(error).__name__}: {text}{hint}"


def _place_in_project(error: BaseException) -> tuple[str, int]:
    """The last line of the script's own folder, rather than one deep in a library."""
    folder = os.path.dirname(facts.get("file", "")) + os.sep
    found = _place(error)
    at = error.__traceback__
    while at is not None:
        file = at.tb_frame.f_code.co_filename
        if file.startswith(folder):
            found = file, at.tb_lineno
        at = at.tb_next
    return found


# ---- asyncio scenes ----


def _loop_error(error: BaseException | None, message: str) -> None:
    if error is None:
        _redrabbit.log(ERROR, "PYTHON", message)
    else:
        report(error, f"asyncio: {message}")


def create_future() -> Any:
    return _loop.create_future()


def create_query_future(token: int) -> Any:
    return _loop.create_query_future(token)


def drive(coroutine: Any, owner: Any) -> Any:
    task = _loop.create_task(coroutine)
    task.add_done_callback(owner._finished)
    return task


def loop_step() -> int:
    return int(_loop.step())


def loop_pending() -> bool:
    return bool(_loop.pending())


def loop_running(on: bool) -> None:
    _loop.running(on)


def loop_fileno() -> int:
    return int(_loop.fileno())


# ---- The end ----

PATIENCE = 2.0  # seconds for threads that the script started


def _attempt(action: Callable[[], object]) -> None:
    try:
        action()
    except BaseException as error:
        report(error, "ending")


def _end_executors() -> None:
    module: Any = sys.modules.get("concurrent.futures.thread")
    if module is None:
        return
    with module._global_shutdown_lock:
        module._shutdown = True
    for queue in list(module._threads_queues.values()):
        queue.put(None)
    module._threads_queues.clear()  # its exit hook would wait for ever for a worker that hangs


def _join_threads() -> None:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return
    until = time.monotonic() + PATIENCE
    for thread in threading.enumerate():
        if thread is threading.main_thread() or thread.ident == _thread.get_ident():
            continue
        if type(thread) is not threading._DummyThread:
            thread.join(max(0.0, until - time.monotonic()))


def stop() -> None:
    """The scene is over: loop, threads, atexit functions, unfinished lines of output."""
    import atexit

    if _loop is not None:
        _attempt(_loop.shut_down)
    if facts.get("interpreter") != "main":
        _attempt(atexit._run_exitfuncs)
    _attempt(_end_executors)
    _attempt(_join_threads)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, _Output):
            stream.finish()
    for name in [facts.get("module", ""), *_singletons.modules()]:
        if facts.get("interpreter") == "main":
            sys.modules.pop(name, None)
    _singletons.restore([])
    _seen.clear()
