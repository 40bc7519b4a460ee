"""ACME requests over real TLS connections, each answer as it stood on the wire."""

import http.client
import ssl

import trio

from tests.doubles.asgi import Answered
from tests.doubles.gateway import RunningGateway


class Connection:
    """One kept-alive HTTP/1.1 connection to a gateway. One request at a time."""

    def __init__(self, gateway: RunningGateway) -> None:
        host, _, port = gateway.quickstart["https"].removeprefix("https://").rpartition(":")
        trusting = ssl.create_default_context(cafile=gateway.quickstart["root"])
        self._http = http.client.HTTPSConnection(host, int(port), context=trusting, timeout=60)

    def connect(self) -> None:
        self._http.connect()

    def close(self) -> None:
        self._http.close()

    def send(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answered:
        """One request and its answer; header lines as they came, each for itself."""
        self._http.request(method, target, body or None, headers or {})
        answer = self._http.getresponse()
        return Answered(answer.status, answer.getheaders(), answer.read())

    async def ask(self, method, target, body=b"", *, headers=None) -> Answered:
        """The same for an `AcmeClient`, in a thread of its own."""
        return await trio.to_thread.run_sync(self.send, method, target, body, headers)
