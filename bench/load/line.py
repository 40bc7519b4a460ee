"""One client's connection on a socket that does not block: it connects, shakes hands, sends, hears, as far as it can.

May not happen here: waiting, and deciding what is said. Whoever has the event loop calls `go_on` when something moved.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
from typing import Final

from bench.load.answers import Reading
from bench.load.conversation import Answer, Ask, Origin

_CHUNK: Final = 65536


class Lost(Exception):
    """The connection failed, or ended before the answer did."""


class Address:
    """Where an origin listens; looked up once, for all lines to it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._found: tuple[str, int] | None = None

    def __call__(self) -> tuple[str, int]:
        """Host and port. Raises Lost where the name has no address, and OSError where nobody can look."""
        if self._found is None:
            known = socket.getaddrinfo(self._origin.host, self._origin.port, type=socket.SOCK_STREAM)
            addresses = [(str(each[4][0]), int(each[4][1])) for each in known]
            # A name may have an address of each family while the server listens at one of them.
            self._found = addresses[0] if len(addresses) == 1 else _reachable(addresses)
        return self._found


class Line:
    """A connection to one origin, opened when it is needed. `kept`: it has carried an answer before.

    `wants` is what epoll is to look for, 0 while there is no socket.
    """

    __slots__ = (
        "_ask",
        "_hands",
        "_origin",
        "_reading",
        "_rest",
        "_socket",
        "_tls",
        "_up",
        "_where",
        "kept",
        "wants",
    )

    def __init__(self, origin: Origin, address: Address, tls: ssl.SSLContext | None) -> None:
        self._origin = origin
        self._where = address
        self._tls = tls if origin.secure else None
        self._socket: socket.socket | ssl.SSLSocket | None = None
        self._reading = Reading()
        self._up = False  # connected
        self._hands = False  # shaken
        self._rest = b""
        self._ask: Ask | None = None
        self.kept = False
        self.wants = 0

    @property
    def number(self) -> int:
        """The descriptor, or -1."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def begun(self) -> bool:
        """Whether a part of the answer has come."""
        return self._reading.begun

    def close(self) -> None:
        """Close the socket, if there is one. Whoever watches it stops before."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._up = self._hands = self.kept = False
        self._rest, self._ask, self._reading, self.wants = b"", None, Reading(), 0

    def say(self, ask: Ask) -> None:
        """Send a request, on a new connection if there is none. Raises Lost."""
        self._ask, self._rest = ask, ask.data
        if self._socket is None:
            self._open()
        elif self._hands:
            try:
                # Its answer is not here yet: to look for it would be a system call for nothing.
                self._sent()
            except OSError as error:
                raise Lost(f"{type(error).__name__}: {error}") from error

    def go_on(self) -> Answer | None:
        """Do what can be done without waiting; gives the answer once it is whole. Raises Lost, and Failed."""
        try:
            if not self._hands and not self._shaken():
                return None
            if self._rest and not self._sent():
                return None
            return self._heard()
        except (ssl.SSLWantReadError, BlockingIOError):
            self.wants = select.EPOLLIN
        except ssl.SSLWantWriteError:
            self.wants = select.EPOLLIN | select.EPOLLOUT
        except OSError as error:
            raise Lost(f"{type(error).__name__}: {error}") from error
        return None

    def finish(self) -> None:
        """The answer was taken: the connection is free for the next request, or closed where it was its last."""
        self._ask = None
        self.kept = True

    @property
    def ending(self) -> bool:
        """Whether the server said that it ends the connection."""
        return self._reading.closing

    def _open(self) -> None:
        address = self._where()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        raw = socket.socket(family, socket.SOCK_STREAM)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setblocking(False)
        failed = raw.connect_ex(address)
        if failed not in {0, errno.EINPROGRESS}:
            raw.close()
            raise Lost(_unreachable(address, failed))
        self._socket = raw
        self.wants = select.EPOLLOUT

    def _shaken(self) -> bool:
        assert self._socket is not None
        if not self._up:
            if not self._connected():
                return False
            self._up = True
            if self._tls is not None:
                self._socket = self._tls.wrap_socket(
                    self._socket, server_hostname=self._origin.host, do_handshake_on_connect=False
                )
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.do_handshake()
        self._hands = True
        self.wants = select.EPOLLIN
        return True

    def _connected(self) -> bool:
        """Whether it is; an event may be one of the socket that had this number before. Raises Lost."""
        assert self._socket is not None
        failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise Lost(_unreachable(self._where(), failed))
        try:
            self._socket.getpeername()
        except OSError:
            return False
        return True

    def _sent(self) -> bool:
        assert self._socket is not None
        try:
            count = self._socket.send(self._rest)
        except (ssl.SSLWantWriteError, BlockingIOError):
            count = 0
        self._rest = self._rest[count:]
        self.wants = select.EPOLLIN | select.EPOLLOUT if self._rest else select.EPOLLIN
        return not self._rest

    def _heard(self) -> Answer | None:
        assert self._socket is not None
        data = self._socket.recv(_CHUNK)
        if data:
            self._reading.feed(data)
        if self._ask is None:
            # Nobody asked: the end of an idle connection, or a server's 408 before it.
            raise Lost("the server ended an idle connection")
        answer = self._reading.next(head_only=self._ask.head_only, ended=not data)
        if answer is None and not data:
            raise Lost("the server closed the connection")
        return answer


def _unreachable(address: tuple[str, int], failed: int) -> str:
    return f"connecting to {address[0]} port {address[1]}: {errno.errorcode.get(failed, failed)}"


def _reachable(addresses: list[tuple[str, int]]) -> tuple[str, int]:
    """The first address at which anybody listens. Raises Lost where nobody does at any."""
    sentence = "no address"
    for address in addresses:
        try:
            socket.create_connection(address, timeout=5).close()
        except OSError as error:
            sentence = f"connecting to {address}: {error}"
        else:
            return address
    raise Lost(sentence)
