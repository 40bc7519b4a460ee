"""Delta lists as signed, and the complete lists to which one must be found; shared by all gateways of a store.

Never here: what a delta says, nor a sequence of numbers of its own (RFC 5280, 5.2.3): `revocation_lists` has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from gateway.store import revocation_lists
from gateway.store.revocation_lists import ListState
from gateway.store.unit import Row, Unit, millis

_encode = msgspec.json.Encoder().encode
_urls = msgspec.json.Decoder(tuple[str, ...]).decode


@dataclass(frozen=True, slots=True)
class DeltaState:
    """A part's delta, without its bytes. `number` 0: none was signed yet.

    The complete list `named_by` says that it is at `freshest`; no list that it fits lasts longer than `named_until`.
    The delta shows what changed after `base_revision`, up to `revision`.
    """

    issuer_id: str
    part: int
    named_by: int
    named_until: datetime
    freshest: tuple[str, ...]
    number: int
    this_update: datetime
    next_update: datetime
    base_revision: int
    revision: int


@dataclass(frozen=True, slots=True)
class Base:
    """The complete list that a delta is one to: its number, the revision it shows, its names."""

    number: int
    revision: int
    urls: tuple[str, ...]


def states(unit: Unit) -> dict[tuple[str, int], DeltaState]:
    """The delta of every part whose complete list ever named one."""
    found = (_state(row) for row in unit.all("revocation_deltas.states"))
    return {(each.issuer_id, each.part): each for each in found}


def state(unit: Unit, issuer_id: str, part: int) -> DeltaState | None:
    """The delta of this part; None if no complete list ever named one."""
    row = unit.one("revocation_deltas.state", issuer_id=issuer_id, part=part)
    return None if row is None else _state(row)


def find(unit: Unit, issuer_id: str, part: int) -> tuple[DeltaState, bytes] | None:
    """A delta and its DER, if one was signed."""
    row = unit.one("revocation_deltas.find", issuer_id=issuer_id, part=part)
    return None if row is None or not row.integer("number") else (_state(row), row.blob("der"))


def name(unit: Unit, signed: ListState, freshest: tuple[str, ...], *, at: datetime) -> None:
    """Note, in the unit that keeps it, that a complete list says where its delta is; `signed.urls` are its names."""
    urls = _encode(signed.urls).decode()
    issuer_id, part, number, shown = signed.issuer_id, signed.part, signed.number, signed.revision
    _forget(unit, issuer_id, part, at)
    unit.run(
        "revocation_deltas.add",
        issuer_id=issuer_id,
        part=part,
        number=number,
        this_update=millis(signed.this_update),
        next_update=millis(signed.next_update),
        revision=shown,
        urls=urls,
    )
    unit.run(
        "revocation_deltas.name",
        issuer_id=issuer_id,
        part=part,
        named_by=number,
        freshest=_encode(freshest).decode(),
        urls=urls,
        revision=shown,
        der=b"",
        at=millis(at),
    )


def _forget(unit: Unit, issuer_id: str, part: int, at: datetime) -> None:
    """Forget the lists that had run out when the last one was made, or are yet to come, if that one is in force.

    Two lists in a row must agree on the time: by a clock that is wrong for a while all the others would seem to have
    run out, or to be of the future, and whoever holds one would be left without a delta that fits.
    """
    newest = unit.one("revocation_deltas.newest", issuer_id=issuer_id, part=part)
    if newest is not None and newest.time("this_update") <= at < newest.time("next_update"):
        then = newest.integer("this_update")
        unit.run("revocation_deltas.forget", issuer_id=issuer_id, part=part, then=then, at=millis(at))


def base(unit: Unit, issuer_id: str, part: int, *, at: datetime) -> Base | None:
    """What the next delta is one to; None if no complete list that names one is in force at `at`.

    It is the oldest of them, so that the delta fits whichever a relying party holds (RFC 5280, 5.2.4, c; 6.3.3, a).
    Those of other names than the newest have another scope, as far as a relying party can see (5.2.4, b).
    """
    row = unit.one("revocation_deltas.base", issuer_id=issuer_id, part=part, at=millis(at))
    return None if row is None else Base(row.integer("number"), row.integer("revision"), _urls(row.text("urls")))


def keep(unit: Unit, signed: DeltaState, der: bytes) -> bool:
    """Keep the delta of a claimed number; false if the claim was taken over meanwhile, and it must be dropped."""
    if not revocation_lists.give_back(unit, signed.issuer_id, signed.part, signed.number):
        return False
    kept = unit.run(
        "revocation_deltas.keep",
        issuer_id=signed.issuer_id,
        part=signed.part,
        number=signed.number,
        this_update=millis(signed.this_update),
        next_update=millis(signed.next_update),
        base_revision=signed.base_revision,
        revision=signed.revision,
        der=der,
    )
    return kept == 1


def _state(row: Row) -> DeltaState:
    return DeltaState(
        issuer_id=row.text("issuer_id"),
        part=row.integer("part"),
        named_by=row.integer("named_by"),
        named_until=row.time("named_until"),
        freshest=_urls(row.text("freshest")),
        number=row.integer("number"),
        this_update=row.time("this_update"),
        next_update=row.time("next_update"),
        base_revision=row.integer("base_revision"),
        revision=row.integer("revision"),
    )
