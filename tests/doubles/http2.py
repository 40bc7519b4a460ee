"""A listener that serves one application, and a client of HTTP/2 that sends the frames it is told to, and no others."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hpack import Decoder, Encoder
from starlette.types import ASGIApp

from gateway.serve.listener import Door, listen
from gateway.serve.settings import load
from gateway.serve.sockets import bind
from gateway.serve.tls import server_context

PLACES = 100
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def localhost(folder: Path) -> ssl.SSLContext:
    """TLS as the gateway does it, for `localhost`."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    (folder / "chain.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    return server_context(folder / "chain.pem", folder / "key.pem", ())


@asynccontextmanager
async def serving(
    folder: Path,
    asgi: ASGIApp,
    context: ssl.SSLContext | None = None,
    *,
    ending: trio.Event | None = None,
    idle: int = 60,
    drain: int = 30,
) -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """Serve `asgi` until `ending` or the end of the block; gives the port, and how many connections hold a place."""
    limits = f"connections = {PLACES}\nidle-seconds = {idle}\nread-seconds = 60\ndrain-seconds = {drain}\n"
    (folder / "settings.toml").write_text(f"[limits]\n{limits}")
    settings = load({}, {}, folder=folder, config=folder / "settings.toml")
    bound: socket.socket = bind("127.0.0.1:0", "--https")[0]
    door, over = Door(bound, PLACES, context), trio.Event() if ending is None else ending
    async with trio.open_nursery() as nursery:
        await nursery.start(listen, asgi, settings, [door], over)
        with trio.fail_after(60):
            # One place is the accepting task's own.
            yield bound.getsockname()[1], lambda: PLACES - 1 - door.room.value
            over.set()


class Frame(NamedTuple):
    """One frame. Of HEADERS `payload` is what the block says; of all others the octets."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    said: tuple[tuple[str, str], ...] = ()

    @property
    def status(self) -> str:
        return dict(self.said)[":status"]

    @property
    def code(self) -> int:
        """Why, of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[-4:] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def last(self) -> int:
        """Of GOAWAY: the last stream that is answered."""
        return int.from_bytes(self.payload[:4], "big")

    @property
    def ends(self) -> bool:
        return self.kind in {DATA, HEADERS} and bool(self.flags & END_STREAM)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """The octets of one."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@dataclass
class Peer:
    """A client. `heard` are all frames but SETTINGS and WINDOW_UPDATE, in their order."""

    stream: trio.SSLStream[trio.SocketStream]
    heard: list[Frame] = field(default_factory=list)
    acknowledges: bool = True
    _encoder: Encoder = field(default_factory=Encoder)
    _decoder: Decoder = field(default_factory=Decoder)
    _data: bytes = b""

    async def say(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    def block(self, *fields: tuple[str, str], path: str = "/", method: str = "GET") -> bytes:
        """A field block: a request's, with `fields` behind the pseudo-fields."""
        pseudo = ((":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path))
        return self.packed((*pseudo, *fields))

    def packed(self, fields: Sequence[tuple[str, str]]) -> bytes:
        packed: bytes = self._encoder.encode(list(fields))
        return packed

    def request(self, stream: int, *, ends: bool = True, method: str = "GET", path: str = "/") -> bytes:
        flags = END_HEADERS | (END_STREAM if ends else 0)
        return frame(HEADERS, flags, stream, self.block(path=path, method=method))

    async def hear(self, wanted: Callable[[Frame], bool]) -> Frame:
        """Wait for a frame, unless it was heard already. Raises ConnectionError where the connection ends before."""
        at = 0
        while True:
            for each in self.heard[at:]:
                if wanted(each):
                    return each
            at = len(self.heard)
            await self._hear_more()

    async def hear_all(self) -> list[Frame]:
        """Everything, until the connection ends."""
        try:
            while True:
                await self._hear_more()
        except ConnectionError:
            return self.heard

    async def _hear_more(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError as error:
            raise ConnectionError("the connection was broken") from error
        if not data:
            raise ConnectionError("the connection was closed")
        self._data += bytes(data)
        while len(self._data) >= 9 and len(self._data) >= 9 + (length := int.from_bytes(self._data[:3], "big")):
            kind, flags, stream = struct.unpack(">BBI", self._data[3:9])
            payload, self._data = self._data[9 : 9 + length], self._data[9 + length :]
            await self._take(kind, flags, stream, payload)

    async def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        said: tuple[tuple[str, str], ...] = ()
        if kind == HEADERS:
            said = tuple((str(name), str(value)) for name, value in self._decoder.decode(payload))
        if kind == PING and not flags and self.acknowledges:
            await self.say(frame(PING, ACK, 0, payload))
        if kind not in {SETTINGS, WINDOW_UPDATE}:
            self.heard.append(Frame(kind, flags, stream, payload, said))


@asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    """A client that has shaken hands and sent its preface and settings."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    plain = await trio.open_tcp_stream("127.0.0.1", port)
    async with trio.SSLStream(plain, context, server_hostname="localhost", https_compatible=True) as stream:
        client = Peer(stream)
        await client.say(PREFACE, frame(SETTINGS))
        yield client
