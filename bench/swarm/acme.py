"""ACME as certbot, lego and cert-manager do it: an account that is kept, orders, challenges, polls, the chain.

May not happen here: a JWS put together (`bench.load.acme`), a nonce used twice.
"""

from __future__ import annotations

import base64
import json
import time
from typing import ClassVar, Final

import gevent
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.load import eab
from bench.load.acme import AccountKey
from bench.load.conversation import Answer
from bench.swarm.member import Ended, Member
from bench.swarm.responder import is_token
from bench.swarm.told import few, wait

_ERROR: Final = "urn:ietf:params:acme:error:"
_BAD_NONCES: Final = 5  # in a row for one request; certbot gives up at the second, lego at the tenth
_POLLS: Final = 40
_FIRST_POLL: Final = 1.0  # seconds, where no Retry-After says otherwise; lego and certbot begin with one, too
_SLOWEST_POLL: Final = 10.0
_JOSE: Final = "Content-Type: application/jose+json"

JsonObject = dict[str, object]


class AcmeUser(Member):
    """A server with an account of its own, which gets and renews certificates for its names."""

    weight = 8
    door: ClassVar[str] = "acme"

    def begin(self) -> None:
        """The directory, a nonce, an account; with an external account binding where one is given."""
        self._urls = _read(self.ask("directory", "GET", self.told.acme_directory))
        self._nonce = ""
        self._account = AccountKey()
        new_account = str(self._urls["newAccount"])
        payload: JsonObject = {"termsOfServiceAgreed": True}
        if self.told.acme_contact:
            payload["contact"] = [self.told.acme_contact]
        if self.told.eab_kid:
            jwk = self._account.jwk
            key = eab.mac_key(self.told.eab_hmac)
            payload["externalAccountBinding"] = eab.binding(self.told.eab_kid, key, jwk, new_account)
        self._account.kid = self._post("newAccount", new_account, payload, 200, 201).headers["location"]
        self._names = [self.numbered(name.strip()) for name in self.told.acme_names.split(",")]

    def work(self) -> None:
        """An order, from newOrder to download."""
        wish = [{"type": "dns", "value": name} for name in self._names]
        made = self._post("newOrder", str(self._urls["newOrder"]), {"identifiers": wish}, 201)
        url, order = made.headers["location"], _read(made)
        if order["status"] == "pending":
            for authorization in _texts(order["authorizations"]):
                self._authorize(authorization)
        request = _request(self.key(), self._names)
        answer = self._post("finalize", str(order["finalize"]), {"csr": _b64(request)}, 200)
        order = self._settled("order", url, answer)
        if order["status"] != "valid":
            raise self.failed("order", time.perf_counter(), _problem(order.get("error"), str(order["status"])))
        chain = self._post("download", str(order["certificate"]), None, 200)
        if b"BEGIN CERTIFICATE" not in chain.body:
            raise self.failed("download", time.perf_counter(), "no certificate in the answer")

    def meaning(self, answer: Answer) -> str:
        """The problem's type (RFC 8555, 6.7)."""
        return _problem(_read(answer), f"HTTP {answer.status}")

    def _authorize(self, url: str) -> None:
        authorization = _read(self._post("authorization", url, None, 200))
        if authorization["status"] == "valid":
            return
        if self.responder is None:
            raise self.failed("authorization", time.perf_counter(), "pending, and --acme-http01 is not given")
        challenge = _http01(authorization)
        if challenge is None:
            raise self.failed("authorization", time.perf_counter(), "the server offers no http-01")
        token = str(challenge["token"])
        self.responder.said.say(token, f"{token}.{self._account.thumbprint}")
        try:
            answered = self._post("challenge", str(challenge["url"]), {}, 200)
            if _read(answered)["status"] in {"pending", "processing"}:
                gevent.sleep(wait(answered) if "retry-after" in answered.headers else _FIRST_POLL)
            settled = self._settled("authorization", url, self._post("authorization", url, None, 200))
        finally:
            self.responder.said.forget(token)
        if settled["status"] != "valid":
            failed = _http01(settled) or {}
            raise self.failed("challenge", time.perf_counter(), _problem(failed.get("error"), str(settled["status"])))

    def _settled(self, what: str, url: str, answer: Answer) -> JsonObject:
        """Ask again, as slowly as clients do, until it is neither pending nor processing."""
        pause = _FIRST_POLL
        for _ in range(_POLLS):
            found = _read(answer)
            if found["status"] not in {"pending", "processing"}:
                return found
            gevent.sleep(wait(answer) if "retry-after" in answer.headers else pause)
            pause = min(pause * 1.5, _SLOWEST_POLL)
            answer = self._post(what, url, None, 200)
        raise self.failed(what, time.perf_counter(), f"still {found['status']}")

    def _post(self, what: str, url: str, payload: JsonObject | None, *good: int) -> Answer:
        """A signed request, and once more with the nonce of the refusal where the first was not liked (6.5)."""
        for _ in range(_BAD_NONCES):
            nonce, self._nonce = self._nonce or self._new_nonce(), ""
            body = self._account.signed(url, nonce, payload)
            answer = self.ask(what, "POST", url, body, _JOSE, good=good, excused=_bad_nonce)
            self._nonce = answer.headers.get("replay-nonce", "")
            if answer.status in good:
                return answer
        raise self.failed(what, time.perf_counter(), f"badNonce {_BAD_NONCES} times")

    def _new_nonce(self) -> str:
        nonce = self.ask("newNonce", "HEAD", str(self._urls["newNonce"])).headers.get("replay-nonce", "")
        if not nonce:
            raise Ended("newNonce: no nonce")
        return nonce


def _bad_nonce(answer: Answer) -> str:
    bad = answer.status == 400 and _read(answer).get("type") == f"{_ERROR}badNonce"
    return "badNonce, asked again" if bad else ""


def _problem(problem: object, otherwise: str) -> str:
    """What a problem document says (RFC 8555, 6.7), without what differs each time."""
    if not isinstance(problem, dict) or not isinstance(problem.get("type"), str):
        return otherwise
    return f"{problem['type'].removeprefix(_ERROR)}: {few(str(problem.get('detail', '')))}"


def _http01(authorization: JsonObject) -> JsonObject | None:
    challenges = authorization["challenges"]
    assert isinstance(challenges, list)
    offered = (each for each in challenges if each["type"] == "http-01")
    return next((each for each in offered if is_token(str(each["token"]))), None)


def _read(answer: Answer) -> JsonObject:
    try:
        found = json.loads(answer.body)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _request(key: ec.EllipticCurvePrivateKey, names: list[str]) -> bytes:
    """A PKCS#10 for exactly the order's names, all of them alternative names (RFC 8555, 7.4)."""
    wanted = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(wanted, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
