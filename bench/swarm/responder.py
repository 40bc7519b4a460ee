"""Answers http-01 (RFC 8555, 8.3) from the swarm's own process: one greenlet, one map from tokens to what to say.

May not happen here: any other path than the challenge's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gevent.server import StreamServer

if TYPE_CHECKING:
    import socket

_PATH: Final = b"/.well-known/acme-challenge/"


class Responder:
    """Listens at `address` (`HOST:PORT`) from `start` on. `answers` maps tokens to key authorizations."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.answers: dict[bytes, bytes] = {}
        self._server = StreamServer((host or "0.0.0.0", int(port)), self._serve)

    def start(self) -> None:
        """Listen. Raises OSError where the address is taken."""
        self._server.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.stop()

    def _serve(self, connected: socket.socket, _address: object) -> None:
        with connected:
            connected.settimeout(10)
            data = b""
            while b"\r\n\r\n" not in data and len(data) < 8192:
                received = connected.recv(4096)
                if not received:
                    return
                data += received
            connected.sendall(answer(data, self.answers))


def answer(head: bytes, answers: dict[bytes, bytes]) -> bytes:
    """The answer to a request's head: the key authorization, or 404."""
    words = head.split(b" ", 2)
    token = words[1].removeprefix(_PATH) if len(words) == 3 and words[1].startswith(_PATH) else b""
    body = answers.get(token)
    status = b"404 Not Found" if body is None else b"200 OK"
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (status, len(body or b""), body or b"")
    )
