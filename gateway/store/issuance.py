"""Serials and what becomes of them, in step with their requests: reserved, then issued or burnt, and never used again.

Never here: a signature. A serial is durable before anyone asks for one, and `complete` is the only way into `issued`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate, SerialStatus
from gateway.domain.request import CertificateRequest, RequestStatus
from gateway.store import certificates, outbox, requests
from gateway.store.certificates import encode_sans
from gateway.store.unit import Duplicate, Row, StateConflict, Unit, millis, storable

STOPPED: Final = "the gateway or its store stopped while this was being signed"

_ALWAYS: Final = 2**62  # milliseconds: later than any clock that ever reserved a serial


@dataclass(frozen=True, slots=True)
class Reserved:
    """The serial is this request's: a new one's, or an earlier one's that failed and is taken up again."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Existing:
    """The same ask was made before, and this is how it stands; `certificate` is there once it is issued."""

    request: CertificateRequest
    certificate: Certificate | None


@dataclass(frozen=True, slots=True)
class Serial:
    """A serial number, in lower-case hex, and its state. `plan` is what may exist under it, until that is certain."""

    serial: str
    status: SerialStatus
    request_id: str | None
    certificate_id: str | None
    plan: bytes | None
    at: datetime


def reserve(
    unit: Unit,
    *,
    request: CertificateRequest,
    deduplication: bytes | None,
    serial: str,
    issuer_id: str,
    plan: bytes,
    at: datetime,
    holder: int | None = None,
) -> Reserved | Existing:
    """Write the request as `signing` and reserve its serial, with the plan of what may be signed under it.

    Where the pair has a request with this `deduplication`: one that failed is taken up again under the new serial, any
    other is given back, and nothing is written. `holder` is the process that has it (`duty`).

    Raises:
        Duplicate: the serial was used before.
    """
    if request.status is not RequestStatus.SIGNING:
        raise StateConflict(f"a request that reserves a serial is signing, not {request.status}")
    request_id = request.id
    if not requests.insert(unit, request, deduplication=deduplication):
        found = _taken_up(unit, request, deduplication, at)
        if isinstance(found, Existing):
            return found
        request_id = found
    unit.run(
        "issuance.reserve",
        issuer_id=issuer_id,
        serial=serial,
        request_id=request_id,
        plan=plan,
        at=millis(at),
        holder=holder,
    )
    return Reserved(request_id)


def existing(unit: Unit, request_id: str) -> Existing:
    """How a request stands now. Raises StateConflict if there is none."""
    found = requests.find(unit, request_id)
    if found is None:
        raise StateConflict("there is no such request")
    return _existing(unit, found)


def complete(unit: Unit, certificate: Certificate, *, at: datetime) -> None:
    """Take an issued certificate into the inventory: its serial and its request are `issued` with it, or nothing is.

    Raises:
        StateConflict: the serial is not reserved (it was burnt meanwhile), or the request is not being signed.
    """
    now = millis(at)
    certificates.insert(unit, certificate)
    issued = unit.run(
        "issuance.issue_serial",
        issuer_id=certificate.issuer_id,
        serial=certificate.serial,
        certificate_id=certificate.id,
        at=now,
    ) == 1 and (
        unit.run("issuance.issue_request", id=certificate.request_id, certificate_id=certificate.id, at=now) == 1
    )
    if not issued:
        raise StateConflict(f"serial {certificate.serial} is not reserved for a request that is being signed")
    if certificate.renewed_from is not None:
        unit.run("certificates.renewed_by", id=certificate.renewed_from, renewed_by=certificate.id)
    outbox.append(
        unit,
        kind=outbox.CERTIFICATE_ISSUED,
        application_id=certificate.application_id,
        subject_id=certificate.id,
        at=at,
    )


def burn(unit: Unit, *, request_id: str, issuer_id: str, serial: str, failure: str, at: datetime) -> None:
    """Give a reserved serial up for ever, and fail its request with a sentence that its owner may read.

    Raises:
        StateConflict: the serial is not reserved.
    """
    if not _give_up(unit, request_id=request_id, issuer_id=issuer_id, serial=serial, failure=failure, at=at):
        raise StateConflict(f"serial {serial} is not reserved")


def recover(unit: Unit, *, at: datetime, before: datetime | None = None) -> list[str]:
    """Burn reserved serials, fail their requests, make ACME orders that were being signed ready again.

    `before` spares what was reserved or claimed since, which may be in a signer's hands just now; None spares nothing,
    and is for the start after a stop without warning. Gives the serials that were burnt.
    """
    until = _ALWAYS if before is None else millis(before)
    burnt = _recovered(unit, unit.all("issuance.reserved", before=until), at)
    unit.run("issuance.release_orders", before=until)
    return burnt


def recover_from(unit: Unit, holders: Collection[int], *, at: datetime) -> list[str]:
    """The same for all that these processes, which are gone, had under way."""
    rows = unit.all("issuance.reserved", before=_ALWAYS)
    burnt = _recovered(unit, [row for row in rows if row.maybe_integer("holder") in holders], at)
    for holder in holders:
        unit.run("issuance.release_orders_of", holder=holder)
    return burnt


def holders(unit: Unit) -> set[int]:
    """The processes that have a serial reserved or an order claimed, alive or not."""
    return {row.integer("holder") for row in unit.all("issuance.holders", before=_ALWAYS)}


def _recovered(unit: Unit, rows: Iterable[Row], at: datetime) -> list[str]:
    burnt: list[str] = []
    for row in rows:
        issuer_id, serial, request_id = row.text("issuer_id"), row.text("serial"), row.text("request_id")
        if not _give_up(unit, request_id=request_id, issuer_id=issuer_id, serial=serial, failure=STOPPED, at=at):
            continue  # on PostgreSQL: recorded, or burnt, since the line above read it
        unit.audit(
            AuditEvent(at, "system", "certificate.request", request_id, "failed", detail=f"serial {serial} burnt")
        )
        burnt.append(serial)
    return burnt


def _give_up(unit: Unit, *, request_id: str, issuer_id: str, serial: str, failure: str, at: datetime) -> bool:
    now = millis(at)
    if unit.run("issuance.burn_serial", issuer_id=issuer_id, serial=serial, at=now) != 1:
        return False
    unit.run("issuance.fail_request", id=request_id, failure=failure, at=now)
    return True


def serials(unit: Unit, issuer_id: str) -> list[Serial]:
    """All serials of an issuer, the oldest first."""
    return [_serial(row) for row in unit.all("issuance.serials", issuer_id=issuer_id)]


def find_serial(unit: Unit, issuer_id: str, serial: str) -> Serial | None:
    """How one serial stands; lower-case hex without leading zeros."""
    row = unit.one("issuance.find_serial", issuer_id=issuer_id, serial=serial)
    return None if row is None else _serial(row)


def _serial(row: Row) -> Serial:
    return Serial(
        serial=row.text("serial"),
        status=SerialStatus(row.text("status")),
        request_id=row.maybe_text("request_id"),
        certificate_id=row.maybe_text("certificate_id"),
        plan=row.maybe_blob("plan"),
        at=row.time("at"),
    )


def _taken_up(unit: Unit, request: CertificateRequest, deduplication: bytes | None, at: datetime) -> str | Existing:
    """The id of the earlier request if it had failed and is being signed again; otherwise how it stands."""
    earlier = (
        None
        if deduplication is None
        else requests.find_by_deduplication(unit, request.application_id, request.profile_id, deduplication)
    )
    if earlier is None:
        raise Duplicate("certificate_requests")
    if earlier.status is RequestStatus.FAILED and unit.run(
        "issuance.take_up",
        id=earlier.id,
        at=millis(at),
        proof_kind=request.proof_kind.value,
        proof_subject=storable(request.proof_subject),
        subject=storable(request.subject),
        sans=encode_sans(request.sans),
    ):
        return earlier.id
    return existing(unit, earlier.id)


def _existing(unit: Unit, request: CertificateRequest) -> Existing:
    certificate = None if request.certificate_id is None else certificates.find(unit, request.certificate_id)
    return Existing(request, certificate)
