"""SCEP over HTTP and HTTPS: one address with any suffix, GET and POST (RFC 8894, 4).

The message protects itself, so plain HTTP is as good. Never here: a decryption before the protocol has verified the
outer signature, an issuance without challenge or certificate.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from datetime import datetime, timedelta
from typing import Final

import msgspec
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions import asked, authenticate
from gateway.actions.admit import admitted
from gateway.actions.enroll import Hooks, enroll
from gateway.actions.outage import OUTAGES, outage
from gateway.domain.application import Pair, ScepSettings
from gateway.domain.issuance import Issued, Pending
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import EnrollmentRequest, Proof, ProofKind, Protocol
from gateway.fronts.admission import TOO_MUCH, UnderWay
from gateway.fronts.carry import carry
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import read_body
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import text
from gateway.outbound.signer import SignerRefused
from gateway.store import requests
from gateway.store.unit import Unit
from protocols.exchange import Reply
from protocols.pkix import certificate
from protocols.pkix.csr import CertificationRequest
from protocols.scep import needs
from protocols.scep.operations import operate

log = logging.getLogger(__name__)

NOWHERE: Final = text(404, "there is no SCEP enrollment at this address")
READ_ONLY: Final = frozenset({"GET", "HEAD"})
NONCE_BYTES: Final = 64  # sender nonce, content key and IV, and room to spare

# How long the same transaction gets the same certificate (S79): clients that lost a reply ask again within minutes.
# After that the same request means a new certificate: with a static challenge and an RSA key even its bytes are the
# same (S81).
WINDOW: Final = timedelta(hours=1)
CLOCKS: Final = timedelta(minutes=5)  # by which the clocks of two machines on one store may differ
_WINDOW: Final = struct.Struct(">IQ")  # its number, with its length before it


class Scep:
    """SCEP for every pair of the catalogue."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def answer(self, scope: Scope, receive: Receive, who: Peer) -> Reply:
        """The reply to one request at any of SCEP's addresses."""
        pair = self._find(scope) if plain_path(scope) else None
        if pair is None:
            return NOWHERE
        method: str = scope["method"]
        if method in READ_ONLY and b"PKIOperation" not in scope["query_string"]:
            return await self._operate(pair, scope, b"", who)
        limits, application = self._front.limits, pair.application.id
        limits.admit(application)
        body = b""
        if method not in READ_ONLY:
            body = await read_body(scope, receive, cap=limits.scep_body, seconds=limits.body_seconds)
        with limits.admission.under_way(application) as entry:
            return entry.answered(await self._operate(pair, scope, body, who, entry))

    async def _operate(self, pair: Pair, scope: Scope, body: bytes, who: Peer, entry: UnderWay | None = None) -> Reply:
        resources = self._front.resources
        settings = pair.settings.scep or ScepSettings(allow_renewal=False)
        now = resources.now()
        exchange = operate(
            scope["method"],
            scope["query_string"].decode("latin-1"),
            body,
            nonce=resources.dice(NONCE_BYTES),
            now=now,
            renewal=settings.allow_renewal,
        )
        return await carry(exchange, _Host(self._front, pair, settings, who, now, entry=entry).answer)

    def _find(self, scope: Scope) -> Pair | None:
        parameters: dict[str, str] = scope["path_params"]
        pair = self._front.resources.catalogue().pair(parameters["application"], parameters["profile"])
        try:
            return admitted(pair, Protocol.SCEP)
        except Refusal as refusal:
            if refusal.reason is RefusalReason.NOT_FOUND:
                return None
            raise


class _Host:
    """Answers the needs of one request."""

    def __init__(
        self, front: Front, pair: Pair, settings: ScepSettings, who: Peer, now: datetime, *, entry: UnderWay | None
    ) -> None:
        self._front = front
        self._resources = front.resources
        self._pair = pair
        self._settings = settings
        self._who = who
        self._now = now
        self._entry = entry

    async def answer(self, need: object) -> object:
        try:
            match need:
                case needs.UnwrapKey():
                    return await self._unwrap(need)
                case needs.SignAttributes():
                    if need.failure and self._front.limits.rates.pressed:
                        # S120: strangers get failures signed for nothing, at the price of an enrollment's signature.
                        raise Refusal(RefusalReason.BUSY, TOO_MUCH)
                    return await self._resources.signer.sign_attributes(
                        self._ra_key, need.attributes, need.digest, share=self._pair.application.id
                    )
                case needs.Enroll():
                    return await self._enroll(need)
                case needs.Renew():
                    return await self._renew(need)
                case needs.CaCertificates():
                    return self._authorities()
                case _:
                    raise TypeError(f"SCEP cannot ask for {type(need).__name__}")
        except OUTAGES as error:
            log.warning("request %s: %s", self._who.id, error)
            raise outage(error) from error

    @property
    def _ra_key(self) -> str:
        if self._pair.authority.ra_key is None:
            raise _no_ra()
        return self._pair.authority.ra_key

    def _authorities(self) -> needs.Authorities:
        authority = self._pair.authority
        if authority.ra_certificate is None:
            raise _no_ra()
        return needs.Authorities(authority.ra_certificate, authority.chain)

    async def _unwrap(self, need: needs.UnwrapKey) -> bytes:
        try:
            return await self._resources.signer.unwrap(
                self._ra_key, need.wrapped, need.algorithm, need.length, share=self._pair.application.id
            )
        except SignerRefused as refused:
            if refused.reason != "unwrap":
                raise
            # S122: a key that does not unwrap takes the same way as a wrong one, to the same answer.
            return self._resources.dice(need.length)

    async def _enroll(self, need: needs.Enroll) -> needs.Enrolled | needs.Waiting:
        attempt = authenticate.Attempt(self._who.address, self._who.id, "scep")
        if need.challenge is None or not await authenticate.secret(
            self._resources,
            self._front.limits.guesses,
            attempt,
            self._pair,
            given=need.challenge,
            expected=self._settings.challenge_hash,
            aside=None if self._entry is None else self._entry.aside,
        ):
            # One sentence for a missing and for a wrong challenge (S57).
            raise Refusal(RefusalReason.UNAUTHENTICATED, "the challenge password is missing or wrong")
        proof = Proof(
            protocol=Protocol.SCEP,
            kind=ProofKind.SCEP_CHALLENGE,
            subject=need.transaction.id.decode("latin-1"),
            request_hash=need.csr.sha256,
        )
        return await self._issue(need, proof)

    async def _renew(self, need: needs.Renew) -> needs.Enrolled | needs.Waiting:
        if not self._settings.allow_renewal:
            raise Refusal(RefusalReason.FORBIDDEN, "renewal by certificate is not enabled for this profile")
        found = await authenticate.certificate(self._resources, self._pair, need.certificate)
        _same_names(need.csr, need.certificate)
        proof = Proof(
            protocol=Protocol.SCEP,
            kind=ProofKind.SCEP_CERTIFICATE,
            subject=found.subject,
            request_hash=need.csr.sha256,
            evidence=(found.serial,),
        )
        return await self._issue(need, proof, renewed_from=found.id)

    async def _issue(
        self, need: needs.Enroll | needs.Renew, proof: Proof, renewed_from: str | None = None
    ) -> needs.Enrolled | needs.Waiting:
        """One ask, one certificate (S79, S80, S82, S83): the same transaction, CSR and signer within the window.

        The clock is cut into windows; a transaction that began in the one before goes on in it, and so does one that
        began in the one after by the clock of another machine, or by this one's before it was set back.
        """
        seconds, length = self._now.timestamp(), WINDOW.total_seconds()
        window = int(seconds // length)
        before, current = transaction_hashes(self._pair, need.transaction, need.csr, window)
        neighbours = [before]
        if (seconds + CLOCKS.total_seconds()) // length > window:
            neighbours.append(transaction_hashes(self._pair, need.transaction, need.csr, window + 1)[1])
        pair, since = self._pair, self._now - WINDOW

        def first(unit: Unit) -> None:
            for each in neighbours:
                earlier = requests.find_by_deduplication(unit, pair.application.id, pair.profile.id, each)
                if earlier is not None and earlier.created_at > since:
                    raise _Begun(each)

        request = asked.from_csr(need.csr, proof, deduplication=current, renewed_from=renewed_from)
        try:
            # Looked for in the unit that reserves: a read of its own would cost each enrollment four times as much.
            outcome = await self._enrolled(request, Hooks(with_reserve=first))
        except _Begun as begun:
            outcome = await self._enrolled(msgspec.structs.replace(request, deduplication=begun.by), Hooks())
        match outcome:
            case Issued():
                return needs.Enrolled(outcome.certificate, self._include())
            case Pending():
                return needs.Waiting()

    async def _enrolled(self, request: EnrollmentRequest, hooks: Hooks) -> Issued | Pending:
        return await enroll(
            self._resources, self._pair, request, source=self._who.address, http_request_id=self._who.id, hooks=hooks
        )

    def _include(self) -> tuple[bytes, ...]:
        """What the reply carries beside the leaf: Cisco's clients want the issuer, Juniper's refuse it."""
        match self._settings.include:
            case "issuer":
                return (self._pair.authority.certificate,)
            case "chain":
                return self._pair.authority.chain
            case _:
                return ()


class _Begun(Refusal):
    """The transaction began in another window, where it is known `by` this; what was reserved in this one is undone."""

    def __init__(self, by: bytes) -> None:
        super().__init__(RefusalReason.CONFLICT, "the transaction began in another window")
        self.by = by


def transaction_hashes(
    pair: Pair, transaction: needs.Transaction, csr: CertificationRequest, window: int
) -> tuple[bytes, bytes]:
    """What makes two asks the same, in the window before and in this one.

    The transaction's id is the client's choice, so it comes with its length, as all parts do.
    """
    parts = pair.id.encode(), transaction.id, csr.sha256, transaction.signer
    before = hashlib.sha256(b"scep\0" + b"".join([len(part).to_bytes(4, "big") + part for part in parts]))
    current = before.copy()
    before.update(_WINDOW.pack(8, window - 1))
    current.update(_WINDOW.pack(8, window))
    return before.digest(), current.digest()


def _same_names(csr: CertificationRequest, presented: bytes) -> None:
    """A renewal is for the same names, all of them and no other (S67): no challenge vouches for new ones."""
    held = certificate.read(presented)
    if csr.subject != held.subject:
        raise Refusal(RefusalReason.NAME_MISMATCH, "the subject differs from that of the certificate being renewed")
    if frozenset(csr.sans or ()) != frozenset(held.sans or ()):
        raise Refusal(
            RefusalReason.NAME_MISMATCH, "the alternative names differ from those of the certificate being renewed"
        )


def _no_ra() -> Refusal:
    return Refusal(RefusalReason.UNAVAILABLE, "the authority of this profile has no RA key for SCEP", retry_after=300)


def _wording(status: int, sentence: str, headers: tuple[tuple[str, str], ...]) -> Reply:
    """S120: whoever asks too often is told what RFC 8894's clients know, that it is too much just now."""
    return text(503 if status == 429 else status, sentence, headers)


def scep_routes(front: Front) -> list[BaseRoute]:
    """SCEP's addresses: any suffix is as good as none (S2)."""
    endpoint = Endpoint(front, Scep(front).answer, _wording)
    return [
        Route("/scep/{application}/{profile}", endpoint, methods=None),
        Route("/scep/{application}/{profile}/{suffix:path}", endpoint, methods=None),
    ]
