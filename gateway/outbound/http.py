"""One GET, over one connection, to one address that the caller has chosen: the client for strangers' servers.

It never resolves a name, follows a redirect, keeps a connection, reads a proxy's environment variable, or verifies a
certificate; it never reads more than the caller allows. Whoever calls decides where it may go (`outbound.reach`), and
how long it may take: every wait here is cancelled by the caller's deadline.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from functools import cache
from typing import Final

import httptools
import msgspec
import trio

from gateway.outbound.reach import Address, spelled

# Apache stops at 8 KiB a line, nginx sends at most 8 KiB of its own: 16 KiB of head is more than any server that
# answers a challenge has to say.
_HEAD_CAP: Final = 16 * 1024
_RECEIVE: Final = 16 * 1024

# What a dialling that does not wait begins with: a connection may stand at once (connect(2)).
_UNDER_WAY: Final = frozenset({0, errno.EINPROGRESS})

_STATUSES: Final = range(100, 600)  # RFC 9110, 15
_INTERIM: Final = range(100, 200)


class FetchFailed(Exception):
    """There was no whole HTTP answer. `detail` is for the peer, and holds nothing that the server sent.

    `passing` says that asking again may help.
    """

    def __init__(self, detail: str, *, passing: bool = True) -> None:
        super().__init__(detail)
        self.detail = detail
        self.passing = passing


class Unconnected(FetchFailed):
    """There was not even a connection; another address may take one."""


class Destination(msgspec.Struct, frozen=True):
    """Where to connect and what to say: `host` is the Host header's value, `target` the request target (path)."""

    address: Address
    port: int
    host: str
    target: str
    server_name: str | None = None  # TLS if set (the SNI)


class Fetched(msgspec.Struct, frozen=True):
    """An answer. `body` is cut at one byte beyond the cap, so that the caller can tell."""

    status: int
    location: str | None
    body: bytes


class Line(trio.abc.Stream):
    """A TCP connection that gives the loop to others only where it has to wait.

    trio's own stream does so at every step: of a fetch from a quick server that was half the cost.
    """

    __slots__ = ("_socket",)

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send it all."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send."""
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has come, empty at the end. Waits first: nobody answers before the question has reached him."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or _RECEIVE)
            except BlockingIOError:
                continue  # readable, says epoll, of a segment whose checksum was wrong (select(2), BUGS)
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def aclose(self) -> None:
        """Close, without waiting."""
        self.close()

    def close(self) -> None:
        """Close at once. Nobody may be waiting."""
        self._socket.close()


async def connect(address: Address, port: int, *, patience: float, opening: bytes = b"") -> Line:
    """A TCP connection to exactly this address, made within `patience` seconds, on which `opening` has been sent.

    Raises:
        Unconnected: refused, unreachable, too slow, or the like.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        dialling = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise _unconnected(address, port, error.errno) from error
    line = Line(dialling)
    try:
        code = dialling.connect_ex((spelled(address), port))
        if code not in _UNDER_WAY:
            raise _unconnected(address, port, code)
        try:
            # One on this machine or in this rack has taken it by now: to send is the cheapest way to find that out, and
            # what there is to send is on its way. Where it is still open, or has failed, the send says so (connect(2)).
            opening = opening[dialling.send(opening) :]
        except BlockingIOError:
            await _connected(dialling, address, port, patience)
        except OSError as error:
            raise _unconnected(address, port, error.errno) from error
        if opening:
            await line.send_all(opening)
    except BaseException:
        dialling.close()
        raise
    return line


async def _connected(dialling: socket.socket, address: Address, port: int, patience: float) -> None:
    """Wait until the peer has taken the connection. Raises Unconnected."""
    with trio.move_on_after(patience) as scope:
        await trio.lowlevel.wait_writable(dialling)
    if scope.cancelled_caught:
        raise Unconnected(f"connection to {spell(address, port)} timed out")
    code = dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise _unconnected(address, port, code)


def _unconnected(address: Address, port: int, code: int | None) -> Unconnected:
    """The operating system's word for it, which speaks of the connection and of nothing else."""
    return Unconnected(f"connection to {spell(address, port)} failed: {os.strerror(code or 0).lower()}")


async def fetch(destination: Destination, *, patience: float, agent: str, body_cap: int) -> Fetched:
    """Connect to `destination` within `patience` seconds, ask, and close whatever happens.

    Raises:
        Unconnected: nobody took the connection.
        FetchFailed: TLS failed, the connection ended early, or the answer is not HTTP.
    """
    head = _head(destination, agent)
    secure = destination.server_name is not None
    address, port = destination.address, destination.port
    try:
        line = await connect(address, port, patience=patience, opening=b"" if secure else head)
        try:
            return await _read(await _secured(line, destination, head) if secure else line, body_cap)
        finally:
            # No farewell: nobody is owed a close_notify, and a peer that does not read must not hold us.
            line.close()
    except (trio.BrokenResourceError, ssl.SSLError, ssl.CertificateError) as error:
        raise FetchFailed(f"the conversation with {spell(address, port)} broke off") from error
    except httptools.HttpParserError as error:
        raise FetchFailed(f"the answer of {spell(address, port)} is not HTTP", passing=False) from error


async def _secured(line: Line, destination: Destination, head: bytes) -> trio.abc.Stream:
    """TLS on `line`, with the question sent on it."""
    # An address is no name for SNI (RFC 6066, 3).
    name = None if destination.server_name == spelled(destination.address) else destination.server_name
    channel = trio.SSLStream(line, _tls(), server_hostname=name, https_compatible=True)
    await channel.send_all(head)
    return channel


def spell(address: Address, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    return f"{spelled(address)}:{port}" if address.version == 4 else f"[{spelled(address)}]:{port}"


def _head(destination: Destination, agent: str) -> bytes:
    return (
        f"GET {destination.target} HTTP/1.1\r\n"
        f"Host: {destination.host}\r\n"
        f"User-Agent: {agent}\r\n"
        "Accept: */*\r\n"
        "Connection: close\r\n"
        "\r\n"
    ).encode("ascii")


@cache
def _tls() -> ssl.SSLContext:
    """TLS that verifies nothing: a redirect of http-01 mostly leads to a host without a valid certificate yet."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    tls.set_alpn_protocols(["http/1.1"])
    return tls


class _Answer:
    """One answer as httptools parses it. What comes after its end, or beyond the cap, is not looked at."""

    def __init__(self, body_cap: int) -> None:
        self._cap = body_cap
        self._parser = httptools.HttpResponseParser(self)
        self._framed = False
        self._in_body = False
        self._body = bytearray()
        self.location: str | None = None
        self.status = 0
        self.complete = False

    @property
    def body(self) -> bytes:
        """What there is of the body, at most one byte more than the cap."""
        return bytes(self._body)

    @property
    def enough(self) -> bool:
        """Whether nothing more needs to be read."""
        return self.complete or len(self._body) > self._cap

    @property
    def ends_here(self) -> bool:
        """Whether the end of the connection is the end of the body (RFC 9112, 6.3: no length was given)."""
        return self._in_body and not self._framed

    def feed(self, data: bytes | bytearray) -> None:
        """Parse more. Raises httptools.HttpParserError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            # Careless servers send a body after 204 and 304, which then is no HTTP. The answer was whole before it.
            if not self.complete:
                raise

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser: keep Location, and whether the body says where it ends."""
        lowered = name.lower()
        if self.complete:
            return
        if lowered == b"location" and self.location is None:
            self.location = value.decode("latin-1")
        elif lowered in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        """Called by the parser: the head is over."""
        if not self.complete:
            self.status = int(self._parser.get_status_code())
            self._in_body = True

    def on_body(self, data: bytes) -> None:
        """Called by the parser: keep no more than shows that there was too much."""
        if not self.complete:
            self._body += data[: self._cap + 1 - len(self._body)]

    def on_message_complete(self) -> None:
        """Called by the parser: the whole answer is here."""
        self.complete = True


async def _read(channel: trio.abc.Stream, body_cap: int) -> Fetched:
    """Read one answer, stopping as soon as enough is known."""
    answer = _Answer(body_cap)
    received = 0
    while not answer.enough:
        data = await channel.receive_some(_RECEIVE)
        if not data:
            if answer.ends_here:
                break
            raise FetchFailed("the server hung up before its answer was whole")
        answer.feed(data)
        received += len(data)
        # Chunk extensions and trailers never reach the body: the raw count bounds them as well as the head.
        if received > _HEAD_CAP + body_cap and not answer.enough:
            raise FetchFailed("the server's answer is too large", passing=False)
    if answer.status not in _STATUSES:
        # llhttp reads a status line without a status as 0.
        raise FetchFailed("the server's answer is not HTTP", passing=False)
    if answer.status in _INTERIM:
        # We never send Expect: a server that answers so speaks out of turn (RFC 9110, 15.2).
        raise FetchFailed("the server sent an interim answer that nobody asked for", passing=False)
    return Fetched(answer.status, answer.location, answer.body)
