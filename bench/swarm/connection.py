"""A kept connection to each origin that a user speaks to, on whatever sockets the process has: gevent's, under locust.

May not happen here: an opinion about an answer. What the network does raises OSError.
"""

from __future__ import annotations

import socket
import ssl

from bench.load.answers import Reading
from bench.load.conversation import Answer, Failed, Origin

_PATIENCE = 60.0  # seconds for one answer; no client of these protocols waits longer
_CONNECTING = 15.0


class Connections:
    """One user's connections. `tls` is for all of them; each is opened when it is needed, and again after its end."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._open: dict[str, tuple[Origin, socket.socket, Reading]] = {}

    def ask(self, method: str, url: str, body: bytes | None, headers: tuple[str, ...]) -> Answer:
        """One request and its answer. A connection that the server had closed meanwhile is opened once more.

        Raises OSError where the network fails, Failed where the answer is no HTTP.
        """
        place = url.split("/", 3)[2]
        if place in self._open:
            try:
                return self._exchange(place, method, url, body, headers)
            except (ConnectionError, ssl.SSLError):
                self._drop(place)
        self._open[place] = self._connect(url)
        return self._exchange(place, method, url, body, headers)

    def close(self) -> None:
        """Close them all."""
        for place in list(self._open):
            self._drop(place)

    def _exchange(self, place: str, method: str, url: str, body: bytes | None, headers: tuple[str, ...]) -> Answer:
        origin, connected, reading = self._open[place]
        request = origin.ask(method, url, body, *headers)
        try:
            connected.sendall(request.data)
            while (answer := reading.next(head_only=request.head_only)) is None:
                received = connected.recv(65536)
                reading.feed(received)
                if received:
                    continue
                answer = reading.next(head_only=request.head_only, ended=True)
                if answer is None:
                    raise ConnectionResetError("the server closed the connection")
                break
        except (OSError, Failed):
            self._drop(place)
            raise
        if reading.closing:
            self._drop(place)
        return answer

    def _drop(self, place: str) -> None:
        found = self._open.pop(place, None)
        if found is not None:
            found[1].close()

    def _connect(self, url: str) -> tuple[Origin, socket.socket, Reading]:
        origin = Origin(url)
        raw = socket.create_connection((origin.host, origin.port), timeout=_CONNECTING)
        try:
            raw.settimeout(_PATIENCE)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected = self._tls.wrap_socket(raw, server_hostname=origin.host) if origin.secure else raw
        except BaseException:
            raw.close()
            raise
        return origin, connected, Reading()
