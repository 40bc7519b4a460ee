"""The audit chain: every event carries a hash over itself and the one before. Never here: who may read it.

What was changed, cut out or cut off afterwards is seen by `verify`. Whoever can rewrite the whole chain and its head is
not: keep heads elsewhere for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.domain.audit import AuditEvent
from gateway.store.unit import Row, Unit, Value, millis, storable

_PAGE: Final = 1000
_COLUMNS: Final = (
    "at",
    "actor",
    "action",
    "target",
    "outcome",
    "application_id",
    "detail",
    "source",
    "request_id",
)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place in the chain."""

    position: int
    event: AuditEvent
    hash: bytes


def append(unit: Unit, events: Sequence[AuditEvent]) -> None:
    """Append a batch of events behind the head. Called by the group commit alone, in the transaction it closes."""
    head = _head(unit, "audit.head_to_append")
    position, previous = head.integer("position"), head.blob("hash")
    rows: list[tuple[Value, ...]] = []
    for event in events:
        position += 1
        values, written = _written(position, event)
        previous = hashlib.sha256(previous + written).digest()
        rows.append((*values, previous))
    unit.many("audit.append", rows)
    unit.run("audit.move_head", position=position, hash=previous)


def _written(position: int, event: AuditEvent) -> tuple[tuple[Value, ...], bytes]:
    """The columns of an event but for its hash, in their order, and the JSON of them that is hashed.

    What a peer wrote stands in some of them; in a batch of many it must not fail for all. So it is made storable, but
    only where the JSON shows that anything is to be done: to look into each cost as much as the rest of the row.
    """
    columns: tuple[Value, ...] = (
        position,
        millis(event.at),
        event.actor,
        event.action,
        event.target,
        event.outcome,
        event.application_id,
        event.detail,
        event.source,
        event.request_id,
    )
    try:
        written = _encode(columns)
    except UnicodeEncodeError:
        written = b""
    if written and written.isascii() and b"\\u0000" not in written:
        return columns, written
    columns = tuple(storable(each) if isinstance(each, str) else each for each in columns)
    return columns, _encode(columns)


def verify(unit: Unit) -> int | None:
    """The first position at which the chain is broken, None if it is whole. Reads everything."""
    previous, expected = b"", 0
    for row in _rows(unit, after=0):
        expected += 1
        position, link = row.integer("position"), row.blob("hash")
        values: list[Value] = [position, row.integer("at")]
        values += [row.maybe_text(name) for name in _COLUMNS[1:]]
        if position != expected or link != _link(previous, values):
            return expected
        previous = link
    head = _head(unit)
    if head.integer("position") != expected or head.blob("hash") != previous:
        return expected + 1
    return None


def length(unit: Unit) -> int:
    """How many events the chain says it has."""
    return _head(unit).integer("position")


def entries(unit: Unit, *, after: int = 0, limit: int = _PAGE) -> list[Entry]:
    """One page of the chain, in order, behind the position `after`."""
    return [_entry(row) for row in unit.all("audit.page", after=after, limit=limit)]


def _head(unit: Unit, query: str = "audit.head") -> Row:
    head = unit.one(query)
    if head is None:
        raise TypeError("the audit chain has no head")
    return head


def _rows(unit: Unit, *, after: int) -> Iterator[Row]:
    while page := unit.all("audit.page", after=after, limit=_PAGE):
        yield from page
        after = page[-1].integer("position")


def _link(previous: bytes, values: list[Value]) -> bytes:
    """JSON spells one list of values in one way only: no two events share their bytes."""
    return hashlib.sha256(previous + _encode(values)).digest()


def _entry(row: Row) -> Entry:
    event = AuditEvent(
        at=row.time("at"),
        actor=row.text("actor"),
        action=row.text("action"),
        target=row.text("target"),
        outcome=row.text("outcome"),
        application_id=row.maybe_text("application_id"),
        detail=row.text("detail"),
        source=row.text("source"),
        request_id=row.text("request_id"),
    )
    return Entry(row.integer("position"), event, row.blob("hash"))
