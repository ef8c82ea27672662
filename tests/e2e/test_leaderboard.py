"""conf/leaderboard on SQLite, MariaDB and PostgreSQL: accounts, passwords, scores, the top ten; the page's files."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
import unittest
from typing import Any

import servers
from harness import PATIENT, ROOT, Case, Client, Closed, free_port, main_pass

SCORE, TOP, ERROR = 1, 2, 3


class Leaderboard(servers.Served):
    """The same play on every database; only the graph's url differs. Without a kind: SQLite."""

    def play(self: Any) -> None:
        """Starts the example, in a copy of its folder, on a port of its own."""
        shutil.copytree(ROOT / "conf" / "leaderboard", self.folder / "game")
        graph = self.folder / "game" / "leaderboard.yaml"
        self.port = free_port()
        text = graph.read_text(encoding="utf-8").replace("127.0.0.1:10242", f"127.0.0.1:{self.port}\n    login_timeout: 10m  # hashing takes its turn")
        if self.kind:
            text = text.replace("sqlite://./leaderboard.db", self.database.url)
        graph.write_text(text, encoding="utf-8")
        self.program = self.start(str(graph))

    async def enter(self: Any, name: str, password: str = "correct horse", **more: Any) -> tuple[Client, Any]:
        """A client that asked to come in, and the answer it got."""
        client = Client(f"tcp://127.0.0.1:{self.port}")
        self.addAsyncCleanup(client.close)
        await client.connect()
        await client.login(json.dumps({"name": name, "password": password, **more}))
        async with asyncio.timeout(3 * PATIENT):  # hashing is slow on purpose, and takes its turn
            return client, (await client.receive()).json()

    async def refused(self: Any, name: str, password: str = "correct horse", **more: Any) -> str:
        client, answer = await self.enter(name, password, **more)
        with self.assertRaises(Closed):
            await client.receive(PATIENT)
        return str(answer["error"])

    async def score(self: Any, client: Client, points: Any) -> Any:
        await client.send(SCORE, json.dumps(points))
        return (await self.expect(client, lambda message: message.cmd in (SCORE, ERROR))).json()

    async def top(self: Any, client: Client) -> Any:
        await client.send(TOP, "0")
        return (await self.expect(client, re.compile(""), cmd=TOP)).json()

    async def test_a_game(self: Any) -> None:
        self.play()
        alice, answer = await self.enter("  Alice ", register=True)
        self.assertEqual(answer, {"name": "alice", "best": 0})
        self.assertEqual(await self.top(alice), [])
        bob, answer = await self.enter("bób", register=True)
        self.assertEqual(answer, {"name": "bób", "best": 0})
        self.assertEqual(await self.score(alice, 17), {"score": 17, "best": 17})
        self.assertEqual(await self.score(alice, 5), {"score": 5, "best": 17})
        self.assertEqual(await self.score(bob, 30), {"score": 30, "best": 30})
        await self.expect(alice, lambda message: message.cmd == TOP and message.json() == [["bób", 30], ["alice", 17]])
        for wrong in (-1, 2**31, "17", None, True, 1.5):
            self.assertIn("error", await self.score(alice, wrong))
        await alice.close()
        alice, answer = await self.enter("ALICE")
        self.assertEqual(answer, {"name": "alice", "best": 17})

    async def test_names_are_exact(self: Any) -> None:
        self.play()
        for name in ("müller", "muller", "mûller"):
            _, answer = await self.enter(name, f"password of {name}", register=True)
            self.assertEqual(answer, {"name": name, "best": 0})
        _, answer = await self.enter("MÜLLER", "password of müller")
        self.assertEqual(answer, {"name": "müller", "best": 0})
        self.assertEqual(await self.refused("muller", "password of müller"), "Name or password is wrong.")

    async def test_who_may_not_come_in(self: Any) -> None:
        self.play()
        await self.enter("carol", register=True)
        self.assertEqual(await self.refused("carol", "wrong password"), "Name or password is wrong.")
        self.assertEqual(await self.refused("nobody"), "Name or password is wrong.")
        self.assertEqual(await self.refused("carol", "another one", register=True), "That name is taken.")
        self.assertEqual(await self.refused("' OR 1=1 --"), "Name or password is wrong.")
        self.assertIn("characters", await self.refused("x" * 25))
        self.assertIn("characters", await self.refused("dave", "short"))
        client = Client(f"tcp://127.0.0.1:{self.port}")
        self.addAsyncCleanup(client.close)
        await client.connect()
        await client.login("no json")
        self.assertIn("error", (await client.receive(PATIENT)).json())

    async def test_the_best_ten_of_many(self: Any) -> None:
        self.play()
        names = [f"player{number:02}" for number in range(12)]
        clients = [client for client, _ in await asyncio.gather(*(self.enter(name, register=True) for name in names))]
        await asyncio.gather(*(self.score(client, 100 + number) for number, client in enumerate(clients)))
        best = [[f"player{number:02}", 100 + number] for number in range(11, 1, -1)]
        self.assertEqual([row for row in await self.fresh_top(clients[0]) if row[0].startswith("player")][:10], best)

    async def fresh_top(self: Any, client: Client) -> Any:
        """The answer to a question behind all that was broadcast before."""
        await client.send(SCORE, "-1")
        await self.expect(client, re.compile(""), cmd=ERROR)
        return await self.top(client)

    async def test_the_scene_goes_on_while_passwords_are_hashed(self: Any) -> None:
        self.play()
        alice, _ = await self.enter("erin", register=True)
        await self.expect(alice, re.compile(""), cmd=TOP)
        crowd = asyncio.gather(*(self.refused("nobody") for _ in range(20)))
        slowest = 0.0
        answers = 0
        while not crowd.done():
            begin = time.monotonic()
            await self.score(alice, -1)  # refused without the database
            slowest = max(slowest, time.monotonic() - begin)
            answers += 1
        self.assertEqual(set(await crowd), {"Name or password is wrong."})
        self.assertGreater(answers, 20, f"slowest answer {slowest:.3f} s")  # the hashes alone take about a second


class Sqlite(Leaderboard, Case):
    async def test_page(self) -> None:
        self.play()
        for path, word in (("/", b"Leaderboard"), ("/leaderboard.js", b"RedRabbit"), ("/redrabbit.js", b"RedRabbit")):
            status, _, body = await self.http(self.port, path)
            self.assertEqual(status, 200)
            self.assertIn(word, body)

    async def test_scores_outlive_the_server(self) -> None:
        self.play()
        client, _ = await self.enter("frank", register=True)
        await self.score(client, 23)
        await client.close()
        self.assertEqual(self.program.stop(), 0)
        self.program = self.start("game/leaderboard.yaml")
        _, answer = await self.enter("frank")
        self.assertEqual(answer, {"name": "frank", "best": 23})
        database = self.folder / "game" / "leaderboard.db"
        self.assertNotIn(b"correct horse", database.read_bytes())


@main_pass  # the driver itself is tested in every pass: e2e.database
class Mariadb(Leaderboard, Case):
    kind = "mariadb"


@main_pass
class Postgres(Leaderboard, Case):
    kind = "postgres"


if __name__ == "__main__":
    unittest.main()
