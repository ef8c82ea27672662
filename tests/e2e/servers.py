#!/usr/bin/env python3
"""Real database servers for tests: MariaDB, PostgreSQL and Redis on free loopback ports, in folders of their own.

    with servers.mariadb() as server:
        server.url                      # mysql://rr:…@127.0.0.1:PORT/game
        server.kill(); server.start()   # -9, then the same data on the same port
        with server.paused(): …         # SIGSTOP

From a shell or CMake: ``servers.py run mariadb redis -- COMMAND…`` starts them, tells COMMAND by ``RR_TEST_MYSQL``,
``RR_TEST_POSTGRES``, ``RR_TEST_REDIS`` where they are, and ends with its status; 77 if one is not installed.

A fresh data folder is made once and copied for each server. Servers die with whoever started them, even if that one is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from ports import free_port

USER = "rr"
PASSWORD = "p@ss:w/rd?#1"  # whatever it holds, a URL must carry it
DATABASE = "game"
SKIPPED = 77
STEP = 0.01  # between two looks at a condition
ROOT_USER = os.geteuid() == 0


def wait_for(condition: Callable[[], bool], what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(STEP)


def state(pid: int) -> str:
    """As the kernel's letter: T = stopped, Z = ended, and nobody has waited for it yet (also: no such process)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def alive(pid: int) -> bool:
    return state(pid) != "Z"


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


class Server:
    """One server: started, ready, and stopped at the end."""

    kind = ""
    scheme = ""
    variable = ""
    user = ""  # that it must run as when we are root; "" = ours
    stop_signal = signal.SIGTERM

    def __init__(self, folder: pathlib.Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "log"

    @property
    def url(self) -> str:
        return self.url_of()

    def url_of(self, user: str = USER, password: str = PASSWORD, database: str = DATABASE) -> str:
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if password else ""
        return f"{self.scheme}://{login}127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    # What a kind of server says about itself.

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run here; "" = it can."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        """What a template depends on."""
        return ""

    @classmethod
    def fill(cls, data: pathlib.Path) -> None:
        """Makes a fresh data folder."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        """It takes connections and has said so itself."""
        raise NotImplementedError

    # The same for all.

    @property
    def data(self) -> pathlib.Path:
        return self.folder / "data"

    def start(self, seconds: float = 120) -> None:
        """Starts it on its port and its data, whatever happened before, and waits until it is ready."""
        assert self.process is None or self.process.poll() is not None
        if not self.data.exists():
            copy_template(type(self), self.data)
            own(type(self), self.data)
        end = time.monotonic() + seconds
        while True:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    as_user(self.user) + self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
                )
            while self.process.poll() is None:
                if self.answers():
                    return
                if time.monotonic() > end:
                    self.kill()
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(STEP)
            # After kill -9 the old one's shared memory may take a moment to go: that start fails, the next does not.
            if time.monotonic() > end or not self.may_try_again():
                text = self.log.read_text("utf-8", "replace")[-3000:]
                raise AssertionError(f"{self.kind} did not start:\n{text}")

    def may_try_again(self) -> bool:
        return False

    def stop(self, seconds: float = 30) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        family = children(self.pid)
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.kind} did not stop within {seconds} s") from None
        self._gone(family)

    def kill(self) -> None:
        """kill -9, it and what it forked; returns when they are gone."""
        assert self.process
        family = self._halt()
        self.process.kill()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._gone(family)

    def _halt(self) -> list[int]:
        """SIGSTOP; what it has forked. Running it could fork one more for a new client, which nobody would stop then."""
        self.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: self.process.poll() is not None or state(self.pid) in "TZ", f"{self.kind} stands still", 20)
        return children(self.pid)

    def _gone(self, family: list[int]) -> None:
        wait_for(lambda: not any(alive(pid) for pid in family), f"{self.kind}'s processes go", 20)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It and what it forked stand still; connections stay open, nothing is answered."""
        family = [self.pid, *self._halt()]
        for pid in family[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def ask(self, send: bytes, size: int) -> bytes:
        """The first bytes it says, after `send`; b"" if it says nothing."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as peer:
                peer.settimeout(1)
                if send:
                    peer.sendall(send)
                data = b""
                while len(data) < size and (part := peer.recv(size - len(data))):
                    data += part
                return data
        except OSError:
            return b""


class Mariadb(Server):
    kind = "mariadb"
    scheme = "mysql"
    variable = "RR_TEST_MYSQL"

    @classmethod
    def missing(cls) -> str:
        there = find("mariadbd") and find("mariadb-install-db")
        return "" if there else "mariadbd is not installed (Debian: mariadb-server)"

    @classmethod
    def version(cls) -> str:
        return subprocess.run([find("mariadbd"), "--version"], capture_output=True, text=True, check=True).stdout

    @classmethod
    def fill(cls, data: pathlib.Path) -> None:
        run([find("mariadb-install-db"), "--no-defaults", f"--datadir={data}", f"--user={getpass.getuser()}",
             "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve",
             "--innodb-log-file-size=16M", "--innodb-flush-method=nosync"])  # fmt: skip

    def command(self) -> list[str]:
        first = self.folder / "first.sql"
        if not first.exists():
            password = PASSWORD.replace("'", "''")
            first.write_text(
                f"CREATE DATABASE IF NOT EXISTS {DATABASE} CHARACTER SET utf8mb4;\n"
                f"CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
                f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1';\n",
                encoding="utf-8",
            )
        # A commit is in the kernel's hands before it is acknowledged (2): kill -9 takes none back. Nothing is synced to disk.
        return [find("mariadbd"), "--no-defaults", f"--datadir={self.data}", f"--user={getpass.getuser()}",
                "--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.folder}/socket",
                f"--pid-file={self.folder}/pid", f"--init-file={first}", "--skip-name-resolve", "--skip-log-bin",
                "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--innodb-flush-method=nosync",
                "--innodb-flush-log-at-trx-commit=2", "--innodb-fast-shutdown=2", "--max-allowed-packet=64M",
                "--character-set-server=utf8mb4", "--max-connections=151", *self.options]  # fmt: skip

    def answers(self) -> bool:
        return self.ask(b"", 5)[4:] == b"\x0a"  # its greeting, and no error instead


class Postgres(Server):
    kind = "postgres"
    scheme = "postgresql"
    variable = "RR_TEST_POSTGRES"
    user = "postgres" if ROOT_USER else ""  # it refuses root
    stop_signal = signal.SIGINT  # "fast": it does not wait for its clients

    @classmethod
    def missing(cls) -> str:
        if not find("initdb") or not find("postgres"):
            return "postgres is not installed (Debian: postgresql)"
        if cls.user:
            try:
                pwd.getpwnam(cls.user)
            except KeyError:
                return f"there is no user {cls.user}, and postgres refuses to run as root"
        return ""

    @classmethod
    def version(cls) -> str:
        return subprocess.run([find("postgres"), "--version"], capture_output=True, text=True, check=True).stdout

    @classmethod
    def fill(cls, data: pathlib.Path) -> None:
        word = data.parent / f"{data.name}.password"
        word.write_text(PASSWORD, encoding="utf-8")
        own(cls, word)
        own(cls, data)
        try:
            run([*as_user(cls.user), find("initdb"), "-D", str(data), "-U", USER, f"--pwfile={word}",
                 "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C", "--wal-segsize=16"])  # fmt: skip
        finally:
            word.unlink()
        run([*as_user(cls.user), find("postgres"), "--single", "-F", "-D", str(data), "postgres"], f"CREATE DATABASE {DATABASE}\n")

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": "", "fsync": "off",
            "full_page_writes": "off", "shared_buffers": "32MB", "autovacuum": "off", "max_wal_size": "1GB",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [find("postgres"), "-D", str(self.data), "-c", "timezone=UTC", *options, *self.options]

    def answers(self) -> bool:
        body = (3 << 16).to_bytes(4, "big") + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        return self.ask((len(body) + 4).to_bytes(4, "big") + body, 1) == b"R"  # asks for a password: it is up

    def may_try_again(self) -> bool:
        return "pre-existing shared memory block" in self.log.read_text("utf-8", "replace")[-3000:]


class Redis(Server):
    kind = "redis"
    scheme = "redis"
    variable = "RR_TEST_REDIS"

    @classmethod
    def missing(cls) -> str:
        return "" if find("redis-server") else "redis-server is not installed (Debian: redis-server)"

    def url_of(self, user: str = USER, password: str = PASSWORD, database: str = "0") -> str:
        return super().url_of(user, password, database)

    def command(self) -> list[str]:
        return [find("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.data),
                "--daemonize", "no", "--requirepass", PASSWORD,
                "--user", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all", *self.options]  # fmt: skip

    def answers(self) -> bool:
        return self.ask(b"PING\r\n", 7) == b"-NOAUTH"  # and not -LOADING


KINDS: dict[str, type[Server]] = {kind.kind: kind for kind in (Mariadb, Postgres, Redis)}


def find(program: str) -> str:
    """Its path, also where users' PATHs do not lead; "" = not there."""
    versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *map(str, reversed(versions))])
    return shutil.which(program, path=path) or ""


def as_user(user: str) -> list[str]:
    """In front of a command: another user, if need be; and its end when we end."""
    switch = [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []
    return ["setpriv", *switch, "--pdeathsig=KILL", "--"]


def run(command: list[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace", cwd="/")
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def own(kind: type[Server], path: pathlib.Path) -> None:
    """Gives a path, with what is in it, to the user that the server runs as."""
    if not kind.user:
        return
    entry = pwd.getpwnam(kind.user)
    for item in [path, *(path.rglob("*") if path.is_dir() else [])]:
        os.chown(item, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def copy_template(kind: type[Server], data: pathlib.Path) -> None:
    """A fresh data folder: copied from one that whoever needs it first makes, for each version of the server and of this file."""
    # Not below the build folder: other users could not get there.
    base = pathlib.Path(tempfile.gettempdir()) / f"redrabbit-servers-{os.geteuid()}"
    base.mkdir(mode=0o711, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.geteuid():
        raise AssertionError(f"{base} belongs to somebody else")
    sign = hashlib.sha256(kind.version().encode() + pathlib.Path(__file__).read_bytes()).hexdigest()[:12]
    done = base / f"{kind.kind}-{sign}"
    with (base / f"{kind.kind}.lock").open("w") as lock:
        while not data.exists():
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                for old in base.glob(f"{kind.kind}-*"):
                    shutil.rmtree(old)
                raw = base / f"{kind.kind}-new"
                raw.mkdir(mode=0o700)
                kind.fill(raw)
                raw.rename(done)
            # Several may copy at once. A clone of another version may have taken it away before we have this lock.
            fcntl.flock(lock, fcntl.LOCK_SH)
            if done.exists():
                shutil.copytree(done, data)


@contextlib.contextmanager
def serve(kind: type[Server], *options: str, start: bool = True) -> Iterator[Server]:
    """One of that kind, stopped and removed at the end. start: False = only its port and folder, for now."""
    if why := kind.missing():
        raise unittest.SkipTest(why)
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"rr-{kind.kind}-"))
    server = kind(folder, *options)
    try:
        own(kind, folder)
        if start:
            server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Served:
    """A suite whose tests share one server."""

    kind = ""  # of KINDS; "" = none
    database: Server

    @classmethod
    def setUpClass(cls: Any) -> None:
        if cls.kind:
            cls.database = cls.enterClassContext(serve(KINDS[cls.kind]))


def mariadb(*options: str, start: bool = True) -> contextlib.AbstractContextManager[Server]:
    return serve(Mariadb, *options, start=start)


def postgres(*options: str, start: bool = True) -> contextlib.AbstractContextManager[Server]:
    return serve(Postgres, *options, start=start)


def redis(*options: str, start: bool = True) -> contextlib.AbstractContextManager[Server]:
    return serve(Redis, *options, start=start)


def main(args: list[str]) -> int:
    if len(args) < 4 or args[0] != "run" or "--" not in args or not set(args[1 : args.index("--")]) <= set(KINDS):
        print(f"usage: servers.py run [{'|'.join(KINDS)}]… -- COMMAND…", file=sys.stderr)
        return 2
    split = args.index("--")
    with contextlib.ExitStack() as stack:
        env = dict(os.environ)
        for name in args[1:split]:
            try:
                server = stack.enter_context(serve(KINDS[name]))
            except unittest.SkipTest as skip:
                print(f"skipped: {skip}", file=sys.stderr)
                return SKIPPED
            env[server.variable] = server.url
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        return subprocess.run(args[split + 1 :], env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
