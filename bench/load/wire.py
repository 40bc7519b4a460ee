"""A client on a blocking socket: it plays the same conversations as the loops, one after the other, and waits for each.

For tests, for what prepares a run, and wherever one client is enough.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bench.load.answers import Reading
from bench.load.conversation import NOTHING, Answer, Ask, Conversation, Origin, Pause

__all__ = ["Answer", "Client", "Connection"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Client:
    """One client with its connection. `enroll` is one enrollment, and raises where it failed."""

    enroll: Callable[[], object]
    close: Callable[[], None]


class Connection:
    """One keep-alive connection to the origin of `url`; it is opened again when the server closed it."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.origin = Origin(url)
        self._tls = tls if self.origin.secure else None
        self._socket: socket.socket | None = None
        self._reading = Reading()

    def close(self) -> None:
        """Close the socket, if one is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def play(self, conversation: Conversation[R]) -> R:
        """Play a conversation to its end. Raises what it raises, and OSError or EOFError where the network fails."""
        try:
            step = next(conversation)
            while True:
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = NOTHING
                else:
                    answer = self.ask(step)
                step = conversation.send(answer)
        except StopIteration as ended:
            result: R = ended.value
            return result
        finally:
            conversation.close()

    def send(self, method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> Answer:
        """Send one request and give its answer. `headers` are whole lines. Raises OSError where the network fails."""
        return self.ask(self.origin.ask(method, path, body, *headers))

    def ask(self, ask: Ask) -> Answer:
        """The same with a request that is whole."""
        try:
            return self._exchange(ask)
        except (ConnectionError, EOFError):
            self.close()  # the server's keep-alive ended; once more on a new connection
            return self._exchange(ask)

    def _exchange(self, ask: Ask) -> Answer:
        if self._socket is None:
            self._socket = self._open()
            self._reading = Reading()
        self._socket.sendall(ask.data)
        ended = False
        while (answer := self._reading.next(head_only=ask.head_only, ended=ended)) is None:
            if ended:
                raise EOFError("the server closed the connection")
            data = self._socket.recv(65536)
            ended = not data
            self._reading.feed(data)
        if self._reading.closing:
            self.close()
        return answer

    def _open(self) -> socket.socket:
        raw = socket.create_connection((self.origin.host, self.origin.port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return raw
        try:
            raw.getpeername()  # fails where it was reset already: `wrap_socket` would find out and leave it open
            return self._tls.wrap_socket(raw, server_hostname=self.origin.host)
        except OSError:
            raw.close()
            raise
