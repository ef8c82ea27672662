"""Gate sessions whose scene's node dies (kill -9), stands still beyond its lease, comes back as another process, or as the same one:
what each policy of `scene_lost` promises, with real processes. A message is handled at most once, what the gate held arrives once
and in order."""

from __future__ import annotations

import os
import signal
import time
import unittest

from harness import PATIENT, Client, Closed, Server
from trio import DOWN, LEASE, MARGIN, Trio

WAIT = 300  # seconds: longer than anybody is away, unless that is tested
LONG = 60.0  # a lease that nobody outlives by standing still until the links are down

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
    await session.move(extra[1], extra[0])

@redrabbit.on_offline
async def offline(session):  # slow: who comes back finds it at work
    redrabbit.log.info(f"lobby offline {session.id}")
    await redrabbit.sleep(0.2)
"""

ROOM = """
import os
import time
import redrabbit

@redrabbit.on_enter
def enter(session, from_scene, extra):
    session.send(3, [from_scene, extra, os.getpid()])

@redrabbit.message(1)
def count(session, number):
    session.send(1, ["room", number])

@redrabbit.message(4)
def work(session, number):
    time.sleep(0.002)
    session.send(4, number)

@redrabbit.on_offline
async def offline(session):
    redrabbit.log.info(f"offline {session.id}")
    await redrabbit.sleep(0.2)
"""


class Sessions(Trio):
    def nodes(self, policy: str, wait: int = WAIT, login: str = "front", lease: float = LEASE) -> None:
        """room@0 on `back`, room@1 on `front`."""
        self.write("lobby.py", LOBBY)
        self.write("room.py", ROOM)
        self.launch(
            f"  scene@0: {{ role: scene, node: {login}, script: lobby.py }}\n  room@0: {{ role: scene, node: back, script: room.py }}\n"
            "  room@1: { role: scene, node: front, script: room.py }",
            gate=f", scene_lost: {policy}, scene_wait: {wait}s",
            lease=lease,
        )

    def lost(self) -> None:
        """The node's end has reached the others."""
        self.front.wait_line("link to back .* down", DOWN + 5)

    def again(self) -> Server:
        back = self.begin("g.yaml", "--node", "back")
        back.ready()
        return back

    async def in_room(self, name: str, room: str = "room@0") -> tuple[Client, int]:
        """A client that has moved to the room, and the process that it is in."""
        client = await self.client(self.gate, name)
        await client.send(2, ["state of " + name, room])
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
            self.assertEqual((await client.receive(PATIENT)).json(), ["room", number])
        await self.echoes(client, "room", 100)

    async def test_wait(self) -> None:
        self.nodes("wait")
        clients = [(name, *await self.in_room(name)) for name in ("anna", "bert", "cleo")]
        leaves, _ = await self.in_room("dora")
        self.back.kill()
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
        self.back.kill()
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
        self.assertNotEqual(self.back.over(), 0, self.back.output)
        for number in range(4, 8):
            await self.echoes(client, "room", number)

    async def test_wait_for_the_login_scene(self) -> None:
        """Its own login scene dies with its node: who is elsewhere plays on, who was there waits, ids stay unique."""
        self.nodes("wait", login="back")
        lobby = await self.client(self.gate, "bert")
        await self.echoes(lobby, "lobby", 0)
        self.back.kill()
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
        self.back.kill()
        self.lost()
        self.front.wait_line("login anna", 5, 2)
        await self.echoes(client, "lobby", 1)  # where its login brings it
        back = self.again()
        end = time.monotonic() + LEASE + MARGIN + PATIENT
        while True:  # until the name is known again
            await client.send(2, ["anew", "room@0"])
            await client.send(1, 2)
            message = await self.expect(client, lambda m: m.cmd in (1, 3))
            if message.cmd == 3:
                self.assertEqual(message.json()[:2], ["scene@0", "anew"])
                break
            self.assertLess(time.monotonic(), end, back.output)
        self.assertEqual((await client.receive(PATIENT)).json(), ["room", 2])

    async def test_close(self) -> None:
        self.nodes("close")
        client, _ = await self.in_room("anna")
        stays = await self.client(self.gate, "bert")
        await self.echoes(stays, "lobby", 0)
        self.back.kill()
        await self.expect_closed(client, timeout=DOWN + 5)
        await self.echoes(stays, "lobby", 1)
        again = await self.client(self.gate, "anna")  # the id is free
        await self.echoes(again, "lobby", 2)
        self.back = self.again()
        await self.in_room("cleo")

    # ---- The same process comes back ----

    def stand_still(self, until: str) -> None:
        """`back` is stopped until `front` has said that."""
        os.kill(self.back.pid, signal.SIGSTOP)
        try:
            self.front.wait_line(until, LEASE + MARGIN + 10)
        except BaseException:
            os.kill(self.back.pid, signal.SIGCONT)
            raise

    async def served(self, name: str) -> Client:
        """A login, made again until the gate lets one in."""
        end = time.monotonic() + 2 * PATIENT
        while True:
            try:
                client = await self.client(self.gate, name)
                await client.send(1, 0)
                self.assertEqual((await client.receive(PATIENT)).json(), ["lobby", 0])
                return client
            except (Closed, TimeoutError) as error:
                self.assertLess(time.monotonic(), end, f"logins stay closed: {error!r}\n{self.front.output}")

    async def test_back_within_its_lease(self) -> None:
        """Its gate has lost it, its name has not: it is the name's next owner, and has ended what it had of that gate."""
        self.nodes("wait", lease=LONG)
        client, was = await self.in_room("anna")
        self.stand_still(r"gate@0: room@0 is gone \(.*\); its clients, by scene_lost: 1 wait")
        for number in range(1, 6):
            await client.send(1, number)
        os.kill(self.back.pid, signal.SIGCONT)
        entered = (await self.expect(client, lambda m: m.cmd == 3, timeout=15)).json()
        self.assertEqual(entered, ["room@0", "state of anna", was])
        for number in range(1, 6):
            self.assertEqual((await client.receive(PATIENT)).json(), ["room", number])
        await self.echoes(client, "room", 100)
        self.back.wait_line("offline anna")
        self.assertEqual(self.back.output.count("offline anna"), 1, "of the visit that was cut")
        await self.in_room("bert")
        second = await self.client(self.gate, "anna")  # the id is registered where it was
        await self.expect_closed(client)
        await self.echoes(second, "lobby", 1)
        self.back.wait_line("offline anna", 5, 2)

    async def test_back_with_much_unread(self) -> None:
        """What it had been given and not looked at is lost with that visit, and counts in no other."""
        self.nodes("wait", lease=LONG)
        client, was = await self.in_room("anna")
        for number in range(3000):  # six seconds of work
            await client.send(4, number)
        await self.expect(client, lambda m: m.cmd == 4)
        self.stand_still(r"gate@0: room@0 is gone \(.*\); its clients, by scene_lost: 1 wait")
        await client.send(1, 1)
        os.kill(self.back.pid, signal.SIGCONT)
        entered = (await self.expect(client, lambda m: m.cmd == 3, timeout=15)).json()
        self.assertEqual(entered, ["room@0", "state of anna", was])
        for number in range(1, 100):
            self.assertEqual((await client.receive(PATIENT)).json(), ["room", number])
            await client.send(1, number + 1)

    async def test_lost_while_the_gate_stands_still(self) -> None:
        """Without a lease the gate sends nothing, but reads on: what it reads then is given to nobody, and not lost."""
        self.nodes("wait")
        client, _ = await self.in_room("anna")
        self.center.kill()
        self.front.wait_line("FENCED", LEASE + 10)
        self.stand_still("link to back .* down")
        big = ["b" * 20_000]
        for number in range(1, 6):
            await client.send(1, number)
            await client.send(1, big)
        os.kill(self.back.pid, signal.SIGCONT)
        center = self.begin("g.yaml", "--node", "center")
        center.ready()
        await self.expect(client, lambda m: m.cmd == 3, timeout=LEASE + MARGIN + 30)
        for number in range(1, 6):
            self.assertEqual((await client.receive(PATIENT)).json(), ["room", number])
            self.assertEqual((await client.receive(PATIENT)).json(), ["room", big])
        await self.echoes(client, "room", 100)
        for server in (self.front, self.back, center):  # before their master
            self.assertEqual(server.stop(), 0, server.output)
            self.clean(server)

    async def login_scene_back(self, policy: str) -> None:
        """The login scene was out of reach while somebody played elsewhere: logins go on, ids stay unique."""
        self.nodes(policy, login="back", lease=LONG)
        client, _ = await self.in_room("anna", "room@1")
        self.stand_still("gate@0: scene@0 is gone: logins")
        os.kill(self.back.pid, signal.SIGCONT)
        await self.echoes(client, "room", 1)
        await self.served("bert")
        await self.echoes(client, "room", 2)  # nobody was taken for her
        await self.served("anna")
        await self.expect_closed(client)

    async def test_login_scene_back_wait(self) -> None:
        await self.login_scene_back("wait")

    async def test_login_scene_back_relogin(self) -> None:
        await self.login_scene_back("relogin")

    async def test_login_scene_back_close(self) -> None:
        await self.login_scene_back("close")

    async def test_given_up_by_a_master_that_is_gone(self) -> None:
        """`back` stood still beyond its lease and was given up; the next master knows nothing of that and takes it under its number."""
        self.nodes("wait", login="back")
        client = await self.client(self.gate, "anna")
        await self.echoes(client, "lobby", 0)
        self.stand_still(r"node back \(number \d+\) is gone")
        self.center.kill()
        for number in range(1, 4):
            await client.send(1, number)
        os.kill(self.back.pid, signal.SIGCONT)
        center = self.begin("g.yaml", "--node", "center")
        center.ready()
        self.back.wait_line("the lease is renewed: named actors go on", LEASE + MARGIN + 20)
        for number in range(1, 4):
            self.assertEqual((await client.receive(PATIENT)).json(), ["lobby", number])
        await self.echoes(client, "lobby", 4)
        await self.served("bert")
        for server in (self.front, self.back, center):  # before their master
            self.assertEqual(server.stop(), 0, server.output)
            self.clean(server)


if __name__ == "__main__":
    unittest.main()
