"""What the suites of databases share: a scene that runs the Python it is sent, beside databases on real servers."""

from __future__ import annotations

import asyncio
import itertools
import textwrap
import time
from typing import Any

import servers
from harness import PATIENT, SLOW, Case, Client, Server

SCENE = '''
import contextlib, datetime, decimal, math, textwrap, time, uuid
import ffext, redrabbit

kept = {}


def told(error):
    return {
        "type": type(error).__name__, "text": str(error), "executed": getattr(error, "executed", None),
        "code": getattr(error, "code", None), "state": getattr(error, "state", None), "sql": getattr(error, "sql", None),
    }


async def ends(wait):
    """What a query came to, as two words."""
    try:
        return ["ok", await wait]
    except redrabbit.DatabaseError as error:
        return [type(error).__name__, error.executed]


@ffext.session_call(1, "json", concurrent=True)
async def run(session_id, msg):
    number, source = msg
    scope = globals()
    try:
        names = {}
        exec("async def run_it():\\n" + textwrap.indent(source, "    "), scope, names)
        answer = [number, True, await names["run_it"]()]
    except BaseException as error:
        answer = [number, False, told(error)]
        if not isinstance(error, Exception):
            raise
    finally:
        ffext.send_msg_session(session_id, 1, answer)
'''


class Failed(Exception):
    """What the scene's code ended with."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told['type']}: {told['text']}")
        self.type: str = told["type"]
        self.text: str = told["text"]
        self.executed: bool | None = told["executed"]
        self.code: int | None = told["code"]
        self.state: str | None = told["state"]
        self.sql: str | None = told["sql"]


class Scene:
    """A client whose messages are code, and whose answers are what it returned."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = itertools.count()
        self._waits: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                number, good, value = (await self._client.receive()).json()
                future = self._waits.pop(number)
                future.set_result(value) if good else future.set_exception(Failed(value))
        except Exception as error:
            for future in self._waits.values():
                future.set_exception(ConnectionError(f"the scene's client ended: {error!r}"))

    def start(self, source: str) -> asyncio.Future[Any]:
        number = next(self._numbers)
        future = self._waits[number] = asyncio.get_running_loop().create_future()
        self._sending = asyncio.create_task(self._client.send(1, [number, textwrap.dedent(source)]))
        return future

    async def do(self, source: str, timeout: float = 60) -> Any:
        """Runs the body of an async function in the scene; what it returns goes as JSON."""
        return await asyncio.wait_for(self.start(source), timeout * SLOW)

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


class DatabaseCase(Case):
    """One gate, one scene, and databases: NAME -> its options in the graph."""

    server: Server
    port: int  # the gate's

    async def begin_scene(self, databases: dict[str, str], first: str = "", scenes: dict[str, str] | None = None, **options: str) -> Scene:
        """`first`: more of the script. scenes: others, with the files of their scripts."""
        lines = "\n".join(
            [f'  "{name}": {{ role: database, {text} }}' for name, text in databases.items()]
            + [f"  {name}: {{ role: scene, script: {script} }}" for name, script in (scenes or {}).items()]
        )
        self.server, self.port = self.scene(SCENE + first, more=lines, **options)
        client = await self.client(self.port, "tester", max_size=64 << 20)
        scene = Scene(client)
        self.addAsyncCleanup(scene.close)
        return scene

    async def fails(self, scene: Scene, kind: str, source: str, timeout: float = 60) -> Failed:
        """The code ends in an error of this class."""
        try:
            value = await scene.do(source, timeout)
        except Failed as failed:
            self.assertEqual(failed.type, kind, failed.text)
            return failed
        self.fail(f"no {kind}, but {value!r}")

    async def refused(self, scene: Scene, source: str) -> Failed:
        """It ends in a DatabaseConnectionError; asked again where no attempt to connect had failed yet when the time of `acquire_timeout` was over."""
        end = time.monotonic() + PATIENT
        while True:
            try:
                value = await scene.do(source)
            except Failed as failed:
                if failed.type == "DatabaseBusy" and time.monotonic() < end:
                    continue
                self.assertEqual(failed.type, "DatabaseConnectionError", failed.text)
                return failed
            self.fail(f"it was not refused, but {value!r}")


def url(server: servers.Server, **parts: str) -> str:
    """As an option of the graph."""
    return f'url: "{server.url_of(**parts)}"'
