"""What is believed of a request's headers goes into its scope, and the rest is taken out (E22).

Applications around one: `stripped` for everybody, `Believing` for connections of a proxy that the settings name, and
within either `marked` for those that began with a PROXY header.
A proxy's silence is an answer, too: without a certificate in the header the client has none.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.fronts.carry import ReplyResponse
from gateway.fronts.endpoint import Answer
from gateway.fronts.peer import RELAYED, Peer, peer
from gateway.fronts.problem import problem
from gateway.serve.asgi import Answering
from gateway.serve.proxies import hops
from gateway.serve.proxies.forms import STRIPPED, BadForm, Form
from gateway.serve.proxies.hops import BadHop
from gateway.serve.proxies.trusted import Trusted
from protocols.exchange import Reply

logger = logging.getLogger("muster.proxies")

# Certificates that were judged: a proxy's clients come again, each check is a signature verified (46 microseconds).
REMEMBERED: Final = 4096


class NotBelieved(Exception):
    """The request is answered with `status` and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def stripped(asgi: ASGIApp) -> ASGIApp:
    """The application, which sees no header that speaks of a client's certificate."""

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for name, _ in scope.get("headers", ()):
            if name in STRIPPED:
                _strip(scope)
                break
        return asgi(scope, receive, send)

    return app


def marked(asgi: ASGIApp) -> ASGIApp:
    """The application for connections that began with a PROXY header, which is told so."""

    def app(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        scope["extensions"][RELAYED] = True
        return asgi(scope, receive, send)

    return app


def bare(answer: Answer) -> ASGIApp:
    """An answer with nothing around it, for an application that has nothing around it either."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reply = await answer(scope, receive, peer(scope, secrets.token_bytes))
        await ReplyResponse(reply)(scope, receive, send)

    return app


class Believing:
    """The application for connections of proxies. `issuers` gives whom the handshake would trust, DER.

    What it refuses itself is a request like any other: `answering` puts around it what is around the application.
    """

    def __init__(
        self, asgi: ASGIApp, trusted: Trusted, issuers: Callable[[], frozenset[bytes]], answering: Answering = bare
    ) -> None:
        self._asgi = asgi
        self._answering = answering
        self._trusted = trusted
        self._vouched = Vouched(issuers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, told of its client what the proxy says."""
        if scope["type"] not in {"http", "websocket"}:
            await self._asgi(scope, receive, send)
            return
        scope = dict(scope)
        try:
            self._tell(scope)
        except NotBelieved as refused:
            await self._answering(partial(_refuse, refused))(scope, receive, send)
            return
        await self._asgi(scope, receive, send)

    def _tell(self, scope: Scope) -> None:
        told = _Told(scope)
        trusted = self._trusted
        try:
            address = _address(told, trusted)
            plain = told.says_plain(trusted.forwarded)
        except BadHop as error:
            raise NotBelieved(400, f"the proxy's {trusted.forwarded} header cannot be read: {error}") from None
        _strip(scope)
        if address is not None:
            scope["client"] = (address, 0)
        if not trusted.terminates:
            return
        # What the transport knows is of the proxy: its certificate is not the client's, its channel binding neither.
        secure = not plain
        scope["scheme"] = "https" if secure else "http"
        extensions = {name: value for name, value in scope["extensions"].items() if name != "tls"}
        if secure:
            leaf = self._certificate(told, trusted.form) if trusted.form is not None else None
            extensions["tls"] = {
                "tls_version": None,
                "cipher_suite": None,
                "client_cert_der": leaf,
                "client_cert_chain_der": () if leaf is None else (leaf,),
                "server_name": None,
            }
        scope["extensions"] = extensions

    def _certificate(self, told: _Told, form: Form) -> bytes | None:
        values = told.all(form.header)
        if len(values) > 1:
            raise NotBelieved(400, f"the header {form.header.decode()} is there twice; the proxy has to replace it")
        verdict = told.all(form.verdict) if form.verdict is not None else []
        if len(verdict) > 1:
            raise NotBelieved(400, "the proxy's verdict on the client's certificate is there twice")
        if not values or verdict == ["NONE"]:
            return None
        try:
            leaf = form.read(values[0])
        except BadForm as error:
            raise NotBelieved(400, f"the proxy's header cannot be read: {error}") from None
        if leaf is None:
            return None
        if verdict and verdict != ["SUCCESS"]:
            raise NotBelieved(403, "the proxy could not verify the client's certificate")
        if not self._vouched.by_an_issuer(leaf):
            raise NotBelieved(403, "no authority of this gateway issued the client's certificate, or not for clients")
        return leaf


async def _refuse(refused: NotBelieved, scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG001, an endpoint's shape
    # Not a warning: whoever has a certificate of somebody else's can have as many of these as their rate lets them.
    facts = {"status": refused.status, "cause": str(refused), "request": who.id}
    logger.info("what a proxy said of a client is not believed", extra=facts)
    return problem(refused.status, str(refused))


class Vouched:
    """Which certificates the handshake would have let in: those that a trusted authority issued, for clients.

    Straight from it: an authority that issues is an anchor by itself, and a certificate of somebody between would be
    refused by the inventory. Its term and its revocation are judged there, too, as those of a handshake's (E61).
    """

    def __init__(self, issuers: Callable[[], frozenset[bytes]]) -> None:
        self._issuers = issuers
        self._loaded: frozenset[bytes] = frozenset()
        self._authorities: list[x509.Certificate] = []
        self._known: OrderedDict[bytes, bool] = OrderedDict()

    def by_an_issuer(self, der: bytes) -> bool:
        """Whether it is one of those."""
        issuers = self._issuers()
        if issuers != self._loaded:
            self._loaded = issuers
            self._authorities = [x509.load_der_x509_certificate(each) for each in issuers]
            self._known.clear()
        digest = hashlib.sha256(der).digest()
        known = self._known.get(digest)
        if known is None:
            known = self._known[digest] = self._judge(der)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known

    def _judge(self, der: bytes) -> bool:
        try:
            leaf = x509.load_der_x509_certificate(der)
            # What follows the certificate would make another fingerprint of it.
            if leaf.public_bytes(Encoding.DER) != der or not _for_clients(leaf):
                return False
        except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            return False
        return any(_issued(leaf, each) for each in self._authorities if each.subject == leaf.issuer)


def _for_clients(leaf: x509.Certificate) -> bool:
    """As OpenSSL judges purposes: clientAuth if any is named, digitalSignature or keyAgreement if any usage is."""
    for extension in leaf.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and ExtendedKeyUsageOID.CLIENT_AUTH not in value:
            return False
        if isinstance(value, x509.KeyUsage) and not (value.digital_signature or value.key_agreement):
            return False
    return True


def _issued(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


class _Told:
    """One request's headers."""

    def __init__(self, scope: Scope) -> None:
        self._headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def all(self, name: bytes) -> list[str]:
        return [value.decode("latin-1") for given, value in self._headers if given == name]

    def says_plain(self, forwarded: str) -> bool:
        """A header can take "https" away, and never gives it."""
        said = {each.strip().lower() for line in self.all(b"x-forwarded-proto") for each in line.split(",")}
        if forwarded == "forwarded":
            said |= hops.protocols(self.all(b"forwarded"))
        return bool(said - {"https", "wss"})


def _address(told: _Told, trusted: Trusted) -> str | None:
    match trusted.forwarded:
        case "x-forwarded-for":
            return hops.by_x_forwarded_for(told.all(b"x-forwarded-for"), trusted.ours)
        case "forwarded":
            return hops.by_forwarded(told.all(b"forwarded"), trusted.ours)
        case _:
            return None


def _strip(scope: Scope) -> None:
    scope["headers"] = [each for each in scope["headers"] if each[0] not in STRIPPED]
