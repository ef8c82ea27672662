"""Databases from a scene, on real servers: values, parameters, transactions, streams, time-outs, order; Redis."""

from __future__ import annotations

import contextlib
import ctypes
import pathlib
import platform
import shutil
import struct
import subprocess
import textwrap
import unittest
from collections.abc import Callable, Iterator
from typing import Any

import servers
from databases import DatabaseCase, Scene, url
from harness import ROOT

# Python values, and the type of a column that keeps them, by database.
VALUES = [
    ("0", "BIGINT"), ("-2**63", "BIGINT"), ("2**63 - 1", "BIGINT"), ("0.1", "DOUBLE PRECISION"), ("-1e308", "DOUBLE PRECISION"),
    ("5e-324", "DOUBLE PRECISION"), ("''", "TEXT"), ("'héllo 🐇 \\'\\\\\"'", "TEXT"), ("'x' * 100000", "TEXT"), ("b''", "BLOB"),
    ("bytes(range(256))", "BLOB"), ("None", "TEXT"), ("None", "BIGINT"), ("decimal.Decimal('12345678901234567890.123456789')", "DECIMAL(40,9)"),
    ("datetime.date(1, 1, 1)", "DATE"), ("datetime.date(9999, 12, 31)", "DATE"), ("datetime.datetime(2024, 2, 29, 23, 59, 59, 999999)", "DATETIME(6)"),
    ("datetime.time(23, 59, 59, 1)", "TIME(6)"),
]  # fmt: skip


TABLES = ROOT / "actors" / "database" / "VALUES.md"
GUIDE = TABLES.with_name("GUIDE.md")
NAMES = """
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from ipaddress import IPv4Address
from math import inf, nan
from uuid import UUID
utc, zone = timezone.utc, timezone(timedelta(hours=2))
"""


def table(title: str) -> list[tuple[str, str]]:
    """That column of VALUES.md: values, and what is said of them."""
    rows: list[tuple[str, str]] = []
    titles: list[str] = []
    for line in TABLES.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if cells[:1] == ["value"]:
            titles = cells
        elif title in titles and cells and cells[0].startswith("`"):
            rows.append((cells[0].strip("`"), cells[titles.index(title)]))
    return rows


def example(name: str) -> str:
    """The block of GUIDE.md that defines this function."""
    for part in GUIDE.read_text(encoding="utf-8").split("```python\n")[1:]:
        code = part.partition("```")[0]
        if f"async def {name}(" in code:
            return code
    raise AssertionError(f"GUIDE.md has no {name}()")


def differs(value: str, want: str, way: str) -> str:
    """The body of a scene's function: whether `way` makes `got` of `value` as VALUES.md says it; returns what is wrong with it."""
    lines = textwrap.indent(way, "    ")
    right = value if want == "=" else want.strip("`")
    expected = "None" if want.endswith("Error") else right
    return NAMES + f"""
try:
    value = {value}
{lines}
except Exception as error:
    return "" if type(error).__name__ == {right!r} else f"{{type(error).__name__}}: {{error}}"
want = {expected}
return "" if {not want.endswith("Error")} and repr(got) == repr(want) and type(got) is type(want) else repr(got)
"""


class Sql(servers.Served):
    """What holds for every SQL database; without a kind: SQLite."""

    title = ""  # in VALUES.md
    types: dict[str, str] = {}
    slow = ""  # takes a minute, if it is not stopped
    refused: tuple[str, ...] = ()  # outside of a transaction
    one_placeholder: tuple[tuple[str, Any], ...] = ()  # a statement that takes one value, and what comes of 7
    keeps: tuple[tuple[str, str], ...] = ()  # a statement that stays, and a query whose end shows it

    async def scene_with(self: DatabaseCase, options: str = "") -> Scene:
        where = url(self.database) if self.kind else 'url: "sqlite://./test.db"'
        scene = await self.begin_scene({"db@main": where + options})
        await scene.do("kept['db'] = await redrabbit.database('db@main')\nglobals()['db'] = kept['db']")
        return scene

    async def table(self, scene: Scene, columns: str) -> None:
        await scene.do(f"await db.query('DROP TABLE IF EXISTS t')\nawait db.query('CREATE TABLE t ({columns})')")

    async def test_values(self) -> None:
        scene = await self.scene_with()
        for number, (value, type_) in enumerate(VALUES):
            if self.types.get(type_) == "":
                continue
            with self.subTest(value=value, type=type_):
                got = await scene.do(f"""
                    await db.query("CREATE TABLE v{number} (x {self.types.get(type_, type_)})")
                    want = {value}
                    await db.query("INSERT INTO v{number} VALUES (?)", [want])
                    got = await db.value("SELECT x FROM v{number}")
                    return [type(got) is type(want) and got == want, repr(got)[:200]]""")
                self.assertTrue(got[0], f"{number}: {got[1]}")

    async def test_what_is_told_of_values(self) -> None:
        """Each cell of VALUES.md."""
        scene = await self.scene_with()
        rows = table(self.title)
        self.assertGreater(len(rows), 30)
        for number, (value, cell) in enumerate(rows):
            type_, _, want = cell[1:].partition("` ")
            way = (f"await db.query('CREATE TABLE told{number} (x {type_})')\nawait db.query('INSERT INTO told{number} VALUES (?)', [value])\n"
                   f"got = await db.value('SELECT x FROM told{number}')") if type_ != "?" else "got = await db.value('SELECT ?', [value])"  # fmt: skip
            with self.subTest(value=value, cell=cell):
                self.assertEqual(await scene.do(differs(value, want, way)), "")

    async def test_the_guide(self) -> None:
        scene = await self.scene_with()
        await scene.do(f"import random\nglobals()['random'] = random\nexec({example('pay') + example('page')!r}, globals())")
        number = {"postgres": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "mariadb": "BIGINT AUTO_INCREMENT PRIMARY KEY"}
        self.assertEqual(await scene.do(f"""
            await db.query("CREATE TABLE purse (owner VARCHAR(20) PRIMARY KEY, coins INTEGER NOT NULL)")
            await db.batch("INSERT INTO purse VALUES (?, ?)", [["a", 50], ["b", 50], ["c", 0]])
            await db.query("CREATE TABLE message (id {number.get(self.kind, 'INTEGER PRIMARY KEY')}, room VARCHAR(9), who VARCHAR(9), text VARCHAR(99))")
            pays = [redrabbit.spawn(pay(*("ab" if n % 2 else "ba"), 1)) for n in range(40)]
            paid = [await task for task in pays]
            kept = [await pay("a", "c", 51), await pay("a", "c", 50), [list(row) for row in await db.query("SELECT * FROM purse ORDER BY owner")]]
            ids = [await say("hall", "bob", f"word {{n}}") for n in range(5)]
            first = await page("hall", count=2)
            second = await page("hall", first[-1]["id"], 2)
            lines = []
            await export("hall", lines.append)
            return [sum(paid), kept, [row["text"] for row in [*first, *second]], lines[4], [row[0] for row in await named(ids[1:3])] == ids[1:3], await named([])]
        """), [40, [False, True, [["a", 0], ["b", 50], ["c", 50]]], [f"word {n}" for n in (4, 3, 2, 1)], "bob: word 4\n", True, []])  # fmt: skip

    async def test_parameters(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER, name VARCHAR(100)")
        self.assertEqual(await scene.do("""
            await db.query("INSERT INTO t VALUES (:id, :name)", {"id": 1, "name": "a'b\\"?:x"})
            await db.query("INSERT INTO t VALUES (?, '?')", [2])
            result = await db.query("SELECT id, name FROM t WHERE id >= :least ORDER BY id -- :no ? \\n", {"least": 1})
            dicts = await db.query("SELECT id AS number FROM t WHERE id = ?", [2], rows=dict)
            return [list(result.columns), [list(row) for row in result], list(dicts), (await db.query("UPDATE t SET name = 'c'")).affected]
        """), [["id", "name"], [[1, "a'b\"?:x"], [2, "?"]], [{"number": 2}], 2])  # fmt: skip
        failed = await self.fails(scene, "DataError", "await db.query('SELECT ?', [1, 2])")
        self.assertFalse(failed.executed)

    async def test_what_is_no_placeholder(self) -> None:
        """Strings, names and comments are where the server sees them."""
        scene = await self.scene_with()
        for sql, want in self.one_placeholder:
            with self.subTest(sql=sql):
                self.assertEqual(await scene.do(f"return await db.value({sql!r}, [7])"), want)

    async def test_errors(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, name VARCHAR(10) NOT NULL")
        await scene.do("await db.query('INSERT INTO t VALUES (1, ?)', ['x'])")
        for kind, source in (
            ("DatabaseSyntaxError", "await db.query('SELEC 1')"),
            ("DatabaseSyntaxError", "await db.query('SELECT nothing FROM nowhere')"),
            ("IntegrityError", "await db.query('INSERT INTO t VALUES (1, ?)', ['y'])"),
            ("IntegrityError", "await db.query('INSERT INTO t VALUES (2, NULL)')"),
        ):
            failed = await self.fails(scene, kind, source)
            self.assertFalse(failed.executed, failed.text)
            self.assertTrue(failed.code or failed.state, failed.text)
            self.assertTrue(failed.sql and failed.sql in source, failed.sql)
        self.assertEqual(await scene.do("return await db.value('SELECT count(*) FROM t')"), 1)

    async def test_transactions(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY")
        self.assertEqual(await scene.do("""
            async with db.transaction() as tx:
                await tx.query("INSERT INTO t VALUES (1)")
                try:
                    async with tx.savepoint():
                        await tx.query("INSERT INTO t VALUES (2)")
                        raise KeyError
                except KeyError:
                    pass
                await tx.query("INSERT INTO t VALUES (3)")
            try:
                async with db.transaction(isolation="serializable") as tx:
                    await tx.query("INSERT INTO t VALUES (4)")
                    raise KeyError
            except KeyError:
                pass
            try:
                await db.batch("INSERT INTO t VALUES (?)", [[5], [6], [1]])
            except redrabbit.IntegrityError:
                pass
            many = await db.batch("INSERT INTO t VALUES (?)", [[n] for n in range(10, 1010)])
            return [many, [row[0] for row in await db.query("SELECT id FROM t WHERE id < 10 ORDER BY id")], await db.value("SELECT count(*) FROM t")]
        """), [1000, [1, 3], 1002])  # fmt: skip

    async def test_statements_that_stay_on_a_connection(self) -> None:
        """Refused on the pool; in a transaction they are carried out, and gone with it."""
        scene = await self.scene_with(", pool: 2")
        for sql in (*self.refused, "SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "BEGIN", "COMMIT"):
            with self.subTest(sql=sql):
                failed = await self.fails(scene, "DatabaseStateError", f"await db.query({sql!r})")
                self.assertIn("`async with db.transaction() as tx:`", failed.text)
                self.assertFalse(failed.executed)
        for statement, shows in self.keeps:
            with self.subTest(sql=statement):
                await self.fails(scene, "DatabaseStateError", f"await db.query({statement!r})")
                before, within, after = await scene.do(f"""
                    before = await ends(db.value({shows!r}))
                    async with db.transaction() as tx:
                        await tx.query({statement!r})
                        within = await ends(tx.value({shows!r}))
                    return [before, within, [await ends(db.value({shows!r})) for _ in range(8)]]""")
                self.assertNotEqual(within, before)
                self.assertEqual(after, [before] * 8)

    async def test_a_transaction_within_a_transaction(self) -> None:
        """A handler that holds all connections is told so at once; one that another handler waits for is waited for."""
        pool = 2 if self.kind else 1
        scene = await self.scene_with(f", pool: {pool}, acquire_timeout: 60s")
        failed = await self.fails(scene, "DatabaseStateError", """
            async with db.transaction(), contextlib.AsyncExitStack() as stack:
                for _ in range(4):
                    await stack.enter_async_context(db.transaction())""")  # fmt: skip
        self.assertIn("tx.savepoint()", failed.text)
        self.assertEqual(await scene.do("""
            async def other():
                async with db.transaction() as tx:
                    return await tx.value("SELECT 7")
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(""" + str(pool) + """):
                    await stack.enter_async_context(db.transaction())
                task = redrabbit.spawn(other())
                await redrabbit.sleep(0.05)  # it waits meanwhile
            async with db.transaction() as tx:
                pass
            async with db.transaction() as tx:
                pass
            return await task"""), 7)  # fmt: skip

    async def test_streams(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, pad VARCHAR(300)")
        self.assertEqual(await scene.do("""
            await db.batch("INSERT INTO t VALUES (?, ?)", [[n, "x" * 300] for n in range(5000)])
            count = total = 0
            async for id, pad in db.stream("SELECT id, pad FROM t"):
                count += 1
                total += id
            for _ in range(3):
                async for row in db.stream("SELECT id, pad FROM t ORDER BY id"):
                    if row[0] == 10:
                        break
            async with db.transaction() as tx:
                async for row in tx.stream("SELECT id FROM t WHERE id > ?", [4990]):
                    total -= row[0]
                for _ in range(20):  # the next part is under way, or here, or not asked for yet
                    async for row in tx.stream("SELECT id, pad FROM t"):
                        break
                after = await tx.value("SELECT 7")
                async for row in tx.stream("SELECT id, pad FROM t"):
                    break
            return [count, total, after, await db.value("SELECT 8")]
        """), [5000, sum(range(5000)) - sum(range(4991, 5000)), 7, 8])  # fmt: skip

    async def test_a_stream_that_outlives_its_transaction(self) -> None:
        """It has ended with it: to close or to forget it is nothing more."""
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, pad VARCHAR(300)")
        self.assertEqual(await scene.do("""
            import sys
            heard, before = [], sys.unraisablehook
            sys.unraisablehook = lambda what: heard.append(repr(what.exc_value))
            await db.batch("INSERT INTO t VALUES (?, ?)", [[n, "x" * 300] for n in range(5000)])
            async def begun():
                async with db.transaction() as tx:
                    rows = tx.stream("SELECT id, pad FROM t")
                    async for row in rows:
                        return rows
            rows = await begun()
            await rows.close()
            rows = await begun()
            del rows
            try:
                async for row in await begun():
                    pass
            except redrabbit.DatabaseStateError as error:
                heard.append(error.executed)
            sys.unraisablehook = before
            return [heard, await db.value("SELECT count(*) FROM t")]
        """), [[False], 5000])  # fmt: skip

    async def test_time_outs(self) -> None:
        scene = await self.scene_with(", pool: 1, acquire_timeout: 60s")
        took, then = await scene.do(f"""
            began = time.monotonic()
            try:
                await db.query({self.slow!r}, timeout=0.3)
            except redrabbit.DatabaseTimeout as error:
                took = time.monotonic() - began
            return [took, await db.value("SELECT 1", timeout=60)]""")
        self.assertEqual(then, 1)
        self.assertGreaterEqual(took, 0.29)
        self.assertLess(took, 50)

    async def test_a_query_within_a_stream(self) -> None:
        """With one connection it cannot have one: it is told so, and the stream goes on."""
        scene = await self.scene_with(", pool: 1, acquire_timeout: 200ms")
        await scene.do("while (await ends(db.value('SELECT 1')))[0] != 'ok':\n    pass")  # connected, which may take longer
        await self.table(scene, "id INTEGER PRIMARY KEY, pad VARCHAR(300)")
        self.assertEqual(await scene.do("""
            await db.batch("INSERT INTO t VALUES (?, ?)", [[n, "x" * 300] for n in range(5000)])
            count, within = 0, []
            async for row in db.stream("SELECT id, pad FROM t"):
                count += 1
                if count % 4999 == 1:
                    within.append(await ends(db.query("SELECT 1")))
            return [count, within[0], await db.value("SELECT 8")]
        """), [5000, ["DatabaseBusy", False], 8])  # fmt: skip

    async def test_order_by_key(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, log VARCHAR(2000)")
        got = await scene.do("""
            await db.query("INSERT INTO t VALUES (1, '')")
            how = "log || ?" if db.driver != "mysql" else "concat(log, ?)"
            waits = [db.query(f"UPDATE t SET log = {how} WHERE id = 1", [f"{n},"], key="player") for n in range(200)]
            others = [db.query("SELECT 1", key=n) for n in range(200)]
            for wait in waits + others:
                await wait
            return await db.value("SELECT log FROM t")""")
        self.assertEqual(got, "".join(f"{n}," for n in range(200)))


class Sqlite(Sql, DatabaseCase):
    title = "SQLite"
    # SQLite has its own five: the others are texts to it.
    types = {
        "DECIMAL(40,9)": "", "DATE": "", "DATETIME(6)": "", "TIME(6)": "",
    }  # fmt: skip
    one_placeholder = (
        ("SELECT [it's ?] + ? FROM (SELECT 1 AS [it's ?])", 8), ('SELECT "?" + ? FROM (SELECT 1 AS "?")', 8), ("SELECT 5--?\n + ?", 12),
        ("SELECT '[' || ? || ']'", "[7]"), ("SELECT ? -- ?\r + ?", 7),
    )  # fmt: skip
    slow = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1000000000) SELECT count(*) FROM c"

    async def test_a_transaction_within_a_transaction_with_asyncio(self) -> None:
        """There each task is a handler of its own."""
        scene = await self.begin_scene({"db@main": 'url: "sqlite://./test.db", acquire_timeout: 60s'}, scene="asyncio: true")
        await scene.do("globals()['db'] = await redrabbit.database('db@main')")
        await self.fails(scene, "DatabaseStateError", """
            async with db.transaction():
                async with db.transaction():
                    pass""")  # fmt: skip
        self.assertEqual(await scene.do("""
            import asyncio
            async def other():
                async with db.transaction() as tx:
                    return await tx.value("SELECT 7")
            async with db.transaction() as tx:
                tasks = [asyncio.create_task(other()), redrabbit.spawn(other())]
                await asyncio.sleep(0.05)  # they wait meanwhile
                async with tx.savepoint():
                    pass
            return [await task for task in tasks]"""), [7, 7])  # fmt: skip


class Mysql(Sql, DatabaseCase):
    kind = "mariadb"
    title = "MariaDB"
    types = {"TEXT": "MEDIUMTEXT", "DOUBLE PRECISION": "DOUBLE", "TIME(6)": ""}  # its TIME is a length of time
    slow = "SELECT sleep(60)"
    one_placeholder = (
        ("SELECT 5--?", 12), ("SELECT 5-- ?\n + ?", 12), ("SELECT 5--\t?\n + ?", 12), ("SELECT ? --", 7), ("SELECT 5 # ?\n + ?", 12),
        ("SELECT '\\'?', `?` + ? FROM (SELECT 1 AS `?`) AS t", "'?"), ("SELECT ? -- ?\r + ?", 7),
    )  # fmt: skip
    refused = (
        "SET autocommit = 0", "XA START 'a'", "SET SESSION sql_mode = ''", "SET NAMES latin1", "USE test", "LOCK TABLES t WRITE",
        "CREATE TEMPORARY TABLE gone (id INT)",
    )  # fmt: skip
    keeps = (
        ("SET SESSION sql_mode = 'ANSI'", "SELECT @@sql_mode"), ("SET @a = 1, sql_mode = 'ANSI'", "SELECT @@sql_mode"),
        ("EXECUTE IMMEDIATE 'SET sql_mode = ANSI'", "SELECT @@sql_mode"), ("/*!50000 SET sql_mode = 'ANSI' */", "SELECT @@sql_mode"),
        ("SET STATEMENT max_statement_time = 9 FOR SET sql_mode = 'ANSI'", "SELECT @@sql_mode"),
        ("CREATE TEMPORARY TABLE gone AS SELECT 1 AS id", "SELECT id FROM gone"),
    )  # fmt: skip

    async def test_its_own(self) -> None:
        scene = await self.scene_with()
        self.assertEqual(await scene.do("""
            await db.query("DROP TABLE IF EXISTS own")
            await db.query("CREATE TABLE own (id INT AUTO_INCREMENT PRIMARY KEY, big BIGINT UNSIGNED, span TIME, flag BOOL, doc JSON)")
            result = await db.query("INSERT INTO own (big, span, flag, doc) VALUES (?, ?, ?, ?)", [2**64 - 1, datetime.timedelta(hours=-30), True, {"a": [1, None]}])
            row = await db.one("SELECT big, span, flag, doc FROM own")
            return [result.last_id, row[0] == 2**64 - 1, row[1] == datetime.timedelta(hours=-30), row[2], row[3]]
        """), [1, True, True, 1, '{"a": [1, null]}'])  # fmt: skip

    async def test_a_statement_that_commits(self) -> None:
        """Nobody is told that it was rolled back."""
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER")
        for how in ("await tx.commit()", "await tx.rollback()"):
            failed = await self.fails(scene, "DatabaseStateError", f"""
                await db.query("DROP TABLE IF EXISTS other")
                async with db.transaction() as tx:
                    await tx.query("INSERT INTO t VALUES (1)")
                    await tx.query("CREATE TABLE other (id INTEGER)")
                    {how}""")  # fmt: skip
            self.assertIn("is committed", failed.text)
            self.assertTrue(failed.executed)
        failed = await self.fails(scene, "KeyError", """
            async with db.transaction() as tx:
                await tx.query("INSERT INTO t VALUES (1)")
                await tx.query("DROP TABLE other")
                kept["after"] = await ends(tx.query("SELECT 1"))
                kept["error"] = KeyError("it")
                raise kept["error"]""")  # fmt: skip
        self.assertEqual(await scene.do("return [kept['error'].__notes__[0][:36], kept['after'], await db.value('SELECT count(*) FROM t')]"),
                         ["The transaction was not rolled back:", ["DatabaseStateError", False], 3])  # fmt: skip

    async def test_batches(self) -> None:
        """Many lists go in a message, and come to what they come to one by one."""
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, name VARCHAR(20), at DATETIME(6), size DOUBLE, bytes BLOB, span TIME(6), "
                                "day DATE, big BIGINT UNSIGNED")  # fmt: skip
        self.assertEqual(await scene.do("""
            async def messages():
                return int((await db.query("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'"))[0][1])
            rows = [(n, None if n % 3 else f"n{n}", datetime.datetime(2026, 11, 30, 1, 2, 3, n), n / 8, bytes([n % 256]) * (n % 40),
                     datetime.timedelta(seconds=n, microseconds=1), datetime.date(2026, 1, 1 + n % 28), 2**63 + n) for n in range(3000)]
            before = await messages()
            inserted = await db.batch("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            few = await messages() - before < 30
            return [inserted, few, [tuple(row) for row in await db.query("SELECT * FROM t ORDER BY id")] == rows]
        """), [3000, True, True])  # fmt: skip
        for sql, lists, want in (
            ("UPDATE t SET size = ? WHERE id >= ?", "[[-1, 2990], [-2, 2995]]", 15),
            ("DELETE FROM t WHERE id = ?", "[[2990], [2991], [9999]]", 2),
            ("INSERT INTO t (id) VALUES (?) ON DUPLICATE KEY UPDATE size = -3", "[[1], [5000], [2]]", 5),
            ("INSERT IGNORE INTO t (id, name) VALUES (:id, :name)", "[{'id': n, 'name': None} for n in range(4998, 5005)]", 6),
            ("INSERT INTO t (id, name) VALUES (?, ?)", "[[6000, 1], [6001, 'a'], [6002, None], [6003, 2.5], [6004, 3]]", 5),
            ("INSERT INTO t (id, bytes) VALUES (?, ?)", "[[n, b'x' * 60000] for n in range(7000, 7020)]", 20),
            ("SET @kept = ?", "[[1], [2], [3]]", 0),
        ):
            with self.subTest(sql=sql):
                self.assertEqual(await scene.do(f"return await db.batch({sql!r}, {lists})"), want)
        self.assertEqual(await scene.do("""
            return [row[0] for row in await db.query("SELECT name FROM t WHERE id BETWEEN 6000 AND 6004 ORDER BY id")]
        """), ["1", "a", None, "2.5", "3"])  # fmt: skip

    async def test_procedures(self) -> None:
        """The answer is the first result; what comes behind it is gone, and the connection is in step."""
        scene = await self.scene_with(", pool: 1, result: 1MiB")
        self.assertEqual(await scene.do("""
            for name in ("two", "none", "late", "big"):
                await db.query(f"DROP PROCEDURE IF EXISTS {name}")
            await db.query("CREATE PROCEDURE two(n INT) BEGIN SELECT n, 'a' AS word UNION SELECT n + 1, 'b'; SELECT 1, 2, 3; SELECT n FROM seq_1_to_5000; END")
            await db.query("CREATE PROCEDURE none(n INT) BEGIN SET @kept = n; END")
            await db.query("CREATE PROCEDURE late(n INT) BEGIN SELECT n; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'too late'; END")
            await db.query("CREATE PROCEDURE big() BEGIN SELECT 1; SELECT repeat('x', 1000) FROM seq_1_to_5000; SELECT 2; END")
            got = []
            for _ in range(2):
                first, second = await db.query("CALL two(5)"), await db.query("CALL two(?)", [7])
                got += [list(first.columns), [list(row) for row in first], [list(row) for row in second]]
                got += [[list(row) for row in await db.query("CALL none(?)", [3])], await db.value("SELECT @kept")]
                got += [[list(row) async for row in db.stream("CALL two(1)")]]
                got += [(await ends(db.query(f"CALL late({how})", *values))) for how, values in (("1", []), ("?", [[1]]))]
                got += [await db.value("CALL big()"), await db.batch("CALL two(?)", [[1], [2]]), await db.value("SELECT ?", [9])]
                async for row in db.stream("CALL two(1)"):
                    break
            return got
        """, 60), [["n", "word"], [[5, "a"], [6, "b"]], [[7, "a"], [8, "b"]], [], 3, [[1, "a"], [2, "b"]],
              ["DatabaseError", False], ["DatabaseError", False], 1, 0, 9] * 2)  # fmt: skip

    async def test_what_is_no_utf8(self) -> None:
        """Texts come as texts whatever their column's character set is, bytes as bytes; what is no text is not made one."""
        scene = await self.scene_with()
        await self.table(scene, "id INT, word VARCHAR(20) CHARACTER SET latin1, raw VARBINARY(20), text_ VARCHAR(20) CHARACTER SET utf8mb4")
        self.assertEqual(await scene.do("""
            await db.query("INSERT INTO t VALUES (1, x'e9', x'ff00', 'é')")
            await db.query("INSERT INTO t VALUES (2, ?, ?, ?)", ["é", bytes([255, 0]), "🐇"])
            got = [[word, list(raw), text] for sql, values in (("SELECT word, raw, text_ FROM t ORDER BY id", []), ("SELECT word, raw, text_ FROM t WHERE id < ? ORDER BY id", [[3]]))
                   for word, raw, text in await db.query(sql, *values)]
            wrong = [await ends(db.query("INSERT INTO t (text_) VALUES (?)", [bytes([255, 254])])), await ends(db.query("SELECT _utf8mb4 x'ff'")),
                     await ends(db.query("INSERT INTO t (word) VALUES (?)", ["🐇"]))]
            return [got, wrong, await db.value("SELECT count(*) FROM t")]
        """), [[["é", [255, 0], "é"], ["é", [255, 0], "🐇"]] * 2, [["DataError", False]] * 3, 2])  # fmt: skip

    async def test_a_kill_that_comes_late(self) -> None:
        """KILL QUERY may reach the server when the query has just ended: the next one on the connection is not hit."""
        scene = await self.scene_with(", pool: 1")
        ended, hit, wrong = await scene.do("""
            ended = hit = 0
            wrong = []
            for n in range(60):
                try:
                    await db.query("SELECT sleep(?)", [0.02 + n % 6 / 1000], timeout=0.02)
                    ended += 1
                except redrabbit.DatabaseTimeout:
                    hit += 1
                try:
                    if await db.value("SELECT ?", [n]) != n:
                        wrong.append(n)
                except redrabbit.DatabaseError as error:
                    wrong.append(str(error))
            return [ended, hit, wrong]""")
        self.assertEqual(wrong, [])
        self.assertEqual(ended + hit, 60)
        self.assertGreater(hit, 0)

    async def test_a_batch_that_fails(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY, name VARCHAR(5)")
        lists = "[[n % 2999, 'x'] for n in range(3000)]"
        failed = await self.fails(scene, "IntegrityError", f"await db.batch('INSERT INTO t VALUES (?, ?)', {lists})")
        self.assertFalse(failed.executed)
        await self.fails(scene, "DataError", "await db.batch('INSERT INTO t VALUES (?, ?)', [[1, 'x'], [2, 'too long']])")
        self.assertEqual(await scene.do("""
            kept = [await db.value("SELECT count(*) FROM t")]
            async with db.transaction() as tx:
                kept.append(await tx.batch("INSERT INTO t VALUES (?, ?)", [[1, "a"], [2, "b"]]))
                try:
                    async with tx.savepoint():
                        await tx.batch("INSERT INTO t VALUES (?, ?)", [[3, "c"], [4, "d"], [1, "a"]])
                except redrabbit.IntegrityError:
                    kept.append("again")
                await tx.query("INSERT INTO t VALUES (?, ?)", [5, "e"])
            return kept + [[row[0] for row in await db.query("SELECT id FROM t ORDER BY id")]]
        """), [0, 2, "again", [1, 2, 5]])  # fmt: skip


class Postgres(Sql, DatabaseCase):
    kind = "postgres"
    title = "PostgreSQL"
    types = {"BLOB": "BYTEA", "DATETIME(6)": "TIMESTAMP"}
    slow = "SELECT pg_sleep(60)"
    one_placeholder = (
        ("SELECT 5--?\n + ?::int", 12), ("SELECT ?::int -- ?\r + 5", 12), ("SELECT (ARRAY[5, ?::int])[2]", 7), ("SELECT E'\\'?' || ?::text", "'?7"),
        ("SELECT $a$?'$a$ || ?::text", "?'7"), ("SELECT 1 /* ? /* ? */ ? */ + ?::int", 8),
    )  # fmt: skip
    refused = (
        "SET search_path = other", "SET LOCAL search_path = other", "SET TRANSACTION READ ONLY", "PREPARE TRANSACTION 'a'",
        "CREATE TEMP TABLE gone (id INT)", "LISTEN a", "DEALLOCATE ALL", "DISCARD ALL",
    )  # fmt: skip
    keeps = (
        ("SET search_path = other", "SHOW search_path"), ("DECLARE gone CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors"),
        ("SELECT 1 AS id INTO TEMP gone", "SELECT id FROM gone"), ("CREATE TABLE pg_temp.gone AS SELECT 1 AS id", "SELECT id FROM gone"),
        ("CREATE TEMP TABLE gone AS SELECT 1 AS id", "SELECT id FROM gone"),
        ("WITH one AS (SELECT 1 AS id) SELECT id INTO pg_temp.gone FROM one", "SELECT id FROM gone"),
    )  # fmt: skip

    async def test_its_own(self) -> None:
        scene = await self.scene_with()
        self.assertTrue(await scene.do("""
            zone = datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))
            want = [True, {"a": [1, None, "é"]}, uuid.UUID(int=5), datetime.datetime(2024, 1, 2, 3, 4, 5, 6, zone),
                    datetime.timedelta(days=-3, microseconds=1), decimal.Decimal("NaN"), math.inf, 2**40, 2**64 - 1]
            got = await db.one("SELECT ?, ?::jsonb, ?, ?, ?, ?, ?, ?, ?", want)
            assert str(got[5]) == "NaN", got
            assert [got[n] for n in (0, 1, 2, 3, 4, 6, 7, 8)] == [want[n] for n in (0, 1, 2, 3, 4, 6, 7, 8)], got
            assert await db.value("SELECT $1::int + $2::int", [1, 2]) == 3
            assert await db.value("SELECT '{\\"a\\": 1}'::jsonb ?? 'a'") is True
            assert [type(x).__name__ for x in await db.one("SELECT 1::int2, 1.5::float4, '10.0.0.1'::inet, 'infinity'::date, ARRAY[1, 2], ARRAY['10.0.0.1'::inet]")] == ["int", "float", "str", "str", "list", "str"]
            return True
        """))  # fmt: skip

    async def test_what_to_write_instead(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "n INTEGER[]")
        for kind, source, word in (
            ("DatabaseSyntaxError", "SELECT 1 WHERE ? IS NULL", "?::text"), ("DataError", "INSERT INTO t VALUES (?)", "'{1,2}'"),
            ("DataError", "DELETE FROM t WHERE 1 IN (?)", "= ANY(?)"),
        ):  # fmt: skip
            failed = await self.fails(scene, kind, f"await db.query({source!r}, [{'None' if 'NULL' in source else '[1, 2]'}])")
            self.assertIn(word, failed.text)

    async def test_arrays(self) -> None:
        scene = await self.scene_with(", pool: 1")
        self.assertTrue(await scene.do("""
            zone = datetime.timezone.utc
            words = ["a", 'b,"c"', None, "", "NULL", "\\\\ \\n{é}"]
            row = await db.one('''SELECT ARRAY[1, NULL, -3]::int2[], ARRAY[[1, 2], [3, 4]], ARRAY[2^40]::int8[], ARRAY[0.5]::float4[],
                ARRAY[1e300]::float8[], ARRAY[?, ?, ?, ?, ?, ?]::text[], ARRAY['x']::varchar[], ARRAY[true, false], ARRAY[1.50],
                ARRAY['00000000-0000-0000-0000-000000000005']::uuid[], ARRAY['2024-02-29 01:02:03.5']::timestamp[],
                ARRAY['2024-02-29 01:02:03+00']::timestamptz[], ARRAY['2024-02-29']::date[], ARRAY[decode('00ff5c22', 'hex')],
                ARRAY['{"a": [1, "}"]}']::jsonb[], ARRAY[]::text[], '[5:6]={1,2}'::int[]''', words)
            want = ([1, None, -3], [[1, 2], [3, 4]], [2**40], [0.5], [1e300], words, ["x"], [True, False],
                    [decimal.Decimal("1.50")], [uuid.UUID(int=5)], [datetime.datetime(2024, 2, 29, 1, 2, 3, 500000)],
                    [datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=zone)], [datetime.date(2024, 2, 29)], [bytes.fromhex("00ff5c22")],
                    [{"a": [1, "}"]}], [], [1, 2])
            for got, wanted in zip(row, want, strict=True):
                assert got == wanted and type(got) is list, (got, wanted)
            assert await db.value("SELECT count(*) FROM generate_series(1, 9) AS n WHERE n = ANY(?)", ["{2,3,77}"]) == 2
            return True
        """))  # fmt: skip

    async def test_a_stream_that_is_broken_off(self) -> None:
        """A rest that comes within a moment is read; a longer one is stopped on the server, which takes a login."""
        scene = await self.scene_with(", pool: 1")
        logins = await scene.do("""
            async def logins(least=0):
                while (seen := await db.value("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")) < least:
                    await redrabbit.sleep(0.01)  # a server's process counts itself when it goes
                return seen
            async def broken_off(size, times):
                for _ in range(times):
                    async for row in db.stream("SELECT repeat('x', 1000), generate_series(1, ?::bigint)", [size]):
                        break
                    assert await db.value("SELECT 7") == 7
            before = await logins()
            await broken_off(10**12, 3)
            between = await logins(before + 3)
            await broken_off(100, 100)
            await broken_off(10**12, 1)
            return await logins(between + 1) - between - 1""")
        self.assertLess(logins, 100)  # so many, if each is stopped; on a busy machine some are

    async def test_a_commit_that_was_a_rollback(self) -> None:
        scene = await self.scene_with()
        await self.table(scene, "id INTEGER PRIMARY KEY")
        await self.fails(scene, "DatabaseStateError", """
            async with db.transaction() as tx:
                await tx.query("INSERT INTO t VALUES (1)")
                try:
                    await tx.query("INSERT INTO t VALUES (1)")
                except redrabbit.IntegrityError:
                    pass""")  # fmt: skip
        self.assertEqual(await scene.do("return await db.value('SELECT count(*) FROM t')"), 0)

    async def test_a_table_that_changes(self) -> None:
        """Prepared statements whose result changes fail once, and then go on."""
        scene = await self.scene_with(", pool: 1")
        await self.table(scene, "id INTEGER PRIMARY KEY")
        got = await scene.do("""
            for _ in range(3):
                await db.query("SELECT * FROM t")
            await db.query("ALTER TABLE t ADD COLUMN more TEXT")
            return [(await ends(db.query("SELECT * FROM t")))[0], list((await db.query("SELECT * FROM t")).columns),
                    await db.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$") and 0, (await ends(db.query("SELECT * FROM t")))[0], (await ends(db.query("SELECT * FROM t")))[0]]
        """)
        self.assertEqual(got[1], ["id", "more"])
        self.assertEqual(got[4], "ok")


@unittest.skipUnless(shutil.which("openssl"), "openssl is not installed")
class Tls(DatabaseCase):
    """What the URL asks for is what the connection is; a server that cannot is no server."""

    @contextlib.contextmanager
    def server_with_tls(self, kind: type[servers.Server], *names: str) -> Iterator[servers.Server]:
        with servers.serve(kind, start=False) as server:
            key, certificate = server.folder / "key.pem", server.folder / "certificate.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                 "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
                check=True, capture_output=True)  # fmt: skip
            key.chmod(0o600)
            for file in (key, certificate):
                servers.own(kind, file)
            server.options = tuple(name.format(key=key, certificate=certificate) for name in names)
            server.start()
            yield server

    def authority(self, name: str) -> tuple[pathlib.Path, Callable[[servers.Server, str], tuple[pathlib.Path, pathlib.Path]]]:
        """A scratch CA's certificate, and what signs a server's for a name: its key and certificate."""
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.folder)

        openssl("req", "-x509", *curve, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")

        def sign(server: servers.Server, host: str) -> tuple[pathlib.Path, pathlib.Path]:
            self.write("names", f"subjectAltName={host}")
            key, certificate = server.folder / "key.pem", server.folder / "certificate.pem"
            openssl("req", *curve, "-subj", "/CN=a server", "-keyout", str(key), "-out", "request.pem")
            openssl("x509", "-req", "-in", "request.pem", "-CA", f"{name}.pem", "-CAkey", f"{name}.key", "-CAcreateserial", "-days", "2",
                    "-extfile", "names", "-out", str(certificate))  # fmt: skip
            key.chmod(0o600)
            for file in (key, certificate):
                servers.own(type(server), file)
            return key, certificate

        return self.folder / f"{name}.pem", sign

    async def verified(self, kind: type[servers.Server], options: Callable[[pathlib.Path, pathlib.Path], tuple[str, ...]],
                       verify: Callable[[pathlib.Path], str], slow: str) -> None:  # fmt: skip
        """The right CA and name; the right CA and another name; another CA; no CA."""
        ours, sign = self.authority("ours")
        other, _ = self.authority("other")
        with servers.serve(kind, start=False) as server:
            server.options = options(*sign(server, "DNS:localhost"))
            server.start()
            named = server.url.replace("127.0.0.1", "localhost")
            few = ", pool: 2, acquire_timeout: 500ms"
            scene = await self.begin_scene({
                "db@good": f'url: "{named}?{verify(ours)}"', "db@name": f'url: "{server.url}?{verify(ours)}"{few}',
                "db@other": f'url: "{named}?{verify(other)}"{few}', "db@none": f'url: "{named}?{verify(self.folder / "none.pem")}"{few}',
            })  # fmt: skip
            self.assertEqual(await scene.do("db = await redrabbit.database('db@good')\nreturn await db.value('SELECT 5')"), 5)
            for name, word in (("db@name", "host|certificate"), ("db@other", "certificate|verif"), ("db@none", "none.pem|certificate|No such file")):
                failed = await self.refused(scene, f"db = await redrabbit.database({name!r})\nawait db.query('SELECT 1')")
                self.assertRegex(failed.text, f"(?i){word}")
                self.assertFalse(failed.executed)
            await self.fails(scene, "DatabaseTimeout", f"db = await redrabbit.database('db@good')\nawait db.query({slow!r}, timeout=0.3)")
            server.kill()
            server.start()
            self.assertEqual(await scene.do("""
                db = await redrabbit.database("db@good")
                while (await ends(db.value("SELECT 6")))[0] != "ok":
                    await redrabbit.sleep(0.02)
                return [await wait for wait in [db.value("SELECT 1 + ?", [n]) for n in range(20)]]"""), list(range(1, 21)))

    async def test_a_certificate_that_is_looked_at_mariadb(self) -> None:
        await self.verified(servers.Mariadb, lambda key, certificate: (f"--ssl-key={key}", f"--ssl-cert={certificate}"),
                            lambda ca: f"tls=verify&ca={ca}", "SELECT sleep(10)")  # fmt: skip

    async def test_a_certificate_that_is_looked_at_postgres(self) -> None:
        await self.verified(servers.Postgres, lambda key, certificate: ("-c", "ssl=on", "-c", f"ssl_key_file={key}", "-c", f"ssl_cert_file={certificate}"),
                            lambda ca: f"sslmode=verify-full&sslrootcert={ca}", "SELECT pg_sleep(10)")  # fmt: skip

    async def value(self, scene: Scene, name: str, sql: str) -> list[Any]:
        return await scene.do(f"db = await redrabbit.database({name!r})\nreturn await ends(db.one({sql!r}))")

    async def test_mariadb(self) -> None:
        with self.server_with_tls(servers.Mariadb, "--ssl-key={key}", "--ssl-cert={certificate}") as server, servers.mariadb() as bare:
            scene = await self.begin_scene({
                "db@tls": f'url: "{server.url}?tls=require"', "db@off": f'url: "{server.url}?tls=off"',
                "db@bare": f'url: "{bare.url}?tls=require", acquire_timeout: 300ms',
            })  # fmt: skip
            cipher = "SHOW SESSION STATUS LIKE 'Ssl_cipher'"
            self.assertRegex((await self.value(scene, "db@tls", cipher))[1][1], "^TLS_|AES|CHACHA")
            self.assertEqual(await self.value(scene, "db@off", cipher), ["ok", ["Ssl_cipher", ""]])
            await self.refused(scene, "db = await redrabbit.database('db@bare')\nawait db.query('SELECT 1')")

    async def test_postgres(self) -> None:
        options = ("-c", "ssl=on", "-c", "ssl_key_file={key}", "-c", "ssl_cert_file={certificate}")
        with self.server_with_tls(servers.Postgres, *options) as server, servers.postgres() as bare:
            mine = server.folder / "certificate.pem"
            scene = await self.begin_scene({
                "db@tls": f'url: "{server.url}?sslmode=verify-ca&sslrootcert={mine}"', "db@off": f'url: "{server.url}?sslmode=disable"',
                "db@bare": f'url: "{bare.url}?sslmode=require", acquire_timeout: 300ms',
                "db@other": f'url: "{server.url}?sslmode=verify-ca&sslrootcert=/dev/null", acquire_timeout: 300ms',
            })  # fmt: skip
            ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            self.assertEqual(await self.value(scene, "db@tls", ssl), ["ok", [True]])
            self.assertEqual(await self.value(scene, "db@off", ssl), ["ok", [False]])
            for name in ("db@bare", "db@other"):
                await self.refused(scene, f"db = await redrabbit.database({name!r})\nawait db.query('SELECT 1')")


def slice_ns(thread: int) -> int:
    """The time slice that a thread has asked the kernel for, or has; 0: the kernel tells of none."""
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]  # sched_getattr
    told = ctypes.create_string_buffer(48)
    done = ctypes.CDLL(None).syscall(number, thread, told, len(told), 0) == 0
    return struct.unpack_from("<IIQiIQ", told.raw)[5] if done else 0


class Slices(DatabaseCase):
    """Beside a database the loops of gates and scenes have short time slices, the databases' own has long ones; without one the usual."""

    def slices(self, name: str) -> set[int]:
        """Of the threads of this name: a loop has more than one, of which one drives it."""
        slices = set()
        for folder in pathlib.Path(f"/proc/{self.server.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                if (folder / "comm").read_text().strip() == name:
                    slices.add(slice_ns(int(folder.name)))
        return slices

    async def test_short_and_long(self) -> None:
        usual = slice_ns(0)
        if not usual:
            self.skipTest("the kernel tells of no slices")
        scene = await self.begin_scene({})
        self.assertEqual(self.slices("loop/0"), {usual})
        await scene.do("await redrabbit.database('sqlite://:memory:')")
        await self.until(lambda: 20_000_000 in self.slices("db"), "the databases' loop has long slices", 20)
        await self.until(lambda: 100_000 in self.slices("loop/0"), "the gate's loop has short ones", 20)


class RedisTest(servers.Served, DatabaseCase):
    kind = "redis"

    async def scene_with(self, options: str = "") -> Scene:
        scene = await self.begin_scene({"redis@0": url(self.database) + options})
        await scene.do("globals()['r'] = await redrabbit.redis('redis@0')")
        return scene

    async def test_what_is_told_of_values(self) -> None:
        scene = await self.scene_with()
        rows = table("Redis")
        self.assertGreater(len(rows), 10)
        for value, want in rows:
            with self.subTest(value=value):
                self.assertEqual(await scene.do(differs(value, want, "await r.set('told', value)\ngot = await r.get('told')")), "")

    async def test_the_guide(self) -> None:
        scene = await self.scene_with()
        await scene.do(f"globals()['redis'] = r\nexec({example('online')!r}, globals())")
        self.assertEqual(await scene.do("""
            heard = []
            await listen(heard)
            for who in ("bob", "al", "bob"):
                await online(who)
            while len(heard) < 2:
                await redrabbit.sleep(0.01)
            return [heard, await everybody(), await redis.ttl("online:bob") > 20]
        """), [["bob is here", "al is here"], ["al", "bob"], True])  # fmt: skip

    async def test_names_of_other_libraries(self) -> None:
        scene = await self.scene_with()
        for name, word in (("keys", "redis.scan(pattern)"), ("setex", "ex=seconds"), ("pubsub", "redis.subscribe"), ("execute_command", "redis.command"), ("x", "")):
            failed = await self.fails(scene, "AttributeError", f"r.{name}")
            self.assertTrue(failed.text.startswith(f"a Redis has no {name!r}") and word in failed.text, failed.text)

    async def test_commands(self) -> None:
        scene = await self.scene_with()
        self.assertEqual(await scene.do("""
            await r.set("k", "vä\\r\\nlue")
            await r.raw.set("b", bytes(range(256)))
            numbers = [r.incr("n") for _ in range(1000)]
            numbers = [await number for number in numbers]
            async with r.pipeline(atomic=True) as pipe:
                pipe.incr("n")
                pipe.get("n")
            wrong = await ends(r.incr("k"))
            await r.set("big", "y" * 5_000_000)
            return [await r.get("k"), (await r.raw.get("b")) == bytes(range(256)), await r.get("none"), numbers == list(range(1, 1001)),
                    pipe.results, wrong, len(await r.get("big")), await r.command("ECHO", "x"), r.version.split(".")[0].isdigit()]
        """), ["vä\r\nlue", True, None, True, [1001, "1001"], ["DataError", False], 5_000_000, "x", True])  # fmt: skip
        for command in ("'BLPOP', 'x', 0", "'MULTI'", "'SELECT', 3", "'CLIENT', 'REPLY', 'OFF'", "'XREAD', 'BLOCK', 0, 'STREAMS', 'x', '$'"):
            failed = await self.fails(scene, "DatabaseStateError", f"await r.command({command})")
            self.assertFalse(failed.executed)
        self.assertEqual(await scene.do("return await r.get('n')"), "1001")

    async def test_events(self) -> None:
        scene = await self.scene_with()
        self.assertEqual(await scene.do("""
            heard, done = [], redrabbit.Future() if hasattr(redrabbit, "Future") else None
            def on_news(channel, message):
                heard.append([channel, message])
            first = await r.subscribe("news", "weather", on_news)
            second = await r.psubscribe("n*", on_news)
            await r.publish("news", "one")
            await r.publish("weather", "rain")
            while len(heard) < 3:
                await redrabbit.sleep(0.01)
            await second.unsubscribe()
            await r.publish("news", "two")
            while len(heard) < 4:
                await redrabbit.sleep(0.01)
            await first.unsubscribe()
            return [sorted(heard[:3]), heard[3:], await r.publish("news", "three")]
        """), [[["news", "one"], ["news", "one"], ["weather", "rain"]], [["news", "two"]], 0])  # fmt: skip

    async def test_events_go_on_after_a_restart(self) -> None:
        scene = await self.scene_with()
        await scene.do("""
            kept["heard"] = []
            kept["news"] = await r.subscribe("news", lambda channel, message: kept["heard"].append(message))""")
        self.database.kill()
        self.database.start()
        self.assertTrue(await scene.do("""
            for n in range(1000):
                try:
                    await r.publish("news", str(n))
                except redrabbit.DatabaseError:
                    pass
                if kept["heard"]:
                    break
                await redrabbit.sleep(0.02)
            return kept["heard"] and kept["news"].lost >= 1"""))


if __name__ == "__main__":
    unittest.main()
