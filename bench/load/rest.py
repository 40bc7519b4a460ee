"""REST: POST /certificates with a CSR, or without one, when the server makes the key."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass, field

import msgspec

from bench.load.conversation import Conversation, Failed, Origin, expect
from bench.load.loop import Player
from bench.load.requests import ANY_NAME, Template, elliptic, names
from bench.load.trust import Trust
from bench.load.wire import Client, Connection


@dataclass(frozen=True, slots=True)
class Rest:
    """Clients of the API below `url`, all with one bearer token; with `server_key` the server makes their keys."""

    url: str
    trust: Trust
    token: str = field(repr=False)
    application: str
    profile: str
    names: str = ANY_NAME
    server_key: str = ""
    fresh: bool = False

    def players(self, count: int, ahead: int) -> list[Player]:
        """Clients with a key each."""
        each_ahead = -(-ahead // count)
        return [Enrolling(self, each_ahead) for _ in range(count)]


class Enrolling:
    """One client with as many bodies as were prepared; what goes beyond them is made when it is needed."""

    def __init__(self, fleet: Rest, ahead: int = 0) -> None:
        authorization = f"Authorization: Bearer {fleet.token}"
        url = f"{fleet.url}/certificates"
        self._head = Origin(url).head("POST", url, "Content-Type: application/json", authorization)
        self._fleet = fleet
        self._template = Template(elliptic(), fleet.names)
        self._names = names(fleet.names)
        self._prepared = [self._body() for _ in range(ahead)]

    def introduce(self) -> Conversation[None]:
        """Nothing comes before an enrollment."""
        yield from ()

    def enroll(self) -> Conversation[None]:
        """One certificate."""
        ask = self._head.with_body(self._prepared.pop() if self._prepared else self._body())
        answer = expect((yield ask), 200, 201)
        if b"BEGIN CERTIFICATE" not in answer.body:
            raise Failed(f"no certificate in the answer: {answer.body[:200]!r}")
        if self._fleet.server_key and b"PRIVATE KEY" not in answer.body:
            raise Failed("no private key in the answer")

    def whole(self) -> bytes:
        """The next request, head and body."""
        return self._head.with_body(self._body()).data

    def _body(self) -> bytes:
        wish: dict[str, object] = {"applicationName": self._fleet.application, "profileName": self._fleet.profile}
        if self._fleet.server_key:
            host = next(self._names)
            wish["attributes"] = {
                "commonName": host,
                "altNames": [{"type": "DNS", "value": host}],
                "keyAlgorithm": self._fleet.server_key,
            }
        else:
            text = base64.encodebytes(self._template.next()[1]).decode("ascii")
            wish["csr"] = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
        return msgspec.json.encode(wish)


def by_csr(url: str, root: str, token: str, application: str, profile: str) -> Client:
    """A client on a blocking connection. `url` is the API's prefix, up to `cert-manager`."""
    enrolling = Enrolling(Rest(url, Trust(root), token, application, profile))
    connection = Connection(url, ssl.create_default_context(cafile=root))
    return Client(lambda: connection.play(enrolling.enroll()), connection.close)


def prepared(url: str, token: str, application: str, profile: str, count: int) -> list[bytes]:
    """So many whole requests, head and body, each with a name of its own."""
    enrolling = Enrolling(Rest(url, Trust(), token, application, profile))
    return [enrolling.whole() for _ in range(count)]
