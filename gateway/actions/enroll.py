"""The waist: every enrollment, whichever door it came through, is judged, reserved, signed and recorded here.

One policy, one approval rule, one inventory, one audit trail (D8). The order of the steps is the promise: what might
exist is durable in the store before any signature is asked for, so a crash at any point leaves a reserved serial with
its plan, which is never used again and can be revoked.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, unique
from typing import Final

import msgspec
import trio

from gateway.actions.outage import outage
from gateway.actions.resources import Resources
from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate
from gateway.domain.identifier import new_id, new_serial
from gateway.domain.issuance import Issued, Pending, Plan, plan
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import CertificateRequest, EnrollmentRequest, RequestStatus, distinguished_name
from gateway.outbound.signer import SignerFailure, SignerLost, SignerRefused
from gateway.store import issuance as store
from gateway.store import requests
from gateway.store.unit import StateConflict, StoreBusy, StoreUnavailable, Unit

log = logging.getLogger(__name__)

# A worker that dies takes its batch with it, and the next attempt meets another worker. Three deaths in one
# enrollment are not bad luck: the client is told to come back.
ATTEMPTS: Final = 3

# How long the same ask waits for its twin that is being signed, and how often it looks. A signature takes a
# millisecond; only a full queue makes this matter.
TWIN_PATIENCE: Final = 5.0  # seconds
TWIN_GLANCE: Final = 0.02  # seconds

# For how long a signed certificate waits for room in the store's queue, and how often it looks: what gives up here was
# signed for nobody, and is a difference between the signer's journal and the inventory.
ROOM_PATIENCE: Final = 5.0  # seconds
ROOM_GLANCE: Final = 0.02  # seconds

# A cancellation does not say which it was.
GIVEN_UP: Final = (
    "given up before its certificate was signed: the client went away, or the gateway ended; nothing was signed"
)

# An authority was renewed: its worker knows it up to 2.5 s before this process does (serve.authorities, serve.current),
# and an ask that was planned with the dates before may be outside of the new ones. Two such pauses bridge that.
RENEWAL_PAUSE: Final = 1.25  # seconds

_encode: Final = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a protocol's own records need done in the same commits.

    `with_reserve` runs in the unit that reserves; a Refusal raised in it undoes the whole unit.
    `with_complete` runs in the unit that stores the certificate.
    """

    with_reserve: Callable[[Unit], None] | None = None
    with_complete: Callable[[Unit, Certificate], None] | None = None


@unique
class _Again(Enum):
    """Why the same ask is tried once more, with another serial."""

    DIED = "a worker died with it"
    RENEWED = "the authority's certificate has other dates"


class _Draft(msgspec.Struct, frozen=True):
    """A plan, and what the rows on both sides of its signature say of it: its serial in hex, its subject as text."""

    judged: Plan
    serial: str
    subject: str


def _draft(judged: Plan) -> _Draft:
    return _Draft(judged, f"{judged.serial:x}", distinguished_name(judged.subject))


class _Attempt(msgspec.Struct, frozen=True):
    """One enrollment on its way: what was asked, by whom, and from where."""

    resources: Resources
    pair: Pair
    request: EnrollmentRequest
    hooks: Hooks
    source: str
    http_request_id: str
    actor: str

    def event(self, action: str, target: str, outcome: str, detail: str, at: datetime) -> AuditEvent:
        return AuditEvent(
            at=at,
            actor=self.actor,
            action=action,
            target=target,
            outcome=outcome,
            application_id=self.pair.application.id,
            detail=detail,
            source=self.source,
            request_id=self.http_request_id,
        )


async def enroll(
    resources: Resources,
    pair: Pair,
    request: EnrollmentRequest,
    *,
    source: str = "",
    http_request_id: str = "",
    hooks: Hooks = Hooks(),
) -> Issued | Pending:
    """Judge `request` against the pair's policy and issue for it, at most once.

    An ask with the `deduplication` of one that was issued gets that one's certificate; of one that is being signed,
    its outcome, or `Pending` when that takes long. Cancelled, because its client went away or the gateway ends, while
    it waits for the signer, it is withdrawn: nothing is signed, and its serial is given up. From the moment that a
    worker has it, it is shielded: a client that goes away cannot leave it half done.

    Raises:
        Refusal: POLICY, BAD_KEY and FORBIDDEN from the judgement; BUSY or UNAVAILABLE, with `retry_after`, when
            nothing was issued and trying again can help; and whatever a hook raises.
    """
    outcome = "failed"
    try:
        actor = f"{request.proof.kind}:{request.proof.subject}"
        done = await _enrolled(_Attempt(resources, pair, request, hooks, source, http_request_id, actor))
        outcome = "issued" if isinstance(done, Issued) else "pending"
    except Refusal as refusal:
        outcome = refusal.reason.value
        raise
    except trio.Cancelled:
        outcome = "withdrawn"
        raise
    else:
        return done
    finally:
        resources.enrollments[request.proof.protocol, outcome] += 1


async def _enrolled(attempt: _Attempt) -> Issued | Pending:
    resources, pair, request = attempt.resources, attempt.pair, attempt.request
    now = resources.now()
    try:
        # Judged before anything is written; each attempt below only changes the serial.
        judged = plan(request, pair, serial=new_serial(now, resources.dice), now=now)
    except Refusal as refusal:
        await _record_refusal(attempt, refusal, now)
        raise
    try:
        resources.signer.require_room(pair.application.id)  # overload is told before anything is written (P16)
    except SignerFailure as failure:
        raise _refusal(failure) from failure
    for _ in range(ATTEMPTS):
        outcome = await _attempt_once(attempt, judged)
        match outcome:
            case Issued():
                return outcome
            case store.Existing():
                return await _twin(attempt, outcome)
            case _Again.DIED:
                judged = msgspec.structs.replace(judged, serial=new_serial(resources.now(), resources.dice))
            case _Again.RENEWED:
                await trio.sleep(RENEWAL_PAUSE)
                pair = resources.catalogue().pair_by_id(pair.application.id, pair.profile.id) or pair
                attempt = msgspec.structs.replace(attempt, pair=pair)
                now = resources.now()
                judged = plan(request, pair, serial=new_serial(now, resources.dice), now=now)
    raise Refusal(RefusalReason.UNAVAILABLE, "the signer failed repeatedly; nothing was issued", retry_after=5)


async def _attempt_once(attempt: _Attempt, judged: Plan) -> Issued | store.Existing | _Again:
    """Reserve, sign, record. `_Again`: the serial is burnt, and another may be planned."""
    draft = _draft(judged)
    try:
        reserved = await attempt.resources.store.write(_reservation(attempt, draft), shielded=True)
    except (StoreBusy, StoreUnavailable) as error:
        raise outage(error) from error
    if isinstance(reserved, store.Existing):
        return reserved
    ticket = attempt.resources.dice(16)
    try:
        der = await attempt.resources.signer.issue(judged, attempt.pair, ticket=ticket)
    except trio.Cancelled:
        await _burn(attempt, reserved.request_id, draft, GIVEN_UP)
        raise
    except SignerFailure as failure:
        await _burn(attempt, reserved.request_id, draft, str(failure))
        if isinstance(failure, SignerLost):
            return _Again.DIED
        if isinstance(failure, SignerRefused) and failure.about_the_term:
            return _Again.RENEWED
        raise _refusal(failure) from failure
    return await _complete(attempt, reserved.request_id, draft, der)


def _reservation(attempt: _Attempt, draft: _Draft) -> Callable[[Unit], store.Reserved | store.Existing]:
    """Step 8 of the path: the request, the serial with its plan and the event are durable before any signature."""
    resources, pair, request = attempt.resources, attempt.pair, attempt.request
    judged, serial = draft.judged, draft.serial
    at = judged.judged_at
    row = CertificateRequest(
        id=new_id(at, resources.dice),
        application_id=pair.application.id,
        profile_id=pair.profile.id,
        protocol=request.proof.protocol,
        status=RequestStatus.SIGNING,
        proof_kind=request.proof.kind,
        proof_subject=request.proof.subject,
        subject=draft.subject,
        sans=judged.sans,
        created_at=at,
        updated_at=at,
    )
    encoded = _written(judged)

    def unit(unit: Unit) -> store.Reserved | store.Existing:
        reserved = store.reserve(
            unit,
            request=row,
            deduplication=request.deduplication,
            serial=serial,
            issuer_id=pair.authority.id,
            plan=encoded,
            at=at,
            holder=resources.holder,
        )
        if isinstance(reserved, store.Reserved):
            if attempt.hooks.with_reserve is not None:
                attempt.hooks.with_reserve(unit)
            unit.audit(attempt.event("certificate.request", reserved.request_id, "success", f"serial {serial}", at))
        return reserved

    return unit


def _written(judged: Plan) -> bytes:
    """What may exist under a serial, for whoever must find out: msgpack by field. The serial stands beside it.

    Spelled out here: through the dataclass it took three times as long, for a row that nearly always goes unread.
    """
    proof = judged.proof
    return _encode(
        {
            "subject": [(each.type, each.value) for each in judged.subject],
            "sans": [(each.type, each.value) for each in judged.sans],
            "spki": judged.key.spki,
            "key_usages": judged.key_usages,
            "extended_key_usages": judged.extended_key_usages,
            "ca": judged.basic_constraints.ca,
            "path_length": judged.basic_constraints.path_length,
            "not_before": judged.not_before,
            "not_after": judged.not_after,
            "judged_at": judged.judged_at,
            "proof": (proof.kind, proof.subject, proof.evidence, proof.request_hash),
        }
    )


async def _complete(attempt: _Attempt, request_id: str, draft: _Draft, der: bytes) -> Issued:
    """Step 10 of the path: nobody is told of a certificate that is not in the inventory."""
    resources, pair, request, judged = attempt.resources, attempt.pair, attempt.request, draft.judged
    if judged.key.spki not in der:
        # The one thing that a confused signer must not get past us: somebody else's key under these names.
        await _burn(attempt, request_id, draft, "the signer answered with another key's certificate")
        raise Refusal(RefusalReason.UNAVAILABLE, "the signer failed; nothing was issued", retry_after=5)
    at = resources.now()
    certificate = Certificate(
        id=new_id(at, resources.dice),
        serial=draft.serial,
        issuer_id=pair.authority.id,
        der=der,
        subject=draft.subject,
        sans=judged.sans,
        not_before=judged.not_before,
        not_after=judged.not_after,
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(der).hexdigest(),
        spki_sha256=judged.key.fingerprint,
        key_algorithm=judged.key.algorithm,
        signature_algorithm=pair.authority.signature_algorithm,
        source="issued",
        created_at=at,
        application_id=pair.application.id,
        profile_id=pair.profile.id,
        request_id=request_id,
        protocol=request.proof.protocol,
        renewed_from=request.renewed_from,
        metadata=request.metadata,
        managed_key=request.managed_key,
        crl_partition=pair.authority.partition(judged.serial),
    )

    def unit(unit: Unit) -> None:
        store.complete(unit, certificate, at=at)
        if attempt.hooks.with_complete is not None:
            attempt.hooks.with_complete(unit, certificate)
        unit.audit(attempt.event("certificate.issue", certificate.id, "success", f"serial {certificate.serial}", at))

    try:
        await _insist(attempt, unit)
    except StateConflict as conflict:
        # Revoked by its serial, or given up as overdue, while it was being signed: whoever did it has burnt the serial.
        log.warning("request %s: signed too late, and handed out to nobody: %s", request_id, conflict)
        raise Refusal(RefusalReason.UNAVAILABLE, "the serial was given up meanwhile", retry_after=5) from conflict
    return issued(certificate, pair)


async def _burn(attempt: _Attempt, request_id: str, draft: _Draft, failure: str) -> None:
    """Give the serial up for ever. If the store is away the serial stays reserved, which is as final."""
    at = attempt.resources.now()

    def unit(unit: Unit) -> None:
        store.burn(
            unit,
            request_id=request_id,
            issuer_id=attempt.pair.authority.id,
            serial=draft.serial,
            failure=failure,
            at=at,
        )
        unit.audit(attempt.event("certificate.request", request_id, "failed", failure, at))

    log.warning("request %s failed: %s", request_id, failure)
    try:
        await attempt.resources.store.write(unit, shielded=True)
    except (StoreBusy, StoreUnavailable) as error:
        log.warning("request %s: its serial stays reserved, the store is away: %s", request_id, error)
    except StateConflict:
        log.warning("request %s: its serial was given up already", request_id)


async def _twin(attempt: _Attempt, existing: store.Existing) -> Issued | Pending:
    """The same ask was made before: give its certificate, waiting a little if it is being signed just now."""
    request_id = existing.request.id
    with trio.move_on_after(TWIN_PATIENCE):
        while True:
            if existing.certificate is not None:
                return issued(existing.certificate, attempt.pair)
            if existing.request.status is not RequestStatus.SIGNING:
                break
            await trio.sleep(TWIN_GLANCE)
            existing = await attempt.resources.store.read(lambda unit: store.existing(unit, request_id))
    if existing.request.status is RequestStatus.FAILED:
        raise Refusal(RefusalReason.UNAVAILABLE, "the request failed; nothing was issued", retry_after=5)
    return Pending(request_id, retry_after=5)


def issued(certificate: Certificate, pair: Pair) -> Issued:
    """What the front hands out for a certificate of the inventory."""
    return Issued(
        certificate_id=certificate.id,
        request_id=certificate.request_id or "",
        serial=certificate.serial,
        certificate=certificate.der,
        chain=pair.authority.issuers,
        root=pair.authority.root,
    )


async def _record_refusal(attempt: _Attempt, refusal: Refusal, at: datetime) -> None:
    """A refused request is a row and an event too, so that whoever asks why can be told."""
    resources, pair, request = attempt.resources, attempt.pair, attempt.request
    subject = request.subject if isinstance(request.subject, tuple) else ()
    row = CertificateRequest(
        id=new_id(at, resources.dice),
        application_id=pair.application.id,
        profile_id=pair.profile.id,
        protocol=request.proof.protocol,
        status=RequestStatus.FAILED,
        proof_kind=request.proof.kind,
        proof_subject=request.proof.subject,
        subject=distinguished_name(subject),
        sans=request.sans if isinstance(request.sans, tuple) else (),
        created_at=at,
        updated_at=at,
        failure="; ".join(refusal.violations) or refusal.detail,
    )

    def unit(unit: Unit) -> None:
        requests.record(unit, row)
        unit.audit(attempt.event("certificate.request", row.id, "refused", row.failure or "", at))

    try:
        await resources.store.write(unit)
    except (StoreBusy, StoreUnavailable) as error:
        log.warning("a refusal could not be recorded: %s", error)


async def _insist(attempt: _Attempt, unit: Callable[[Unit], None]) -> None:
    """Write what must not be lost: a queue that is full of others' beginnings has room for this end soon."""
    until: float | None = None
    while True:
        try:
            return await attempt.resources.store.write(unit, shielded=True)
        except StoreBusy as busy:
            until = trio.current_time() + ROOM_PATIENCE if until is None else until
            if trio.current_time() >= until:
                raise outage(busy) from busy
            with trio.CancelScope(shield=True):
                await trio.sleep(ROOM_GLANCE)
        except StoreUnavailable as error:
            raise outage(error) from error


def _refusal(failure: SignerFailure) -> Refusal:
    """The signer's answer in the product's words."""
    if isinstance(failure, SignerRefused) and failure.about_the_request:
        return Refusal(RefusalReason.POLICY, failure.detail, violations=(failure.detail,))
    return outage(failure)
