"""Certificate requests: one row an attempt, whatever the protocol. Never here: a judgement, a signature.

The life of a request that is being issued is moved in `issuance`, with its serial.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gateway.domain.request import CertificateRequest, ProofKind, Protocol, RequestStatus
from gateway.store.certificates import decode_sans, encode_json, encode_sans
from gateway.store.unit import Duplicate, Row, Unit, Value, millis, storable


def find(unit: Unit, request_id: str) -> CertificateRequest | None:
    """The request with this id."""
    return _maybe(unit.one("requests.find", id=request_id))


def find_by_deduplication(
    unit: Unit, application_id: str, profile_id: str, deduplication: bytes
) -> CertificateRequest | None:
    """The one request of a pair that was made with this deduplication value."""
    return _maybe(
        unit.one(
            "requests.find_by_deduplication",
            application_id=application_id,
            profile_id=profile_id,
            deduplication=deduplication,
        )
    )


def search(
    unit: Unit,
    *,
    application_ids: Sequence[str] | None,
    profile_id: str | None,
    status: RequestStatus | None,
    search: str | None,
    limit: int,
    offset: int,
) -> tuple[list[CertificateRequest], int]:
    """One page of requests, newest first, and how many there are in all pages.

    `application_ids` None means all of them, empty none. `search` is looked for in subject and SANs, without regard to
    the case of ASCII letters; its characters stand for themselves.
    """
    parameters: dict[str, Value] = {
        "applications": None if application_ids is None else encode_json(list(application_ids)).decode(),
        "profile_id": profile_id,
        "status": None if status is None else status.value,
        "pattern": None if search is None else _pattern(search),
        "rough": None if search is None else _pattern(encode_json(search).decode()[1:-1]),
    }
    rows = unit.all("requests.search", limit=limit, offset=offset, **parameters)
    if len(rows) < limit and (rows or not offset):
        # The last page, or the only one: to count would look at every request once more.
        return [request(row) for row in rows], offset + len(rows)
    total = unit.one("requests.count", **parameters)
    return [request(row) for row in rows], 0 if total is None else total.integer("total")


def cancel(unit: Unit, request_id: str, at: datetime) -> bool:
    """Cancel a request that still waits; false if it does not wait any more, or there is none."""
    return unit.run("requests.cancel", id=request_id, at=millis(at)) == 1


def record(unit: Unit, row: CertificateRequest) -> None:
    """Write a request that goes no further: refused by the policy, for instance. Raises Duplicate."""
    if not insert(unit, row, deduplication=None):
        raise Duplicate("certificate_requests")


def insert(unit: Unit, row: CertificateRequest, *, deduplication: bytes | None) -> bool:
    """Write a request; false, and nothing written, if the pair has one with this deduplication value."""
    return (
        unit.run(
            "requests.insert",
            id=row.id,
            application_id=row.application_id,
            profile_id=row.profile_id,
            protocol=row.protocol.value,
            status=row.status.value,
            proof_kind=row.proof_kind.value,
            proof_subject=storable(row.proof_subject),
            deduplication=deduplication,
            subject=storable(row.subject),
            sans=encode_sans(row.sans),
            created_at=millis(row.created_at),
            updated_at=millis(row.updated_at),
            certificate_id=row.certificate_id,
            failure=None if row.failure is None else storable(row.failure),
        )
        == 1
    )


def request(row: Row) -> CertificateRequest:
    """The request of a whole row of its table."""
    return CertificateRequest(
        id=row.text("id"),
        application_id=row.text("application_id"),
        profile_id=row.text("profile_id"),
        protocol=Protocol(row.text("protocol")),
        status=RequestStatus(row.text("status")),
        proof_kind=ProofKind(row.text("proof_kind")),
        proof_subject=row.text("proof_subject"),
        subject=row.text("subject"),
        sans=decode_sans(row.text("sans")),
        created_at=row.time("created_at"),
        updated_at=row.time("updated_at"),
        certificate_id=row.maybe_text("certificate_id"),
        failure=row.maybe_text("failure"),
    )


def _pattern(search: str) -> str:
    """A LIKE pattern for text that holds `search` somewhere; `!` escapes, since a backslash means different things."""
    escaped = search.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return f"%{escaped}%"


def _maybe(row: Row | None) -> CertificateRequest | None:
    return None if row is None else request(row)
