"""A fault stays where it is: runaway scenes, sleeping scenes, crashes at the start, memory, and parallel scenes."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import time
import unittest

from harness import PATIENT, SANITIZE, Case, Client, free_port, main_pass, python_version

GOOD = """
import ffext
@ffext.session_call(1, 'raw')
def echo(session_id, body):
    ffext.send_msg_session(session_id, 1, body)
"""
SPIN = """
import ffext
@ffext.session_call(1, 'raw')
def spin(session_id, body):
    ffext.send_msg_session(session_id, 1, 'spinning')
    ffext.once_timer(1, forever)
def forever():
    while True:
        pass
"""
SLEEP = SPIN.replace("while True:\n        pass", "import time\n    time.sleep(600)")


def runnable(pid: int) -> int:
    """How many threads of a process run, or would if they had a CPU."""
    count = 0
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            count += stat.read_text(encoding="ascii").rpartition(") ")[2].startswith("R")
        except OSError:  # it has ended
            pass
    return count


class Neighbours(Case):
    def many(self, **scripts: str) -> dict[str, int]:
        """A gate and a scene for each script; returns their ports."""
        ports = {name: free_port() for name in scripts}
        text = "drain: 3s\nactors:\n"
        for number, (name, script) in enumerate(scripts.items()):
            self.write(f"{name}.py", script)
            text += f"  gate@{number}: {{ role: gate, listen: 'tcp://127.0.0.1:{ports[name]}', login: {name} }}\n"
            text += f"  {name}: {{ role: scene, script: {name}.py }}\n"
        self.write("graph.yaml", text)
        return ports

    async def round_trips(self, client: Client, count: int) -> None:
        for number in range(count):
            await client.send(1, str(number))
            await self.expect(client, str(number))

    async def test_two_spinning_and_two_sleeping_scenes_stop_nobody(self) -> None:
        ports = self.many(good=GOOD, spin1=SPIN, spin2=SPIN, sleep1=SLEEP, sleep2=SLEEP)
        # The bad ones cannot end their Python: the stop is cut short (3), on time.
        server = self.start("graph.yaml", status=3)
        good = await self.client(ports["good"], "good")
        await self.round_trips(good, 20)
        for name, port in ports.items():
            if name != "good":
                bad = await self.client(port, name)
                await bad.send(1, b"")
                await self.expect(bad, "spinning")
        await asyncio.sleep(0.5)  # all four are in their loops now, for ten minutes or for ever
        await self.round_trips(good, 100)
        other = await self.client(ports["good"], "other")
        await self.round_trips(other, 20)
        started = time.monotonic()
        self.assertEqual(server.stop(40), 3, server.output[-4000:])
        self.assertLess(time.monotonic() - started, 300)  # of the ten minutes

    async def test_on_one_cpu_a_scene_that_blocks_does_not_hold_the_sockets(self) -> None:
        """There the loop's thread runs scenes itself, after some short turns; the good one shares its loop with the bad."""
        bad = GOOD + """
import os, time
@ffext.session_call(2, 'raw')
def sleep(session_id, body):
    print('BLOCKS')
    while not os.path.exists('go'):
        time.sleep(0.1)
@ffext.session_call(3, 'raw')
def spin(session_id, body):
    print('BLOCKS')
    while not os.path.exists('go'):
        for _ in range(100000):
            pass
"""
        ports = self.many(good=GOOD, bad=bad)
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cpus)})
        try:
            server = self.start("graph.yaml")
        finally:
            os.sched_setaffinity(0, cpus)
        clients = [await self.client(ports[name], name) for name in ("good", "bad")]
        for count, cmd in enumerate((2, 3, 2)):
            for client in clients:
                await self.round_trips(client, 200)
            await clients[1].send(cmd, b"")
            await clients[1].send(1, b"over")
            await asyncio.to_thread(server.wait_line, "BLOCKS", count=count + 1)
            await self.round_trips(clients[0], 50)
            go = self.write("go", "")
            await self.expect(clients[1], "over")
            go.unlink()

    async def test_watchdog_ends_a_runaway_handler(self) -> None:
        script = (
            GOOD
            + """
@ffext.session_call(2, 'raw')
def spin(session_id, body):
    while True:
        pass
@ffext.session_call(3, 'raw')
def stubborn(session_id, body):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass
"""
        )
        server, port = self.scene(script, scene="watchdog: 300ms")
        client = await self.client(port, "me")
        for cmd in (2, 3):
            await client.send(cmd, b"")
            await client.send(1, b"alive")
            await self.expect(client, "alive", timeout=10)
        server.wait_line("scene.py.*line|line.*scene.py")

    @main_pass
    async def test_the_wall_clock_is_set_back(self) -> None:
        """By an hour behind each look at it. Nothing waits an hour longer for that."""
        source = """
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *out) {
    int rc = (int)syscall(SYS_clock_gettime, clock, out);
    out->tv_sec += rc == 0 && clock == CLOCK_REALTIME ? 3600 : 0;
    return rc;
}
"""
        script = """
import redrabbit

@redrabbit.message(1)
async def nap(session, seconds):
    await redrabbit.sleep(seconds)
    redrabbit.log.info("a line")
    session.send(1, "awake")

@redrabbit.message(2)
def spin(session, msg):
    while True:
        pass
"""
        shim = self.folder / "clock.so"
        command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", str(shim), str(self.write("clock.c", source))]
        subprocess.run(command, check=True, timeout=60)
        server, port = self.scene(script, scene="watchdog: 300ms", env={"LD_PRELOAD": str(shim)})
        client = await self.client(port, "me")
        await client.send(2, 0)  # ended by the watchdog
        for _ in range(3):
            await client.send(1, 0.05)
            await self.expect(client, "awake", timeout=10)
        server.wait_line("INFO .*a line", 10, 3)
        self.assertEqual(server.stop(), 0, server.output)

    async def test_memory_limit(self) -> None:
        script = (
            GOOD
            + """
@ffext.session_call(2, 'raw')
def grow(session_id, body):
    try:
        x = [bytes(1000) for _ in range(10**6)]
    except MemoryError:
        ffext.send_msg_session(session_id, 2, 'MemoryError')
"""
        )
        _, port = self.scene(script, scene="memory: 200MiB")
        client = await self.client(port, "me")
        await client.send(2, b"")
        await self.expect(client, "MemoryError", timeout=20)
        await client.send(1, b"alive")
        await self.expect(client, "alive")

    async def test_recursion(self) -> None:
        script = (
            GOOD
            + """
import json
@ffext.session_call(2, 'raw')
def deep(session_id, body):
    def down(n):
        return down(n + 1)
    try:
        down(0)
    except RecursionError:
        ffext.send_msg_session(session_id, 2, 'RecursionError')
@ffext.session_call(3)
def nested(session_id, msg):
    ffext.send_msg_session(session_id, 3, 'parsed')
"""
        )
        server, port = self.scene(script)
        client = await self.client(port, "me")
        await client.send(2, b"")
        await self.expect(client, "RecursionError", timeout=20)
        await client.send(3, "[" * 100000 + "]" * 100000)
        await client.send(1, b"alive")
        await self.expect(client, "alive", timeout=20)

    @unittest.skipIf(
        python_version() < (3, 13),
        f"scenes run in parallel from CPython 3.13 on, this is {python_version()}",
    )
    @unittest.skipIf(SANITIZE, "a sanitizer's figures say nothing")
    async def test_two_cpu_bound_scenes_run_in_parallel(self) -> None:
        burn = """
import ffext, os
@ffext.session_call(1)
def burn(session_id, msg):
    print('BEGIN')
    count = 0
    while not os.path.exists('go'):
        for _ in range(100000):
            count += 1
    ffext.send_msg_session(session_id, 1, str(count))
"""
        ports = self.many(a=burn, b=burn)
        server = self.start("graph.yaml")
        a, b = await self.client(ports["a"], "a"), await self.client(ports["b"], "b")

        async def work(client: Client) -> None:
            await client.send(1, [])
            await client.receive(2 * PATIENT)

        # What counts is how many threads of ours want a CPU at a time, not what they get done: other processes may take
        # the CPUs, but only a lock of ours can keep a busy scene's thread asleep. Under one GIL this is about 1.
        both = asyncio.gather(work(a), work(b))
        await asyncio.to_thread(server.wait_line, "BEGIN", count=2)
        samples = []
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            samples.append(min(2, runnable(server.pid)))
            await asyncio.sleep(0.005)
        self.write("go", "")
        await both
        self.assertGreater(len(samples), 20)
        self.assertGreaterEqual(sum(samples) / len(samples), 1.95, f"{len(samples)} samples")


class Starts(Case):
    async def test_exceptions_of_init_and_of_the_script(self) -> None:
        from harness import run

        port = free_port()
        for script, words in [
            (
                "import ffext\nraise RuntimeError('cannot be')\n",
                ["RuntimeError: cannot be", "bad.py"],
            ),
            ("def f(:\n", ["SyntaxError", "bad.py"]),
            ("import no_such_thing\n", ["no_such_thing", "bad.py"]),
            ("def init():\n    return False\n", ["init", "bad.py"]),
            ("def init():\n    return 5\n", ["init", "bad.py"]),
            ("def init():\n    raise ValueError('in init')\n", ["ValueError: in init"]),
            (
                "import redrabbit\nasync def init():\n"
                "    await redrabbit.sleep(0.01)\n    return False\n",
                ["init(): returned False", "does not start: init() failed, see the log"],
            ),
        ]:
            with self.subTest(script):
                self.write("bad.py", script)
                self.write(
                    "bad.yaml",
                    f"actors:\n  gate@0: {{ role: gate, listen: 'tcp://127.0.0.1:{port}' }}\n"
                    "  scene@0: { role: scene, script: bad.py }\n",
                )
                result = await asyncio.to_thread(run, "bad.yaml", cwd=self.folder)
                self.assertNotEqual(result.status, 0)
                self.assertGreater(result.status, 0, "died of a signal")
                for word in words:
                    self.assertIn(word, result.out + result.err)
                self.assertNotIn("redrabbit: ready", result.out)

    @unittest.skipIf(python_version() < (3, 13), "before CPython 3.13 nobody knows")
    async def test_a_crash_in_an_extension_says_where_the_script_was(self) -> None:
        from harness import run

        self.write("main.py", "import os\ndef deep():\n    os.abort()\ndef init():\n    deep()\n")
        result = await asyncio.to_thread(run, "-scene", "scene@0", "-script", "main.py", cwd=self.folder)
        self.assertEqual(result.status, -signal.SIGABRT)
        self.assertIn("Fatal Python error: Aborted", result.err)
        self.assertRegex(result.err, r'main\.py", line 3 in deep\n  File ".*main\.py", line 5 in init\n')


if __name__ == "__main__":
    unittest.main()
