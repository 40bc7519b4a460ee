"""EST: simpleenroll (RFC 7030, 4.2), by HTTP Basic or with a client certificate, on kept or on new connections."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from bench.load.conversation import Conversation, Failed, Head, Origin, expect
from bench.load.loop import Player
from bench.load.requests import ANY_NAME, Template, elliptic
from bench.load.trust import Trust
from bench.load.wire import Client, Connection

_CONTENT = ("Content-Type: application/pkcs10", "Content-Transfer-Encoding: base64")


@dataclass(frozen=True, slots=True)
class Est:
    """Clients of the EST server whose operations are below `url`; without `user` their certificate speaks for them."""

    url: str
    trust: Trust
    user: str = ""
    passphrase: str = field(default="", repr=False)
    names: str = ANY_NAME
    fresh: bool = False
    open_answers: bool = False

    def players(self, count: int, ahead: int) -> list[Player]:
        """Clients with a key each."""
        each_ahead = -(-ahead // count)
        return [Enrolling(self, each_ahead) for _ in range(count)]

    def headers(self) -> tuple[str, ...]:
        """What every request says."""
        if not self.user:
            return _CONTENT
        credentials = base64.b64encode(f"{self.user}:{self.passphrase}".encode()).decode("ascii")
        return (*_CONTENT, f"Authorization: Basic {credentials}")


class Enrolling:
    """One client: a key, and as many requests as were prepared; what goes beyond them is made when it is needed."""

    def __init__(self, fleet: Est, ahead: int = 0) -> None:
        self._open = fleet.open_answers
        self._head: Head = Origin(fleet.url).head("POST", f"{fleet.url}/simpleenroll", *fleet.headers())
        self.template = Template(elliptic(), fleet.names)
        self._prepared = [self._body() for _ in range(ahead)]

    def introduce(self) -> Conversation[None]:
        """Nothing comes before an enrollment."""
        yield from ()

    def enroll(self) -> Conversation[None]:
        """One certificate. The answer's form is looked at, and with `open_answers` what is in it."""
        yield from self.issue(opened=self._open)

    def issue(self, *, opened: bool) -> Conversation[bytes]:
        """One certificate; PEM if the answer is opened, else nothing."""
        body = self._prepared.pop() if self._prepared else self._body()
        answer = expect((yield self._head.with_body(body)), 200)
        # RFC 7030, 4.2.3: a certs-only message in base64, which begins with a SEQUENCE of two length octets.
        if not answer.body.startswith(b"MI"):
            raise Failed(f"no certificate: {answer.body[:60]!r}")
        if not opened:
            return b""
        certificates = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
        return certificates[0].public_bytes(Encoding.PEM)

    def _body(self) -> bytes:
        return base64.b64encode(self.template.next()[1])


def by_passphrase(url: str, root: str, user: str, passphrase: str) -> Client:
    """A client on a blocking connection that enrolls with HTTP Basic, and opens what it gets."""
    enrolling = Enrolling(Est(url, Trust(root), user, passphrase))
    connection = Connection(url, ssl.create_default_context(cafile=root))
    return Client(lambda: connection.play(enrolling.issue(opened=True)), connection.close)
