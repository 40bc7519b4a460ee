"""The unit of work: what a store module sees of an engine. Never here: SQL, an engine's own words, the product's nouns.

A unit is a plain function over a `Unit`. It may be run again before it is committed (an engine retries, a neighbour in
the same commit failed), so it has no effect outside the store, and it never waits for anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final, Protocol, TypeAlias, TypeVar

from gateway.domain.audit import AuditEvent

Value: TypeAlias = str | int | bytes | None
T = TypeVar("T")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# How many units may wait. At 20 thousand units a second a full queue is a tenth of a second of work: who comes later
# hears `busy` at once instead of waiting for an answer that its client no longer wants.
QUEUE: Final = 2048

# How long a survey may take. A search by name among a million requests takes 2 to 5 s on slow hardware, 15 s when the
# disk has to be read first; clients give up after 30 s by themselves, and would not hear why.
SURVEY_SECONDS: Final = 25.0


class StoreError(Exception):
    """Anything that the store says instead of doing a unit of work."""


class StoreBusy(StoreError):
    """The queue is full. The unit was not and will not be run."""


class StoreUnavailable(StoreError):
    """The store cannot work now: disk full, I/O error, server away. The unit is not known to be committed."""


class DamagedStore(StoreUnavailable):
    """What lies there is not a store, or a broken one. One sentence for the operator."""


class NewerSchema(StoreUnavailable):
    """The store was made by a newer version, which this one must not touch."""


class Duplicate(StoreError):
    """A unique key exists already. `constraint` names the table or the key, in the engine's words.

    The unit's transaction is broken when this is raised: let it pass. Where a duplicate is expected, the SQL says so.
    """

    def __init__(self, constraint: str) -> None:
        super().__init__(f"a row with the same unique key exists: {constraint}")
        self.constraint = constraint


class StateConflict(StoreError):
    """A row was not in the state that the change starts from: somebody else was quicker, or the caller has a bug."""


class SurveyTooLong(StoreError):
    """A survey took longer than it may, and was ended. Asked again, it would take as long."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a survey of the store took longer than {seconds:g} s")
        self.seconds = seconds


class Row:
    """One row, read by column name and type. A value of another type is a bug, and raises TypeError.

    `columns` says at which place a name stands; one mapping serves all rows of a query.
    """

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: Mapping[str, int], values: Sequence[Value]) -> None:
        self._columns = columns
        self._values = values

    @property
    def values(self) -> Sequence[Value]:
        """All columns, as the query names them."""
        return self._values

    def text(self, name: str) -> str:
        """A TEXT column."""
        value = self._values[self._columns[name]]
        if isinstance(value, str):
            return value
        raise TypeError(name)

    def integer(self, name: str) -> int:
        """An INTEGER column."""
        value = self._values[self._columns[name]]
        if isinstance(value, int):
            return value
        raise TypeError(name)

    def blob(self, name: str) -> bytes:
        """A BLOB column."""
        value = self._values[self._columns[name]]
        if isinstance(value, bytes):
            return value
        raise TypeError(name)

    def time(self, name: str) -> datetime:
        """An INTEGER column of milliseconds since the epoch: aware, UTC."""
        return from_millis(self.integer(name))

    def maybe_text(self, name: str) -> str | None:
        """A TEXT column that may be NULL."""
        return None if self._values[self._columns[name]] is None else self.text(name)

    def maybe_integer(self, name: str) -> int | None:
        """An INTEGER column that may be NULL."""
        return None if self._values[self._columns[name]] is None else self.integer(name)

    def maybe_blob(self, name: str) -> bytes | None:
        """A BLOB column that may be NULL."""
        return None if self._values[self._columns[name]] is None else self.blob(name)

    def maybe_time(self, name: str) -> datetime | None:
        """A time that may be NULL."""
        return None if self._values[self._columns[name]] is None else self.time(name)


def millis(at: datetime) -> int:
    """An aware time as the store keeps it; what is below a millisecond is cut off."""
    since = at - EPOCH
    # A timedelta divides by way of big numbers, at four times the cost; a float would lose some of the milliseconds.
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_millis(at: int) -> datetime:
    """The aware time, UTC, that `millis` made such a number of."""
    return datetime.fromtimestamp(at / 1000, UTC)


def maybe_millis(at: datetime | None) -> int | None:
    """The same of a time that may be missing."""
    return None if at is None else millis(at)


def storable(text: str) -> str:
    """Text from a peer as both engines can keep it: PostgreSQL knows no NUL, and no encoding a lone surrogate."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


class Unit(Protocol):
    """One unit of work under way. `query` is `noun.name`, as in `queries/{noun}.sql`."""

    def one(self, query: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        ...

    def all(self, query: str, **parameters: Value) -> list[Row]:
        """All rows."""
        ...

    def run(self, query: str, **parameters: Value) -> int:
        """Change rows; how many were changed. Raises Duplicate."""
        ...

    def many(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one change for each of `rows`, whose values stand as the query names them. Raises Duplicate."""
        ...

    def audit(self, event: AuditEvent) -> None:
        """Append to the audit chain, in this unit's commit and only if the unit succeeds."""
        ...


class Store(Protocol):
    """An open store. Any task of the loop that opened it may use it."""

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` on a consistent snapshot that has everything acknowledged before. It must not change anything.

        Raises:
            StoreUnavailable: the store cannot be read now.
        """
        ...

    async def survey(self, work: Callable[[Unit], T], *, seconds: float = SURVEY_SECONDS) -> T:
        """Run a read whose cost grows with the store: as `read`, but beside the loop, with few others at once.

        It waits for its turn as long as it may then take; cancelled, it is ended as well.

        Raises:
            StoreBusy: too many others came first; nothing was read.
            SurveyTooLong: it took more than `seconds`.
            StoreUnavailable: the store cannot be read now.
        """
        ...

    @property
    def waiting(self) -> int:
        """How many units of work have been taken and are not yet durable."""
        ...

    async def write(self, work: Callable[[Unit], T], *, shielded: bool = False) -> T:
        """Run `work` as a unit of its own; what it did is durable when this returns.

        An exception raised by `work` undoes this unit alone, and is raised here. If the caller is cancelled the unit
        is committed whole or not at all; with `shielded` its caller waits for it all the same, and is cancelled at its
        next checkpoint (a scope around it, for the same, costs as much as the unit's own statements).

        Raises:
            StoreBusy: the queue is full; nothing was or will be done.
            StoreUnavailable: it is not known to be done.
            Duplicate: a unique key exists.
        """
        ...


def open_store(url: str, *, queue: int = QUEUE, post: bool = True) -> AbstractAsyncContextManager[Store]:
    """Open the store at `url`, making or migrating its schema; closed, with all acknowledged work done, at the end.

    `url` is `sqlite:///path` (four slashes for an absolute path) or `postgresql://...`. `queue` bounds the units that
    wait. `post=False` leaves the migrations of the second phase for later: those that older gateways, still running
    on the same PostgreSQL, could not live with.

    Raises, on entry:
        DamagedStore, NewerSchema, StoreUnavailable: one sentence each, and nothing was changed.
        ValueError: a URL of another kind.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "sqlite" and rest.startswith("///") and len(rest) > len("///"):
        from gateway.store import sqlite

        return sqlite.open_sqlite(rest.removeprefix("///"), queue=queue, post=post)
    if scheme in ("postgresql", "postgres") and colon:
        from gateway.store import postgres

        return postgres.open_postgres(url, queue=queue, post=post)
    raise ValueError(f"store.url is {url.rpartition('@')[2]!r}: sqlite:///path or postgresql://... is meant")
