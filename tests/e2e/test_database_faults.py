"""Databases when things go wrong: servers that are away, killed, stopped, full or in each other's way; limits; ends of scenes.

The promise that is looked at everywhere: every query ends, and an error says whether it may have been executed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import subprocess
import time
import unittest
from typing import Any
from urllib.parse import quote

import servers
from databases import DatabaseCase, Scene, url
from harness import PATIENT, SLOW, main_pass, run
from proxy import Proxy

MIB = 1 << 20
# Queries in numbers: 20 under way all the time, until told to stop. What each came to is kept.
LOAD = """
kept["ends"] = {}
kept["stop"] = False
kept["number"] = 0

async def worker(ask):
    while not kept["stop"]:
        number = kept["number"] = kept["number"] + 1
        kept["ends"][number] = await ends(ask(number))
        if kept["ends"][number][0] != "ok":
            await redrabbit.sleep(0.01)

def load(ask):
    kept["workers"] = [redrabbit.spawn(worker(ask)) for _ in range(20)]

async def unload():
    kept["stop"] = True
    for each in kept["workers"]:
        await each
    return [[number, *end] for number, end in kept["ends"].items()]
"""


@functools.cache
def shared(kind: str) -> servers.Server:
    """One for all cases that leave it as it was; each names its tables differently."""
    stack = contextlib.ExitStack()
    unittest.addModuleCleanup(stack.close)
    return stack.enter_context(servers.serve(servers.KINDS[kind]))


class Faults(DatabaseCase):
    async def open(self, server: servers.Server, options: str = "", first: str = "", scenes: dict[str, str] | None = None, **more: str) -> Scene:
        scene = await self.begin_scene({"db@main": url(server) + options}, first, scenes, **more)
        kind = "redis" if server.kind == "redis" else "database"
        await scene.do(f"globals()['db'] = await redrabbit.{kind}('db@main')")
        return scene

    async def until(self, scene: Scene, source: str, seconds: float = 15) -> None:
        """Runs an expression's await again until it does not fail."""
        await scene.do(f"""
            end = time.monotonic() + {seconds * SLOW}
            while True:
                try:
                    await {source}
                    return
                except redrabbit.DatabaseError:
                    if time.monotonic() > end:
                        raise
                await redrabbit.sleep(0.02)""", seconds + 10)  # fmt: skip

    def no_secret(self, *texts: str) -> None:
        for text in (self.server.output, *texts):
            for secret in (servers.PASSWORD, quote(servers.PASSWORD, safe="")):
                self.assertNotIn(secret, text)


@main_pass
class Absent(Faults):
    async def away_and_back(self, kind: type[servers.Server], ask: str) -> None:
        with servers.serve(kind, start=False) as server:
            server.data.parent.mkdir(exist_ok=True)
            scene = await self.open(server, ", acquire_timeout: 300ms")  # the scene starts all the same
            failed = await self.refused(scene, f"await {ask}")
            self.assertFalse(failed.executed, failed.text)
            server.start()
            await self.until(scene, ask)
            server.kill()
            await self.refused(scene, f"await {ask}\nawait {ask}")
            self.no_secret()

    async def test_mariadb(self) -> None:
        await self.away_and_back(servers.Mariadb, "db.query('SELECT 1')")

    async def test_postgres(self) -> None:
        await self.away_and_back(servers.Postgres, "db.query('SELECT 1')")

    async def test_redis(self) -> None:
        await self.away_and_back(servers.Redis, "db.get('x')")


@main_pass
class Refused(Faults):
    async def refusals(self, kind: str, ask: str, unknown: str) -> None:
        server = shared(kind)
        wrong = url(server, password="wrong")
        scene = await self.begin_scene({"db@wrong": wrong, "db@unknown": url(server, database=unknown)})
        for name in ("db@wrong", "db@unknown"):
            opening = "redis" if kind == "redis" else "database"
            failed = await self.fails(scene, "DatabaseAuthError", f"db = await redrabbit.{opening}('{name}')\nawait {ask}")
            self.assertFalse(failed.executed)
            self.assertNotIn("wrong@", failed.text)
        self.no_secret(run("graph", "graph.yaml", cwd=self.folder).out)

    async def test_mariadb(self) -> None:
        await self.refusals("mariadb", "db.query('SELECT 1')", "nowhere")

    async def test_postgres(self) -> None:
        await self.refusals("postgres", "db.query('SELECT 1')", "nowhere")

    async def test_redis(self) -> None:
        await self.refusals("redis", "db.get('x')", "77")


class Killed(Faults):
    """kill -9 and a restart under load. A row for each number: none twice, all that succeeded, none that surely did not."""

    async def killed(self, server: servers.Server, table: str, ask: str, rows: str) -> None:
        scene = await self.open(server, first=LOAD)
        await scene.do(table)
        await scene.do(f"load(lambda n: {ask})")
        for _ in range(2):
            await scene.do("""
                goal = kept["number"] + 500
                while kept["number"] < goal:
                    await redrabbit.sleep(0.005)""")
            server.kill()
            server.start()
        await scene.do("""
            while list(kept["ends"].values())[-1][0] != "ok":
                await redrabbit.sleep(0.01)""", 30)
        told = await scene.do("return await unload()", 30)
        there = await scene.do(rows)
        self.assertEqual(len(there), len(set(there)), "a query was executed twice")
        there = set(there)
        good = {number for number, kind, _ in told if kind == "ok"}
        surely_not = {number for number, kind, executed in told if kind != "ok" and executed is False}
        self.assertEqual(good - there, set(), "a query that succeeded had no effect")
        self.assertEqual(surely_not & there, set(), "a query that was surely not executed was executed")
        self.assertTrue({kind for _, kind, _ in told} <= {"ok", "DatabaseConnectionError", "DatabaseBusy"}, told[-1])
        self.assertTrue(good and len(told) > len(good), "the server's death was not noticed")

    async def test_mariadb(self) -> None:
        with servers.mariadb() as server:
            await self.killed(server, "await db.query('CREATE TABLE log (n INT) ENGINE=InnoDB')", "db.query('INSERT INTO log VALUES (?)', [n])",
                              "return [row[0] for row in await db.query('SELECT n FROM log')]")  # fmt: skip

    async def test_postgres(self) -> None:
        with servers.postgres() as server:
            await self.killed(server, "await db.query('CREATE TABLE log (n INT)')", "db.query('INSERT INTO log VALUES (?)', [n])",
                              "return [row[0] for row in await db.query('SELECT n FROM log')]")  # fmt: skip

    async def test_redis(self) -> None:
        # With `everysec` Redis puts off writing while it syncs, and answers all the same: a kill then loses what it has acknowledged.
        with servers.redis("--appendonly", "yes", "--appendfsync", "always") as server:
            await self.killed(server, "await db.delete('log')", "db.rpush('log', n)", "return [int(n) for n in await db.lrange('log')]")


# A scene that listens to a channel of everybody and to one of its own; others it subscribes to and leaves, all the time.
LISTENER = """
import redrabbit

heard = {}
tasks = []
ending = False
news = None


async def subscribed(redis, *channels):
    while True:
        try:
            return await redis.subscribe(*channels, lambda channel, message: heard.__setitem__(channel, message))
        except redrabbit.DatabaseError:
            await redrabbit.sleep(0.01)


async def come_and_go(redis, number):
    while not ending:
        other = await subscribed(redis, f"other:{number}")
        await redrabbit.sleep(0.003 * number)
        await other.unsubscribe()


@redrabbit.service("begin")
async def begin(own):
    global news
    redis = await redrabbit.redis("db@main")
    news = await subscribed(redis, "all", own)
    tasks.extend(redrabbit.spawn(come_and_go(redis, number)) for number in range(4))


@redrabbit.service("told")
def told(own):
    return [heard.get("all"), heard.get(own), news.lost]


@redrabbit.service("end")
async def end(_):
    global ending
    ending = True
    for task in tasks:
        await task
"""


class Subscribed(Faults):
    """kill -9 and a restart, again and again, while several scenes subscribe and leave: who has subscribed hears, and nothing is left
    of what was left."""

    async def test_redis(self) -> None:
        self.write("listener.py", LISTENER)
        with servers.redis() as server:
            scene = await self.open(server, scenes={f"scene@{n}": "listener.py" for n in (1, 2, 3)})
            await scene.do("""
                async def all_hear(word):
                    while True:
                        await ends(db.publish("all", word))
                        for n in (1, 2, 3):
                            await ends(db.publish(f"own:{n}", word))
                        told = [await redrabbit.call(f"scene@{n}", "told", f"own:{n}", timeout=60) for n in (1, 2, 3)]
                        if all(each[:2] == [word, word] for each in told):
                            return [each[2] for each in told]
                        await redrabbit.sleep(0.02)

                kept["all_hear"] = all_hear
                for n in (1, 2, 3):
                    await redrabbit.call(f"scene@{n}", "begin", f"own:{n}", timeout=60)
                await all_hear("first")""")
            for number in range(8):
                server.kill()
                server.start()
                if number % 2:  # else it is gone again before all are back, or not
                    lost = await scene.do(f"return await kept['all_hear']('{number}')")
                    self.assertGreaterEqual(min(lost), 1)
            self.assertEqual(await scene.do("""
                for n in (1, 2, 3):
                    await redrabbit.call(f"scene@{n}", "end", timeout=60)
                await kept["all_hear"]("last")
                end = time.monotonic() + 30
                while True:
                    channels = sorted(await db.command("PUBSUB", "CHANNELS"))
                    if len(channels) == 4 or time.monotonic() > end:
                        return channels
                    await redrabbit.sleep(0.02)"""), ["all", "own:1", "own:2", "own:3"])  # fmt: skip


@main_pass
class Paused(Faults):
    """The server stands still: nobody can be told to stop anything, and time-outs hold all the same."""

    async def paused(self, server: servers.Server, ask: str) -> None:
        scene = await self.open(server, ", pool: 2, acquire_timeout: 1s")
        for _ in range(4):
            await self.until(scene, ask)  # to connect may take longer
        with server.paused():
            ended = await scene.do(f"""
                began, came = time.monotonic(), []
                waits = [ends({ask}) for _ in range(8)]
                async def one(wait):
                    came.append([*(await wait), time.monotonic() - began])
                for task in [redrabbit.spawn(one(wait)) for wait in waits]:
                    await task
                return came""")  # fmt: skip
            for kind, executed, seconds in ended:
                self.assertIn(kind, ("DatabaseTimeout", "DatabaseConnectionError", "DatabaseBusy"))
                self.assertLess(seconds, 20 * SLOW)
            self.assertIn("DatabaseTimeout", {kind for kind, _, _ in ended})
        await self.until(scene, ask)

    async def test_mariadb(self) -> None:
        await self.paused(shared("mariadb"), "db.query('SELECT 1', timeout=0.5)")

    async def test_postgres(self) -> None:
        await self.paused(shared("postgres"), "db.query('SELECT 1', timeout=0.5)")

    async def test_redis(self) -> None:
        await self.paused(shared("redis"), "db.within(0.5).get('x')")


@main_pass
class Crowded(Faults):
    async def deadlock(self, server: servers.Server) -> None:
        scene = await self.open(server)
        self.assertEqual(sorted(await scene.do("""
            await db.query("CREATE TABLE d (id INT PRIMARY KEY, n INT)")
            await db.batch("INSERT INTO d VALUES (?, 0)", [[1], [2]])
            met = []
            async def both(first, second):
                async with db.transaction() as tx:
                    await tx.query("UPDATE d SET n = n + 1 WHERE id = ?", [first])
                    met.append(first)
                    while len(met) < 2:
                        await redrabbit.sleep(0.005)
                    await tx.query("UPDATE d SET n = n + 1 WHERE id = ?", [second])
            tasks = [redrabbit.spawn(ends(both(1, 2))), redrabbit.spawn(ends(both(2, 1)))]
            return [(await task)[0] for task in tasks] + [await db.value("SELECT sum(n) FROM d") == 2]
        """), key=str), ["DeadlockError", True, "ok"])  # fmt: skip

    async def test_deadlock_mariadb(self) -> None:
        await self.deadlock(shared("mariadb"))

    async def test_deadlock_postgres(self) -> None:
        await self.deadlock(shared("postgres"))

    async def few(self, server: servers.Server, slow: str) -> None:
        """The server takes fewer connections than the pool would like: everybody is served by those there are."""
        scene = await self.open(server, ", pool: 8, acquire_timeout: 60s")
        self.assertEqual(await scene.do(f"""
            waits = [ends(db.query("{slow}", timeout=60)) for _ in range(100)]
            return sorted(set([(await redrabbit.spawn(wait))[0] for wait in waits]))"""), ["ok"])  # fmt: skip

    async def test_too_many_connections_mariadb(self) -> None:
        with servers.mariadb("--max-connections=10", "--extra-max-connections=1") as server:
            await self.few(server, "SELECT sleep(0.005)")

    async def test_too_many_connections_postgres(self) -> None:
        with servers.postgres("-c", "max_connections=5", "-c", "max_wal_senders=0") as server:
            await self.few(server, "SELECT pg_sleep(0.005)")

    async def test_ten_thousand_queued(self) -> None:
        scene = await self.open(shared("postgres"), ", pool: 4")
        self.assertEqual(await scene.do("""
            waits = [db.value("SELECT ?::int", [n], timeout=60) for n in range(10000)]
            good = [await wait for wait in waits] == list(range(10000))
            async with contextlib.AsyncExitStack() as held:  # every connection, so that nothing leaves the queue meanwhile
                for _ in range(4):
                    await held.enter_async_context(db.transaction())
                over = [db.value("SELECT 1", timeout=60) for n in range(20000)]
                last = await ends(over.pop())
            kinds = {}
            for wait in over:
                kind = tuple(await ends(wait))
                kinds[kind] = kinds.get(kind, 0) + 1
            return [good, last, sorted(kinds), sum(kinds.values())]""", 60),
            [True, ["DatabaseBusy", False], [["DatabaseBusy", False], ["ok", 1]], 19999])  # fmt: skip


@main_pass  # AddressSanitizer keeps what is freed, up to 256 MiB: with it the memory that is measured here is its own
class Big(Faults):
    async def stream(self, scene: Scene, sql: str) -> None:
        """100 MB, read slower than they come."""
        await scene.do("return await db.value('SELECT 1')")
        before = peak = self.server.rss()
        reading = scene.start(f"""
            size = rows = 0
            async for (text,) in db.stream("{sql}"):
                rows += 1
                size += len(text)
                if rows % 100 == 0:
                    await redrabbit.sleep(0.01)
            return [rows, size]""")
        while not reading.done():
            peak = max(peak, self.server.rss())
            await asyncio.wait([reading], timeout=0.02)
        self.assertEqual(await reading, [1000, 100_000_000])
        self.assertLess(peak - before, 40 * MIB)

    async def blob(self, scene: Scene, type_: str) -> None:
        self.assertEqual(await scene.do(f"""
            await db.query("CREATE TABLE b (x {type_})")
            want = bytes(range(256)) * 65536
            await db.query("INSERT INTO b VALUES (?)", [want])
            return [await db.value("SELECT x FROM b") == want, await db.value("SELECT length(x) FROM b")]"""),
            [True, 16 * MIB])  # fmt: skip

    async def test_mariadb(self) -> None:
        scene = await self.open(shared("mariadb"))
        failed = await self.fails(scene, "DataError", "await db.query('SELECT ?', ['x' * (65 << 20)])")
        self.assertIn("`queue.bytes`", failed.text)
        await self.stream(scene, "SELECT repeat('x', 100000) FROM seq_1_to_1000")
        await self.blob(scene, "LONGBLOB")
        await self.fails(scene, "ResultTooBig", "await db.query(\"SELECT repeat('x', 100000) FROM seq_1_to_1000\")")

    async def test_postgres(self) -> None:
        scene = await self.open(shared("postgres"))
        await self.stream(scene, "SELECT repeat('x', 100000) FROM generate_series(1, 1000)")
        await self.blob(scene, "BYTEA")
        await self.fails(scene, "ResultTooBig", "await db.query(\"SELECT repeat('x', 100000) FROM generate_series(1, 1000)\")")
        await self.fails(scene, "DataError", "await db.query(\"SELECT convert_from('\\\\xff', 'UTF8')\")")
        await self.fails(scene, "DataError", "await db.query('SELECT ?', ['a\\0b'])")
        self.assertEqual(await scene.do("return await db.value('SELECT 1')"), 1)

    async def test_sqlite(self) -> None:
        scene = await self.begin_scene({"db@main": 'url: "sqlite://./big.db"'})
        await scene.do("globals()['db'] = await redrabbit.database('db@main')")
        await self.stream(scene, "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000) SELECT printf('%.100000c', 'x') FROM c")
        await self.blob(scene, "BLOB")


class Sqlite(Faults):
    async def sqlite(self, options: str = "") -> Scene:
        scene = await self.begin_scene({"db@main": f'url: "sqlite://./test.db"{options}'})
        await scene.do("""
            globals()['db'] = await redrabbit.database('db@main')
            await db.query("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")""")
        return scene

    async def test_disk_full(self) -> None:
        scene = await self.sqlite()
        pages = await scene.do("return await db.value('PRAGMA max_page_count = 40')")
        self.assertEqual(pages, 40)
        failed = await self.fails(scene, "DatabaseError", "while True:\n    await db.query('INSERT INTO t (x) VALUES (?)', [bytes(10000)])")
        self.assertEqual((failed.code, failed.executed), (13, False), failed.text)  # SQLITE_FULL
        count = await scene.do("return await db.value('SELECT count(*) FROM t')")
        await scene.do("await db.query('PRAGMA max_page_count = 4000')\nawait db.query('INSERT INTO t (x) VALUES (?)', [bytes(10000)])")
        self.assertEqual(await scene.do("return await db.value('SELECT count(*) FROM t')"), count + 1)

    async def test_locked(self) -> None:
        scene = await self.sqlite()
        other = sqlite3.connect(self.folder / "test.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            ended = await scene.do("return await ends(db.query('INSERT INTO t (id) VALUES (1)', timeout=0.5))")
            self.assertIn(ended[0], ("DatabaseTimeout", "DeadlockError", "DatabaseBusy"))
            waits = scene.start("await db.query('INSERT INTO t (id) VALUES (2)')\nreturn 2")
            self.assertEqual(await scene.do("return 5"), 5)  # the scene does not wait for it
            other.execute("COMMIT")
            self.assertEqual(await waits, 2)
        finally:
            other.close()

    async def test_the_log_of_slow_ones_names_begin_and_end(self) -> None:
        scene = await self.sqlite(", slow: 1ms")
        other = sqlite3.connect(self.folder / "test.db", isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            ended = await scene.do("async def begin():\n    async with db.transaction(timeout=0.3):\n        pass\nreturn (await ends(begin()))[0]")
            self.assertIn(ended, ("DatabaseTimeout", "DeadlockError", "DatabaseBusy"))
        finally:
            other.close()
        self.server.wait_line(r"WARN  DB     db@main: \d+\.\d{3} s: BEGIN IMMEDIATE$", PATIENT)

    async def test_invalid_utf8(self) -> None:
        scene = await self.sqlite()
        ended = await scene.do("end = await ends(db.value(\"SELECT CAST(x'ff41' AS TEXT)\"))\nreturn [end[0], repr(end[1])]")
        self.assertIn(ended, (["DataError", "False"], ["ok", "b'\\xffA'"], ["ok", "'\\ufffdA'"]))
        self.assertEqual(await scene.do("return await db.value('SELECT 1')"), 1)


# Short reads that may be made long: `warm` until others are sent behind them, then as many at once as are told, first come
# first sent: to each of two connections one, then behind them. What each came to, and how long that took.
READS = """
async def warm():
    for _ in range(24):
        for wait in [redrabbit.spawn(db.one(READ, [1, 1, 0.0])) for _ in range(8)]:
            await wait

async def one(number, by, seconds, timeout):
    began = time.monotonic()
    end = await ends(db.one(READ, [number, by, seconds], timeout=timeout))
    return [end[0], end[1][0] if end[0] == "ok" else end[1], time.monotonic() - began]

async def together(reads):
    return [await task for task in [redrabbit.spawn(one(number, *read)) for number, read in enumerate(reads)]]

async def backends():  # the servers' ends of both connections, as soon as both are free
    end = time.monotonic() + 60
    while True:
        tasks = [redrabbit.spawn(db.value(BACKEND)) for _ in range(2)]
        pids = sorted({await task for task in tasks})
        if len(pids) == 2 or time.monotonic() > end:
            return pids
"""


@main_pass
class Pipelined(Faults):
    """PostgreSQL: reads that were sent behind others on one connection."""

    kind = "postgres"
    first = """
READ = "SELECT ?::int / ?, pg_sleep(?)"
BUSY = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"
BACKEND = "SELECT pg_backend_pid() FROM pg_sleep(0.05)"
END = "SELECT pg_terminate_backend({})"
HOLD = "SELECT 1"
"""

    async def reader(self, options: str = "", behind: str = "") -> Scene:
        """behind: the URL of a proxy before the server."""
        server = shared(self.kind)
        main = f'url: "{behind}"' if behind else url(server)
        databases = {"db@main": f"{main}, pool: 2, acquire_timeout: 60s{options}", "db@other": url(server) + ", pool: 1, acquire_timeout: 60s"}
        scene = await self.begin_scene(databases, self.first + READS)
        await scene.do("""
            globals()["db"] = await redrabbit.database("db@main")
            globals()["other"] = await redrabbit.database("db@other")
            await other.query(HOLD)
            await backends()
            await warm()""")
        return scene

    async def pipelined(self) -> float:
        return (await self.metrics(self.port))['rr_db_pipelined_total{database="db@main"}']

    async def behind(self, scene: Scene, count: int, source: str) -> Any:
        """What source returns in a run in which so many were sent behind others: on a busy machine a read may have been long by chance."""
        end = time.monotonic() + 60 * SLOW
        while True:
            await scene.do("await warm()")
            before = await self.pipelined()
            value = await scene.do(source, 40)
            if await self.pipelined() >= before + count:
                return value
            self.assertLess(time.monotonic(), end, "none was sent behind others")

    async def test_each_has_its_own_answer(self) -> None:
        scene = await self.reader()
        ended = await self.behind(scene, 50, "return await together([(n % 7, 0.0, 60) for n in range(200)])")
        self.assertEqual([end[:2] for end in ended], [["ok", n // (n % 7)] if n % 7 else ["DataError", False] for n in range(200)])

    async def test_not_where_it_is_switched_off(self) -> None:
        scene = await self.reader(", pipeline: 1")
        ended = await scene.do("return await together([(1, 0.0, 60) for n in range(200)])")
        self.assertEqual([end[:2] for end in ended], [["ok", n] for n in range(200)])
        self.assertEqual(await self.pipelined(), 0)

    async def test_nothing_goes_behind_a_statement_that_took_long(self) -> None:
        scene = await self.reader()
        await scene.do("await together([(1, 0.05, 60)])")
        before = await self.pipelined()
        ended = await scene.do("return await together([(1, 10.0 if n == 0 else 0.0, 60) for n in range(40)])")
        self.assertEqual([end[:2] for end in ended], [["ok", n] for n in range(40)])
        self.assertLess(max(seconds for _, _, seconds in ended[1:]), ended[0][2], "one waited for the slow one")
        self.assertEqual(await self.pipelined(), before)

    async def test_time_is_over_behind_a_slow_one(self) -> None:
        scene = await self.reader()
        backends = await scene.do("return await backends()")
        ended = await self.behind(scene, 6, "return await together([(1, 3.0, 60)] * 2 + [(1, 0.0, 0.3)] * 6)")
        self.assertEqual([end[:2] for end in ended[:2]], [["ok", 0], ["ok", 1]])
        for kind, executed, seconds in ended[2:]:
            self.assertEqual((kind, executed), ("DatabaseTimeout", True))
            self.assertLess(seconds, min(ended[0][2], ended[1][2]), "it waited for the slow one")
        self.assertEqual(await scene.do("return await backends()"), backends, "a connection was given up")

    async def test_given_up_behind_a_slow_one(self) -> None:
        """Those behind would sleep for 30 s each: they are stopped when their turn comes."""
        scene = await self.reader()
        backends = await scene.do("return await backends()")
        self.assertEqual(await self.behind(scene, 6, """
            slow = [redrabbit.spawn(one(n, 1, 2.5, 60)) for n in range(2)]
            behind = [redrabbit.spawn(one(n, 1, 30.0, 60)) for n in range(6)]
            await redrabbit.sleep(0.2)
            for task in behind:
                task.cancel()
            return [(await task)[:2] for task in slow]"""), [["ok", 0], ["ok", 1]])  # fmt: skip
        self.assertEqual(await scene.do("return (await together([(1, 0.0, 60)]))[0][:2]"), ["ok", 0])
        self.assertEqual(await scene.do("return await backends()"), backends, "a connection was given up")

    async def test_stopping_the_first_leaves_the_others(self) -> None:
        """The first one's time is over when it ends, so that the server is told to stop it when it works on the next one."""
        scene = await self.reader()
        for late in range(12):
            ended = await self.behind(scene, 6, f"return await together([(1, 0.3 + {late} / 1000, 0.3)] * 2 + [(1, 0.05, 60)] * 6)")
            for kind, what, _ in ended[:2]:
                self.assertIn(kind, ("ok", "DatabaseTimeout"))
            self.assertEqual([end[:2] for end in ended[2:]], [["ok", n] for n in range(2, 8)])

    async def test_a_connection_that_breaks(self) -> None:
        scene = await self.reader()
        ended = await self.behind(scene, 6, """
            waits = redrabbit.spawn(together([(1, 20.0, 30)] * 2 + [(1, 0.0, 30)] * 6))
            end = time.monotonic() + 30
            while len(busy := await other.query(BUSY)) < 2:
                assert time.monotonic() < end
                await redrabbit.sleep(0.02)
            for backend in busy:
                await other.query(END.format(*backend))
            return await waits""")  # fmt: skip
        for kind, executed, seconds in ended:
            self.assertEqual((kind, executed), ("DatabaseConnectionError", True))
            self.assertLess(seconds, 10 * SLOW)
        await self.until(scene, "together([(1, 0.0, 60)])")


@main_pass
class PipelinedMariadb(Pipelined):
    """The same of MariaDB. A division by zero is no error there, an overflow is. What takes long waits for a lock: SLEEP shares a
    mutex with all others that sleep, so that KILLs of two at once may wait for each other for 2 s."""

    kind = "mariadb"
    first = """
READ = "SELECT n DIV d + 0 * EXP(1000 * (d = 0)), GET_LOCK('other', s) FROM (SELECT ? AS n, ? AS d, ? AS s) AS given"
BUSY = "SELECT id FROM information_schema.PROCESSLIST WHERE info LIKE '%GET_LOCK%' AND id <> CONNECTION_ID()"
BACKEND = "SELECT CONNECTION_ID(), GET_LOCK('other', 0.05)"
END = "KILL {}"
HOLD = "SELECT GET_LOCK('other', 10)"
"""

    async def test_stopping_the_first_leaves_the_others(self) -> None:
        """Its answer is held up on its way until the server has been told to stop it, and works on the next one by then."""
        server = shared(self.kind)
        proxy = Proxy(server.port)
        await proxy.start()
        self.addAsyncCleanup(proxy.close)
        scene = await self.reader("", server.url.replace(f":{server.port}/", f":{proxy.port}/"))
        end = time.monotonic() + 60 * SLOW
        while True:
            await scene.do("await warm()")
            before, kills = await self.pipelined(), await self.kills(scene)
            waits = scene.start(f"return await together([(1, {0.6 * SLOW}, {1.2 * SLOW})] * 2 + [(1, {3 * SLOW}, 60)] * 2)")
            await scene.do("while len(await other.query(BUSY)) < 2:\n    await redrabbit.sleep(0.01)")
            links = list(proxy.links)
            for link in links:
                link.cut(inward=False)
            while not waits.done() and await self.kills(scene) < kills + 2:
                self.assertLess(time.monotonic(), end)
            for link in links:
                link.mend()
            ended = await waits
            for kind, _, _ in ended:  # connection: the machine was too busy for the second that a stopped query has
                self.assertIn(kind, ("ok", "DatabaseTimeout", "DatabaseConnectionError"))
            if await self.pipelined() >= before + 2 and [each[:2] for each in ended[2:]] == [["ok", 2], ["ok", 3]]:
                return
            self.assertLess(time.monotonic(), end, ended)

    async def kills(self, scene: Scene) -> int:
        return int(await scene.do("return (await other.one(\"SHOW GLOBAL STATUS LIKE 'Com_kill'\"))[1]"))

    async def test_rows_and_nothing(self) -> None:
        """Answers of many packets, of none, and of two statements in turn."""
        scene = await self.reader()
        ended = await self.behind(scene, 20, """
            texts = ["SELECT seq FROM seq_1_to_3000 WHERE seq <= ?", "SELECT seq, REPEAT('x', 900) FROM seq_1_to_40 WHERE seq > ?"]
            for text in texts:
                for _ in range(70):
                    await db.query(text, [20])
            tasks = [redrabbit.spawn(db.query(texts[n % 2], [n * 40 % 3000])) for n in range(100)]
            return [len(await task) for task in tasks]""")  # fmt: skip
        self.assertEqual(ended, [max(0, 40 - n * 40 % 3000) if n % 2 else n * 40 % 3000 for n in range(100)])

    async def test_large_parameters_go_alone(self) -> None:
        scene = await self.reader()
        self.assertEqual(await scene.do("""
            for _ in range(70):
                await db.value("SELECT LENGTH(?)", ["x"])
            sizes = [n * 1000 for n in range(40)]
            tasks = [redrabbit.spawn(db.value("SELECT LENGTH(?)", ["x" * size])) for size in sizes]
            return [await task for task in tasks] == sizes"""), True)  # fmt: skip


class Ends(Faults):
    """Scenes that end, or are loaded anew, with queries in flight."""

    async def test_transaction_of_a_scene_that_stops(self) -> None:
        server = shared("postgres")
        scene = await self.open(server, top="drain: 1s")  # the handler below would not end within 10 s either
        await scene.do("await db.query('CREATE TABLE e (n INT)')")
        hanging = scene.start("""
            async with db.transaction() as tx:
                await tx.query("INSERT INTO e VALUES (1)")
                kept["begun"] = True
                await redrabbit.sleep(3600)""")
        await scene.do("while 'begun' not in kept:\n    await redrabbit.sleep(0.01)\nawait db.query('INSERT INTO e VALUES (2)')")
        hanging.add_done_callback(lambda future: future.exception())
        self.assertIn(self.server.stop(30), (0, 3))
        self.server.process.stdout.close() if self.server.process.stdout else None
        done = subprocess.run([servers.find("psql"), "-tA", "-c", "SELECT n FROM e", server.url], capture_output=True, text=True, timeout=20)
        self.assertEqual(done.stdout.split(), ["2"], done.stderr)

    async def test_reload(self) -> None:
        scene = await self.open(shared("postgres"))
        slow = scene.start("return await db.value('SELECT 5 FROM pg_sleep(1)')")
        await scene.do("assert ffext.reload('scene') == ''\nglobals()['db'] = await redrabbit.database('db@main')")
        self.assertEqual(await scene.do("return await db.value('SELECT 6')"), 6)
        self.assertEqual(await slow, 5)


if __name__ == "__main__":
    unittest.main()
