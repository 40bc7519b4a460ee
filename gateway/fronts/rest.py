"""REST enrollment over HTTPS: bearer tokens, the table of roles, and the same waist as everybody else (D8, D12, D13).

Never here: a right that the table of `domain/access` does not grant, or a word about an application that the caller may
not read.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope

from gateway.actions import asked, authenticate
from gateway.actions.authorize import may, pair_to_issue_from, readable_applications
from gateway.actions.enroll import enroll
from gateway.actions.outage import OUTAGES, outage
from gateway.actions.wished import KEY_BITS, from_wishes, managed_key_algorithm, ttl
from gateway.domain.access import Identity, Permission
from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate
from gateway.domain.issuance import Issued, Pending
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    SUBJECT_OIDS,
    CertificateRequest,
    EnrollmentRequest,
    Proof,
    ProofKind,
    Protocol,
    PublicKey,
    RequestStatus,
    SubjectType,
)
from gateway.fronts import certificates as inventory
from gateway.fronts.admission import UnderWay
from gateway.fronts.carry import carry
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import header, read_body
from gateway.fronts.peer import Peer, plain_path
from gateway.fronts.problem import NO_STORE, NOT_FOUND, problem, unstored
from gateway.store import certificates, requests
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Unit
from protocols.exchange import Exchange, Reply
from protocols.rest import certificates as issued
from protocols.rest import needs, operations

log = logging.getLogger(__name__)

Begin: TypeAlias = Callable[[Scope, bytes], Exchange[Reply]]

COMMON_NAME: Final = SUBJECT_OIDS[SubjectType.COMMON_NAME]
PREFIX: Final = "/api/v1/cert-manager"
HTTPS_ONLY: Final = problem(403, "the API is served over https only")
UNKNOWN_REQUEST: Final = "there is no such certificate request, or none that you may see"

# What to tell of a request that has come to no certificate, where its row says nothing itself.
MESSAGES: Final[dict[RequestStatus, str]] = {
    RequestStatus.PENDING_APPROVAL: "the request waits for approval",
    RequestStatus.APPROVED: "the request is approved and will be signed",
    RequestStatus.SIGNING: "the certificate is being signed",
    RequestStatus.ISSUED: "the certificate is issued",
    RequestStatus.FAILED: "the request failed",
    RequestStatus.REJECTED: "the request was rejected",
    RequestStatus.CANCELLED: "the request was cancelled",
    RequestStatus.EXPIRED: "the request expired before it was approved",
}


def wording(status: int, detail: str, headers: tuple[tuple[str, str], ...]) -> Reply:
    """A problem document; a 401 says how to authenticate (RFC 6750, 3)."""
    if status == 401:
        headers = (("WWW-Authenticate", 'Bearer realm="Muster"'), *headers)
    return problem(status, detail, (*headers, NO_STORE))


class Rest:
    """One address of the API: `method` only, and the exchange that `begin` makes of the request."""

    def __init__(self, front: Front, method: str, begin: Begin, *, enrolls: bool = False) -> None:
        self._front = front
        self._enrolls = enrolls
        self._methods = ("GET", "HEAD") if method == "GET" else (method,)
        self._wrong_method = problem(
            405, f"this address takes {' and '.join(self._methods)} only", (("Allow", ", ".join(self._methods)),)
        )
        self._begin = begin

    async def answer(self, scope: Scope, receive: Receive, who: Peer) -> Reply:
        """The reply to one request: the token first, then the body, then what it says."""
        if not who.secure:
            return HTTPS_ONLY
        if not plain_path(scope):
            return NOT_FOUND
        if scope["method"] not in self._methods:
            return self._wrong_method
        front, limits = self._front, self._front.limits
        authorization = header(scope, b"authorization")
        lane = limits.spenders.lane(authorization, who.address)
        if self._enrolls:
            limits.admit(lane)
        attempt = authenticate.Attempt(who.address, who.id, "api")
        identity = await authenticate.bearer(front.resources, limits.guesses, attempt, authorization)
        body = b""
        if scope["method"] == "POST":
            body = await read_body(scope, receive, cap=limits.rest_body, seconds=limits.body_seconds)
        host = _Host(front, identity, authorization, who)
        if not self._enrolls:
            return unstored(await carry(self._begin(scope, body), host.answer))
        with limits.admission.under_way(lane) as entry:
            host.entry = entry
            return unstored(entry.answered(await carry(self._begin(scope, body), host.answer)))


class _Host:
    """Answers the needs of one request for one identity. `entry` is an enrollment's: counted for its application."""

    def __init__(self, front: Front, identity: Identity, authorization: str | None, who: Peer) -> None:
        self.entry: UnderWay | None = None
        self._authorization = authorization
        self._front = front
        self._resources = front.resources
        self._identity = identity
        self._who = who

    async def answer(self, need: object) -> object:
        try:
            match need:
                case needs.EnrollWithCsr():
                    return await self._enroll_csr(need)
                case needs.EnrollWithManagedKey():
                    return await self._enroll_managed(need)
                case needs.FindRequest():
                    return await self._find(need.id)
                case needs.SearchRequests():
                    return await self._search(need)
                case needs.CancelRequest():
                    return await self._cancel(need.id)
                case needs.FindCertificate():
                    return await inventory.find(self._front, self._identity, need.id)
                case needs.RevokeCertificate():
                    return await inventory.revoke_one(self._front, self._identity, self._who, need)
                case needs.RevokeSerial():
                    return await inventory.revoke_serial(self._front, self._identity, self._who, need)
                case _:
                    raise TypeError(f"REST cannot ask for {type(need).__name__}")
        except OUTAGES as error:
            log.warning("request %s: %s", self._who.id, error)
            raise outage(error) from error

    async def _enroll_csr(self, need: needs.EnrollWithCsr) -> needs.RequestState:
        pair = await self._pair_to_issue_from(need.pair)
        wishes = need.wishes
        request = asked.from_csr(
            need.csr,
            self._proof(need.csr.sha256),
            metadata=wishes.metadata,
            ttl=ttl(wishes),
            not_before=wishes.not_before,
            not_after=wishes.not_after,
        )
        common_name = next((each.value for each in need.csr.subject if each.oid == COMMON_NAME), "")
        return await self._issue(pair, request, common_name, None)

    async def _enroll_managed(self, need: needs.EnrollWithManagedKey) -> needs.RequestState:
        pair = await self._pair_to_issue_from(need.pair)
        wishes = need.wishes
        algorithm = managed_key_algorithm(wishes, pair.profile)
        generated = await self._resources.signer.generate_key(algorithm, share=pair.application.id)
        fingerprint = hashlib.sha256(generated.spki)
        key = PublicKey(algorithm, KEY_BITS[algorithm], generated.spki, fingerprint.hexdigest())
        request = from_wishes(wishes, key, self._proof(fingerprint.digest()), managed_key=generated.sealed)
        common_name = next((each.value for each in wishes.subject if each.oid == COMMON_NAME), "")
        return await self._issue(pair, request, common_name, generated.private_key)

    async def _issue(
        self, pair: Pair, request: EnrollmentRequest, common_name: str, private_key: bytes | None
    ) -> needs.RequestState:
        outcome = await enroll(self._resources, pair, request, source=self._who.address, http_request_id=self._who.id)
        now = self._resources.now()
        certificate: needs.Certificate | None = None
        status = RequestStatus.ISSUED
        match outcome:
            case Issued():
                certificate = needs.Certificate(
                    id=outcome.certificate_id,
                    serial=outcome.serial,
                    certificate=outcome.certificate,
                    chain=outcome.chain,
                    root=outcome.root,
                    private_key=private_key,
                )
            case Pending():
                status = RequestStatus.PENDING_APPROVAL
        return needs.RequestState(
            id=outcome.request_id,
            status=status,
            protocol=Protocol.API,
            application_id=pair.application.id,
            profile_id=pair.profile.id,
            common_name=common_name,
            created_at=now,
            updated_at=now,
            message=MESSAGES[status],
            certificate=certificate,
        )

    async def _find(self, request_id: str) -> needs.RequestState | None:
        row = await self._readable(request_id)
        if row is None:
            return None
        certificate: Certificate | None = None
        certificate_id = row.certificate_id
        if certificate_id is not None:
            certificate = await self._resources.store.read(lambda unit: certificates.find(unit, certificate_id))
        return self._state(row, certificate)

    async def _search(self, need: needs.SearchRequests) -> tuple[tuple[needs.RequestState, ...], int]:
        applications = await readable_applications(self._resources, self._identity)
        wanted = need.pair
        catalogue = self._resources.catalogue()
        profile_id = wanted.profile_id
        if wanted.profile_name is not None:
            profile_id = next((each.id for each in catalogue.profiles if each.slug == wanted.profile_name), "")
        application_id = wanted.application_id
        if wanted.application_name is not None:
            found = (each.id for each in catalogue.applications if each.name == wanted.application_name)
            application_id = next(found, "")
        if application_id is not None:
            visible = applications is None or application_id in applications
            applications = (application_id,) if visible else ()
        rows, count = await self._resources.store.survey(
            lambda unit: requests.search(
                unit,
                application_ids=applications,
                profile_id=profile_id,
                status=None if need.status is None else RequestStatus(need.status),
                search=need.search,
                limit=need.limit,
                offset=need.offset,
            )
        )
        return tuple(self._state(row, None) for row in rows), count

    async def _cancel(self, request_id: str) -> needs.RequestState:
        row = await self._readable(request_id)
        if row is None:
            raise Refusal(RefusalReason.NOT_FOUND, UNKNOWN_REQUEST)
        if not await may(self._resources, self._identity, row.application_id, Permission.ISSUE_CERTIFICATE):
            raise Refusal(RefusalReason.FORBIDDEN, "you may not cancel requests of this application")
        at = self._resources.now()
        event = AuditEvent(
            at=at,
            actor=f"{ProofKind.API_TOKEN}:{self._identity.name}",
            action="certificate.cancel",
            target=row.id,
            outcome="success",
            application_id=row.application_id,
            source=self._who.address,
            request_id=self._who.id,
        )

        def unit(unit: Unit) -> bool:
            cancelled = requests.cancel(unit, row.id, at)
            if cancelled:
                unit.audit(event)
            return cancelled

        if not await self._resources.store.write(unit):
            raise Refusal(RefusalReason.CONFLICT, "only a request that still waits for approval can be cancelled")
        return self._state(msgspec.structs.replace(row, status=RequestStatus.CANCELLED, updated_at=at), None)

    async def _readable(self, request_id: str) -> CertificateRequest | None:
        row = await self._resources.store.read(lambda unit: requests.find(unit, request_id))
        if row is None or not await may(self._resources, self._identity, row.application_id, Permission.READ_REQUESTS):
            return None
        return row

    async def _pair_to_issue_from(self, wanted: needs.PairReference) -> Pair:
        found = _pair(self._resources.catalogue(), wanted)
        pair = await pair_to_issue_from(self._resources, self._identity, found)
        if self.entry is not None:
            self.entry.belongs_to(pair.application.id)
            self._front.limits.spenders.learn(self._authorization, pair.application.id)
        return pair

    def _proof(self, request_hash: bytes) -> Proof:
        return Proof(
            protocol=Protocol.API,
            kind=ProofKind.API_TOKEN,
            subject=self._identity.name,
            request_hash=request_hash,
            evidence=(self._identity.id,),
        )

    def _state(self, row: CertificateRequest, certificate: Certificate | None) -> needs.RequestState:
        return needs.RequestState(
            id=row.id,
            status=row.status,
            protocol=row.protocol,
            application_id=row.application_id,
            profile_id=row.profile_id,
            common_name=_common_name(row.subject),
            created_at=row.created_at,
            updated_at=row.updated_at,
            message=row.failure or MESSAGES[row.status],
            certificate=None if certificate is None else self._certificate(certificate),
        )

    def _certificate(self, certificate: Certificate) -> needs.Certificate | None:
        for authority in self._resources.catalogue().authorities:
            if authority.id == certificate.issuer_id:
                return needs.Certificate(
                    id=certificate.id,
                    serial=certificate.serial,
                    certificate=certificate.der,
                    chain=authority.issuers,
                    root=authority.root,
                )
        return None


def _pair(catalogue: Catalogue, wanted: needs.PairReference) -> Pair | None:
    """By two names or two ids with one look; whoever mixes them has all pairs looked through."""
    if wanted.application_name is not None and wanted.profile_name is not None:
        return catalogue.pair(wanted.application_name, wanted.profile_name)
    if wanted.application_id is not None and wanted.profile_id is not None:
        return catalogue.pair_by_id(wanted.application_id, wanted.profile_id)
    for pair in catalogue.pairs:
        if (wanted.application_id == pair.application.id or wanted.application_name == pair.application.name) and (
            wanted.profile_id == pair.profile.id or wanted.profile_name == pair.profile.slug
        ):
            return pair
    return None


def _common_name(subject: str) -> str:
    """The common name in an RFC 4514 string that `distinguished_name` wrote, unescaped."""
    for part in re.split(r"(?<!\\),", subject):
        if part.startswith("CN="):
            return re.sub(r"\\(.)", r"\1", part.removeprefix("CN="))
    return ""


def rest_routes(front: Front) -> list[BaseRoute]:
    """The API's addresses; what is not listed is refused (D9)."""

    def create(scope: Scope, body: bytes) -> Exchange[Reply]:
        return operations.create(header(scope, b"content-type"), body)

    def search(scope: Scope, body: bytes) -> Exchange[Reply]:  # noqa: ARG001, the shape of every beginning
        return operations.search(scope["query_string"].decode("latin-1"))

    def read(scope: Scope, body: bytes) -> Exchange[Reply]:  # noqa: ARG001, the shape of every beginning
        return operations.read(scope["path_params"]["id"])

    def cancel(scope: Scope, body: bytes) -> Exchange[Reply]:  # noqa: ARG001, the shape of every beginning
        return operations.cancel(scope["path_params"]["id"])

    def read_certificate(scope: Scope, body: bytes) -> Exchange[Reply]:  # noqa: ARG001, the shape of every beginning
        return issued.read(scope["path_params"]["id"])

    def revoke(scope: Scope, body: bytes) -> Exchange[Reply]:
        return issued.revoke(scope["path_params"]["id"], header(scope, b"content-type"), body)

    def revoke_serial(scope: Scope, body: bytes) -> Exchange[Reply]:
        where = scope["path_params"]
        return issued.revoke_serial(where["name"], where["serial"], header(scope, b"content-type"), body)

    def route(path: str, method: str, begin: Begin, *, enrolls: bool = False) -> Route:
        answer = Rest(front, method, begin, enrolls=enrolls).answer
        return Route(PREFIX + path, Endpoint(front, answer, wording), methods=None)

    return [
        route("/certificates", "POST", create, enrolls=True),
        route("/certificates/{id}", "GET", read_certificate),
        route("/certificates/{id}/revoke", "POST", revoke),
        route("/authorities/{name}/serials/{serial}/revoke", "POST", revoke_serial),
        route("/certificate-requests", "GET", search),
        route("/certificate-requests/{id}", "GET", read),
        route("/certificate-requests/{id}/cancel", "POST", cancel),
    ]
