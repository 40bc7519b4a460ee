"""The transactional outbox: events written in the commit of what happened, delivered later at least once (D24).

Never here: a delivery, a channel, a decision whom an event concerns.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from gateway.store.unit import Row, Unit, millis

CERTIFICATE_ISSUED: Final = "certificate.issued"
CERTIFICATE_REVOKED: Final = "certificate.revoked"
CERTIFICATE_RELEASED: Final = "certificate.released"  # from a hold: good again


@unique
class OutboxStatus(StrEnum):
    """Where the delivery of an event stands. The same names stand in the store's CHECK."""

    PENDING = "pending"
    DELIVERED = "delivered"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """Something that happened to the thing with the id `subject_id`. `attempts` counts deliveries that failed."""

    id: str
    kind: str
    application_id: str | None
    subject_id: str
    at: datetime
    attempts: int = 0


def append(
    unit: Unit, *, kind: str, application_id: str | None, subject_id: str, at: datetime, revision: int | None = None
) -> None:
    """Append an event. Its id is that of the thing and the kind; where a kind can come again, `revision` as well."""
    unit.run(
        "outbox.append",
        id=f"{subject_id}:{kind}" if revision is None else f"{subject_id}:{kind}:{revision}",
        kind=kind,
        application_id=application_id,
        subject_id=subject_id,
        at=millis(at),
    )


def pending(unit: Unit, *, at: datetime, limit: int) -> list[OutboxEvent]:
    """Events that are due at `at`, the longest due first."""
    return [_event(row) for row in unit.all("outbox.pending", at=millis(at), limit=limit)]


def mark(unit: Unit, event_id: str, status: OutboxStatus, *, due: datetime) -> bool:
    """Record a delivery's outcome; still `pending` it is tried again at `due`. False: it was settled before."""
    return unit.run("outbox.mark", id=event_id, status=status.value, due=millis(due)) == 1


def forget(unit: Unit, *, before: datetime, limit: int = 500) -> int:
    """Delete events that nobody has taken since they were due, before `before`, at most `limit`; how many."""
    return unit.run("outbox.forget", before=millis(before), limit=limit)


def collect(unit: Unit, *, before: datetime, limit: int = 500) -> int:
    """Delete settled events from before `before`, at most `limit`; how many were deleted."""
    return unit.run("outbox.collect", before=millis(before), limit=limit)


def _event(row: Row) -> OutboxEvent:
    return OutboxEvent(
        id=row.text("id"),
        kind=row.text("kind"),
        application_id=row.maybe_text("application_id"),
        subject_id=row.text("subject_id"),
        at=row.time("at"),
        attempts=row.integer("attempts"),
    )
