"""Zero downtime over processes: 200 clients play through a rolling restart of every scene node. Each numbers its messages and
looks at every answer and every broadcast: nothing is missing, repeated or out of order, and nobody is disconnected."""

from __future__ import annotations

import asyncio
import signal
import time
import unittest
from collections.abc import Coroutine
from typing import Any

from harness import PATIENT, SLOW, Case, Client, Message, Server, free_port, run

CLIENTS = 200
PACE = 0.05  # seconds between a client's messages
IN_FLIGHT = 3
COUNT, SLOW_COUNT, MOVE, LONG, CAST, GATE_CAST, ENTERED = 1, 2, 3, 4, 8, 9, 100

SCENE = """
import json
import redrabbit

counts = {}
cast = 0  # the last broadcast's number

@redrabbit.on_login
def login(who):
    return who.key

@redrabbit.on_enter
def enter(session, from_scene, extra):
    state = json.loads(extra) if extra else None
    counts[session.id] = state["count"] if state else 0
    session.send(100, [redrabbit.scene(), redrabbit.epoch(), cast, state])

@redrabbit.message(1)
def count(session, number):
    counts[session.id] += 1
    session.send(1, [number, counts[session.id]])

@redrabbit.message(2)
async def slow(session, number):
    await redrabbit.sleep(0.003)
    counts[session.id] += 1
    session.send(1, [number, counts[session.id]])

def state_of(session):
    return {"count": counts[session.id], "epoch": redrabbit.epoch(), "cast": cast}

@redrabbit.message(3)
async def move(session, where):
    await session.move(where[0], state_of(session))

@redrabbit.message(4)
async def long(session, number):
    try:
        await redrabbit.sleep(60)
    finally:
        print("LONG", session.id, session.send(1, [number, "late"]))

@redrabbit.on_drain
def drain(session):
    if session.id.startswith("stays"):
        return False
    return None, state_of(session)

@redrabbit.on_leave
def leave(session, to_scene):
    del counts[session.id]

@redrabbit.on_offline
def offline(session):
    counts.pop(session.id, None)
    print("OFFLINE", session.id)

def tick():
    global cast
    cast += 1
    redrabbit.broadcast(8, [redrabbit.epoch(), cast])

redrabbit.every(0.1, tick)
"""

TOWER = """
import ffext

number = 0

def ring():
    global number
    number += 1
    ffext.broadcast_msg_gate("gate@0", 9, number)

ffext.every_timer(100, ring)
"""


class Player:
    """Keeps some numbered messages on their way, and is strict about everything that it hears."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.cmd = SLOW_COUNT if number % 5 == 0 else COUNT  # some handlers await
        self.asked = self.answered = self.entered = 0
        self.scene, self.epoch, self.cast, self.gate_cast, self.gate_casts = "", 0, 0, 0, 0
        self.free = asyncio.Semaphore(IN_FLIGHT)
        self.ending = False

    async def talk(self) -> None:
        while not self.ending:
            await self.free.acquire()
            self.asked += 1
            await self.client.send(self.cmd, self.asked)
            await asyncio.sleep(PACE)

    async def listen(self) -> None:
        while not (self.ending and self.answered == self.asked):
            self.hear(await self.client.receive(PATIENT))

    def hear(self, message: Message) -> None:
        body = message.json()
        if message.cmd == COUNT:
            self.answered += 1
            assert body == [self.answered, self.answered], (message, self.answered)
            self.free.release()
        elif message.cmd == CAST:
            assert body == [self.epoch, self.cast + 1], (message, self.epoch, self.cast)
            self.cast += 1
        elif message.cmd == GATE_CAST:
            assert not self.gate_casts or body == self.gate_cast + 1, (message, self.gate_cast)
            self.gate_cast = body
            self.gate_casts += 1
        else:
            assert message.cmd == ENTERED, message
            self.enter(*body)

    def enter(self, scene: str, epoch: int, cast: int, state: dict[str, int] | None) -> None:
        self.entered += 1
        if self.entered > 1:  # of its last scene it has heard all that was said before it left
            assert state and state["epoch"] == self.epoch and state["cast"] <= self.cast, (state, self.epoch, self.cast)
            assert state["count"] >= self.answered, (state, self.answered)
        self.scene, self.epoch, self.cast = scene, epoch, cast


# Nobody crashes here: a machine that keeps a process waiting must not make it look so, nor what is left of a group whose master
# ended be over the lease.
CLUSTER = "{ lease: 60s, margin: 500ms, heartbeat: 200ms, suspect: 5s, link_down: 20s }"


class Rolling(Case):
    end_signal = signal.SIGINT  # nobody is to be handed over at the end, to others that end as well

    def graph(
        self, drain: str = "5m", scene: str = "one", room: str = "two", top: str = "", to: str = "room@1", gate: str = "",
        cluster: str = CLUSTER,
    ) -> None:  # fmt: skip
        self.gate, center = free_port(), free_port()
        self.write("scene.py", SCENE)
        self.write("tower.py", TOWER)
        self.write(
            "g.yaml",
            f"""group: world
drain: {drain}
{top}
cluster: {cluster}
nodes:
  front: {{ address: "tcp://127.0.0.1:{center}" }}
  one: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  two: {{ address: "tcp://127.0.0.1:{free_port()}" }}
  three: {{}} # reached through the broker
actors:
  broker@0: {{ role: broker, node: front }}
  gate@0: {{ role: gate, node: front, listen: "tcp://127.0.0.1:{self.gate}", login_timeout: 10m{gate} }}
  tower@0: {{ role: scene, node: front, script: tower.py }}
  scene@0: {{ role: scene, node: {scene}, script: scene.py, drain_to: {to} }}
  room@1: {{ role: scene, node: {room}, script: scene.py, drain_to: room@2 }}
  room@2: {{ role: scene, node: three, script: scene.py, drain_to: scene@0 }}
""",
        )

    def launch(self, *nodes: str) -> None:
        nodes = nodes or ("front", "one", "two", "three")
        self.servers = {node: self.begin("g.yaml", "--node", node) for node in nodes}
        for server in self.servers.values():
            server.ready()

    async def enter(self, key: str) -> Client:
        client = await self.client(self.gate, key)
        await self.entered(client, "scene@0")
        return client

    async def entered(self, client: Client, scene: str, timeout: float = 10) -> None:
        await self.expect(client, lambda m: m.json()[0] == scene, cmd=ENTERED, timeout=timeout)

    async def counts(self, client: Client, number: int) -> None:
        await client.send(COUNT, number)
        await self.expect(client, lambda m: m.json() == [number, number], cmd=COUNT)

    def signal(self, node: str, number: int = signal.SIGTERM) -> None:
        self.servers[node].process.send_signal(number)

    async def ended(self, node: str) -> Server:
        """Waits for the orderly end of a node that was told."""
        server = self.servers[node]
        self.assertEqual(await asyncio.to_thread(server.over), 0, server.output)
        return server

    async def players(self, count: int) -> list[Player]:
        players = []
        for number in range(count):
            kind = "ws" if number % 10 == 0 else "tcp"
            player = Player(await self.client(self.gate, f"bot{number}", kind), number)
            players.append(player)
            if number % 3:
                await player.client.send(MOVE, [f"room@{number % 3}"])
        return players

    def begin_play(self, players: list[Player]) -> None:
        self.talks = [asyncio.create_task(player.talk()) for player in players]
        self.listens = [asyncio.create_task(player.listen()) for player in players]
        self.addAsyncCleanup(self.end_play)

    async def end_play(self) -> None:
        for task in self.talks + self.listens:
            task.cancel()
        await asyncio.gather(*self.talks, *self.listens, return_exceptions=True)

    async def plays(self, step: Coroutine[Any, Any, None]) -> None:
        """Does a step; a player's complaint ends it at once."""
        task = asyncio.create_task(step)
        await asyncio.wait([task, *self.talks, *self.listens], return_when=asyncio.FIRST_COMPLETED)
        for player in self.talks + self.listens:
            if player.done():
                task.cancel()
                await player
        await task

    async def all_go_on(self, players: list[Player]) -> None:
        before = [player.answered for player in players]
        await self.until(lambda: all(p.answered > b + 2 for p, b in zip(players, before)), "everybody plays on", 20)

    async def restart(self, node: str, scene: str, players: list[Player], by_signal: bool) -> None:
        """Drains a node, one way or the other, and starts it again."""
        server: Server = self.servers[node]
        there = sum(player.scene == scene for player in players)
        if not by_signal:
            done = await asyncio.to_thread(run, "drain", node, "g.yaml", cwd=self.folder)
            self.assertEqual(done.status, 0, f"{done}\n{server.output}")
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        self.assertIn(f"{scene}: handed over: {there} sessions moved, 0 stay", server.output)
        self.assertNotIn("OFFLINE", server.output)
        await self.until(lambda: all(player.scene != scene for player in players), "everybody hears where they are", 20)
        late = await self.client(self.gate, f"late for {node}")
        await late.send(COUNT, 1)  # waits with its login, if that scene is away
        again = self.servers[node] = self.begin("g.yaml", "--node", node)
        await asyncio.to_thread(again.ready)
        await self.expect(late, lambda m: m.json() == [1, 1], cmd=COUNT)
        await late.close()

    async def test_every_scene_node_is_restarted_under_200_clients(self) -> None:
        self.graph()
        self.launch()
        players = await self.players(CLIENTS)
        self.begin_play(players)
        scenes = ("scene@0", "room@1", "room@2")
        await self.plays(self.until(lambda: {p.scene for p in players} == set(scenes), "all scenes have players", 20))
        await self.plays(self.all_go_on(players))
        for number, (node, scene) in enumerate(zip(("one", "two", "three"), scenes)):
            await self.plays(self.restart(node, scene, players, by_signal=number > 0))
            await self.plays(self.all_go_on(players))
        for player in players:
            player.ending = True
        await asyncio.wait_for(asyncio.gather(*self.talks, *self.listens), PATIENT)
        self.assertEqual({player.entered for player in players}, {3, 4})
        self.assertEqual({player.scene for player in players}, {"scene@0"})
        self.assertGreater(min(player.gate_casts for player in players), 10)
        for server in self.servers.values():
            self.assertNotIn(" ERROR ", server.output)

    async def test_a_target_that_is_drained_as_well(self) -> None:
        """It takes nobody, but its successor does."""
        self.graph()
        self.launch()
        clients = [await self.enter(f"bot{number}") for number in range(20)]
        self.signal("two")
        self.signal("one")
        await self.ended("two")
        self.servers["two"] = self.begin("g.yaml", "--node", "two")
        for client in clients:
            await self.entered(client, "room@1")
            await self.counts(client, 1)
        one = await self.ended("one")
        self.assertIn("scene@0: handed over: 20 sessions moved, 0 stay", one.output)
        self.assertNotIn("OFFLINE", one.output)

    async def test_a_target_that_is_away(self) -> None:
        """The drain does not take longer for it; those who cannot go are told goodbye."""
        self.graph(drain=f"{6 * SLOW:.0f}s")
        self.launch()
        self.assertEqual(await asyncio.to_thread(self.servers["two"].stop), 0)
        client = await self.enter("bot")
        self.signal("one")
        await self.counts(client, 1)  # served meanwhile
        await self.expect_closed(client)
        one = await self.ended("one")  # in time: had it been cut short, it had ended with 3
        self.assertIn("scene@0: handed over: 0 sessions moved, 1 stay", one.output)
        self.assertEqual(one.output.count("OFFLINE bot"), 1)

    async def orderly(self, node: str, scene: str, players: list[Player]) -> None:
        """Ends a node whose sessions nobody takes, and starts it again."""
        server = self.servers[node]
        there = [player for player in players if player.scene == scene]
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        self.assertIn(f"{scene}: handed over: 0 sessions moved, 0 stay", server.output)
        self.assertIn(f"{scene}: {len(there)} sessions were given back to their gates", server.output)
        await self.until(lambda: all(p.asked - p.answered == IN_FLIGHT for p in there), "their input is held", 20)
        again = self.servers[node] = self.begin("g.yaml", "--node", node)
        await asyncio.to_thread(again.ready)

    async def test_an_orderly_restart_without_anywhere_to_go(self) -> None:
        """scene_lost: wait, and no target, or one that is away: as after a crash, but nothing is lost."""
        # A machine that stands still for a while must not look like a crash, which may lose a message.
        self.graph(drain=f"{6 * SLOW:.0f}s", to="scene@0", gate=", scene_lost: wait, scene_wait: 1m", cluster="{}")
        self.launch("front", "one", "two")
        players = [Player(await self.client(self.gate, f"bot{n}", "ws" if n % 10 == 0 else "tcp"), n) for n in range(40)]
        for player in players[1::2]:
            await player.client.send(MOVE, ["room@1"])
        self.begin_play(players)
        await self.plays(self.until(lambda: sum(p.scene == "room@1" for p in players) == 20, "half of them move", 20))
        await self.plays(self.all_go_on(players))
        for node, scene in (("one", "scene@0"), ("two", "room@1")):
            stopped = self.servers[node]
            await self.plays(self.orderly(node, scene, players))
            self.assertNotIn("OFFLINE", stopped.output)
            await self.plays(self.all_go_on(players))
        for player in players:
            player.ending = True
        await asyncio.wait_for(asyncio.gather(*self.talks, *self.listens), PATIENT)
        self.assertEqual([player.entered for player in players], [2, 3] * 20)
        for server in self.servers.values():
            self.assertNotIn(" ERROR ", server.output)

    async def test_an_orderly_restart_with_a_new_login(self) -> None:
        """scene_lost: relogin: the client notices a new enter only, and its messages arrive."""
        self.graph(to="scene@0", gate=", scene_lost: relogin")
        self.launch("front", "one")
        client = await self.enter("bot")
        await self.counts(client, 1)
        server = self.servers["one"]
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        self.assertEqual(server.output.count("OFFLINE bot"), 1)
        for number in (2, 3, 4):
            await client.send(COUNT, number)
        self.begin("g.yaml", "--node", "one").ready()
        await self.entered(client, "scene@0")
        for number in (2, 3, 4):
            await self.expect(client, lambda m, n=number: m.json() == [n, n - 1], cmd=COUNT)

    async def test_the_gates_node(self) -> None:
        """Its clients are told goodbye, and their scenes hear of it once."""
        self.graph()
        self.launch()
        client = await self.client(self.gate, "bot", "ws")
        await self.entered(client, "scene@0")
        await client.send(MOVE, ["room@1"])
        await self.entered(client, "room@1")
        self.signal("front")
        await self.expect_closed(client, 1001)
        await self.ended("front")
        for node in ("one", "two"):
            self.servers[node].wait_line("OFFLINE bot")
            self.signal(node)
        for node in ("one", "two"):
            server = await self.ended(node)
            self.assertEqual(server.output.count("OFFLINE bot"), 1)
        self.assertNotIn("tower@0: handed over", self.servers["front"].output)  # it has no sessions

    async def test_a_handler_that_takes_too_long(self) -> None:
        """Its session goes without it, and with what came behind; its own message is not handled again. That is said."""
        self.graph(drain=f"{max(16, 8 * SLOW):.0f}s")  # an eighth of it is left for the move
        self.launch()
        client = await self.enter("bot")
        await client.send(LONG, 1)
        await client.send(COUNT, 2)
        self.signal("one")
        await self.entered(client, "room@1")
        await self.expect(client, lambda m: m.json() == [2, 1], cmd=COUNT)
        one = await self.ended("one")
        self.assertIn("scene@0: 1 sessions went on before a handler of theirs had ended", one.output)
        self.assertIn("LONG bot False", one.output)
        await client.send(LONG, 3)
        await client.send(COUNT, 4)  # the same in a scene that is not its login scene
        self.signal("two")
        await self.entered(client, "room@2")
        seen = await self.expect(client, lambda m: m.cmd == COUNT)
        self.assertEqual(seen.json(), [4, 2])
        two = await self.ended("two")
        self.assertIn("room@1: 1 sessions went on before a handler of theirs had ended", two.output)
        self.assertIn("LONG bot False", two.output)
        await client.send(COUNT, 5)
        self.assertEqual((await self.expect(client, lambda m: m.cmd == COUNT)).json(), [5, 3])

    async def test_a_handler_that_is_still_there_at_the_end(self) -> None:
        """Nobody takes its session: it is cancelled in time for the offline handler. Nothing is cut short."""
        self.graph(drain=f"{6 * SLOW:.0f}s", to="scene@0")
        self.launch("front", "one")
        client = await self.enter("bot")
        await client.send(LONG, 1)
        self.signal("one")
        await self.expect_closed(client, timeout=10)
        one = await self.ended("one")
        self.assertLess(one.output.index("LONG bot"), one.output.index("OFFLINE bot"))

    async def test_sessions_that_on_drain_keeps(self) -> None:
        """They end with their scene, also where the gate keeps all others for its next owner."""
        self.graph(to="scene@0", gate=", scene_lost: wait")
        self.launch("front", "one")
        client, stays = await self.enter("bot"), await self.client(self.gate, "stays", "ws")
        await self.entered(stays, "scene@0")
        self.signal("one")
        await self.expect_closed(stays, 1001)
        one = await self.ended("one")
        self.assertEqual([line.count("OFFLINE") for line in one.lines if "OFFLINE" in line], [1])
        self.assertIn("OFFLINE stays", one.output)
        self.begin("g.yaml", "--node", "one").ready()
        await self.entered(client, "scene@0")

    async def test_a_gate_and_its_login_scene_on_one_node(self) -> None:
        """A session that lives elsewhere ends with its gate, and its login scene hears of that, too."""
        self.graph(scene="front")
        self.launch("front", "two", "three")
        client = await self.enter("bot")
        await client.send(MOVE, ["room@1"])
        await self.entered(client, "room@1")
        self.signal("front")
        await self.expect_closed(client)
        front = await self.ended("front")
        self.assertEqual(front.output.count("OFFLINE bot"), 1)
        self.servers["two"].wait_line("OFFLINE bot")
        self.signal("two")
        self.assertEqual((await self.ended("two")).output.count("OFFLINE bot"), 1)

    async def test_a_target_on_the_same_node(self) -> None:
        """It ends as well, so nobody goes there, and nobody waits for it."""
        self.graph(drain="60s", room="one")
        self.launch("front", "one", "three")
        client = await self.enter("bot")
        began = time.monotonic()
        self.signal("one")
        await self.expect_closed(client)
        one = await self.ended("one")
        self.assertLess(time.monotonic() - began, 25)  # of half a drain
        self.assertIn("scene@0: handed over: 0 sessions moved, 1 stay", one.output)
        self.assertEqual(one.output.count("OFFLINE bot"), 1)

    async def test_the_end_of_the_whole_group(self) -> None:
        """SIGINT, as `redrabbit up` sends it: nobody is handed over, nobody waits."""
        self.graph(drain="60s")
        self.launch()
        client = await self.enter("bot")
        began = time.monotonic()
        for node in ("one", "two", "three"):
            self.signal(node, signal.SIGINT)
        await self.expect_closed(client)
        for node in ("one", "two", "three"):
            server = await self.ended(node)
            self.assertNotIn("handed over", server.output)
        self.assertLess(time.monotonic() - began, 25)  # of half a drain

    async def test_the_end_of_redrabbit_up(self) -> None:
        """It ends the whole group: no scene hands over to one that ends as well."""
        self.graph()
        server = self.start("up", "g.yaml")
        client = await self.enter("bot")
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        await self.expect_closed(client)
        self.assertEqual(server.output.count("OFFLINE bot"), 1)
        self.assertNotIn("handed over", server.output)

    async def test_a_part_of_the_graph_by_redrabbit_up(self) -> None:
        """The others live on, so it does."""
        self.graph()  # without a key: a master that was started by hand has none, so `up` makes none
        others = [self.begin("g.yaml", "--node", node, "-broker_fresh", "true") for node in ("front", "two", "three")]
        server = self.start("up", "g.yaml", "one")
        for other in others:
            other.ready()
        client = await self.enter("bot")
        self.assertEqual(await asyncio.to_thread(server.stop), 0, server.output)
        await self.entered(client, "room@1")
        self.assertIn("scene@0: handed over: 1 sessions moved, 0 stay", server.output)


if __name__ == "__main__":
    unittest.main()
