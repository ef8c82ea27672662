"""conf/cluster: the same scripts and the same play in one process, in four, in processes of the seed's command line, and in
two groups that a bridge joins."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import time
import unittest

from harness import PATIENT, ROOT, Case, Client, Message, Server, free_port, main_pass, run

CLUSTER = ROOT / "conf" / "cluster"
SAY, ONLINE, NOTICE = 1, 2, 3


class World(Case):
    """A copy of conf/cluster with ports of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.ports: dict[str, str] = {}
        shutil.copytree(CLUSTER, self.folder / "cluster")
        shutil.copytree(ROOT / "conf" / "chat" / "www", self.folder / "chat" / "www")
        for graph in (self.folder / "cluster").glob("*.yaml"):
            text = re.sub(r"(?<=127\.0\.0\.1:)\d+", self.port, graph.read_text(encoding="utf-8"))
            graph.write_text(text, encoding="utf-8")

    def port(self, match: re.Match[str]) -> str:
        return self.ports.setdefault(match[0], str(free_port()))

    def address(self, port: int) -> str:
        """What stands for this port of the example."""
        return f"tcp://127.0.0.1:{self.ports.setdefault(str(port), str(free_port()))}"

    @property
    def gate(self) -> int:
        return int(self.ports["10242"])


class Play:
    """What is played in every layout; mixed into a World."""

    def launch(self) -> list[Server]:
        raise NotImplementedError

    async def enter(self: World, name: str, kind: str = "tcp") -> Client:  # type: ignore[misc]
        client = await self.client(self.gate, name, kind)
        await self.expect(client, re.compile(r'^\{"name": ?"' + name), cmd=0)
        await self.expect(client, re.compile(r"You are in scene@0"), cmd=NOTICE)
        return client

    async def say(self: World, client: Client, text: str) -> None:  # type: ignore[misc]
        await client.send(SAY, [text])

    async def hears(self: World, client: Client, who: str, text: str) -> Message:  # type: ignore[misc]
        return await self.expect(
            client, lambda m: m.json().get("from") == who and m.json()["text"] == text, cmd=SAY
        )

    async def told(self: World, client: Client, pattern: str, timeout: float = 8) -> Message:  # type: ignore[misc]
        return await self.expect(
            client, lambda m: re.search(pattern, m.json()["text"]), cmd=NOTICE, timeout=timeout
        )

    async def test_login_and_chat(self) -> None:
        self.launch()
        alice, bob = await self.enter("alice"), await self.enter("bob", "ws")
        await self.told(alice, "bob has come to scene@0")
        for number in range(50):
            await self.say(alice, f"line {number}")
        for client in (alice, bob):
            for number in range(50):
                await self.hears(client, "alice", f"line {number}")

    async def test_a_refused_login(self) -> None:
        self.launch()
        client = await self.client(self.gate, "a" * 25)
        await self.expect(client, re.compile("1 to 24 characters"), cmd=0)
        await self.expect_closed(client)

    async def test_a_second_login_replaces_the_first(self) -> None:
        self.launch()
        first = await self.enter("alice")
        await self.enter("alice")
        await self.expect_closed(first)

    async def test_moves_between_scenes(self) -> None:
        self.launch()
        alice, bob = await self.enter("alice"), await self.enter("bob")
        await self.say(alice, "/go room@1")
        await self.told(alice, "You are in room@1")
        await self.told(bob, "alice has gone to room@1")
        await self.say(bob, "anybody?")
        await self.hears(bob, "bob", "anybody?")
        await self.say(alice, "/roll")
        await self.told(alice, r"alice rolls \d")
        await self.say(bob, "/go room@1")
        await self.told(bob, "You are in room@1")
        await self.told(alice, "bob has come to room@1")  # and nothing of what was said in the lobby
        await self.say(bob, "here")
        await self.hears(alice, "bob", "here")
        for client in (alice, bob):
            await self.say(client, "/go room@2")
            await self.told(client, "You are in room@2")
            await self.say(client, "/go scene@0")
            await self.told(client, "You are in scene@0")
        await self.say(alice, "home")
        await self.hears(bob, "alice", "home")

    async def test_messages_on_the_way_are_neither_lost_nor_doubled(self) -> None:
        self.launch()
        alice = await self.enter("alice")
        for number in range(20):
            await self.say(alice, f"before {number}")
            await self.say(alice, "/go room@1" if number % 2 == 0 else "/go scene@0")
            await self.say(alice, f"behind {number}")
        for number in range(20):
            await self.hears(alice, "alice", f"before {number}")
            await self.told(alice, r"You are in " + ("room@1" if number % 2 == 0 else "scene@0"))
            await self.hears(alice, "alice", f"behind {number}")

    async def test_services_of_other_scenes(self) -> None:
        self.launch()
        alice, bob = await self.enter("alice"), await self.enter("bob")
        await self.say(alice, "/who room@1")
        await self.told(alice, "in room@1: nobody")
        await self.say(bob, "/go room@1")
        await self.told(bob, "You are in room@1")
        await self.say(alice, "/who room@1")
        await self.told(alice, "in room@1: bob")
        for text in ("one", "two"):
            await self.say(bob, text)
            await self.hears(bob, "bob", text)
        await self.say(bob, "/top")
        await self.told(bob, "most talkative: bob 2")
        await self.say(alice, "/top")
        await self.told(alice, "most talkative: bob 2")

    async def test_absent_names(self) -> None:
        self.launch()
        alice = await self.enter("alice")
        for command, example in (("/who", "/who room@1"), ("/go", "/go room@1"), ("/shout", "/shout east good evening")):
            await self.say(alice, command)
            await self.told(alice, f"{command} needs the name of .*, as in: {example}")
        await self.say(alice, "/who nobody@9")
        await self.told(alice, "NOROUTE")
        await self.say(alice, "/go nowhere@9")
        await self.told(alice, "NOROUTE")
        await self.say(alice, "still here")
        await self.hears(alice, "alice", "still here")

    async def test_offline(self) -> None:
        self.launch()
        alice, bob, carol = await self.enter("alice"), await self.enter("bob"), await self.enter("carol")
        await carol.close()
        await self.told(alice, "carol has left")
        for client in (alice, bob):
            await self.say(client, "/go room@2")
            await self.told(client, "You are in room@2")
        await bob.close()
        await self.told(alice, "bob has left")
        await self.say(alice, "/who room@2")
        await self.told(alice, "in room@2: alice")


@main_pass  # the other passes play on what has links and several processes
class OneProcess(Play, World):
    def launch(self) -> list[Server]:
        return [self.start("cluster/one.yaml")]


@main_pass
class FourNodesInOneProcess(Play, World):
    def launch(self) -> list[Server]:
        return [self.start("cluster/four.yaml")]


@main_pass
class Up(Play, World):
    """Four processes by `redrabbit up`."""

    def launch(self) -> list[Server]:
        return [self.start("up", "cluster/four.yaml")]

    async def test_its_end_while_people_talk(self) -> None:
        """Nothing of an end that was asked for is worth a warning."""
        (server,) = self.launch()
        people = [await self.enter(name, kind) for name, kind in (("alice", "ws"), ("bob", "tcp"), ("carol", "ws"))]
        await self.say(people[1], "/go room@1")
        await self.told(people[1], "You are in room@1")
        for number in range(100):
            for client in people:
                await self.say(client, f"line {number}")
        await self.hears(people[0], "carol", "line 0")
        self.assertEqual(server.stop(number=signal.SIGINT), 0)
        await self.expect_closed(people[0], 1001)
        self.calm(server, but="held its scene up")  # so it is where much else runs


class OrderlyEnd(World):
    """`redrabbit up` ends scenes before gates: what their last handlers say reaches the clients, then these are told goodbye."""

    LAST = """

gone = []

async def last(session, rest):
    session.send(NOTICE, notice("at work"))
    while not gone:
        await redrabbit.sleep(0.02)
    await redrabbit.sleep(0.5)  # a gate that was told to end together with the scenes has done so by now
    return f"goodbye from {redrabbit.scene()}"

COMMANDS["/last"] = last

@redrabbit.on_offline
def last_offline(session):
    gone.append(session.id)
    offline(session)
"""

    async def enter(self, name: str, kind: str, scene: str) -> Client:
        client = await self.client(self.gate, name, kind)
        await self.expect(client, re.compile(r"You are in scene@0"), cmd=NOTICE)
        if scene != "scene@0":
            await client.send(SAY, [f"/go {scene}"])
            await self.expect(client, re.compile(rf"You are in {scene}"), cmd=NOTICE)
        return client

    async def until_work(self, client: Client) -> None:
        await client.send(SAY, ["/last"])
        await self.expect(client, re.compile("at work"), cmd=NOTICE)

    async def words(self, client: Client) -> list[str]:
        """What the client is told until its end."""
        code = 1001 if client.url.startswith("ws") else 1006  # a TCP client sees no code
        return [message.json()["text"] for message in await self.expect_closed(client, code, 20) if message.cmd == NOTICE]

    async def end(self, policy: str) -> None:
        cluster = self.folder / "cluster"
        graph, world = cluster / "four.yaml", cluster / "world.py"
        text = graph.read_text(encoding="utf-8").replace("www: ../chat/www", f"scene_lost: {policy}")
        graph.write_text("drain: 30s\n" + text, encoding="utf-8")
        world.write_text(world.read_text(encoding="utf-8") + self.LAST, encoding="utf-8")
        server = self.start("up", "cluster/four.yaml")
        alice, erin = await self.enter("alice", "ws", "scene@0"), await self.enter("erin", "tcp", "scene@0")
        bob, frank = await self.enter("bob", "tcp", "room@1"), await self.enter("frank", "ws", "room@1")
        for client in (alice, bob):
            await self.until_work(client)
        server.process.send_signal(signal.SIGINT)
        heard = await asyncio.gather(*(self.words(client) for client in (alice, bob, erin, frank)))
        for words, scene, idle in ((heard[0], "scene@0", "erin"), (heard[1], "room@1", "frank")):
            self.assertEqual((words.count(f"{idle} has left"), words.count(f"goodbye from {scene}")), (1, 1), words)
        self.assertEqual(await asyncio.to_thread(server.over, 60), 0)
        ends = [server.lines.index(f"redrabbit: node {node} ended with status 0") for node in ("lobby", "rooms", "front", "center")]
        self.assertLess(max(ends[:2]), ends[2])
        self.assertLess(ends[2], ends[3])
        self.assertNotRegex(server.output, r" (ERROR|FATAL) ")

    async def test_last_words(self) -> None:
        await self.end("close")

    async def test_last_words_where_clients_would_wait(self) -> None:
        await self.end("wait")

    async def test_last_words_where_clients_would_log_in_again(self) -> None:
        await self.end("relogin")


class FourProcesses(Play, World):
    """The nodes one by one, the master's last."""

    def launch(self) -> list[Server]:
        nodes = ("rooms", "front", "lobby", "center")
        servers = [self.begin("cluster/four.yaml", "--node", node) for node in nodes]
        for server in servers:
            server.ready()
        return servers

    async def test_ps(self) -> None:
        master = self.launch()[-1]
        center = self.address(10241)
        plain = run("ps", "cluster/four.yaml", cwd=self.folder)
        self.assertEqual(plain.status, 0, plain)
        self.assertRegex(plain.out, r"(?m)^center +\d+ +\w+ +" + center + " +master")
        self.assertRegex(plain.out, r"(?m)^rooms +\d+ +\w+ +\(by relay\)")
        self.assertRegex(plain.out, r"(?m)^room@1 +rooms +\d+$")
        result = run("ps", "--broker", center, "--group", "world", "--json", cwd=self.folder)
        self.assertEqual(result.status, 0, result)
        table = json.loads(result.out)
        nodes = {node["id"]: node["name"] for node in table["nodes"]}
        self.assertEqual(sorted(nodes.values()), ["center", "front", "lobby", "rooms"])
        where = {name["name"]: nodes[name["node"]] for name in table["names"]}
        self.assertEqual(where["scene@0"], "lobby")
        self.assertEqual(where["board@0"], "center")
        ends = {(nodes.get(link["from"]), nodes.get(link["to"])): link["state"] for link in table["links"]}
        self.assertEqual(ends["lobby", "center"], "up")
        master.wait_line(r"link to lobby \(\d+\): up")
        self.assertNotIn("link to ?", master.output)  # of those who ask, as just now
        refused = run("ps", "--broker", center, "--group", "other", cwd=self.folder)
        self.assertEqual(refused.status, 1, refused)
        self.assertIn("world", refused.err)

    async def test_the_log_says_which_way_a_link_goes(self) -> None:
        """A link may begin through the broker and turn direct: the latest line about it is what `ps` shows."""
        servers = dict(zip(("rooms", "front", "lobby", "center"), self.launch()))
        alice = await self.enter("alice")
        await self.say(alice, "/go room@1")
        await self.told(alice, "You are in room@1")

        def wrong() -> list[str]:
            table = json.loads(run("ps", "cluster/four.yaml", "--json", cwd=self.folder).out)
            names = {node["id"]: node["name"] for node in table["nodes"]}
            found = []
            for link in table["links"]:
                peer = names[link["to"]]
                said = re.findall(rf"link to {peer} \(\d+\): (.*)", servers[names[link["from"]]].output)
                way = ("up", "direct now") if not link["via"] else ("up through center", "now through center")
                if link["state"] == "up" and said[-1:] not in ([way[0]], [way[1]]):
                    found.append(f"{names[link['from']]} says of {peer}: {said}")
            return found

        end = time.monotonic() + PATIENT
        while texts := await asyncio.to_thread(wrong):
            self.assertLess(time.monotonic(), end, texts)
            await asyncio.sleep(0.1)

    async def test_drain_of_a_node(self) -> None:
        servers = self.launch()
        alice, bob = await self.enter("alice"), await self.enter("bob")
        await self.say(bob, "/go room@2")
        await self.told(bob, "You are in room@2")
        done = await asyncio.to_thread(run, "drain", "rooms", "cluster/four.yaml", cwd=self.folder)
        self.assertEqual(done.status, 0, done)
        self.assertIn("rooms is drained and gone", done.out)
        self.assertEqual(servers[0].stop(), 0)
        self.assertIn("redrabbit: asked to drain", servers[0].output)
        await self.told(bob, "You are in scene@0")  # where drain_to says
        await self.say(bob, "here I am")
        await self.hears(alice, "bob", "here I am")
        await self.say(alice, "/who room@1")
        await self.told(alice, "NOROUTE")
        unknown = run("drain", "rooms", "cluster/four.yaml", cwd=self.folder)
        self.assertEqual(unknown.status, 1, unknown)
        self.assertIn("rooms", unknown.err)
        last = await asyncio.to_thread(run, "drain", "center", "cluster/four.yaml", cwd=self.folder)
        self.assertEqual(last.status, 0, last)  # the master, which nobody is left to ask about
        self.assertEqual(servers[3].stop(), 0)


class SeedLines(Play, World):
    """A bare broker; gate, login scene and the others in processes of their own."""

    def launch(self) -> list[Server]:
        master, listen = self.address(10241), self.address(10242)
        path = ["-python_path", "cluster"]
        lines = [
            ["-broker", master],
            ["-broker", self.address(10251), "-master_broker", master, "-gate", "gate@0", "-gate_listen", listen],
            ["-broker", self.address(10252), "-master_broker", master, "-scene", "scene@0", "-script", "cluster/lobby.py", *path],
            ["-master_broker", master, "-scene", "room@1,room@2", "-script", "cluster/room.py", *path],
            ["-master_broker", master, "-scene", "board@0", "-script", "cluster/board.py", *path],
        ]  # fmt: skip
        servers = [self.begin(*line) for line in lines]
        for server in servers:
            server.ready()
        return servers


class BridgedGroups(Play, World):
    """Two groups, each in one process, and the bridge between them. The play is in the east."""

    def launch(self) -> list[Server]:
        graphs = ("east", "west", "bridge")
        servers = [self.begin(f"cluster/{graph}.yaml") for graph in graphs]
        for server in servers:
            server.ready()
        return servers

    async def test_a_call_into_the_other_group(self) -> None:
        self.launch()
        alice = await self.enter("alice")
        walter = await self.client(int(self.ports["10243"]), "walter")
        await self.told(walter, "You are in scene@0")
        # The bridge is entered in the background, and a call before that ends at once.
        for _ in range(100):
            await self.say(alice, "/shout west good evening")
            answer = await self.told(alice, r"heard by 1 in west|/shout: ")
            if "heard by" in answer.text:
                break
            await asyncio.sleep(0.1)
        await self.told(walter, "alice shouts from afar: good evening")
        await self.say(alice, "/shout south good evening")
        await self.told(alice, "/shout: .*NOROUTE")


if __name__ == "__main__":
    unittest.main()
