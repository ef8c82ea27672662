"""A cluster of real processes whose members are killed, stopped and resumed: every call in flight ends in time with a clear
result, no name ever has two owners, and what lives goes on."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import time
import unittest
from typing import Any

from harness import PATIENT, Case, Client, free_port, run
from trio import DOWN, LEASE, MARGIN, Trio

LOBBY = """
import time
import redrabbit

@redrabbit.message(1)
async def ask(session, args):
    cmd, number, timeout = args
    began = time.monotonic()
    try:
        answer = await redrabbit.call("work@0", cmd, number, timeout=timeout)
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    session.send(1, [number, answer, time.monotonic() - began])

@redrabbit.message(2)
async def move(session, where):
    await session.move(where[0])

@redrabbit.on_dead_letter
def lost(letter):
    print("LETTER", *letter)
"""

WORK = """
import os
import time
import redrabbit

diary = open("diary", "a", buffering=1)

def turn():  # the fencing token, and when this turn was on
    diary.write(f"{redrabbit.epoch()} {os.getpid()} {time.monotonic_ns()}\\n")

redrabbit.every(0.005, turn)

@redrabbit.service("add")
def add(number):
    turn()
    return number + 1

@redrabbit.message(3)
def here(session, msg):
    session.send(3, "here")

@redrabbit.service("slow")
async def slow(number):
    await redrabbit.sleep(600)
"""


class Faults(Trio):
    def setUp(self) -> None:
        super().setUp()
        self.write("lobby.py", LOBBY)
        self.write("work.py", WORK)

    async def begin_all(self, **options: Any) -> Client:
        """Starts all, and a client whose calls work@0 answers."""
        actors = "  scene@0: { role: scene, node: front, script: lobby.py }\n  work@0: { role: scene, node: back, script: work.py }"
        self.launch(actors, **options)
        client = await self.client(self.gate, "anna")
        await self.works(client, 1)
        return client

    async def ask(self, client: Client, cmd: str, number: int, timeout: float) -> object:
        await client.send(1, [cmd, number, timeout])
        answer = (await client.receive(timeout + PATIENT)).json()
        self.assertEqual(answer[0], number)
        self.assertLess(answer[2], timeout + PATIENT / 2, "a call has outlived its deadline")
        return answer[1]

    async def works(self, client: Client, number: int) -> None:
        """Asks until work@0 answers."""
        end, answer = time.monotonic() + LEASE + MARGIN + PATIENT, None
        while answer != number + 1:
            self.assertLess(time.monotonic(), end, f"work@0 does not answer: {answer}")
            answer = await self.ask(client, "add", number, 0.5)

    async def test_a_killed_node(self) -> None:
        client = await self.begin_all()
        await client.send(1, ["slow", 2, 300])
        await self.until(lambda: len(self.diary()) > 5, "work@0 to run")
        self.back.kill()
        killed = time.monotonic()
        answer = (await client.receive(300)).json()
        self.assertLess(time.monotonic() - killed, 150, f"the call ended late: {answer}")  # of the 300 that it may last
        self.assertIsInstance(answer[1], str, answer)
        back = self.begin("g.yaml", "--node", "back")
        back.ready()
        await self.works(client, 3)
        self.no_double_owner()

    async def test_what_was_on_the_way_to_a_killed_node(self) -> None:
        """Sends have nobody to tell of an error: they are dead letters, which a script may watch."""
        client = await self.begin_all()
        await client.send(2, ["work@0"])
        await client.send(3, [])  # said by work@0 when she is there
        self.assertEqual((await client.receive(PATIENT)).text, "here")
        self.back.kill()
        await client.send(1, ["lost"])
        line = self.front.wait_line("LETTER", DOWN + 5)
        self.assertRegex(line, r"LETTER work@0 gate@0\S* (LINKDOWN|NOROUTE) from clients \d+ 0$")
        self.front.wait_line(r"gate@0: work@0 is gone \(.*\); its clients, by scene_lost: 1 closed \(4009\)")
        self.assertNotIn("Traceback", self.front.output)

    async def test_a_killed_broker(self) -> None:
        lease = 3 * LEASE  # long enough for what is done without a broker, and for its return
        client = await self.begin_all(lease=lease, down=20)
        self.center.kill()
        # `back` has no port of its own, but `front` has: what is known goes on for the lease, without the broker.
        await self.works(client, 2)
        self.assertNotIn("FENCED", self.front.output + self.back.output)
        center = self.begin("g.yaml", "--node", "center")
        center.ready()
        await self.works(client, 3)
        end = time.monotonic() + lease + MARGIN + 1
        number = 4
        while time.monotonic() < end:
            self.assertEqual(await self.ask(client, "add", number, 60), number + 1, "behind the broker's return a call failed")
            number += 1
        self.no_double_owner()
        for server in (self.front, self.back):  # before the master: without it they would be fenced as they drain
            self.assertNotIn("maybe executed", server.output)  # what was asked of the master that is gone is asked again
            self.assertEqual(server.stop(), 0, server.output)
            self.clean(server)

    async def test_the_end_of_a_node_without_a_master(self) -> None:
        """Its actors have no turns any more: that is said, and nobody waits for them."""
        await self.begin_all(top="drain: 300s")
        self.center.kill()
        for server in (self.front, self.back):
            server.wait_line("FENCED", LEASE + 5)
        began = time.monotonic()
        self.assertEqual(self.back.stop(), 3, self.back.output)
        self.assertLess(time.monotonic() - began, 150)  # of a drain of 300 s
        for text in ("its actors stand still: nothing is handed over", "cut short after 1000 ms",
                     "without its master a node's actors stand still"):  # fmt: skip
            self.assertIn(text, self.back.output)
        self.begin("g.yaml", "--node", "center").ready()
        self.front.wait_line("the lease is renewed", 20)

    async def test_a_broker_killed_while_a_node_drains(self) -> None:
        """Who asked for the drain hears what is known: that the node was told."""
        # Nobody is called silent meanwhile: what is on its way would be kept for another connection, and die with the broker.
        await self.begin_all(lease=3 * LEASE, suspect=20, down=30)
        os.kill(self.back.pid, signal.SIGSTOP)
        try:
            drain = asyncio.create_task(asyncio.to_thread(run, "drain", "back", "g.yaml", cwd=self.folder))
            await asyncio.to_thread(self.center.wait_line, r"INFO  BROKER node back \(number \d+\) is told to drain")
            await asyncio.to_thread(run, "ps", "g.yaml", cwd=self.folder)  # answered behind the one who asked for the drain
            self.center.kill()
        finally:
            os.kill(self.back.pid, signal.SIGCONT)
        result = await drain
        self.assertNotEqual(result.status, 0, result)
        self.assertIn("node back was told to drain, but the master of group world does not answer any more", result.err)
        self.back.over()
        self.front.wait_line("FENCED", 3 * LEASE + 5)
        self.begin("g.yaml", "--node", "center").ready()
        self.front.wait_line("the lease is renewed", 20)
        self.assertEqual(self.front.stop(), 0, self.front.output)  # before its master

    async def test_stopped_for_a_moment(self) -> None:
        """Nobody is called silent by who could not hear."""
        client = await self.begin_all(lease=60, suspect=3, down=30)  # by who could hear neither: nobody is kept waiting so long
        seen = len(self.back.lines)
        os.kill(self.back.pid, signal.SIGSTOP)
        try:
            self.center.wait_line("link to back .* silent for 3000 ms", DOWN + 5)
        finally:
            os.kill(self.back.pid, signal.SIGCONT)
        self.back.wait_line("this process stood still for .* other nodes may have given it up")
        await self.works(client, 2)
        self.assertNotIn("silent for", "\n".join(self.back.lines[seen:]))

    async def test_stopped_beyond_the_lease(self) -> None:
        client = await self.begin_all()
        os.kill(self.back.pid, signal.SIGSTOP)
        try:
            self.center.wait_line("link to back .* down", DOWN + 5)
            other = self.begin("g.yaml", "--node", "back")
            other.ready()
            await self.works(client, 2)
        finally:
            os.kill(self.back.pid, signal.SIGCONT)
        await self.works(client, 3)
        self.assertNotEqual(self.back.over(), 0, self.back.output)
        _, _, behind = self.back.output.partition("this process stood still for ")
        self.assertIn("FATAL", behind)
        # Its lease is over, and it is no member: nothing goes on, and nothing is started again in vain.
        for wrong in ("all that is known goes on", "cannot be claimed", "was restarted more than", "maybe executed"):
            self.assertNotIn(wrong, behind)
        self.assertRegex(behind, "redrabbit: node back is no member of its group any more: .*; start it again")
        await self.works(client, 4)
        self.no_double_owner()

    def diary(self) -> list[tuple[int, int, int]]:
        path: pathlib.Path = self.folder / "diary"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [tuple(map(int, line.split())) for line in text.splitlines() if line.count(" ") == 2]  # type: ignore[misc]

    def no_double_owner(self) -> None:
        """Turns of an epoch never come behind one of a higher epoch, and no epoch has two processes."""
        turns = sorted(self.diary(), key=lambda turn: turn[2])
        owners: dict[int, int] = {}
        highest = 0
        for epoch, pid, _ in turns:
            self.assertGreaterEqual(epoch, highest, "an owner ran inside its successor's lease")
            highest = epoch
            self.assertEqual(owners.setdefault(epoch, pid), pid, "two processes own one epoch")


class Claims(Case):
    """Two processes that claim one name at the same time, by the seed's command lines."""

    SCRIPT = """
import redrabbit

print("RUNS", redrabbit.epoch())

@redrabbit.service("who")
def who(msg):
    return redrabbit.epoch()
"""
    ASKER = """
import redrabbit

@redrabbit.message(1)
async def ask(session, msg):
    session.send(1, await redrabbit.call("work@0", "who", None))
"""

    async def test_one_name_claimed_twice_at_once(self) -> None:
        self.write("work.py", self.SCRIPT)
        self.write("main.py", self.ASKER)
        master, gate = f"tcp://127.0.0.1:{free_port()}", free_port()
        line = ["-master_broker", master, "-scene", "work@0", "-script", "work.py"]
        both = [self.begin(*line) for _ in range(2)]  # they wait for the master, and join together
        self.begin("-broker", master, "-gate", "gate@0", "-gate_listen", f"tcp://127.0.0.1:{gate}", "-scene", "scene@0",
                   "-script", "main.py").ready()  # fmt: skip
        await self.until(lambda: any(server.process.poll() is not None for server in both), "one of the two ends", 20)
        winner, loser = sorted(both, key=lambda server: server.process.poll() is not None)
        self.assertEqual(loser.over(), 1)
        self.assertIn("its name belongs to another node of the group; run it there only", loser.output)
        self.assertNotIn("RUNS", loser.output, "a script ran without its name")
        winner.ready()
        epoch = int(winner.wait_line("RUNS").split()[-1])
        self.assertEqual(winner.output.count("RUNS"), 1)
        client = await self.client(gate, "anna")
        await client.send(1, None)
        self.assertEqual((await client.receive(PATIENT)).json(), epoch)
        self.assertEqual(winner.stop(), 0, winner.output)
        third = self.begin(*line)  # the name is free again
        third.ready()
        self.assertGreater(int(third.wait_line("RUNS").split()[-1]), epoch)


if __name__ == "__main__":
    unittest.main()
