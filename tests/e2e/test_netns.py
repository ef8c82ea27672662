"""Four nodes in network namespaces of their own, on one switch: cables that are cut, deaf one way, and slow.

The scenes are the soak's (tests/stress/soak_scene.py), and so is what must hold of every call (soak_check.py). Where this
process may not make namespaces the suite is skipped; what the kernel cannot do (netem), case by case. The proxy of
tests/stress/test_cluster_soak.py covers the same on one machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import unittest

from harness import ROOT, Case, Server

sys.path.insert(0, str(ROOT / "tests" / "stress"))

import soak_check  # noqa: E402

LEASE, MARGIN, DOWN = 6.0, 1.0, 6.0  # TCP's own patience with a loose cable grows to seconds
NODES = {"center": "", "lobby": "scene@0", "east": "work@0", "west": "work@1"}
SCENES = {scene: node for node, scene in NODES.items() if scene}
NOWHERE = "02:00:00:00:00:fe"


def ip(*words: str, tool: str = "ip") -> None:
    """Runs a command of iproute2; raises with what it says."""
    done = subprocess.run([tool, *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{tool} {' '.join(words)}: {done.stderr.strip()}")


class Switch:
    """A namespace with a bridge, and one for each node with a cable to it."""

    def __init__(self, names: list[str]) -> None:
        self.prefix = f"rr{os.getpid()}"
        self.hub = f"{self.prefix}-hub"
        self.addresses = {name: f"10.77.0.{i + 1}" for i, name in enumerate(names)}
        self.made: list[str] = []
        try:
            self.make(self.hub)
            ip("-n", self.hub, "link", "add", "br0", "type", "bridge")
            ip("-n", self.hub, "link", "set", "br0", "up")
            for name, address in self.addresses.items():
                self.cable(name, address)
        except BaseException:
            self.close()
            raise

    def make(self, space: str) -> None:
        ip("netns", "add", space)
        self.made.append(space)

    def space(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def cable(self, name: str, address: str) -> None:
        space = self.space(name)
        self.make(space)
        ip("-n", space, "link", "set", "lo", "up")
        ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", name, "netns", self.hub)
        ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        ip("-n", self.hub, "link", "set", name, "up")
        self.plug(name, True)

    def plug(self, name: str, yes: bool) -> None:
        """Unplugged at the switch: the node's own interface stays up, what it sends goes nowhere, nothing comes."""
        ip("-n", self.hub, "link", "set", name, *(("master", "br0") if yes else ("nomaster",)))

    def deaf(self, sender: str, receiver: str) -> None:
        """What one sends does not reach the other; the other way it does. Until heard()."""
        ip("-n", self.space(sender), "neigh", "replace", self.addresses[receiver], "lladdr", NOWHERE, "dev", "eth0",
           "nud", "permanent")  # fmt: skip

    def heard(self, sender: str, receiver: str) -> None:
        ip("-n", self.space(sender), "neigh", "del", self.addresses[receiver], "dev", "eth0")

    def slow(self, name: str, *discipline: str) -> None:
        """A queueing discipline on what goes to the node. Until fast()."""
        ip("-n", self.hub, "qdisc", "replace", "dev", name, "root", *discipline, tool="tc")

    def fast(self, name: str) -> None:
        ip("-n", self.hub, "qdisc", "del", "dev", name, "root", tool="tc")

    def close(self) -> None:
        for space in self.made:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


class Netns(Case):
    def setUp(self) -> None:
        super().setUp()
        if not shutil.which("ip") or not shutil.which("tc"):
            self.skipTest("no iproute2")
        try:
            self.switch = Switch(list(NODES))
        except OSError as error:
            self.skipTest(f"no network namespaces can be made here: {error}")
        self.addCleanup(self.switch.close)
        self.write("key", "a secret of this test")
        os.chmod(self.folder / "key", 0o600)
        shutil.copy(ROOT / "tests" / "stress" / "soak_scene.py", self.folder)
        self.write("g.yaml", self.graph())
        self.journals = soak_check.Journals(self.folder / "journal")
        (self.folder / "journal").mkdir()
        self.ever: list[tuple[str, Server]] = []
        self.servers = {name: self.begin_at(name) for name in NODES}
        for server in self.servers.values():
            server.ready()

    def graph(self) -> str:
        nodes = "\n".join(f'  {name}: {{ address: "tcp://{at}:7000" }}' for name, at in self.switch.addresses.items())
        scenes = "\n".join(f"  {scene}: {{ role: scene, node: {node}, script: soak_scene.py }}" for scene, node in SCENES.items())
        return f"""group: soak
cluster_key: key
cluster: {{ lease: {LEASE}s, margin: {int(MARGIN * 1000)}ms, heartbeat: 100ms, suspect: 500ms, link_down: {int(DOWN * 1000)}ms }}
nodes:
{nodes}
actors:
  broker@0: {{ role: broker, node: center, fresh: true }}
{scenes}
"""

    def begin_at(self, name: str) -> Server:
        prefix = ("ip", "netns", "exec", self.switch.space(name))
        server = Server(["g.yaml", "--node", name], self.folder, prefix=prefix)
        self.ever.append((name, server))
        self.addCleanup(self._end, server, 0)
        return server

    def again(self, name: str) -> None:
        """A node that was given up ends by itself, with a reason; it is started anew, as a service manager would."""
        server = self.servers[name]
        self.assertEqual(server.over(LEASE + MARGIN + 20), 1, server.output)
        self.assertRegex(server.output, "no member of group soak any more")
        self.servers[name] = self.begin_at(name)
        self.servers[name].ready()

    async def all_reach_all(self, what: str, scenes: set[str] | None = None) -> None:
        since = time.monotonic_ns()
        among = scenes or set(SCENES)
        wanted = {(one, other) for one in among for other in among if one != other}
        await self.until(lambda: wanted <= self.journals.reach(since), what, 20)

    def check(self) -> None:
        """When all have ended: else one journal would be ahead of another."""
        for server in reversed(self.servers.values()):
            self.assertEqual(server.stop(), 0, server.output[-4000:])
            self.clean(server)
        downs = soak_check.Downs()
        for name, server in self.ever:
            downs.read(name, list(server.lines))
        faults = soak_check.Checker(self.journals.read(), SCENES, downs, set()).run()
        self.assertEqual(faults[:20], [])

    async def test_a_cable_is_pulled(self) -> None:
        await self.all_reach_all("everybody to reach everybody")
        self.switch.plug("west", False)
        self.servers["east"].wait_line("link to west .* down", DOWN + 5)
        await self.all_reach_all("the others to go on", {"scene@0", "work@0"})
        self.servers["center"].wait_line(r"node west .* is gone", LEASE + MARGIN + 5)
        self.switch.plug("west", True)
        self.again("west")
        await self.all_reach_all("west to be back")
        self.check()

    async def test_a_cable_is_loose(self) -> None:
        """Shorter than link_down: nothing is lost, no session ends."""
        await self.all_reach_all("everybody to reach everybody")
        for i in range(3):
            self.switch.plug("west", False)
            self.servers["west"].wait_line("link to center .*: silent", DOWN + 5, i + 1)
            self.switch.plug("west", True)
            self.servers["west"].wait_line("link to center .*: up", DOWN + 5, i + 2)
            await self.all_reach_all("west to go on")
        for server in self.servers.values():
            self.assertNotIn(": down:", server.output)
        self.check()

    async def test_deaf_one_way(self) -> None:
        """What east sends to lobby goes nowhere: they talk through the broker, or not at all, but never wrongly."""
        await self.all_reach_all("everybody to reach everybody")
        self.switch.deaf("east", "lobby")
        await self.all_reach_all("a way around")
        self.switch.heard("east", "lobby")
        await self.all_reach_all("the way back")
        self.check()

    async def test_a_narrow_cable(self) -> None:
        await self.slowly("tbf", "rate", "2mbit", "burst", "16kbit", "latency", "200ms")

    async def test_a_long_and_lossy_cable(self) -> None:
        await self.slowly("netem", "delay", "80ms", "20ms", "loss", "2%")

    async def slowly(self, *discipline: str) -> None:
        await self.all_reach_all("everybody to reach everybody")
        try:
            self.switch.slow("west", *discipline)
        except OSError as error:
            self.skipTest(f"the kernel has no such queue: {error}")
        for _ in range(3):
            await self.all_reach_all("everybody to reach everybody slowly")
        self.switch.fast("west")
        await self.all_reach_all("everybody to reach everybody fast")
        self.check()


if __name__ == "__main__":
    unittest.main()
