"""What the store knows of what the signer says that it signed. Reads only; nothing is judged here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.domain.certificate import SerialStatus
from gateway.store.unit import Unit, millis


@dataclass(frozen=True, slots=True)
class Known:
    """A serial as it stands: `der` is its certificate's where one is in the inventory."""

    status: SerialStatus
    der: bytes | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class Inventoried:
    """A certificate of the inventory that was issued here."""

    id: str
    issuer_id: str
    serial: str
    created_at: datetime


def find(unit: Unit, issuer_id: str, serial: str) -> Known | None:
    """The serial, in lower-case hex without leading zeros; None if it was never reserved."""
    row = unit.one("journal.find", issuer_id=issuer_id, serial=serial)
    if row is None:
        return None
    return Known(SerialStatus(row.text("status")), row.maybe_blob("der"), row.maybe_integer("revoked_at") is not None)


def issued(unit: Unit, *, after: str, until: datetime, most: int) -> list[Inventoried]:
    """One page of the certificates that were issued before `until`, in the order of their ids, behind `after`."""
    return [
        Inventoried(row.text("id"), row.text("issuer_id"), row.text("serial"), row.time("created_at"))
        for row in unit.all("journal.issued", after=after, until=millis(until), most=most)
    ]
