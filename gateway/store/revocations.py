"""What is revoked, in narrow rows, and the revision of each issuer that grows with every change of them.

Never here: a certificate's own row (`certificates` keeps it in step), a list's signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.domain.revocation import RevocationReason
from gateway.store.unit import Unit, millis

# A serial of which nobody knows what its certificate names: it stands on the list of every partition.
EVERY_PARTITION: Final = -1


@dataclass(frozen=True, slots=True)
class Revocation:
    """One row, light: times in milliseconds since the epoch, `reason` the value of CRLReason (8: hold released)."""

    serial: str
    revoked_at: int
    reason: int
    not_after: int
    partition: int | None
    revision: int


def put(
    unit: Unit,
    *,
    issuer_id: str,
    serial: str,
    reason: RevocationReason,
    at: datetime,
    not_after: datetime,
    partition: int | None,
) -> None:
    """Note that a serial is revoked, for what reason, and that its issuer's lists are out of date."""
    # The row of the revision is locked until the commit, so that revisions become visible in their order.
    unit.run("revocations.next_revision", issuer_id=issuer_id)
    unit.run(
        "revocations.put",
        issuer_id=issuer_id,
        serial=serial,
        revoked_at=millis(at),
        reason=reason.code,
        not_after=millis(not_after),
        crl_partition=partition,
        revision=revision(unit, issuer_id),
    )


def revision(unit: Unit, issuer_id: str) -> int:
    """The issuer's revision; 0 if nothing of it was ever revoked."""
    row = unit.one("revocations.revision", issuer_id=issuer_id)
    return 0 if row is None else row.integer("revision")


def revisions(unit: Unit) -> dict[str, int]:
    """Every issuer's revision, by its id."""
    return {row.text("issuer_id"): row.integer("revision") for row in unit.all("revocations.revisions")}


def since(unit: Unit, issuer_id: str, *, revision: int, serial: str, most: int) -> list[Revocation]:
    """Up to `most` rows that changed after (revision, serial), in that order; (0, "") is before all of them."""
    rows = unit.all("revocations.since", issuer_id=issuer_id, revision=revision, serial=serial, most=most)
    return [
        Revocation(
            row.text("serial"),
            row.integer("revoked_at"),
            row.integer("reason"),
            row.integer("not_after"),
            row.maybe_integer("crl_partition"),
            row.integer("revision"),
        )
        for row in rows
    ]
