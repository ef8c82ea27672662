"""Gate sessions whose scene's node dies (kill -9), stands still beyond its lease, or comes back as another process: what each
policy of `scene_lost` promises, with real processes. A message is handled at most once, what the gate held arrives once and
in order."""

from __future__ import annotations

import os
import signal
import time
import unittest

from harness import SLOW, Client, Closed, Server
from trio import DOWN, LEASE, MARGIN, Trio

WAIT = 20

LOBBY = """
import redrabbit

@redrabbit.on_login
def login(who):
    redrabbit.log.info(f"login {who.key}")
    return who.key

@redrabbit.message(1)
def count(session, number):
    session.send(1, ["lobby", number])

@redrabbit.message(2)
async def go(session, extra):
    await session.move("room@0", extra[0])
"""

ROOM = """
import os
import redrabbit

@redrabbit.on_enter
def enter(session, from_scene, extra):
    session.send(3, [from_scene, extra, os.getpid()])

@redrabbit.message(1)
def count(session, number):
    session.send(1, ["room", number])

@redrabbit.on_offline
def offline(session):
    redrabbit.log.info(f"offline {session.id}")
"""


class Sessions(Trio):
    def nodes(self, policy: str, wait: int = WAIT, login: str = "front") -> None:
        self.write("lobby.py", LOBBY)
        self.write("room.py", ROOM)
        self.launch(
            f"  scene@0: {{ role: scene, node: {login}, script: lobby.py }}\n  room@0: {{ role: scene, node: back, script: room.py }}",
            gate=f", scene_lost: {policy}, scene_wait: {wait}s",
        )

    def lost(self) -> None:
        """The node's end has reached the others."""
        self.front.wait_line("link to back .* down", DOWN + 5)

    def again(self) -> Server:
        back = self.begin("g.yaml", "--node", "back")
        back.ready()
        return back

    async def in_room(self, name: str) -> tuple[Client, int]:
        """A client that has moved to room@0, and the process that it is in."""
        client = await self.client(self.gate, name)
        await client.send(2, ["state of " + name])
        entered = (await self.expect(client, lambda m: m.cmd == 3)).json()
        self.assertEqual(entered[:2], ["scene@0", "state of " + name])
        await self.echoes(client, "room", 0)
        return client, entered[2]

    async def echoes(self, client: Client, where: str, number: int, timeout: float = 5) -> None:
        await client.send(1, number)
        message = await self.expect(client, lambda m: m.cmd == 1, timeout=timeout)
        self.assertEqual(message.json(), [where, number])

    async def waited(self, client: Client, name: str, was: int, numbers: range) -> None:
        """It enters the next room@0 as it had come to the last, and what was said meanwhile is handled there, once."""
        entered = (await self.expect(client, lambda m: m.cmd == 3, timeout=LEASE + MARGIN + 15)).json()
        self.assertEqual(entered[:2], ["room@0", "state of " + name], "not as its gate kept it")
        self.assertNotEqual(entered[2], was)
        for number in numbers:
            self.assertEqual((await client.receive(5 * SLOW)).json(), ["room", number])
        await self.echoes(client, "room", 100)

    async def test_wait(self) -> None:
        self.nodes("wait")
        clients = [(name, *await self.in_room(name)) for name in ("anna", "bert", "cleo")]
        leaves, _ = await self.in_room("dora")
        self.kill(self.back)
        self.lost()
        for _, client, _ in clients:
            for number in range(1, 6):
                await client.send(1, number)
        await leaves.close()
        back = self.again()
        for name, client, was in clients:
            await self.waited(client, name, was, range(1, 6))
        self.assertNotIn("offline dora", back.output, "who left meanwhile is nobody's")
        second = await self.client(self.gate, "anna")  # the id is registered where it was
        await self.expect_closed(clients[0][1])
        await self.echoes(second, "lobby", 1)
        back.wait_line("offline anna")

    async def test_wait_is_over(self) -> None:
        self.nodes("wait", wait=1)
        client, _ = await self.in_room("anna")
        self.kill(self.back)
        killed = time.monotonic()
        await self.expect_closed(client, timeout=DOWN + 1 + 5)
        self.assertGreater(time.monotonic() - killed, 1, "it was not waited for")
        self.back = self.again()
        await self.in_room("anna")  # the id is free

    async def test_wait_for_another_process(self) -> None:
        """The node is stopped, its name given to another process, and it resumes: nobody hears it any more."""
        self.nodes("wait")
        client, was = await self.in_room("anna")
        os.kill(self.back.pid, signal.SIGSTOP)
        try:
            self.lost()
            for number in range(1, 4):
                await client.send(1, number)
            self.again()
            await self.waited(client, "anna", was, range(1, 4))
        finally:
            os.kill(self.back.pid, signal.SIGCONT)
        self.assertNotEqual(self.back.process.wait(20 * SLOW), 0, self.back.output)
        self.back._reader.join(5)
        assert self.back.process.stdout
        self.back.process.stdout.close()
        for number in range(4, 8):
            await self.echoes(client, "room", number)

    async def test_wait_for_the_login_scene(self) -> None:
        """Its own login scene dies with its node: who is elsewhere plays on, who was there waits, ids stay unique."""
        self.nodes("wait", login="back")
        lobby = await self.client(self.gate, "bert")
        await self.echoes(lobby, "lobby", 0)
        self.kill(self.back)
        self.lost()
        late = await self.client(self.gate, "cleo")  # logs in when somebody can verify her
        for number in range(1, 4):
            await lobby.send(1, number)
            await late.send(1, number)
        back = self.again()
        for client in (lobby, late):
            for number in range(1, 4):
                message = await self.expect(client, lambda m: m.cmd == 1, timeout=LEASE + MARGIN + 15)
                self.assertEqual(message.json(), ["lobby", number])
        second = await self.client(self.gate, "bert")
        await self.expect_closed(lobby)
        await self.echoes(second, "lobby", 9)

    async def test_relogin(self) -> None:
        self.nodes("relogin")
        client, _ = await self.in_room("anna")
        self.front.wait_line("login anna")
        self.kill(self.back)
        self.lost()
        self.front.wait_line("login anna", 5, 2)
        await self.echoes(client, "lobby", 1)  # where its login brings it
        back = self.again()
        end = time.monotonic() + (LEASE + MARGIN + 15) * SLOW
        while True:  # until the name is known again
            await client.send(2, ["anew"])
            await client.send(1, 2)
            message = await self.expect(client, lambda m: m.cmd in (1, 3))
            if message.cmd == 3:
                self.assertEqual(message.json()[:2], ["scene@0", "anew"])
                break
            self.assertLess(time.monotonic(), end, back.output)
        self.assertEqual((await client.receive(5 * SLOW)).json(), ["room", 2])

    async def test_close(self) -> None:
        self.nodes("close")
        client, _ = await self.in_room("anna")
        stays = await self.client(self.gate, "bert")
        await self.echoes(stays, "lobby", 0)
        self.kill(self.back)
        killed = time.monotonic()
        with self.assertRaises(Closed):
            while True:
                await client.receive((DOWN + 5) * SLOW)
        self.assertLess(time.monotonic() - killed, (DOWN + 3) * SLOW)
        await self.echoes(stays, "lobby", 1)
        again = await self.client(self.gate, "anna")  # the id is free
        await self.echoes(again, "lobby", 2)
        self.back = self.again()
        await self.in_room("cleo")


if __name__ == "__main__":
    unittest.main()
