"""A cluster of real processes under random faults every second, from a seed, under a checker that knows every message.

Five nodes, each behind a proxy (tests/e2e/proxy.py); scenes that call each other all the time, clients that come through the
gate. Processes are killed with -9, stopped for less and for longer than their lease, replaced while they are stopped;
connections are reset, cut, half cut, delayed, throttled, refused; the broker dies, too. Then everything is mended, and
everybody must reach everybody again. What must hold: soak_check.py. $RR_SECONDS (40), $RR_SEED (random, printed).
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import unittest
from collections import defaultdict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import soak_check  # noqa: E402
from harness import SLOW, Case, Client, Closed, Server, free_port  # noqa: E402
from proxy import Proxy  # noqa: E402

SECONDS = float(os.environ.get("RR_SECONDS", "40"))
SEED = int(os.environ.get("RR_SEED") or int.from_bytes(os.urandom(4), "big"))
KEEP = os.environ.get("RR_KEEP", "")
LEASE, MARGIN, DOWN = 2.0, 0.5, 1.5
CLIENTS = 8
NODES = {"center": (), "front": (), "lobby": ("scene@0",), "east": ("work@0",), "west": ("work@1",)}
SCENES = {scene: node for node, scenes in NODES.items() for scene in scenes}
NO_PORT = "west"  # reached through the broker only; so another process can take its place while it is stopped


class Player:
    """A client: sends numbered messages, and comes back when it is closed."""

    def __init__(self, soak: Soak, name: str) -> None:
        self.soak = soak
        self.name = name
        self.random = random.Random(f"{SEED} {name}")
        self.number = 0
        self.heard = 0  # the last number answered
        self.sent: dict[int, float] = {}  # of this connection
        self.epoch = 0
        self.answers = 0
        self.lost: list[tuple[int, float, float]] = []

    async def play(self) -> None:
        while True:
            client = Client(f"tcp://127.0.0.1:{self.soak.gate}")
            try:
                async with asyncio.timeout(20 * SLOW):
                    await client.connect()
                    await client.login(self.name)
                self.sent.clear()
                self.epoch = 0
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.talk(client))
                    group.create_task(self.listen(client))
            except* (Closed, OSError, TimeoutError):
                pass  # its node or its scene was lost: what that means for its messages, check_clients says
            finally:
                await client.close()
            await asyncio.sleep(0.1)

    async def talk(self, client: Client) -> None:
        while True:
            self.number += 1
            self.sent[self.number] = time.monotonic()
            await client.send(self.random.choice((1, 1, 1, 2)), self.number)
            await asyncio.sleep(self.random.uniform(0, 0.15))

    async def listen(self, client: Client) -> None:
        while True:
            number, epoch = (await client.receive()).json()
            if number not in self.sent or number <= self.heard:
                self.soak.faults.append(f"{self.name} got an answer to {number} behind {self.heard}")
            if epoch < self.epoch:
                self.soak.faults.append(f"{self.name} heard epoch {epoch} behind {self.epoch}")
            now = time.monotonic()
            for missing in [n for n in self.sent if n < number]:
                self.lost.append((missing, self.sent.pop(missing), now))
            self.sent.pop(number, None)
            self.heard, self.epoch = number, max(epoch, self.epoch)
            self.answers += 1


class Node:
    """A node's process, started again whenever it ends."""

    def __init__(self, soak: Soak, name: str) -> None:
        self.soak = soak
        self.name = name
        self.server: Server | None = None
        self.busy = False  # some fault is on it
        self.pause = 0.0  # until it is started again
        self.starts = 0

    def begin(self) -> Server:
        server = Server(["g.yaml", "--node", self.name], self.soak.folder)
        self.soak.servers.append((self.name, server))
        self.starts += 1
        return server

    async def keep(self) -> None:
        while True:
            self.server = self.begin()
            await asyncio.to_thread(self.server.process.wait)
            self.soak.over(self.name, self.server)
            await asyncio.sleep(self.pause if self.server.process.returncode < 0 else 1.0)
            self.pause = 0.0

    def signal(self, number: int) -> bool:
        if self.server is None or self.server.process.poll() is not None:
            return False
        self.server.process.send_signal(number)
        if number == signal.SIGSTOP:
            self.soak.stopped.add(self.server.pid)
        return True


class Soak(Case):
    random: random.Random

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        print(f"RR_SEED={SEED} RR_SECONDS={SECONDS:g}", flush=True)
        self.random = random.Random(SEED)
        self.gate = free_port()
        self.faults: list[str] = []
        self.counts: dict[str, int] = defaultdict(int)
        self.servers: list[tuple[str, Server]] = []
        self.stopped: set[int] = set()
        self.statuses: dict[str, int] = defaultdict(int)
        self.proxies = {name: Proxy(free_port(), free_port()) for name in NODES if name != NO_PORT}
        for proxy in self.proxies.values():
            await proxy.start()
            self.addAsyncCleanup(proxy.close)
        shutil.copy(pathlib.Path(__file__).with_name("soak_scene.py"), self.folder)
        self.write("g.yaml", self.graph())
        self.journals = soak_check.Journals(self.folder / "journal")
        self.nodes = {name: Node(self, name) for name in NODES}
        if KEEP:
            self.addCleanup(self.keep)
        self.addCleanup(self.kill_all)

    def graph(self) -> str:
        nodes = "\n".join(
            f'  {name}: {{ address: "tcp://127.0.0.1:{proxy.port}", listen: "tcp://127.0.0.1:{proxy.target}" }}'
            for name, proxy in self.proxies.items()
        )
        scenes = "\n".join(
            f"  {scene}: {{ role: scene, node: {node}, script: soak_scene.py }}" for scene, node in SCENES.items()
        )
        return f"""group: soak
log: {{ level: {"debug" if KEEP else "info"} }}
cluster: {{ lease: {LEASE}s, margin: {int(MARGIN * 1000)}ms, heartbeat: 100ms, suspect: 500ms, link_down: {int(DOWN * 1000)}ms }}
drain: 8s
nodes:
{nodes}
  {NO_PORT}: {{}}
actors:
  broker@0: {{ role: broker, node: center }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}", scene_lost: wait, scene_wait: 20s }}
{scenes}
"""

    # ---- Processes ----

    def over(self, name: str, server: Server) -> None:
        status = server.process.returncode
        self.statuses[f"{name} {status}"] += 1
        if status in (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE):
            self.faults.append(f"node {name} ended with {status}:\n" + "\n".join(server.lines[-60:]))

    def keep(self) -> None:
        """For who wants to look at it."""
        shutil.copytree(self.folder, KEEP, dirs_exist_ok=True)
        for i, (name, server) in enumerate(self.servers):
            (pathlib.Path(KEEP) / f"{i:03}.{name}.{server.pid}.log").write_text(server.output)

    def kill_all(self) -> None:
        for _, server in self.servers:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)
                server.process.kill()
                server.process.wait()
            if server.process.stdout and not server.process.stdout.closed:
                server._reader.join(5)
                server.process.stdout.close()

    # ---- Faults ----

    async def kill(self, node: Node) -> None:
        node.pause = self.random.choice((0.0, 0.0, 0.5, 2.0))
        node.signal(signal.SIGKILL)
        await asyncio.sleep(1)

    async def stop_short(self, node: Node) -> None:
        await self.stop(node, self.random.uniform(0.1, 1.2))

    async def stop_long(self, node: Node) -> None:
        await self.stop(node, self.random.uniform(LEASE + MARGIN, LEASE + MARGIN + 3))

    async def stop(self, node: Node, seconds: float) -> None:
        if not node.signal(signal.SIGSTOP):
            return
        server = node.server
        try:
            await asyncio.sleep(seconds)
        finally:
            if server and server.process.poll() is None:
                server.process.send_signal(signal.SIGCONT)

    async def replace(self, node: Node) -> None:
        """Another process takes the stopped one's place; both live on until one of them is told."""
        if not node.signal(signal.SIGSTOP):
            return
        stopped, other = node.server, None
        try:
            await asyncio.sleep(DOWN + 1)
            other = node.begin()
            await asyncio.sleep(LEASE + MARGIN + 2)
        finally:
            if stopped and stopped.process.poll() is None:
                stopped.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        if other.process.poll() is None:
            other.process.kill()
        await asyncio.to_thread(other.process.wait)
        self.over(node.name, other)

    async def on_network(self, node: Node) -> None:
        proxy, r = self.proxies[node.name], self.random
        kind = r.choice(("reset", "half reset", "cut", "half cut", "cut one", "delay", "throttle", "refuse"))
        self.counts[kind] += 1
        ways = r.choice(((True, False), (False, True)))
        if kind == "reset":
            proxy.reset()
        elif kind == "half reset":
            proxy.reset(*ways)
        elif kind == "cut":
            proxy.cut()
        elif kind == "half cut":
            proxy.cut(*ways)
        elif kind == "cut one" and proxy.links:
            r.choice(sorted(proxy.links, key=id)).cut(*r.choice(((True, True), ways)))
        elif kind == "delay":
            proxy.delay(r.uniform(0.001, 0.1), r.uniform(0, 0.05))
        elif kind == "throttle":
            proxy.throttle(r.uniform(20_000, 300_000))
        elif kind == "refuse":
            proxy.reset()
            proxy.refuse()
        try:
            await asyncio.sleep(r.choice((r.uniform(0.1, 1.0), r.uniform(0.5, 3.0), r.uniform(2.0, 5.0))))
        finally:
            proxy.mend()

    async def one_fault(self) -> None:
        """On a random node that none is on."""
        r = self.random
        kind = r.choice((self.kill, self.kill, self.stop_short, self.stop_long, self.replace, *[self.on_network] * 5))
        names = [NO_PORT] if kind == self.replace else list(self.proxies) if kind == self.on_network else list(NODES)
        free = [self.nodes[name] for name in names if not self.nodes[name].busy]
        if not free:
            return
        node = r.choice(free)
        node.busy = True
        self.counts[kind.__name__] += 1
        try:
            await kind(node)
        finally:
            node.busy = False

    async def storm(self) -> None:
        end = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                group.create_task(self.one_fault())
                self.journals.read()  # bit by bit: the proxies are on this thread, too
                await asyncio.sleep(self.random.uniform(0.5, 1.5))

    # ---- Afterwards ----

    def open_calls(self, pids: set[int], before: int) -> list[soak_check.Call]:
        lives = [life for life in self.journals.read().values() if life.pid in pids]
        return [call for life in lives for call in life.calls.values() if call.began < before and call.number not in life.ends]

    async def calm(self, players: list[Player]) -> None:
        since = time.monotonic()
        end = since + (LEASE + MARGIN + DOWN + 20) * SLOW
        wanted = {(one, other) for one in SCENES for other in SCENES if one != other}
        before = {player: player.answers for player in players}
        while time.monotonic() < end:
            await asyncio.sleep(1)
            missing = wanted - self.journals.reach(int(since * 1e9))
            silent = [player.name for player in players if player.answers < before[player] + 5]
            if not missing and not silent:
                self.counts["calm after, ms"] = int((time.monotonic() - since) * 1000)
                return
        self.faults.append(f"after the faults: no answer from {sorted(missing)}, clients without answers: {silent}")

    def downs(self) -> soak_check.Downs:
        downs = soak_check.Downs()
        for name, server in self.servers:
            downs.read(name, list(server.lines))
        return downs

    def check_clients(self, players: list[Player], downs: soak_check.Downs, deaths: dict[str, list[int]]) -> None:
        for player in players:
            for number, sent, heard in player.lost:
                begin, end = int(sent * 1e9), int(heard * 1e9)
                died = any(begin - soak_check.NEAR_NS < at < end + soak_check.NEAR_NS for at in deaths["lobby"])
                if not died and not downs.between("front", "lobby", begin, end):
                    self.faults.append(f"message {number} of {player.name}, sent at {begin}, was lost without a reason")

    async def test_soak(self) -> None:
        keepers = [asyncio.create_task(node.keep()) for node in self.nodes.values()]
        players = [Player(self, f"player{i}") for i in range(CLIENTS)]
        playing = [asyncio.create_task(player.play()) for player in players]
        try:
            await self.until(lambda: all(player.answers for player in players), "the clients to play", 40)
            await self.storm()
            await self.calm(players)
        finally:
            for task in playing + keepers:
                task.cancel()
            results = await asyncio.gather(*playing, *keepers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, asyncio.CancelledError):
                raise result
        if not self.faults:
            await self.end()
        self.judge(players)
        print(json.dumps({"faults": dict(self.counts), "ends": dict(self.statuses), "totals": self.totals}, indent=1), flush=True)
        self.show_failures()

    async def end(self) -> None:
        """Every call has had its time; then all end in order."""
        since = time.monotonic_ns()
        pids = {node.server.pid for node in self.nodes.values() if node.server}
        await self.until(lambda: not self.open_calls(pids, since), "the calls to end", 10)
        for name in reversed(NODES):
            server = self.nodes[name].server
            assert server
            self.assertIsNone(server.process.poll(), f"{name} has ended:\n" + "\n".join(server.lines[-40:]))
            status = await asyncio.to_thread(server.stop)
            self.assertEqual(status, 0, f"{name} ended with {status}:\n" + "\n".join(server.lines[-40:]))

    def judge(self, players: list[Player]) -> None:
        lives, downs = self.journals.read(), self.downs()
        checker = soak_check.Checker(lives, SCENES, downs, self.stopped)
        self.faults += checker.run()
        deaths: dict[str, list[int]] = defaultdict(list)
        for life in lives.values():
            deaths[SCENES[life.name]] += [life.marks[0][0], life.last()] if life.marks else []
        self.check_clients(players, downs, deaths)
        ends: dict[str, int] = defaultdict(int)
        for life in lives.values():
            for _, status, _ in life.ends.values():
                ends[status] += 1
        self.totals = {
            "calls": sum(len(life.calls) for life in lives.values()),
            "ended": dict(ends),
            "executed": sum(len(rows) for life in lives.values() for rows in life.executed.values()),
            "lives": len(lives),
            "answers to clients": sum(player.answers for player in players),
            "lost with their scene": sum(len(player.lost) for player in players),
            "sessions of links ended": sum(len(times) for times in downs.all.values()),
        }
        self.assertGreater(self.totals["executed"], 10 * SECONDS, "hardly anything was called: the test is void")

    def show_failures(self) -> None:
        for _, server in self.servers:
            self.clean(server)
        if self.faults:
            self.fail(f"RR_SEED={SEED}: {len(self.faults)} faults\n" + "\n".join(self.faults[:40]))


if __name__ == "__main__":
    unittest.main()
