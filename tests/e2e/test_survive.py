"""Zero downtime: 200 clients with numbered messages play while their scenes are replaced one after another by hand-over."""

from __future__ import annotations

import asyncio
import unittest

from harness import PATIENT, Case, Client, Server, free_port

CLIENTS = 200
IN_FLIGHT = 4

SCRIPT = """
import json
import redrabbit

counts = {}

@redrabbit.on_login
def login(who):
    return who.key

@redrabbit.on_enter
def enter(session, from_scene, extra):
    counts[session.id] = json.loads(extra)["count"] if extra else 0
    session.send(100, [redrabbit.scene(), from_scene])

@redrabbit.on_offline
def offline(session):
    counts.pop(session.id, None)

@redrabbit.on_leave
def leave(session, to_scene):
    counts.pop(session.id)

@redrabbit.message(6)
def count(session, number):
    counts[session.id] += 1
    session.send(6, [number, counts[session.id]])

@redrabbit.message(7)
async def slow(session, number):
    await redrabbit.sleep(0.002)
    counts[session.id] += 1
    session.send(6, [number, counts[session.id]])

@redrabbit.on_drain
async def drain(session):
    if str(session.id).startswith("admin"):
        return False
    if str(session.id).startswith("caster"):
        redrabbit.broadcast_gate("gate@1", 9, "")
    if str(session.id).endswith("7"):
        await redrabbit.sleep(0.001)
    return None, {"count": counts[session.id]}

@redrabbit.service("drain")
async def drain_to(to):
    return await redrabbit.drain(to, timeout=200)

@redrabbit.message(1)
def order(session, names):  # no handler that awaits: its scene's drain would wait for it
    redrabbit.spawn(carry_out(session, *names))

async def carry_out(session, scene, to):
    session.send(1, await redrabbit.call(scene, "drain", to, timeout=250))
"""


class Player:
    """Keeps some numbered messages on their way, and looks at every answer."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.cmd = 7 if number % 5 == 0 else 6  # some handlers await
        self.asked = self.answered = self.entered = 0
        self.ending = False

    async def play(self) -> None:
        while not (self.ending and self.answered == self.asked):
            while not self.ending and self.asked - self.answered < IN_FLIGHT:
                self.asked += 1
                await self.client.send(self.cmd, self.asked)
            message = await self.client.receive(PATIENT)
            if message.cmd == 100:
                self.entered += 1
                continue
            self.answered += 1
            assert message.cmd == 6, message
            assert message.json() == [self.answered, self.answered], message


class HandOver(Case):
    def graph(self) -> tuple[Server, int]:
        more = "\n".join(
            f"  scene@{i}: {{ role: scene, script: scene.py, drain_to: scene@{3 - i} }}"
            for i in (1, 2)
        )
        more += f"\n  gate@1: {{ role: gate, login: scene@2, listen: 'tcp://127.0.0.1:{free_port()}' }}"
        return self.scene(SCRIPT, more=more)

    async def test_two_hundred_clients_and_no_downtime(self) -> None:
        server, port = self.graph()
        players = []
        for number in range(CLIENTS):
            client = await self.client(port, f"bot{number}", "ws" if number % 10 == 0 else "tcp")
            players.append(Player(client, number))
        admin = await self.client(port, "admin")
        tasks = [asyncio.create_task(player.play()) for player in players]
        orders = [
            ("scene@0", "scene@1"),
            ("scene@1", "scene@2"),
            ("scene@2", None),  # its drain_to
            ("scene@1", "scene@0"),
        ]
        for scene, to in orders:
            await admin.send(1, [scene, to])
            answer = await self.expect(admin, lambda m: m.cmd == 1, timeout=100)
            self.assertEqual(answer.json(), [CLIENTS, 1 if scene == "scene@0" else 0])
            before = [player.answered for player in players]
            await self.until(
                lambda: all(p.answered > b + IN_FLIGHT for p, b in zip(players, before)),
                "everybody plays on",
                20,
            )
            self.assertFalse([task for task in tasks if task.done()])
        for player in players:
            player.ending = True
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENT)
        self.assertEqual({player.entered for player in players}, {1 + len(orders)})
        self.assertGreater(sum(player.answered for player in players), 10 * CLIENTS)
        self.assertNotIn(" ERROR ", server.output)

    async def test_logins_wait_while_their_scene_hands_over(self) -> None:
        server, port = self.graph()
        bots = [await self.client(port, f"bot{number}7") for number in range(20)]
        admin = await self.client(port, "admin")
        await admin.send(1, ["scene@0", "scene@1"])
        late = [await self.client(port, f"late{number}") for number in range(20)]
        for client in late:
            await client.send(6, 1)
            await self.expect(client, lambda m: m.cmd == 6 and m.json() == [1, 1])
        for client in bots:
            await client.send(6, 1)
            await self.expect(client, lambda m: m.cmd == 6 and m.json() == [1, 1])
        answer = await self.expect(admin, lambda m: m.cmd == 1)
        self.assertGreaterEqual(answer.json()[0], 20)

    async def test_a_gate_that_only_hears_is_not_waited_for(self) -> None:
        """The scene speaks to it for the first time while it hands over."""
        _, port = self.graph()
        await self.client(port, "caster")
        admin = await self.client(port, "admin")
        await admin.send(1, ["scene@0", "scene@1"])
        answer = await self.expect(admin, lambda m: m.cmd == 1)
        self.assertEqual(answer.json(), [1, 1])


if __name__ == "__main__":
    unittest.main()
