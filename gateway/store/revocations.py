"""What is revoked, in narrow rows, and the revision of each issuer that grows with every change of them.

Never here: a certificate's own row (`certificates` keeps it in step), a list's signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.domain.revocation import RevocationReason, reason_of
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


def begin(unit: Unit, issuer_id: str) -> int:
    """The revision of the change that this unit makes; other changes of this issuer wait until it is committed.

    So revisions become visible in their order, and what is read after this stays as it is.
    """
    unit.run("revocations.next_revision", issuer_id=issuer_id)
    return revision(unit, issuer_id)


def put(
    unit: Unit,
    *,
    issuer_id: str,
    serial: str,
    reason: RevocationReason,
    at: datetime,
    not_after: datetime,
    partition: int | None,
    revision: int,
) -> None:
    """Note that a serial is revoked, for what reason. `revision` is what `begin` gave."""
    unit.run(
        "revocations.put",
        issuer_id=issuer_id,
        serial=serial,
        revoked_at=millis(at),
        reason=reason.code,
        not_after=millis(not_after),
        crl_partition=partition,
        revision=revision,
    )


def revision(unit: Unit, issuer_id: str) -> int:
    """The issuer's revision; 0 if nothing of it was ever revoked."""
    row = unit.one("revocations.revision", issuer_id=issuer_id)
    return 0 if row is None else row.integer("revision")


def find(unit: Unit, issuer_id: str, serial: str) -> tuple[RevocationReason, datetime] | None:
    """For what reason a serial is revoked, and since when; None if it is not, or no longer."""
    row = unit.one("revocations.find", issuer_id=issuer_id, serial=serial)
    if row is None or (reason := reason_of(row.integer("reason"))) is RevocationReason.REMOVE_FROM_CRL:
        return None
    return reason, row.time("revoked_at")


def burn(unit: Unit, issuer_id: str, serial: str, *, at: datetime) -> None:
    """Take a serial into the books that was never reserved here: it must not be used, whoever signed under it."""
    unit.run("revocations.burn", issuer_id=issuer_id, serial=serial, at=millis(at))


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
