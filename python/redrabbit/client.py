"""A RedRabbit client for bots and tests: asyncio, standard library only, TCP and WebSocket.

    async with Client("ws://127.0.0.1:10242/") as client:
        await client.login("alice")
        await client.send(1, ["hello"])
        message = await client.receive()
        print(message.cmd, message.text)

With ``reconnect=True`` a lost connection is made again, with back-off, and logs in again:

    client = Client("tcp://127.0.0.1:10242", key="bot-1", reconnect=True)

    @client.on(1)
    def line(message: Message) -> None:
        print(message.text)

    await client.run()

The protocol is described in net/PROTOCOL.md. Needs no other module of this package.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import json
import os
import random
import re
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit

__all__ = ["Client", "Closed", "Message", "ProtocolError", "REASONS"]

ByteOrder: TypeAlias = Literal["little", "big"]
Handler: TypeAlias = Callable[["Message"], Awaitable[None] | None]
StateHandler: TypeAlias = Callable[[str], Awaitable[None] | None]
H = TypeVar("H", bound=Callable[..., Any])

REASONS: dict[int, str] = {
    1000: "closed",
    1001: "drain",
    1002: "protocol",
    1006: "connection lost",
    1007: "invalid text",
    1009: "too big",
    1013: "limit",
    4001: "replaced",
    4002: "refused",
    4003: "kicked",
    4004: "idle",
    4005: "login time-out",
    4006: "rate",
    4007: "queue",
    4008: "slow reader",
    4009: "scene gone",
}
FINAL = frozenset({1002, 1007, 1009, 4001, 4002, 4003})
STABLE_SECONDS = 5.0
HEADER = {"little": struct.Struct("<IHH"), "big": struct.Struct(">IHH")}

OP_CONTINUATION, OP_TEXT, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG = 0, 1, 2, 8, 9, 10
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class ProtocolError(Exception):
    """The server sent something that the protocol does not allow."""


class Closed(Exception):
    """The connection is over. ``code`` is the WebSocket close code; TCP tells none: always 1006."""

    def __init__(self, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason or REASONS.get(code, "closed")
        super().__init__(f"{self.code} {self.reason}")


class Message:
    """One message: ``cmd``, ``body`` (bytes) and whether it came in a binary frame (TCP: always)."""

    __slots__ = ("cmd", "body", "binary")

    def __init__(self, cmd: int, body: bytes, binary: bool = True) -> None:
        self.cmd = cmd
        self.body = body
        self.binary = binary

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        kind = "binary" if self.binary else "text"
        return f"Message({self.cmd}, {self.body!r}, {kind})"


def encode_body(body: object) -> bytes:
    """str as UTF-8, bytes as they are, anything else as JSON."""
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def encode_frame(cmd: int, body: bytes, byteorder: ByteOrder = "little") -> bytes:
    """The 8-byte header and the body: a TCP message, or the payload of a binary frame."""
    if not 0 <= cmd <= 0xFFFF:
        raise ValueError(f"cmd {cmd} is not in 0-65535")
    return HEADER[byteorder].pack(len(body), cmd, 0) + body


def encode_text(cmd: int, body: bytes) -> bytes:
    """The payload of a text frame."""
    if not 0 <= cmd <= 0xFFFF:
        raise ValueError(f"cmd {cmd} is not in 0-65535")
    return b"cmd:%d\n%s" % (cmd, body)


def decode_text(payload: bytes) -> Message:
    first = re.match(rb"cmd:([0-9]{1,5})\n", payload)
    if not first or int(first[1]) > 0xFFFF:
        return Message(0, payload, binary=False)
    return Message(int(first[1]), payload[first.end() :], binary=False)


def decode_binary(payload: bytes, byteorder: ByteOrder) -> Message:
    if len(payload) < 8:
        raise ProtocolError(f"a binary frame of {len(payload)} bytes")
    size, cmd, _ = HEADER[byteorder].unpack_from(payload)
    if size != len(payload) - 8:
        raise ProtocolError(f"a binary frame says {size} bytes and carries {len(payload) - 8}")
    return Message(cmd, payload[8:])


def encode_websocket(opcode: int, payload: bytes, mask: bytes | None, fin: bool = True) -> bytes:
    """One WebSocket frame; ``mask`` is four bytes, or None as servers send."""
    flag = 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 0x10000:
        head += struct.pack(">BH", flag | 126, len(payload))
    else:
        head += struct.pack(">BQ", flag | 127, len(payload))
    return head + payload if mask is None else head + mask + apply_mask(payload, mask)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one big integer: the fast way in pure Python."""
    size = len(payload)
    repeated = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")


class Wire(Protocol):
    """One connection, whatever it speaks."""

    async def read(self) -> Message:
        """The next message; raises Closed or ProtocolError."""
        ...

    def write(self, cmd: int, body: bytes, binary: bool) -> None:
        ...

    async def drain(self) -> None:
        ...

    async def close(self) -> None:
        ...


class TcpWire:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        byteorder: ByteOrder,
        max_size: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._byteorder: ByteOrder = byteorder
        self._max_size = max_size

    async def read(self) -> Message:
        try:
            header = await self._reader.readexactly(8)
            size, cmd, _ = HEADER[self._byteorder].unpack(header)
            if size > self._max_size:
                raise ProtocolError(f"a message of {size} bytes, the limit is {self._max_size}")
            return Message(cmd, await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Closed(1006) from error

    def write(self, cmd: int, body: bytes, binary: bool) -> None:
        self._writer.write(encode_frame(cmd, body, self._byteorder))

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise Closed(1006) from error

    async def close(self) -> None:
        await _close_writer(self._writer)


class WebSocketWire:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        byteorder: ByteOrder,
        max_size: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._byteorder: ByteOrder = byteorder
        self._max_size = max_size
        self._closing = False
        self.subprotocol: str | None = None

    async def handshake(self, host: str, path: str, subprotocols: tuple[str, ...]) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if subprotocols:
            lines.append("Sec-WebSocket-Protocol: " + ", ".join(subprotocols))
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            answer = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Closed(1006, "closed during the handshake") from error
        except asyncio.LimitOverrunError as error:
            raise ProtocolError("the handshake's answer is too long") from error
        self._check_answer(answer.decode("latin-1"), key, subprotocols)

    def _check_answer(self, answer: str, key: bytes, subprotocols: tuple[str, ...]) -> None:
        status, *lines = answer.split("\r\n")
        if not re.match(r"HTTP/1\.1 101(\s|$)", status):
            raise ProtocolError(f"the upgrade was answered with {status!r}")
        split = [line.partition(":") for line in lines if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in split}
        expected = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest()).decode()
        if headers.get("sec-websocket-accept") != expected:
            raise ProtocolError("Sec-WebSocket-Accept does not match")
        self.subprotocol = headers.get("sec-websocket-protocol")
        if self.subprotocol is not None and self.subprotocol not in subprotocols:
            raise ProtocolError(f"a subprotocol that nobody offered: {self.subprotocol!r}")

    async def read(self) -> Message:
        try:
            while True:
                opcode, payload = await self._read_message()
                if opcode == OP_TEXT:
                    return decode_text(payload)
                return decode_binary(payload, self._byteorder)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Closed(1006) from error

    async def _read_message(self) -> tuple[int, bytes]:
        kind, parts, size = OP_CONTINUATION, [], 0
        while True:
            fin, opcode, payload = await self._read_frame()
            if opcode >= OP_CLOSE:
                self._control(opcode, payload)
                continue
            if (opcode == OP_CONTINUATION) != bool(kind):
                raise ProtocolError("fragments out of order")
            kind = kind or opcode
            size += len(payload)
            if size > self._max_size:
                raise ProtocolError(f"a message above the limit of {self._max_size} bytes")
            parts.append(payload)
            if fin:
                return kind, b"".join(parts)

    async def _read_frame(self) -> tuple[bool, int, bytes]:
        first, second = await self._reader.readexactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or second & 0x80 or opcode in (3, 4, 5, 6, 7) or opcode > OP_PONG:
            raise ProtocolError(f"a frame that begins with {first:02x} {second:02x}")
        if opcode >= OP_CLOSE and (size > 125 or not first & 0x80):
            raise ProtocolError("a control frame that is fragmented or too long")
        if size == 126:
            (size,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
        if (
            size > self._max_size + 32
        ):  # the body's limit, and room for the header or the first line
            raise ProtocolError(f"a frame of {size} bytes, the limit is {self._max_size}")
        return bool(first & 0x80), opcode, await self._reader.readexactly(size)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == OP_PING:
            self._frame(OP_PONG, payload)
        elif opcode == OP_CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005
            reason = payload[2:].decode("utf-8", "replace")
            if not self._closing:
                self._closing = True
                self._frame(OP_CLOSE, payload[:2])
            raise Closed(code, reason)

    def _frame(self, opcode: int, payload: bytes) -> None:
        self._writer.write(encode_websocket(opcode, payload, os.urandom(4)))

    def write(self, cmd: int, body: bytes, binary: bool) -> None:
        if binary:
            self._frame(OP_BINARY, encode_frame(cmd, body, self._byteorder))
        else:
            self._frame(OP_TEXT, encode_text(cmd, body))

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise Closed(1006) from error

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._frame(OP_CLOSE, struct.pack(">H", 1000))
        await _close_writer(self._writer)


async def _close_writer(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), 2)
    except (OSError, TimeoutError, ssl.SSLError):
        writer.transport.abort()


class Client:
    """A connection to a gate. ``url``: tcp://host:port, ws://host:port/path or wss://…

    key         logs in with it on every connect; login() sets it too. str or bytes.
    binary      over WebSocket: send binary frames (bytes bodies always go so)
    reconnect   make a lost connection again, unless the reason says that it would be in vain
    backoff     (base, cap) in seconds
    max_size    largest body accepted from the server
    queue       messages without a handler that wait for receive(); beyond, reading pauses
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | bytes | None = None,
        byteorder: ByteOrder = "little",
        binary: bool = False,
        reconnect: bool = False,
        backoff: tuple[float, float] = (0.5, 15.0),
        max_size: int = 16 << 20,
        queue: int = 1024,
        subprotocols: tuple[str, ...] = (),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("tcp", "ws", "wss") or not parts.hostname:
            raise ValueError(
                f"{url!r}: expected tcp://host:port, ws://host:port/ or wss://host:port/"
            )
        if parts.scheme == "tcp" and parts.port is None:
            raise ValueError(f"{url!r}: the port is missing")
        self.url = url
        self.state: Literal["offline", "connecting", "online"] = "offline"
        self.closed: Closed | None = None  # why the last connection ended
        self._scheme, self._host = parts.scheme, parts.hostname
        self._port = parts.port or (443 if parts.scheme == "wss" else 80)
        self._netloc = parts.netloc.rpartition("@")[2]
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._key = key
        self._byteorder: ByteOrder = byteorder
        self._binary = binary
        self._reconnect = reconnect
        self._backoff = backoff
        self._max_size = max_size
        self._subprotocols = subprotocols
        self._handlers: dict[int, Handler] = {}
        self._state_handlers: list[StateHandler] = []
        self._inbox: asyncio.Queue[Message | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(queue)  # bounds the inbox; the end's None needs no room
        self._wire: TcpWire | WebSocketWire | None = None
        self._task: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Connects, and logs in if a key is known. Raises OSError, Closed or ProtocolError."""
        if self._task:
            raise RuntimeError("a client connects once; make another")
        await self._open()
        self._task = asyncio.create_task(self._serve(), name=f"redrabbit client {self.url}")
        return self

    async def run(self) -> None:
        """Connects (again and again, with ``reconnect``) and serves the handlers until closed."""
        if not self._task:
            if self._reconnect:
                self._task = asyncio.create_task(self._serve(), name=f"redrabbit client {self.url}")
            else:
                await self.connect()
        await self.wait_closed()

    async def wait_closed(self) -> Closed:
        """Waits for the end and says why."""
        if self._task:
            await asyncio.wait([self._task])
            if not self._task.cancelled() and (error := self._task.exception()):
                raise error
        return self.closed or Closed(1000)

    async def close(self) -> None:
        """Closes for good."""
        self._reconnect = False
        wire, self._wire = self._wire, None
        if wire:
            self.closed = Closed(1000)
            await wire.close()
        if self._task and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._change("offline")

    async def __aenter__(self) -> Self:
        return self if self._task else await self.connect()

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    # -- messages ---------------------------------------------------------------------------------

    async def login(self, key: str | bytes) -> None:
        """Sends the session key, and again after each reconnect. A refusal shows as Closed (4002)."""
        self._key = key
        await self.send(0, key)

    async def send(self, cmd: int, body: object = b"", *, binary: bool | None = None) -> None:
        """Sends str, bytes, or anything else as JSON. Raises Closed while there is no connection."""
        if self._wire is None:
            raise self.closed or Closed(1006, "not connected")
        data = encode_body(body)
        if binary is None:
            binary = self._binary or isinstance(body, bytes | bytearray | memoryview)
        self._wire.write(cmd, data, binary)
        await self._wire.drain()

    async def receive(self, timeout: float | None = None) -> Message:
        """The next message that no handler took. Raises TimeoutError, or Closed at the end."""
        async with asyncio.timeout(timeout):
            message = await self._inbox.get()
        if message is None:
            self._inbox.put_nowait(None)  # for the next caller
            raise self.closed or Closed(1006)
        self._room.release()
        return message

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            try:
                yield await self.receive()
            except Closed:
                return

    def on(self, cmd: int) -> Callable[[H], H]:
        """Decorator: the handler, plain or async, of a cmd. It runs before the next is read."""

        def register(handler: H) -> H:
            self._handlers[cmd] = handler
            return handler

        return register

    def on_state(self, handler: StateHandler) -> StateHandler:
        """Decorator: called with "connecting", "online" or "offline"."""
        self._state_handlers.append(handler)
        return handler

    # -- inside -----------------------------------------------------------------------------------

    async def _open(self) -> None:
        await self._change("connecting")
        try:
            context = ssl.create_default_context() if self._scheme == "wss" else None
            reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context)
            wire: TcpWire | WebSocketWire
            if self._scheme == "tcp":
                wire = TcpWire(reader, writer, self._byteorder, self._max_size)
            else:
                wire = WebSocketWire(reader, writer, self._byteorder, self._max_size)
                try:
                    await wire.handshake(self._netloc, self._path, self._subprotocols)
                except BaseException:
                    writer.transport.abort()
                    raise
        except BaseException:
            await self._change("offline")
            raise
        self._wire = wire
        if self._key is not None:
            wire.write(0, encode_body(self._key), self._binary or isinstance(self._key, bytes))
        await self._change("online")

    async def _serve(self) -> None:
        retries = 0
        try:
            while True:
                if self._wire is not None:
                    started, received = time.monotonic(), await self._read_all()
                    if received or time.monotonic() - started > STABLE_SECONDS:
                        retries = 0
                    await self._change("offline")
                    if not self._reconnect or self.closed is None or self.closed.code in FINAL:
                        return
                    await asyncio.sleep(self._delay(retries))
                    retries += 1
                try:
                    await self._open()
                except (OSError, Closed, ProtocolError, ssl.SSLError) as error:
                    self.closed = Closed(1006, str(error))
                    await asyncio.sleep(self._delay(retries))
                    retries += 1
        finally:
            self._inbox.put_nowait(None)  # wakes receive()

    async def _read_all(self) -> bool:
        """Reads until the connection ends; says whether it brought a message."""
        wire, received = self._wire, False
        assert wire is not None
        try:
            while True:
                message = await wire.read()
                received = True
                handler = self._handlers.get(message.cmd)
                if handler is None:
                    await self._room.acquire()
                    self._inbox.put_nowait(message)
                else:
                    await _call(handler, message)
        except Closed as closed:
            if self._wire is wire:
                self.closed = closed
        except ProtocolError as error:
            self.closed = Closed(1002, str(error))
        finally:
            self._wire = None
            await wire.close()
        return received

    def _delay(self, retries: int) -> float:
        base, cap = self._backoff
        return float(min(cap, base * 2 ** min(retries, 16)) * (0.5 + random.random()))

    async def _change(self, state: Literal["offline", "connecting", "online"]) -> None:
        if state == self.state:
            return
        self.state = state
        for handler in self._state_handlers:
            await _call(handler, state)


async def _call(handler: Callable[[Any], Any], argument: object) -> None:
    result = handler(argument)
    if inspect.isawaitable(result):
        await result
