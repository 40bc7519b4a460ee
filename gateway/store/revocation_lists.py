"""Revocation lists as signed, shared by all gateways of a store; a number is claimed before anyone signs under it.

Never here: what a list says. A list that is kept is never replaced by one with a lower number (RFC 5280, 5.2.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.store.unit import EPOCH, Row, Unit, millis

WHOLE: Final = -1
"""The part that is the whole list; partitions are counted from 0."""

_encode = msgspec.json.Encoder().encode
_urls = msgspec.json.Decoder(tuple[str, ...]).decode


@dataclass(frozen=True, slots=True)
class ListState:
    """One list, without its bytes. `number` 0: none was signed yet. `urls` are its names, old ones among them."""

    issuer_id: str
    part: int
    number: int
    this_update: datetime
    next_update: datetime
    revision: int
    urls: tuple[str, ...]


def states(unit: Unit) -> dict[tuple[str, int], ListState]:
    """Every list there is, by issuer and part."""
    found = (_state(row) for row in unit.all("revocation_lists.states"))
    return {(each.issuer_id, each.part): each for each in found}


def state(unit: Unit, issuer_id: str, part: int) -> ListState | None:
    """One of them, without the list: that has megabytes."""
    row = unit.one("revocation_lists.state", issuer_id=issuer_id, part=part)
    return None if row is None else _state(row)


def find(unit: Unit, issuer_id: str, part: int) -> tuple[ListState, bytes] | None:
    """A list and its DER, if one was signed."""
    row = unit.one("revocation_lists.find", issuer_id=issuer_id, part=part)
    return None if row is None or not row.integer("number") else (_state(row), row.blob("der"))


def claim(
    unit: Unit, issuer_id: str, part: int, *, urls: tuple[str, ...], at: datetime, patience: timedelta, own: int = 0
) -> tuple[int, ListState] | None:
    """Take the next number of a list, and with it the right to sign; None while someone else signs.

    The number is above every one that was ever claimed, and not below the clock's milliseconds: a store that was
    restored from an older copy does not go back. A claim older than `patience` was abandoned; so was that of the number
    `own`, the caller's last, if it still stands. `urls` are added to what names the part ever had; the state of the
    list as it is has those that it had before.
    """
    unit.run("revocation_lists.prepare", issuer_id=issuer_id, part=part)
    row = unit.one("revocation_lists.claimable", issuer_id=issuer_id, part=part)
    assert row is not None  # it was made above, and none is ever deleted
    ever = _urls(row.text("urls"))
    before = state(unit, issuer_id, part) or ListState(issuer_id, part, 0, EPOCH, EPOCH, 0, ())
    number = max(row.integer("claimed_number") + 1, before.number + 1, millis(at))
    claimed = unit.run(
        "revocation_lists.claim",
        issuer_id=issuer_id,
        part=part,
        number=number,
        own=own,
        at=millis(at),
        abandoned=millis(at - patience),
        impossible=millis(at + patience),  # the clock was set back since
        urls=_encode(tuple(dict.fromkeys((*urls, *ever)))).decode(),
    )
    return (number, replace(before, urls=ever)) if claimed else None


def keep(unit: Unit, signed: ListState, der: bytes) -> bool:
    """Keep the list of a claimed number; false if the claim was taken over meanwhile, and this list must be dropped."""
    if not give_back(unit, signed.issuer_id, signed.part, signed.number):
        return False
    kept = unit.run(
        "revocation_lists.keep",
        issuer_id=signed.issuer_id,
        part=signed.part,
        number=signed.number,
        this_update=millis(signed.this_update),
        next_update=millis(signed.next_update),
        revision=signed.revision,
        urls=_encode(signed.urls).decode(),
        der=der,
    )
    return kept == 1


def give_back(unit: Unit, issuer_id: str, part: int, number: int) -> bool:
    """Let go of a claim, in whose number nobody else signs; false if it was taken over meanwhile."""
    return unit.run("revocation_lists.give_back", issuer_id=issuer_id, part=part, number=number) == 1


def give_all_back(unit: Unit) -> int:
    """Let go of every claim, as a start after a stop without warning may: nobody signs. Gives how many there were.

    Were anybody signing all the same, their list would be dropped where another was claimed meanwhile.
    """
    return unit.run("revocation_lists.give_all_back")


def _state(row: Row) -> ListState:
    return ListState(
        issuer_id=row.text("issuer_id"),
        part=row.integer("part"),
        number=row.integer("number"),
        this_update=row.time("this_update"),
        next_update=row.time("next_update"),
        revision=row.integer("revision"),
        urls=_urls(row.text("urls")),
    )
