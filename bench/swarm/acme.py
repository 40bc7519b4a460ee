"""ACME as certbot, lego and cert-manager do it: an account that is kept, orders, challenges, polls, the chain.

May not happen here: a JWS put together (`bench.load.acme`), a nonce used twice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import ClassVar, Final

import gevent
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.load import eab
from bench.load.acme import AccountKey
from bench.load.conversation import Answer
from bench.swarm.member import Member
from bench.swarm.responder import is_token
from bench.swarm.told import few, no_certificate, wait

_ERROR: Final = "urn:ietf:params:acme:error:"
_BAD_NONCES: Final = 5  # in a row for one request; certbot gives up at the second, lego at the tenth
_POLLS: Final = 40
_FIRST_POLL: Final = 1.0  # seconds, where no Retry-After says otherwise; lego and certbot begin with one, too
_SLOWEST_POLL: Final = 10.0
_UNSETTLED: Final = frozenset({"pending", "processing"})
_JOSE: Final = "Content-Type: application/jose+json"

JsonObject = dict[str, object]


class AcmeUser(Member):
    """A server with an account of its own, which gets and renews certificates for its names."""

    weight = 8
    door: ClassVar[str] = "acme"

    def begin(self) -> None:
        """The directory, a nonce, an account; with an external account binding where one is given."""
        directory = _lacks("newNonce", "newAccount", "newOrder")
        self._urls = _read(self.ask("directory", "GET", self.told.acme_directory, wrong=directory))
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
        made = self._post("newAccount", new_account, payload, 200, 201, wrong=_unplaced)
        self._account.kid = made.headers["location"]
        self._names = [self.numbered(name.strip()) for name in self.told.acme_names.split(",")]

    def work(self) -> None:
        """An order, from newOrder to download."""
        wish = [{"type": "dns", "value": name} for name in self._names]
        made = self._post("newOrder", str(self._urls["newOrder"]), {"identifiers": wish}, 201, wrong=_no_order)
        url, order = made.headers["location"], _read(made)
        if order["status"] == "pending":
            for authorization in _texts(order["authorizations"]):
                self._authorize(authorization)
        request = _request(self.key(), self._names)
        answer = self._post("finalize", str(order["finalize"]), {"csr": _b64(request)}, 200, wrong=_lost)
        order = self._settled("order", url, answer, _lost)
        self._post("download", str(order["certificate"]), None, 200, wrong=no_certificate)

    def meaning(self, answer: Answer) -> str:
        """The problem's type (RFC 8555, 6.7)."""
        return _problem(_read(answer), f"HTTP {answer.status}")

    def _authorize(self, url: str) -> None:
        authorization = _read(self._post("authorization", url, None, 200, wrong=self._out_of_reach))
        if authorization["status"] == "valid":
            return
        challenge = _http01(authorization)
        assert self.responder is not None  # or it was out of reach
        assert challenge is not None
        token = str(challenge["token"])
        self.responder.said.say(token, f"{token}.{self._account.thumbprint}")
        try:
            answered = self._post("challenge", str(challenge["url"]), {}, 200)
            if _read(answered).get("status") in _UNSETTLED:
                gevent.sleep(wait(answered) if "retry-after" in answered.headers else _FIRST_POLL)
            asked = self._post("authorization", url, None, 200, wrong=_unproved)
            self._settled("authorization", url, asked, _unproved)
        finally:
            self.responder.said.forget(token)

    def _out_of_reach(self, answer: Answer) -> str:
        """What is wrong with an authorization that this user cannot get."""
        authorization = _read(answer)
        if authorization.get("status") == "valid":
            return ""
        if self.responder is None:
            return "pending, and --acme-http01 is not given"
        return "" if _http01(authorization) else "the server offers no http-01"

    def _settled(self, what: str, url: str, answer: Answer, wrong: Callable[[Answer], str]) -> JsonObject:
        """Ask again, as slowly as clients do, until it is neither pending nor processing."""
        pause = _FIRST_POLL

        def still(last: Answer) -> str:
            status = _read(last).get("status")
            return f"still {status}" if status in _UNSETTLED else wrong(last)

        for again in reversed(range(_POLLS)):
            if _read(answer)["status"] not in _UNSETTLED:
                break
            gevent.sleep(wait(answer) if "retry-after" in answer.headers else pause)
            pause = min(pause * 1.5, _SLOWEST_POLL)
            answer = self._post(what, url, None, 200, wrong=wrong if again else still)
        return _read(answer)

    def _post(
        self, what: str, url: str, payload: JsonObject | None, *good: int, wrong: Callable[[Answer], str] | None = None
    ) -> Answer:
        """A signed request, and once more with the nonce of the refusal where the first was not liked (6.5)."""
        for again in reversed(range(_BAD_NONCES)):
            nonce, self._nonce = self._nonce or self._new_nonce(), ""
            body = self._account.signed(url, nonce, payload)
            excused = _bad_nonce if again else None  # not for ever: the last time it is a failure
            answer = self.ask(what, "POST", url, body, _JOSE, good=good, excused=excused, wrong=wrong)
            self._nonce = answer.headers.get("replay-nonce", "")
            if answer.status in good:
                break
        return answer

    def _new_nonce(self) -> str:
        answer = self.ask("newNonce", "HEAD", str(self._urls["newNonce"]), wrong=_no_nonce)
        return answer.headers["replay-nonce"]


def _bad_nonce(answer: Answer) -> str:
    bad = answer.status == 400 and _read(answer).get("type") == f"{_ERROR}badNonce"
    return "badNonce, asked again" if bad else ""


def _no_nonce(answer: Answer) -> str:
    return "" if answer.headers.get("replay-nonce") else "no nonce"


def _unplaced(answer: Answer) -> str:
    return "" if answer.headers.get("location") else "no Location"


def _lacks(*members: str) -> Callable[[Answer], str]:
    """What is wrong with an answer without these members; only their being there is looked at."""

    def wrong(answer: Answer) -> str:
        found = _read(answer)
        return next((f"no {member} in the answer" for member in members if not found.get(member)), "")

    return wrong


def _no_order(answer: Answer) -> str:
    """What is wrong with a new order (RFC 8555, 7.4)."""
    return _unplaced(answer) or _lacks("status", "authorizations", "finalize")(answer)


def _lost(answer: Answer) -> str:
    """What is wrong with an order that was finalized: it may take a while, and then has a certificate (7.4)."""
    order = _read(answer)
    if order.get("status") in _UNSETTLED or (order.get("status") == "valid" and order.get("certificate")):
        return ""
    return _problem(order.get("error"), str(order.get("status")))


def _unproved(answer: Answer) -> str:
    """What is wrong with an authorization whose challenge was answered: its challenge's error says it (7.5.1)."""
    authorization = _read(answer)
    if authorization.get("status") in {"valid", *_UNSETTLED}:
        return ""
    return _problem((_http01(authorization) or {}).get("error"), str(authorization.get("status")))


def _problem(problem: object, otherwise: str) -> str:
    """What a problem document says (RFC 8555, 6.7), without what differs each time."""
    if not isinstance(problem, dict) or not isinstance(problem.get("type"), str):
        return otherwise
    return f"{problem['type'].removeprefix(_ERROR)}: {few(str(problem.get('detail', '')))}"


def _http01(authorization: JsonObject) -> JsonObject | None:
    """The challenge that can be answered here, if there is one."""
    challenges = authorization.get("challenges")
    for each in challenges if isinstance(challenges, list) else []:
        if each.get("type") == "http-01" and each.get("url") and is_token(str(each.get("token"))):
            found: JsonObject = each
            return found
    return None


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
