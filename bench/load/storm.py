"""Storms: what strangers send who want no answer. One process each, sockets that do not block, nothing is computed.

For a gateway of one's own on loopback alone: nothing here keeps to what is polite, and sources are 127.0.0.0/8.
"""

from __future__ import annotations

import errno
import itertools
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

TAKEN = 65_536  # bytes read at once
CALM = 0.25  # seconds until a connection that was refused or ended is opened again


@dataclass(frozen=True, slots=True)
class Storm:
    """What is sent, over and over, to `where` by so many connections from so many addresses.

    `once`: each connection sends one of `requests` and is closed when something comes back. `deaf`: nothing is ever
    read. `every`: seconds between two pieces of `piece` bytes; 0: all of it, as soon as the last was answered.
    """

    where: tuple[str, int]
    requests: Sequence[bytes]
    connections: int
    sources: int = 1
    tls: bool = False
    once: bool = False
    deaf: bool = False
    every: float = 0.0
    piece: int = 1


@dataclass(slots=True)
class Came:
    """What came of a storm: answers by status (0: bytes that are no HTTP), connections that failed or were ended."""

    answers: Counter[int] = field(default_factory=Counter)
    ended: int = 0


def client_hello(name: str) -> bytes:
    """The first flight of a TLS 1.3 handshake. It may be sent again and again: the server must answer each."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def rage(storm: Storm, until: Callable[[], bool]) -> Came:
    """Send it until `until` says so."""
    came = Came()
    poll = select.epoll()
    requests = itertools.cycle(storm.requests)
    sources = _sources(storm.sources)
    open_: dict[int, _Connection] = {}
    waiting = [0.0] * storm.connections  # when each that is not open is to be opened
    while not until():
        now = time.monotonic()
        waiting = _open(storm, waiting, now, poll, open_, sources, requests)
        for number, _ in poll.poll(0.005):
            each = open_[number]
            if each.go_on(came, storm, requests):
                continue
            came.ended += not each.answered
            del open_[number]
            each.close(poll)
            waiting.append(now if each.answered else now + CALM)
        if storm.every:
            for each in open_.values():
                each.trickle(now, storm)
    for each in open_.values():
        each.close(poll)
    return came


def _open(
    storm: Storm,
    waiting: list[float],
    now: float,
    poll: select.epoll,
    open_: dict[int, _Connection],
    sources: Iterator[str],
    requests: Iterator[bytes],
) -> list[float]:
    later = [due for due in waiting if due > now]
    for _ in range(len(waiting) - len(later)):
        each = _Connection(storm, next(sources), next(requests))
        open_[each.socket.fileno()] = each
        poll.register(each.socket, select.EPOLLIN | select.EPOLLOUT)
    return later


def _sources(count: int) -> Iterator[str]:
    """Addresses of loopback that nobody else has: honest clients come from 127.0.0.1."""
    return itertools.cycle(
        [f"127.{9 + number // 60000}.{number // 250 % 240}.{1 + number % 250}" for number in range(count)]
    )


class _Connection:
    """One connection of a storm."""

    def __init__(self, storm: Storm, source: str, request: bytes) -> None:
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if storm.deaf:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.bind((source, 0))
        refused = raw.connect_ex(storm.where)
        self.failed = refused not in {0, errno.EINPROGRESS}
        self.socket: socket.socket = raw
        if storm.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(raw, do_handshake_on_connect=False)
        self.answered = False
        self._shaking = storm.tls
        self._left = request
        self._due = 0.0
        self._listens = True

    def close(self, poll: select.epoll) -> None:
        """Close it at once, without goodbye: a reset."""
        with suppress(OSError):
            poll.unregister(self.socket)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def go_on(self, came: Came, storm: Storm, requests: Iterator[bytes]) -> bool:
        """Whether it stays open."""
        try:
            if self._shaking:
                assert isinstance(self.socket, ssl.SSLSocket)
                self.socket.do_handshake()
                self._shaking = False
            if not storm.every:
                self._send(storm, requests)
            return storm.deaf or self._hear(came, storm, requests)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False

    def _send(self, storm: Storm, requests: Iterator[bytes]) -> None:
        while self._left:
            self._left = self._left[self.socket.send(self._left) :]
            if storm.deaf and not self._left:
                self._left = next(requests)

    def _hear(self, came: Came, storm: Storm, requests: Iterator[bytes]) -> bool:
        data = self.socket.recv(TAKEN)
        if not data:
            return False
        # A storm looks at nothing but the first bytes: short answers come whole.
        came.answers[int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0] += 1
        if storm.once:
            self.answered = True
            return False
        self._left = next(requests)
        if not storm.every:
            self._send(storm, requests)
        return True

    def trickle(self, now: float, storm: Storm) -> None:
        """Send the next piece, if its time has come."""
        if self._shaking or now < self._due or not self._left:
            return
        self._due = now + storm.every
        with suppress(OSError):
            self._left = self._left[self.socket.send(self._left[: storm.piece]) :]
