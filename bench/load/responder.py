"""Answers http-01 challenges (RFC 8555, 8.3) for all driver processes: one loop in a thread of its own.

Drivers say what to answer by a datagram on a UNIX socket, before they ask the server to look. The datagram is in this
socket's queue by the time the server's request comes, and the queue is read before any request is answered. May not
happen here: answers to anything but a token that a driver named.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import tempfile
import threading
from pathlib import Path
from typing import Final

_MOST_OF_A_REQUEST: Final = 8192
_MOST_KEPT: Final = 100_000  # key authorizations; the oldest go first, long after they were asked for


class Announcing:
    """A driver's side: it tells the responder at `address` what to answer."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def say(self, key_authorization: str) -> None:
        """Name a key authorization; its token is what stands before the dot."""
        self._socket.sendto(key_authorization.encode("ascii"), self._address)

    def close(self) -> None:
        """Say nothing more."""
        self._socket.close()


class Responder:
    """Listens at `host` on `port`, on a free one for 0. `answers` maps tokens to key authorizations.

    At `localhost` it listens on both loopback addresses: validators ask IPv6 first, and would pay for a refusal.
    """

    def __init__(self, port: int = 0, host: str = "localhost") -> None:
        self.answers: dict[str, bytes] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="load-")
        self.address = str(Path(self._folder.name, "said"))
        self._said = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._said.bind(self.address)
        self._said.setblocking(False)
        self._listening = _listening(host, port)
        self.port: int = self._listening[0].getsockname()[1]
        self._selector = selectors.DefaultSelector()
        for each in (self._said, *self._listening):
            self._selector.register(each, selectors.EVENT_READ)
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._ending = True
        with contextlib.closing(Announcing(self.address)) as last:
            last.say("end.")
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._folder.cleanup()

    def _serve(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj in self._listening:
                    self._accept(key.fileobj)
                elif key.fileobj is not self._said:
                    self._hear(key.fileobj)
                else:
                    self._listen()

    def _listen(self) -> None:
        """Read what drivers have said so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                said = self._said.recv(4096)
                self.answers[said.partition(b".")[0].decode("ascii")] = said
                if len(self.answers) > _MOST_KEPT:
                    del self.answers[next(iter(self.answers))]

    def _accept(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listening.accept()
                taken.setblocking(False)
                self._selector.register(taken, selectors.EVENT_READ)

    def _hear(self, taken: socket.socket) -> None:
        """Answer a request, of which the first read has enough: a challenge's request line is short."""
        try:
            data = taken.recv(_MOST_OF_A_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._listen()
            token = data.partition(b" HTTP/")[0].rpartition(b"/")[2].decode("latin-1")
            body = self.answers.get(token, b"")
            status = b"200 OK" if body else b"404 Not Found"
            head = b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n" % (
                status,
                len(body),
            )
            with contextlib.suppress(OSError):
                taken.send(head + b"Connection: close\r\n\r\n" + body)
        self._selector.unregister(taken)
        taken.close()


def _listening(host: str, port: int) -> list[socket.socket]:
    made = [socket.create_server(("127.0.0.1" if host == "localhost" else host, port), backlog=1024)]
    if host == "localhost" and socket.has_dualstack_ipv6():  # whether there is IPv6 at all
        port = made[0].getsockname()[1]
        made.append(socket.create_server(("::1", port), family=socket.AF_INET6, backlog=1024))
    for each in made:
        each.setblocking(False)
    return made
