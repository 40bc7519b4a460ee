"""ACME (RFC 8555): newOrder to download on one connection, or one POST-as-GET; the server is known by its directory.

Each client has an account with a key of its own, made before anything counts. Constant parts of a JWS are encoded once
a URL, so that a request costs the driver one signature and little more.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from bench.load import eab
from bench.load.conversation import Answer, Conversation, Failed, Head, Origin, Pause, Told, expect
from bench.load.loop import Player
from bench.load.requests import ANY_NAME, Template, csr, elliptic, identifier
from bench.load.responder import Announcing, Responder
from bench.load.trust import Trust
from bench.load.wire import Connection

__all__ = ["Account", "AccountKey", "Acme", "JsonObject", "Responder"]

JsonObject = dict[str, object]
Say: TypeAlias = Callable[[str], None]

_ECDSA_SHA256: Final = ec.ECDSA(hashes.SHA256())
_NEW_NONCES: Final = 5  # times that one request is sent, with a new nonce after badNonce (RFC 8555, 6.5)


class Directory(msgspec.Struct, frozen=True, rename="camel"):
    """Where the server's resources are (RFC 8555, 7.1.1)."""

    new_nonce: str
    new_account: str
    new_order: str


class Order(msgspec.Struct, frozen=True):
    """An order, as far as it is needed (RFC 8555, 7.1.3)."""

    status: str
    finalize: str = ""
    authorizations: tuple[str, ...] = ()
    certificate: str = ""


class Challenge(msgspec.Struct, frozen=True):
    """A challenge (RFC 8555, 7.1.5 and 8)."""

    type: str
    url: str
    token: str = ""
    status: str = "pending"


class Authorization(msgspec.Struct, frozen=True):
    """An authorization (RFC 8555, 7.1.4)."""

    status: str
    challenges: tuple[Challenge, ...] = ()


_DIRECTORY: Final = msgspec.json.Decoder(Directory)
_ORDER: Final = msgspec.json.Decoder(Order)
_AUTHORIZATION: Final = msgspec.json.Decoder(Authorization)
_CHALLENGE: Final = msgspec.json.Decoder(Challenge)


@dataclass(frozen=True, slots=True)
class Acme:
    """Clients of the ACME server whose directory is at `url`.

    `key_authorizations` is where a responder takes them, empty where every order is ready at once. `only_read`: the
    work is one POST-as-GET of an order. `poll` is in seconds: the quickest clients ask at once and then often.
    """

    url: str
    trust: Trust
    names: str = ANY_NAME
    contact: str = ""
    eab_kid: str = ""
    eab_hmac: bytes = field(default=b"", repr=False)
    key_authorizations: str = ""
    only_read: bool = False
    poll: float = 0.01
    fresh: bool = False
    directory: Directory | None = None  # where it was read already; `url` is then of the resources' origin

    def located(self) -> Acme:
        """The same clients, at the origin that the directory's own URLs name: they may be at another than it is.

        Raises Failed or Told where the server answers otherwise, ValueError where that is no directory, and OSError
        or EOFError where the network fails.
        """
        origin = Origin(self.url)
        with contextlib.closing(Connection(self.url, self.trust.context() if origin.secure else None)) as connection:
            found = _DIRECTORY.decode(expect(connection.ask(origin.ask("GET", self.url)), 200).body)
        return replace(self, url=found.new_order, directory=found)

    def players(self, count: int, ahead: int) -> list[Player]:
        """Clients with an account each. Nothing can be signed before: every request has the last answer's nonce."""
        del ahead
        say = Announcing(self.key_authorizations).say if self.key_authorizations else _nobody_listens
        return [Enrolling(self, say) for _ in range(count)]


class AccountKey:
    """An account's key, and the requests that it signs.

    `jwk` is the public key (RFC 7517), `kid` the account's URL, empty before there is one.
    """

    def __init__(self) -> None:
        self._key = elliptic()
        numbers = self._key.public_key().public_numbers()
        self.jwk = {"crv": "P-256", "kty": "EC", "x": _b64(numbers.x.to_bytes(32)), "y": _b64(numbers.y.to_bytes(32))}
        canonical = json.dumps(self.jwk, separators=(",", ":"), sort_keys=True).encode()
        self.thumbprint = _b64(hashlib.sha256(canonical).digest())
        self.kid = ""

    def signed(self, url: str, nonce: str, payload: JsonObject | None) -> bytes:
        """The body of one request: a flattened JWS (RFC 8555, 6.2); without a payload a POST-as-GET."""
        who = f'"kid":"{self.kid}"' if self.kid else f'"jwk":{json.dumps(self.jwk)}'
        protected = _b64(f'{{"alg":"ES256",{who},"nonce":"{nonce}","url":"{url}"}}'.encode())
        content = "" if payload is None else _b64(msgspec.json.encode(payload))
        r, s = decode_dss_signature(self._key.sign(f"{protected}.{content}".encode("ascii"), _ECDSA_SHA256))
        signature = _b64(r.to_bytes(32) + s.to_bytes(32))
        return f'{{"protected":"{protected}","payload":"{content}","signature":"{signature}"}}'.encode("ascii")


class Enrolling:
    """One client: an account, its nonce, and a key for its certificates. `say` names what http-01 is to find."""

    def __init__(self, fleet: Acme, say: Say) -> None:
        self._fleet = fleet
        self._say = say
        self._origin = Origin(fleet.url)
        self._key = AccountKey()
        self._template = Template(elliptic(), fleet.names)
        self._heads: dict[str, Head] = {}
        self._nonce = ""
        self._urls = Directory("", "", "")
        self._read = ""  # what a POST-as-GET reads

    def introduce(self) -> Conversation[None]:
        """Read the directory, make the account, and enroll once: the name is proved, and the order can be read."""
        yield from self.register()
        _, self._read = yield from self.issue(*self._template.next())

    def enroll(self) -> Conversation[None]:
        """One certificate with its chain; or one POST-as-GET."""
        if self._fleet.only_read:
            yield from self._post(self._read, None)
            return
        yield from self.issue(*self._template.next())

    def register(self) -> Conversation[None]:
        """The directory, a nonce and the account (RFC 8555, 7.1.1, 7.2, 7.3 and 7.3.4)."""
        self._urls = self._fleet.directory or _DIRECTORY.decode(
            expect((yield self._origin.ask("GET", self._fleet.url)), 200).body
        )
        wish: JsonObject = {"termsOfServiceAgreed": True}
        if self._fleet.contact:
            wish["contact"] = [self._fleet.contact]
        if self._fleet.eab_kid:
            secret, new_account = self._fleet.eab_hmac, self._urls.new_account
            wish["externalAccountBinding"] = eab.binding(self._fleet.eab_kid, secret, self._key.jwk, new_account)
        made = yield from self._post(self._urls.new_account, wish)
        self._key.kid = made.headers["location"]

    def issue(self, name: str, request: bytes) -> Conversation[tuple[bytes, str]]:
        """One certificate for `name` by a CSR in DER; gives its chain, PEM, and the order's URL."""
        made = yield from self._post(self._urls.new_order, {"identifiers": [identifier(name)]})
        url = made.headers["location"]
        order = _ORDER.decode(made.body)
        if order.status == "pending":
            for each in order.authorizations:
                yield from self._authorize(each)
            # Its state follows the authorizations' (RFC 8555, 7.1.6); servers differ in how soon.
        done = _ORDER.decode((yield from self._post(order.finalize, {"csr": _b64(request)})).body)
        while done.status in {"processing", "ready"}:
            yield Pause(self._fleet.poll)
            done = _ORDER.decode((yield from self._post(url, None)).body)
        if done.status != "valid":
            raise Failed(f"the order is {done.status}")
        chain = (yield from self._post(done.certificate, None)).body
        if b"BEGIN CERTIFICATE" not in chain:
            raise Failed(f"no certificate: {chain[:60]!r}")
        return chain, url

    def _authorize(self, url: str) -> Conversation[None]:
        authorization = _AUTHORIZATION.decode((yield from self._post(url, None)).body)
        if authorization.status == "valid":
            return
        offered = [each for each in authorization.challenges if each.type == "http-01"]
        if not offered or self._say is _nobody_listens:
            raise Failed("the order is not ready at once, and http-01 is not answered here")
        self._say(f"{offered[0].token}.{self._key.thumbprint}")
        status = _CHALLENGE.decode((yield from self._post(offered[0].url, {})).body).status
        while status in {"pending", "processing"}:
            yield Pause(self._fleet.poll)
            status = _AUTHORIZATION.decode((yield from self._post(url, None)).body).status
        if status != "valid":
            raise Failed(f"the authorization is {status}")

    def _post(self, url: str, payload: JsonObject | None) -> Conversation[Answer]:
        head = self._heads.get(url)
        if head is None:
            head = self._origin.head("POST", url, "Content-Type: application/jose+json")
            if len(self._heads) < 8:  # newOrder and what is read often; orders' URLs are new each time
                self._heads[url] = head
        for _ in range(_NEW_NONCES):
            if not self._nonce:
                fresh = expect((yield self._origin.ask("HEAD", self._urls.new_nonce)), 200, 204)
                self._nonce = fresh.headers["replay-nonce"]
            nonce, self._nonce = self._nonce, ""
            answer = yield head.with_body(self._key.signed(url, nonce, payload))
            self._nonce = answer.headers.get("replay-nonce", "")
            if answer.status < 300:
                return answer
            if b"ietf:params:acme:error:badNonce" not in answer.body:
                break
        if b"ietf:params:acme:error:rateLimited" in answer.body:
            raise Told(answer)
        return expect(answer, 200)


class Account:
    """An account on a blocking connection. One thread at a time."""

    def __init__(self, directory: str, root: str) -> None:
        self._connection = Connection(directory, ssl.create_default_context(cafile=root))
        self._answers: dict[str, bytes] = {}
        self._enrolling = Enrolling(Acme(directory, Trust(root)), self._say)
        self._key = elliptic()
        try:
            self._connection.play(self._enrolling.register())
        except BaseException:
            self._connection.close()
            raise

    def issue(self, name: str, responder: Responder | None = None) -> bytes:
        """One certificate for `name`, PEM; `responder` answers http-01, without one the order must be ready at once."""
        self._answers = {} if responder is None else responder.answers
        chain, _ = self._connection.play(self._enrolling.issue(name, csr(self._key, name)))
        return chain

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _say(self, key_authorization: str) -> None:
        self._answers[key_authorization.partition(".")[0]] = key_authorization.encode("ascii")


def _nobody_listens(_: str) -> None:
    """Without a responder there is nobody to tell."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
