"""What the end-to-end suites share: a real server on free ports in a folder of its own, and raw sockets.

The program is $RR_BIN (ctest sets it), else build/redrabbit. Every server is ended by its own process id, with SIGTERM, and
its exit status is looked at; its whole output is in the failure's text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

ROOT = pathlib.Path(os.environ.get("RR_SOURCE_DIR") or pathlib.Path(__file__).resolve().parents[2])
HERE = pathlib.Path(__file__).resolve().parent
BINARY = pathlib.Path(
    os.environ.get("RR_BIN") or os.environ.get("RR_BINARY") or ROOT / "build" / "redrabbit"
)


def sanitizer(binary: pathlib.Path) -> str:
    """Which one a program was built with, also when it is run by hand; "" = none, or there is no program."""
    text = binary.read_bytes() if binary.is_file() else b""
    return "address" if b"__asan_init" in text else "thread" if b"__tsan_init" in text else ""


SANITIZE = os.environ.get("RR_SANITIZE") or sanitizer(BINARY)
SLOW = 4.0 if SANITIZE else 1.0  # sanitizers take their time
PATIENT = 120.0 if SANITIZE else 60.0  # seconds: what will come may take as long on a machine with much else to do; only what fails waits to the end
READY = "redrabbit: ready"

sys.path.insert(0, str(ROOT / "python"))
from ports import free_port  # noqa: E402
from redrabbit.client import Client, Closed, Message, encode_frame  # noqa: E402

__all__ = [
    "BINARY", "Case", "Client", "Closed", "HERE", "Message", "PATIENT", "ROOT", "READY", "Result", "SANITIZE", "SLOW",
    "Server", "encode_frame", "free_port", "main_pass", "python_version", "run",
]  # fmt: skip


def patience(seconds: float) -> float:
    """How long to wait for what should take that long at most."""
    return max(seconds * SLOW, PATIENT)


class Result(NamedTuple):
    status: int
    out: str
    err: str


def run(
    *args: str,
    cwd: pathlib.Path | None = None,
    timeout: float = 60,
    env: dict[str, str] | None = None,
) -> Result:
    """Runs the program to its end."""
    done = subprocess.run(
        [str(BINARY), *args], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        timeout=timeout * SLOW, env={**os.environ, **(env or {})},
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr)


def python_version() -> tuple[int, ...]:
    """The embedded CPython's."""
    text = os.environ.get("RR_PYTHON_VERSION", "")
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


# For long ones of which the suite's later passes (another Python, AddressSanitizer) would learn nothing that others do not show.
main_pass = unittest.skipIf(bool(SANITIZE) or BINARY.parent.name == "py311", "runs in the suite's first pass")


class Server:
    """One running program."""

    def __init__(
        self,
        args: list[str],
        folder: pathlib.Path,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),  # a command that becomes the program
    ) -> None:
        self.args = args
        self.folder = folder
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*prefix, str(BINARY), *args], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), **(env or {})},
        )  # fmt: skip
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        with self._news:
            return "\n".join(self.lines)

    def wait_line(self, pattern: str, timeout: float = 10, count: int = 1) -> str:
        """The count-th line that the pattern is found in, once it is there."""
        end = time.monotonic() + patience(timeout)
        with self._news:
            while True:
                found = [line for line in self.lines if re.search(pattern, line)]
                if len(found) >= count:
                    return found[count - 1]
                left = end - time.monotonic()
                if left <= 0 or self._ended:
                    why = "the program ended" if self._ended else "timed out"
                    text = "\n".join(self.lines[-200:])
                    raise AssertionError(
                        f"{why} waiting for {pattern!r} in the output of {self.args}:\n{text}"
                    )
                self._news.wait(left)

    def ready(self) -> None:
        self.wait_line(f"^{re.escape(READY)}", 30)

    def stop(self, timeout: float = 15, number: int = signal.SIGTERM) -> int:
        """SIGTERM, and the exit status. A server that does not end is killed, which fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.over(timeout, f" of signal {number}")

    def over(self, timeout: float = 15, what: str = "") -> int:
        """The exit status of one that ends by itself, or was told to; behind this `output` is all that it ever said."""
        try:
            status = self.process.wait(patience(timeout))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end within {patience(timeout):g} s{what}:\n{self.output}") from None
        self._reader.join(PATIENT)
        assert not self._reader.is_alive(), f"somebody else still has the output of {self.args}:\n{self.output}"
        assert self.process.stdout
        self.process.stdout.close()
        return status

    def kill(self) -> None:
        """kill -9, of one that lives."""
        assert self.process.poll() is None, f"it has ended by itself:\n{self.output}"
        self.process.kill()
        self.over()

    def rss(self) -> int:
        """Resident bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        match = re.search(r"VmRSS:\s+(\d+) kB", text)
        assert match
        return int(match[1]) * 1024

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = (
            pathlib.Path(f"/proc/{self.pid}/stat")
            .read_text(encoding="ascii")
            .rpartition(")")[2]
            .split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Case(unittest.IsolatedAsyncioTestCase):
    """A test with a folder of its own; the servers it starts must end with status 0."""

    folder: pathlib.Path
    end_signal = signal.SIGTERM  # what ends a server that still runs at the test's end

    def setUp(self) -> None:
        if not BINARY.exists():
            self.fail(f"{BINARY} is not there: ./dev build, or set RR_BIN")
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rr-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    async def asyncSetUp(self) -> None:
        asyncio.get_running_loop().set_debug(False)  # unittest turns it on: slow, and it prints

    def write(self, name: str, text: str) -> pathlib.Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def begin(self, *args: str, status: int = 0, env: dict[str, str] | None = None) -> Server:
        """Starts the program. It is stopped at the test's end."""
        server = Server(list(args), self.folder, env)
        self.addCleanup(self._end, server, status)
        return server

    def calm(self, server: Server, but: str = "$^") -> None:
        """Nothing was worth a warning, but what this pattern finds behind the level."""
        wrong = [line for line in server.output.split("\n") if re.search(rf" (WARN|ERROR|FATAL) +(?!.*{but})", line)]
        if wrong:
            print(server.output)
            self.fail(f"not calm: {wrong[0]} ({len(wrong)} such lines)")

    def start(self, *args: str, status: int = 0, env: dict[str, str] | None = None) -> Server:
        """Starts the program and waits until it is ready. It is stopped at the test's end."""
        server = self.begin(*args, status=status, env=env)
        server.ready()
        return server

    def _end(self, server: Server, status: int) -> None:
        running = server.process.poll() is None
        if server.process.stdout is None or server.process.stdout.closed:
            return  # the test has stopped it and looked
        result = server.stop(number=self.end_signal)
        self.assertTrue(
            running, f"the server ended by itself with {result}:\n{server.output[-8000:]}"
        )
        self.assertEqual(result, status, f"exit status of {server.args}:\n{server.output[-8000:]}")
        self.clean(server)

    def clean(self, server: Server) -> None:
        """No sanitizer had anything to say."""
        for sign in (
            "ERROR: AddressSanitizer",
            "runtime error:",
            "WARNING: ThreadSanitizer",
            "LeakSanitizer",
        ):
            self.assertNotIn(sign, server.output, server.output[-8000:])

    def scene(
        self, script: str, *, gate: str = "", scene: str = "", more: str = "", top: str = "", env: dict[str, str] | None = None
    ) -> tuple[Server, int]:
        """One gate and scene@0 with this script, on a free port."""
        port = free_port()
        self.write("scene.py", script)
        gate = f", {gate}" if gate else ""
        scene = f", {scene}" if scene else ""
        self.write(
            "graph.yaml",
            f"""group: test
{top}
actors:
  broker@0: {{ role: broker }}
  gate@0: {{ role: gate, listen: "tcp://127.0.0.1:{port}", login: scene@0{gate} }}
  scene@0: {{ role: scene, script: scene.py{scene} }}
{more}
""",
        )
        return self.start("graph.yaml", env=env), port

    async def client(
        self, port: int, key: str | bytes = "", kind: str = "tcp", **options: Any
    ) -> Client:
        """A connected client, logged in if a key is given; closed at the test's end."""
        url = f"{kind}://127.0.0.1:{port}" + ("/" if kind == "ws" else "")
        client = Client(url, **options)
        self.addAsyncCleanup(client.close)
        await client.connect()
        if key:
            await client.login(key)
        return client

    async def expect(
        self, client: Client, want: object, cmd: int | None = None, timeout: float = 5
    ) -> Message:
        """Reads until a message whose text is ``want`` (or contains a match of a pattern, or fulfils a function)."""
        seen: list[Message] = []

        def fits(message: Message) -> bool:
            if cmd is not None and message.cmd != cmd:
                return False
            if callable(want):
                return bool(want(message))
            text = message.body.decode("utf-8", "replace")
            return bool(want.search(text)) if isinstance(want, re.Pattern) else text == want

        try:
            async with asyncio.timeout(patience(timeout)):
                while True:
                    message = await client.receive()
                    seen.append(message)
                    if fits(message):
                        return message
        except TimeoutError:
            self.fail(f"no {want!r} within {patience(timeout):g} s, only {seen}")
        except Closed as closed:
            self.fail(f"closed ({closed}) waiting for {want!r}, after {seen}")

    async def expect_closed(
        self, client: Client, code: int = 1006, timeout: float = 5
    ) -> list[Message]:
        """Reads until the end, which must be this code; returns what came before."""
        seen: list[Message] = []
        try:
            async with asyncio.timeout(patience(timeout)):
                while True:
                    seen.append(await client.receive())
        except TimeoutError:
            self.fail(f"not closed within {patience(timeout):g} s; received {seen}")
        except Closed as closed:
            self.assertEqual(closed.code, code, f"{closed} after {seen}")
        return seen

    async def silence(self, client: Client, seconds: float = 0.3) -> None:
        """Nothing comes: for what must not be sent. Prefer a marker message where there can be one."""
        try:
            message = await client.receive(seconds)
        except TimeoutError:
            return
        self.fail(f"unexpected {message}")

    @contextlib.asynccontextmanager
    async def raw(
        self, port: int, host: str = "127.0.0.1"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A bare connection."""
        reader, writer = await asyncio.open_connection(host, port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def read_to_end(self, reader: asyncio.StreamReader, timeout: float = 5) -> bytes:
        """All bytes until the server closes (a reset counts as closing)."""
        data = b""
        try:
            async with asyncio.timeout(patience(timeout)):
                while chunk := await reader.read(65536):
                    data += chunk
        except ConnectionError:
            pass
        except TimeoutError:
            self.fail(f"the server did not close within {patience(timeout):g} s; received {data[:500]!r}")
        return data

    async def http(
        self,
        port: int,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body."""

        def ask() -> tuple[int, dict[str, str], bytes]:
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{path}", data=body, method=method, headers=headers or {}
            )
            try:
                answer = urllib.request.urlopen(request, timeout=PATIENT)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                names = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status, names, answer.read()

        return await asyncio.to_thread(ask)

    async def metrics(self, port: int) -> dict[str, float]:
        """/metrics as {"name{labels}": value}."""
        status, _, body = await self.http(port, "/metrics")
        self.assertEqual(status, 200)
        lines = (
            line.rpartition(" ")
            for line in body.decode().splitlines()
            if line and not line.startswith("#")
        )
        return {name: float(value) for name, _, value in lines}

    async def until(self, condition: Callable[[], bool], what: str, timeout: float = 5) -> None:
        """Polls a condition that no message announces."""
        end = time.monotonic() + patience(timeout)
        while not condition():
            self.assertLess(time.monotonic(), end, f"not within {patience(timeout):g} s: {what}")
            await asyncio.sleep(0.01)


def linger_reset(writer: asyncio.StreamWriter) -> None:
    """Closes with a RST instead of a FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
