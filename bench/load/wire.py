"""A minimal HTTP/1.1 client on a blocking socket: one request, one answer, keep-alive.

It reads only answers with a Content-Length, which is all that the protocols under test send. That keeps its cost to
a few tens of microseconds, so that what is measured is the server.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One keep-alive connection to the origin of `url`; it is opened again when the server closed it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._authority = parts.netloc
        self._tls = tls if parts.scheme == "https" else None
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        """Close the socket, if one is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> Answer:
        """Send one request and read its answer. `headers` are whole lines. Raises OSError where the network fails."""
        head = "".join(
            (
                f"{method} {path} HTTP/1.1\r\nHost: {self._authority}\r\nContent-Length: {len(body)}\r\n",
                *(f"{line}\r\n" for line in headers),
                "\r\n",
            )
        ).encode("ascii")
        try:
            return self._exchange(head + body)
        except (ConnectionError, EOFError):
            self.close()  # the server's keep-alive ended; once more on a new connection
            return self._exchange(head + body)

    def _exchange(self, request: bytes) -> Answer:
        if self._socket is None:
            self._socket = self._open()
            self._rest = b""
        self._socket.sendall(request)
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
        lines = data[:end].decode("latin-1").split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        body = data[end + 4 :]
        while len(body) < length:
            body += self._receive()
        self._rest = body[length:]
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(lines[0].split(" ", 2)[1]), headers, body[:length])

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65536)
        if not data:
            raise EOFError("the server closed the connection")
        return data

    def _open(self) -> socket.socket:
        raw = socket.create_connection((self._host, self._port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return raw
        try:
            return self._tls.wrap_socket(raw, server_hostname=self._host)
        except OSError:
            raw.close()
            raise
