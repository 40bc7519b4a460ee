"""EST over HTTPS: three forms of address, one exchange (RFC 7030, 3.2.2).

Never over plain HTTP (E9), never a redirect (E5, E6), and never the word of a header about the peer's certificate.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions import asked, authenticate
from gateway.actions.admit import admitted
from gateway.actions.enroll import enroll
from gateway.actions.outage import OUTAGES, outage
from gateway.domain.application import EstSettings, Pair
from gateway.domain.issuance import Issued, Pending
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Proof, ProofKind, Protocol
from gateway.domain.succession import published
from gateway.fronts.admission import UnderWay
from gateway.fronts.carry import carry
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import header, read_body
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import text, unstored
from gateway.store.catalogue import Catalogue
from protocols.est import needs
from protocols.est.messages import Caller
from protocols.est.operations import operate
from protocols.exchange import Exchange, Reply

log = logging.getLogger(__name__)

NOWHERE: Final = text(404, "there is no EST enrollment at this address")
HTTPS_ONLY: Final = text(403, "EST is served over https only")
# One realm for all pairs: an address that asks for credentials shows no more of the installation than it already named.
REALM: Final = "EST"
WELL_KNOWN: Final = [".well-known", "est"]
# Addresses whose meaning is kept: pairs, operations and forms of address times each other, for a few hundred pairs.
MOST_FOUND: Final = 1024
# Octets and letters of one that is kept: far more than names and an operation have, far less than a target may have.
LONGEST_FOUND: Final = 1024
READ_ONLY: Final = frozenset({"GET", "HEAD"})


class Est:
    """EST for every pair of the catalogue."""

    def __init__(self, front: Front) -> None:
        self._front = front
        # What an address means and what cacerts gives change with the catalogue alone (E27): with it both are dropped.
        self._catalogue: Catalogue | None = None
        self._found: dict[tuple[bytes, str], tuple[Pair, str]] = {}
        self._authorities: dict[tuple[str, str], Reply] = {}

    async def answer(self, scope: Scope, receive: Receive, who: Peer) -> Reply:
        """The reply to one request at any of EST's addresses."""
        if not who.secure:
            return HTTPS_ONLY
        found = self._find(scope)
        if found is None:
            return NOWHERE
        pair, operation = found
        method: str = scope["method"]
        if operation == "cacerts" and method in READ_ONLY:
            return await self._cacerts(pair, method, who)
        caller = Caller(secure=True, certificate=who.certificate, authorization=header(scope, b"authorization"))
        media_type = header(scope, b"content-type")
        host = _Host(self._front, pair, who)
        if method in READ_ONLY:
            return await carry(host.exchange(operation, method, caller, media_type, b""), host.answer)
        limits, application = self._front.limits, pair.application.id
        limits.admit(application)
        body = await read_body(scope, receive, cap=limits.est_body, seconds=limits.body_seconds)
        with limits.admission.under_way(application) as host.entry:
            reply = await carry(host.exchange(operation, method, caller, media_type, body), host.answer)
            return unstored(host.entry.answered(reply))

    def _find(self, scope: Scope) -> tuple[Pair, str] | None:
        """The pair and the operation that the address names; looked up once in each catalogue, a few microseconds."""
        catalogue = self._front.resources.catalogue()
        if catalogue is not self._catalogue:
            self._catalogue, self._found, self._authorities = catalogue, {}, {}
        address = scope.get("raw_path") or b"", scope["path"]
        found = self._found.get(address)
        if found is None and plain_path(scope):
            found = self._named(scope["path_params"], catalogue)
            if found is not None and len(address[0]) + len(address[1]) <= LONGEST_FOUND:
                if len(self._found) >= MOST_FOUND:
                    self._found.clear()
                self._found[address] = found
        return found

    @staticmethod
    def _named(parameters: dict[str, str], catalogue: Catalogue) -> tuple[Pair, str] | None:
        """By its segments (E2, E3); a slash at the end changes nothing (E6)."""
        segments = parameters["rest"].removesuffix("/").split("/")
        if "application" in parameters:
            if segments[:-1] not in ([], WELL_KNOWN):
                return None
            pair = catalogue.pair(parameters["application"], parameters["profile"])
        elif len(segments) == 2:
            pair = catalogue.pair_by_label(segments[0])
        else:
            return None
        try:
            return admitted(pair, Protocol.EST), segments[-1]
        except Refusal as refusal:
            if refusal.reason is RefusalReason.NOT_FOUND:
                return None
            raise

    async def _cacerts(self, pair: Pair, method: str, who: Peer) -> Reply:
        # HEAD and GET are two entries: what the protocol says to each is its own affair.
        held = self._authorities.get((pair.id, method))
        if held is None:
            caller = Caller(secure=True, certificate=None, authorization=None)
            host = _Host(self._front, pair, who)
            held = await carry(host.exchange("cacerts", method, caller, None, b""), host.answer)
            if held.status == 200:
                self._authorities[pair.id, method] = held
        return held


class _Host:
    """Answers the needs of one request. `entry`: while it is under way."""

    def __init__(self, front: Front, pair: Pair, who: Peer) -> None:
        self._front = front
        self._pair = pair
        self._settings = pair.settings.est or EstSettings()
        self._who = who
        self.entry: UnderWay | None = None

    def exchange(
        self, operation: str, method: str, caller: Caller, media_type: str | None, body: bytes
    ) -> Exchange[Reply]:
        wrap = self._settings.wrap
        return operate(operation, method, caller, media_type=media_type, body=body, wrap=wrap, realm=REALM)

    async def answer(self, need: object) -> object:
        try:
            match need:
                case needs.Enroll():
                    return await self._enroll(need)
                case needs.AuthenticateUser():
                    return await self._user(need.user, need.passphrase)
                case needs.AuthenticateCertificate():
                    return await self._certificate(need.certificate)
                case needs.CaCertificates():
                    return published(self._pair.authority, self._front.resources.catalogue().authorities)
                case _:
                    raise TypeError(f"EST cannot ask for {type(need).__name__}")
        except OUTAGES as error:
            log.warning("request %s: %s", self._who.id, error)
            raise outage(error) from error

    async def _user(self, user: str, passphrase: str) -> needs.Identity | None:
        # The pair's passphrase is shared: any user name goes with it, and only names the device in the records.
        attempt = authenticate.Attempt(self._who.address, self._who.id, "est")
        right = await authenticate.secret(
            self._front.resources,
            self._front.limits.guesses,
            attempt,
            self._pair,
            given=passphrase,
            expected=self._settings.passphrase_hash,
            aside=None if self.entry is None else self.entry.aside,
        )
        return needs.Identity("passphrase", user) if right else None

    async def _certificate(self, der: bytes) -> needs.Identity:
        found = await authenticate.certificate(self._front.resources, self._pair, der)
        return needs.Identity("certificate", found.subject, der, found.id)

    async def _enroll(self, need: needs.Enroll) -> needs.Enrolled | needs.Waiting:
        identity = need.identity
        by_certificate = identity.kind == "certificate"
        proof = Proof(
            protocol=Protocol.EST,
            kind=ProofKind.EST_CERTIFICATE if by_certificate else ProofKind.EST_PASSPHRASE,
            subject=identity.name,
            request_hash=need.csr.sha256,
            evidence=(identity.certificate_id,) if identity.certificate_id is not None else (),
        )
        request = asked.from_csr(need.csr, proof, renewed_from=identity.certificate_id if need.renewal else None)
        outcome = await enroll(
            self._front.resources, self._pair, request, source=self._who.address, http_request_id=self._who.id
        )
        match outcome:
            case Issued():
                return needs.Enrolled(outcome.certificate, outcome.chain)
            case Pending():
                return needs.Waiting(outcome.retry_after)


def est_routes(front: Front) -> list[BaseRoute]:
    """EST's addresses."""
    endpoint = Endpoint(front, Est(front).answer, text)
    return [
        Route("/est/{application}/{profile}/{rest:path}", endpoint, methods=None),
        Route("/.well-known/est/{rest:path}", endpoint, methods=None),
    ]
