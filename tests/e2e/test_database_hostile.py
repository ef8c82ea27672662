"""Databases whose server is none, or a hostile one: garbage, halves, drips, too much, nothing, ends in the middle.

Whatever it says: each query ends in time and in an error that says what is wrong and never the password, the server is not
hammered with connections, the log stays short, and the other databases of the process go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
import unittest
from collections.abc import Awaitable, Callable

import servers
from databases import DatabaseCase, Scene
from harness import SLOW

PASSWORD = "s3cret-w0rd"
ALLOWED = {"DatabaseTimeout", "DatabaseConnectionError", "DatabaseBusy", "DatabaseAuthError", "DatabaseStateError", "DatabaseError"}
CONNECTS = 200  # a back-off from 100 ms on makes some dozens, more on a slow machine; without one there are thousands

Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection to a fake server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> bytes:
        data = await self.reader.read(65536)
        if not data:
            raise ConnectionError
        return data

    async def drip(self, data: bytes, pause: float = 0.05) -> None:
        for n in range(len(data)):
            self.say(data[n : n + 1])
            await asyncio.sleep(pause)

    async def flood(self, data: bytes) -> None:
        while True:
            self.say(data)
            await self.writer.drain()

    async def silence(self) -> None:
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        made = self.writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Fake:
    """A server on a free port that talks like this to everybody, and counts them."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.connects = 0
        self.heard = b""
        self._peers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._on_peer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _on_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects += 1
        self._peers.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.talk(Peer(reader, writer))
        except asyncio.CancelledError:
            pass
        finally:
            self._peers.discard(asyncio.current_task())  # type: ignore[arg-type]
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for peer in list(self._peers):
            peer.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)


class Hostile(DatabaseCase):
    scheme = ""
    options = ""  # of the URL
    ask = "db.query('SELECT 1', timeout=0.4)"
    path = "/game"

    async def fakes(self, talks: dict[str, Talk], acquire: str = "1s", connect: str = "700ms") -> Scene:
        """A database for each."""
        self.made: dict[str, Fake] = {}
        for name, talk in talks.items():
            self.made[name] = fake = Fake(talk)
            await fake.start()
            self.addAsyncCleanup(fake.stop)
        return await self.begin_scene({
            f"db@{name}": f'url: "{self.scheme}://me:{PASSWORD}@127.0.0.1:{fake.port}{self.path}{self.options}", pool: 2, '
                          f"connect_timeout: {connect}, acquire_timeout: {acquire}" for name, fake in self.made.items()
        } | {"db@good": 'url: "sqlite://:memory:"'})  # fmt: skip

    async def ends(self, scene: Scene, rounds: int = 3) -> dict[str, list[list[object]]]:
        """What some queries of each came to, one after another: class, executed, text, seconds."""
        return await scene.do(f"""
            async def one(name, came):
                db = await redrabbit.{'redis' if self.scheme == 'redis' else 'database'}("db@" + name)
                for _ in range({rounds}):
                    began = time.monotonic()
                    try:
                        came.append(["ok", None, repr(await {self.ask}), 0])
                    except redrabbit.DatabaseError as error:
                        came.append([type(error).__name__, error.executed, str(error), time.monotonic() - began])
            all = {{name: [] for name in {list(self.made)!r}}}
            good = await redrabbit.database("db@good")
            for task in [redrabbit.spawn(one(name, came)) for name, came in all.items()]:
                await task
                assert await good.value("SELECT 5") == 5
            return all""", 60)  # fmt: skip

    def last_words(self, words: bytes) -> Talk:
        """These and a reset: both are there when its socket is looked at."""

        async def talk(peer: Peer) -> None:
            os.kill(self.server.pid, signal.SIGSTOP)
            try:
                while servers.state(self.server.pid) != "T":
                    await asyncio.sleep(0.001)
                peer.say(words)
                peer.reset()
                with contextlib.suppress(OSError):
                    await peer.writer.wait_closed()
            finally:
                os.kill(self.server.pid, signal.SIGCONT)

        return talk

    async def noticed(self, talk: Talk) -> None:
        """A query ends when its connection does, not by its time-out."""
        scene = await self.fakes({"ends": talk}, "60s", "60s")
        ended, seconds = await scene.do("""
            db = await redrabbit.database("db@ends")
            began = time.monotonic()
            return [await ends(db.query("SELECT 1", timeout=30)), time.monotonic() - began]""", 60)  # fmt: skip
        self.assertEqual(ended, ["DatabaseConnectionError", True])
        self.assertLess(seconds, 20)

    async def endure(self, talks: dict[str, Talk]) -> dict[str, list[list[object]]]:
        scene = await self.fakes(talks)
        ended = await self.ends(scene)
        for name, came in ended.items():
            with self.subTest(name=name):
                for kind, _, text, seconds in came:
                    self.assertIn(kind, ALLOWED, text)
                    self.assertLess(seconds, 10 * SLOW)
                    self.assertGreater(len(str(text)), 5)
                    self.assertTrue(str(text).isprintable(), text)
                self.assertLess(self.made[name].connects, CONNECTS)
                self.assertGreater(self.made[name].connects, 0)
                about = [line for line in self.server.output.splitlines() if f"db@{name}:" in line]
                self.assertLess(len(about), 12, "\n".join(about))
        self.assertNotIn(PASSWORD, self.server.output + str(ended))
        return ended


async def nothing(peer: Peer) -> None:
    await peer.silence()


async def closes(peer: Peer) -> None:
    pass


async def resets(peer: Peer) -> None:
    peer.reset()


def says(data: bytes, then: Talk = nothing) -> Talk:
    async def talk(peer: Peer) -> None:
        peer.say(data)
        await then(peer)

    return talk


def drips(data: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.drip(data * 1000)

    return talk


def floods(data: bytes) -> Talk:
    async def talk(peer: Peer) -> None:
        await peer.flood(data)

    return talk


GARBAGE = bytes(range(256)) * 300
STRANGERS: dict[str, Talk] = {
    "nothing": nothing, "closes": closes, "resets": resets, "garbage": says(GARBAGE), "zeroes": floods(bytes(65536)),
    "http": says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "http-closes": says(b"HTTP/1.1 400 Bad Request\r\n\r\n", closes),
    "flood": floods(b"\xff" * 65536), "drip": drips(b"\x01"),
}  # fmt: skip


class Redis(Hostile):
    scheme = "redis"
    ask = "db.within(0.4).get('x')"
    path = "/0"

    @staticmethod
    def behind_hello(talk: Talk, more: bytes = b"") -> Talk:
        """A server that lets everybody in, with more than it was asked for, and then talks like this, a command heard or not."""

        async def whole(peer: Peer) -> None:
            heard = b""
            while b"INFO" not in heard:
                heard += await peer.hear()
            info = b"# Server\r\nredis_version:7.0\r\n"
            peer.say(b"+OK\r\n$%d\r\n%s\r\n" % (len(info), info) + more)
            await talk(peer)

        return whole

    @staticmethod
    def answers(data: bytes, then: Talk = nothing) -> Talk:
        async def talk(peer: Peer) -> None:
            await peer.hear()
            peer.say(data)
            await then(peer)

        return Redis.behind_hello(talk)

    async def test_strangers(self) -> None:
        await self.endure(STRANGERS | {
            "loading": floods(b"-LOADING Redis is loading the dataset in memory\r\n" * 1000), "loads": says(b"-LOADING Redis is loading\r\n" * 3),
            "full": says(b"-ERR max number of clients reached\r\n", closes), "lines": says(b"-ERR \x1b[31m\x07 a\tb\r\n" * 3),
            "half": says(b"+OK\r\n$1000\r\nx"),
        })  # fmt: skip

    async def test_replies(self) -> None:
        every = self.answers
        await self.endure({
            "half": every(b"$5\r\nhe"), "half-closes": every(b"$5\r\nhe", closes), "half-resets": every(b"$5\r\nhe", resets),
            "huge": every(b"$9223372036854775807\r\n"), "huger": every(b"$99999999999999999999999\r\n"), "negative": every(b"$-7\r\n"),
            "array": every(b"*2147483647\r\n:1\r\n"), "arrays": every(b"*1\r\n" * 10000), "resp3": every(b"%1\r\n+a\r\n:1\r\n"),
            "number": every(b":99999999999999999999\r\n"), "no-number": every(b":1x\r\n"), "line": every(b"+" + b"x" * 100000),
            "drip": self.behind_hello(drips(b"+")), "closes": every(b"", closes), "resets": every(b"", resets), "silent": every(b""),
            "garbage": every(GARBAGE), "bare": every(b"\n\r\r\n\0"), "flood": every(b"", floods(b"x" * 65536)),
        })  # fmt: skip

    async def test_ends_after_hello(self) -> None:
        """It lets us in and closes, for ever: that is no reason to connect again without a pause."""
        await self.endure({
            "closes": self.behind_hello(closes), "resets": self.behind_hello(resets), "unasked": self.behind_hello(nothing, b"+OK\r\n" * 100),
            "error": self.behind_hello(nothing, b"-ERR no\r\n"), "queued": self.behind_hello(nothing, b"+QUEUED\r\n*1\r\n:1\r\n"),
        })  # fmt: skip

    async def test_more_than_was_asked_for(self) -> None:
        """What nobody has asked for costs the connection, what nobody listens to nothing."""
        push = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"
        scene = await self.fakes({
            "many": self.answers(b"$1\r\na\r\n" + b"$1\r\nb\r\n" * 100), "pushes": self.behind_hello(self.pushes(push * 100)),
        })  # fmt: skip
        first = await self.ends(scene, 1)
        connects = self.made["pushes"].connects  # a busy machine may have taken more than one
        ended = await self.ends(scene, 2)
        self.assertEqual([end[:3] for came in (*first.values(), *ended.values()) for end in came],
                         [["ok", None, word] for word in ("'a'", "'e'", "'a'", "'a'", "'e'", "'e'")])  # fmt: skip
        self.assertEqual(self.made["pushes"].connects, connects)

    @staticmethod
    def pushes(data: bytes) -> Talk:
        async def talk(peer: Peer) -> None:
            while True:
                await peer.hear()
                peer.say(b"$1\r\ne\r\n" + data)

        return talk

    async def test_listening(self) -> None:
        """A subscription's server sends what is no event, and ends: the subscription lives, as does the scene."""
        async def talk(peer: Peer) -> None:
            heard = b""
            while b"SUBSCRIBE" not in heard:
                heard = await peer.hear()
                if b"GET" in heard:
                    peer.say(b"$1\r\ne\r\n")
            peer.say(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")
            peer.say(b"*2\r\n:1\r\n$-1\r\n")

        scene = await self.fakes({"liar": self.behind_hello(talk)})
        self.assertTrue(await scene.do("""
            heard = kept["heard"] = []
            db = await redrabbit.redis("db@liar")
            kept["news"] = await db.subscribe("news", lambda channel, message: heard.append(message))
            while len(heard) < 3:
                await redrabbit.sleep(0.02)
            return kept["news"].lost >= 1 and set(heard) == {"x"}"""))
        self.assertLess(self.made["liar"].connects, CONNECTS)

    @staticmethod
    async def words(peer: Peer, *words: str) -> str:
        """Waits for one of these commands."""
        heard = b""
        while True:
            heard += await peer.hear()
            for word in words:
                if b"$%d\r\n%s\r\n" % (len(word), word.encode()) in heard:
                    return word

    @staticmethod
    def said(word: str, *more: str) -> bytes:
        """An event of the channel `news`."""
        return b"".join([b"*3\r\n", *(b"$%d\r\n%s\r\n" % (len(text), text.encode()) for text in (word, "news", *more)),
                         b"" if more else b":1\r\n"])  # fmt: skip

    async def set_within(self, event: asyncio.Event) -> None:
        await asyncio.wait_for(event.wait(), 60 * SLOW)

    async def test_unsubscribed_while_it_begins_anew(self) -> None:
        """What the server lets in only then is left: nobody hears it."""
        begins, answer, left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        known = False

        async def talk(peer: Peer) -> None:
            nonlocal known
            await self.words(peer, "SUBSCRIBE")
            if not known:
                known = True
                peer.say(self.said("subscribe"))
                return
            begins.set()
            await answer.wait()
            peer.say(self.said("subscribe"))
            await self.words(peer, "UNSUBSCRIBE")
            left.set()
            peer.say(self.said("unsubscribe"))
            await nothing(peer)

        scene = await self.fakes({"slow": self.behind_hello(talk)}, "60s")
        await scene.do("""
            db = await redrabbit.redis("db@slow")
            kept["news"] = await db.subscribe("news", print)""")
        await self.set_within(begins)
        await scene.do("await kept['news'].unsubscribe()")
        answer.set()
        await self.set_within(left)

    async def test_subscribing_is_refused(self) -> None:
        """The error is its asker's, and nothing of it is left on the connection."""
        left = asyncio.Event()

        async def talk(peer: Peer) -> None:
            await self.words(peer, "SUBSCRIBE")
            peer.say(b"-NOPERM this user has no permissions\r\n")
            await self.words(peer, "UNSUBSCRIBE")
            left.set()
            peer.say(self.said("unsubscribe"))
            await nothing(peer)

        scene = await self.fakes({"strict": self.behind_hello(talk)}, "60s")
        failed = await self.fails(scene, "DatabaseAuthError", """
            db = await redrabbit.redis("db@strict")
            await db.subscribe("news", print)""")  # fmt: skip
        self.assertIs(failed.executed, False)
        await self.set_within(left)

    async def test_beginning_anew_is_refused(self) -> None:
        """A subscription that a new connection refuses is tried again there."""
        refused = 0
        known = False

        async def talk(peer: Peer) -> None:
            nonlocal known, refused
            await self.words(peer, "SUBSCRIBE")
            if not known:
                known = True
                peer.say(self.said("subscribe"))
                return
            refused += 1
            peer.say(b"-NOPERM this user has no permissions\r\n")
            while await self.words(peer, "SUBSCRIBE", "UNSUBSCRIBE") == "UNSUBSCRIBE":
                peer.say(self.said("unsubscribe"))
            peer.say(self.said("subscribe") + self.said("message", "x"))
            await self.words(peer, "UNSUBSCRIBE")
            peer.say(self.said("unsubscribe"))
            await nothing(peer)

        scene = await self.fakes({"strict": self.behind_hello(talk)}, "60s")
        self.assertTrue(await scene.do("""
            heard = []
            db = await redrabbit.redis("db@strict")
            news = await db.subscribe("news", lambda channel, message: heard.append(message))
            while not heard:
                await redrabbit.sleep(0.02)
            await news.unsubscribe()
            return heard == ["x"] and news.lost >= 1"""))
        self.assertGreater(refused, 0)

    async def test_subscribing_ends(self) -> None:
        """A server that closes the connection whenever it is to listen: the pauses between connects grow, but not the time to wait."""

        async def talk(peer: Peer) -> None:
            await self.words(peer, "SUBSCRIBE")

        scene = await self.fakes({"deaf": self.behind_hello(talk)}, "6s")  # more than the longest pause
        await self.fails(scene, "DatabaseConnectionError", """
            db = await redrabbit.redis("db@deaf")
            await db.subscribe("news", print)""")  # fmt: skip


def packet(number: int, data: bytes) -> bytes:
    return len(data).to_bytes(3, "little") + bytes([number]) + data


def greeting(plugin: bytes = b"mysql_native_password", flags: int = 0x81FFF7FF & ~0x800) -> bytes:
    """As MariaDB's; without TLS."""
    return packet(0, b"\x0a5.5.5-10.11.0-MariaDB\0" + struct.pack("<I", 7) + b"12345678\0" + struct.pack("<H", flags & 0xFFFF) + b"\x2d\x02\0"
                  + struct.pack("<H", flags >> 16) + b"\x15" + bytes(10) + b"123456789012\0" + plugin + b"\0")  # fmt: skip


class Mariadb(Hostile):
    scheme = "mysql"

    @staticmethod
    def behind_login(data: bytes, then: Talk = nothing) -> Talk:
        """It greets, hears who we are, and says this."""

        async def talk(peer: Peer) -> None:
            peer.say(greeting())
            await peer.hear()
            peer.say(data)
            await then(peer)

        return talk

    @staticmethod
    def answers(data: bytes, then: Talk = nothing) -> Talk:
        """It lets us in, and says this to the first query."""

        async def talk(peer: Peer) -> None:
            peer.say(greeting())
            await peer.hear()
            peer.say(packet(2, b"\0\0\0\x02\0\0\0"))
            while b"SELECT" not in await peer.hear():
                peer.say(packet(1, b"\0\0\0\x02\0\0\0"))
            peer.say(data)
            await then(peer)

        return talk

    async def test_strangers(self) -> None:
        await self.endure(STRANGERS | {
            "too-many": says(packet(0, b"\xff\x10\x04Too many connections"), closes), "lines": says(packet(0, b"\xff\x10\x04a\r\nb \x1b[31m"), closes),
            "oversized": says(b"\xff\xff\xff\0" + b"\x0a" * 65536), "empty": says(packet(0, b"")), "version": says(packet(0, b"\x0a")),
            "short": says(packet(0, greeting()[4:20])), "old": says(packet(0, b"\x09" + greeting()[5:])), "drip-greeting": drips(greeting()),
            "twice": says(greeting() * 50), "half-closes": says(greeting()[:30], closes),
        })  # fmt: skip

    async def test_logins(self) -> None:
        login = self.behind_login
        await self.endure({
            "closes": login(b"", closes), "resets": login(b"", resets), "silent": login(b""), "garbage": login(GARBAGE),
            "nothing": login(packet(2, b"")), "order": login(packet(9, b"\0\0\0\x02\0\0\0")), "short-ok": login(packet(2, b"\0")),
            "unknown": login(packet(2, b"\xfe../../no_such_plugin\0abc\0")), "more": login(packet(2, b"\x01" * 10)),
            "half": login(b"\xff\xff\0\x02\xfe"), "error": login(packet(2, b"\xff")),
        })  # fmt: skip

    async def test_answers(self) -> None:
        every = self.answers
        await self.endure({
            "closes": every(b"", closes), "resets": every(b"", resets), "silent": every(b""), "half": every(b"\xff\0\0\x01\x01"),
            "columns": every(packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff")), "many": every(packet(1, b"\xfc\xff\xff")),
            "definition": every(packet(1, b"\x01") + packet(2, b"\xfd\xff\xff\xff")), "order": every(packet(77, b"\x01")),
            "drip": every(b"", drips(b"\x01")), "flood": every(b"", floods(b"\x01\0\0\x01\x01" * 10000)), "garbage": every(GARBAGE),
        })  # fmt: skip

    async def test_ends_after_login(self) -> None:
        async def talk(peer: Peer) -> None:
            peer.say(greeting())
            await peer.hear()
            peer.say(packet(2, b"\0\0\0\x02\0\0\0"))
            await peer.hear()
            peer.say(packet(1, b"\0\0\0\x02\0\0\0"))

        await self.endure({"closes": talk})

    async def test_the_password_is_not_given_away(self) -> None:
        """A server that asks for the password as it is, on a connection in the clear, does not get it."""
        asks = {"dialog": b"dialog\0\x04Password: ", "clear": b"mysql_clear_password\0"}
        scene = await self.fakes({name: self.recorded(self.behind_login(packet(2, b"\xfe" + what))) for name, what in asks.items()})
        for came in (await self.ends(scene, 1)).values():
            self.assertEqual(came[0][0], "DatabaseAuthError", came)
        self.assertNotIn(PASSWORD.encode(), self.heard)

    async def test_our_files_are_not_given_away(self) -> None:
        """LOAD DATA LOCAL, as the server's answer to a query that is none."""
        secret = self.write("secret", "the file's words")
        scene = await self.fakes({"asks": self.recorded(self.answers(packet(1, b"\xfb" + str(secret).encode())))})
        self.assertNotEqual((await self.ends(scene, 1))["asks"][0][0], "ok")
        self.assertNotIn(b"the file's words", self.heard)

    async def test_a_word_that_is_dropped(self) -> None:
        """A server drops a KILL QUERY that comes before it has begun with the query: it is told again, on the same connection, and the
        query's connection is kept. On a busy machine the second that a stopped query has may be over before."""
        asked: list[Peer] = []
        killers: list[Peer] = []
        stopped = asyncio.Event()

        async def talk(peer: Peer) -> None:
            peer.say(greeting())
            await peer.hear()
            peer.say(packet(2, b"\0\0\0\x02\0\0\0"))
            while True:
                heard = await peer.hear()
                if b"KILL QUERY" in heard:
                    killers.append(peer)
                    if len(killers) == 3:
                        stopped.set()
                elif b"SELECT" in heard:
                    asked.append(peer)
                if b"SELECT 1" in heard:
                    await stopped.wait()
                    peer.say(packet(1, b"\xff\x25\x05#70100Query execution was interrupted"))
                else:
                    peer.say(packet(1, b"\0\0\0\x02\0\0\0"))

        scene = await self.fakes({"deaf": talk}, "60s")
        end = time.monotonic() + 60 * SLOW
        while True:
            ended = await scene.do("""
                db = await redrabbit.database("db@deaf")
                return [await ends(db.query("SELECT 1", timeout=0.05)), await ends(db.query("SELECT 2", timeout=30))]""")
            if ended == [["DatabaseTimeout", False], ["ok", []]] and asked[0] is asked[1] and len(killers) >= 3 and len(set(killers)) == 1:
                return
            self.assertLess(time.monotonic(), end, (ended, len(killers), len(set(killers)), len(set(asked))))
            stopped.clear()
            asked.clear()
            killers.clear()

    heard = b""

    def recorded(self, talk: Talk) -> Talk:
        async def whole(peer: Peer) -> None:
            hear = peer.reader.read

            async def read(size: int = -1) -> bytes:
                data = await hear(size)
                self.heard += data
                return data

            peer.reader.read = read  # type: ignore[method-assign]
            await talk(peer)

        return whole


class MariadbTls(Hostile):
    """Its handshake must not hold up the loop that other databases are on."""

    scheme = "mysql"
    options = "?tls=require"

    @staticmethod
    def hands(talk: Talk) -> Talk:
        """It offers TLS, and talks like this when that begins."""

        async def whole(peer: Peer) -> None:
            peer.say(greeting(flags=0x81FFFFFF))
            await peer.hear()
            await talk(peer)

        return whole

    async def test_handshakes(self) -> None:
        record = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"
        await self.endure({
            "silent": self.hands(nothing), "closes": self.hands(closes), "resets": self.hands(resets), "garbage": self.hands(says(GARBAGE)),
            "drip": self.hands(drips(record)), "half": self.hands(says(record)), "flood": self.hands(floods(record + bytes(16375))),
            "none": says(greeting()), "stranger": nothing,
        })  # fmt: skip


def message(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack(">I", len(data) + 4) + data


class Postgres(Hostile):
    scheme = "postgresql"

    IN = message(b"R", struct.pack(">I", 0)) + message(b"K", struct.pack(">II", 1, 2)) + message(b"Z", b"I")

    @staticmethod
    def behind_hello(data: bytes, then: Talk = nothing) -> Talk:
        """No TLS; and this to whoever says hello."""

        async def talk(peer: Peer) -> None:
            await peer.hear()
            peer.say(b"N")
            await peer.hear()
            peer.say(data)
            await then(peer)

        return talk

    @classmethod
    def answers(cls, data: bytes, then: Talk = nothing) -> Talk:
        async def talk(peer: Peer) -> None:
            await peer.hear()
            peer.say(data)
            await then(peer)

        return cls.behind_hello(cls.IN, talk)

    async def test_strangers(self) -> None:
        hello = self.behind_hello
        error = b"SFATAL\0VFATAL\0C53300\0Mtoo \r\n\x1b[31m many\0\0"
        await self.endure(STRANGERS | {
            "tls": says(b"S"), "tls-garbage": says(b"S" + GARBAGE), "old-error": says(b"Ecannot \x07fork\n\0", closes),
            "closes-then": hello(b"", closes), "resets-then": hello(b"", resets), "silent": hello(b""), "garbage-then": hello(GARBAGE),
            "oversized": hello(b"R\x7f\xff\xff\xff\0\0\0\0"), "negative": hello(b"R\xff\xff\xff\xff\0\0\0\0"), "short": hello(b"R\0\0\0\4"),
            "unknown": hello(message(b"R", struct.pack(">I", 77))), "sasl": hello(message(b"R", struct.pack(">I", 10) + b"NO-SUCH\0\0")),
            "sasl-cut": hello(message(b"R", struct.pack(">I", 10) + b"SCRAM")), "md5-cut": hello(message(b"R", struct.pack(">I", 5) + b"x")),
            "error": hello(message(b"E", error), closes), "error-cut": hello(message(b"E", b"S"), closes),
            "notices": hello(b"", floods(message(b"N", error) * 500)), "drip-then": hello(b"", drips(b"R\0\0")),
        })  # fmt: skip

    async def test_answers(self) -> None:
        every = self.answers
        row = message(b"T", struct.pack(">H", 1) + b"x\0" + struct.pack(">IHIHIH", 0, 0, 23, 4, 0xFFFFFFFF, 0))
        await self.endure({
            "closes": every(b"", closes), "resets": every(b"", resets), "silent": every(b""), "garbage": every(GARBAGE),
            "half": every(message(b"1", b"") + b"D\0\0\1\0"), "oversized": every(b"D\x7f\xff\xff\xff\0\1"), "negative": every(b"D\0\0\0\0"),
            "row-first": every(message(b"1", b"") + message(b"2", b"") + message(b"D", b"\0\1\0\0\0\1x")),
            "columns": every(message(b"1", b"") + message(b"2", b"") + row + message(b"D", struct.pack(">H", 3) + b"\0\0\0\1x" * 3)),
            "field": every(message(b"1", b"") + message(b"2", b"") + row + message(b"D", struct.pack(">H", 1) + b"\x7f\xff\xff\xffx")),
            "copy": every(message(b"1", b"") + message(b"2", b"") + message(b"G", b"\0\0\1\0\0")), "drip": every(b"", drips(b"1\0")),
            "notices": every(b"", floods(message(b"N", b"SNOTICE\0Mwell\0\0") * 500)), "status": every(b"", floods(message(b"S", b"a\0b\0") * 500)),
        })  # fmt: skip

    async def test_ends_after_login(self) -> None:
        await self.endure({
            "closes": self.behind_hello(self.IN, closes), "resets": self.behind_hello(self.IN, resets),
            "admin": self.behind_hello(self.IN + message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgo away\0\0"), closes),
        })  # fmt: skip

    async def test_last_words_and_a_reset_at_once(self) -> None:
        words = message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgo away\0\0")
        await self.noticed(self.answers(b"", self.last_words(words)))


if __name__ == "__main__":
    unittest.main()
