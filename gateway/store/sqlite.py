"""SQLite: the embedded engine. Never here: SQL of a noun, a wait on the loop's thread.

Units run on the loop's own thread, and so does the commit while the disk is quick; a slow disk's commits, and all
checkpoints, run beside it (docs/decisions/0002-units-on-the-loop.md says what was measured). Reads by key run inline,
surveys beside it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import trio

from gateway.domain.audit import AuditEvent
from gateway.store import audit
from gateway.store.commit import Batches, Job, UnitFailed, driven, run_units
from gateway.store.errands import Errands, Turns
from gateway.store.hands import Hands
from gateway.store.migrate import migrate
from gateway.store.statements import Positional, for_sqlite, positional
from gateway.store.surveys import Surveys, Watched
from gateway.store.unit import (
    SURVEY_SECONDS,
    DamagedStore,
    Duplicate,
    Row,
    Store,
    StoreUnavailable,
    SurveyTooLong,
    Unit,
    Value,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

# Other workers write to the same file, `muster apply` and `muster doctor` too; all transactions are short.
BUSY_TIMEOUT: Final = 5000  # milliseconds
# A waiter looks so often whether the lock is free, and whoever had it last leaves it free for longer than that: they
# take turns. Asleep rather than in SQLite's own handler, whose waits grow to 100 ms: beside a neighbour that always
# writes, one commit in a hundred then took a tenth of a second, and the slowest 2.5 s; now 60 ms on the same machine.
POLL: Final = 0.0003  # seconds
GAP: Final = 0.001  # seconds
# A commit that takes longer than this is worth a thread's hop, and does not hold the loop. The hop is dear: beside a
# busy loop the thread waits for the interpreter, and those who are committed meanwhile part from those who come. With
# half of this, on a disk that takes 0.3 ms and a batch that takes as much again, one commit in four was made beside the
# loop for the sake of an outlier: an enrollment took 3 % more CPU, and no more of them were made.
QUICK: Final = 0.002  # seconds
PROBE: Final = 16  # of that many commits on a slow disk one is made on the loop, to see whether it still is slow
# Units after which the write-ahead log is carried over into the file: a unit changes 5 to 10 pages, so 20 to 40 MiB.
CHECKPOINT: Final = 1000
# Pages of a log that is not to grow further though somebody always writes: 64 MiB.
LONG_LOG: Final = 16_384
RESTART_TIMEOUT: Final = 50  # milliseconds; a neighbour's transaction takes less, and the next look is not far
# And pages after which SQLite does so itself within a commit: for a single unit that changes very many rows.
AUTOCHECKPOINT: Final = 20_000
# A log that grew in a storm gives its space back after the next checkpoint.
JOURNAL_LIMIT: Final = 64 * 1024 * 1024
WRITER_CACHE: Final = 32 * 1024  # KiB, of the 150 MiB that a gateway may use (P12)
READER_CACHE: Final = 16 * 1024  # KiB
SURVEY_CACHE: Final = 8 * 1024  # KiB, while one is made; a scan reads each page once
# In each worker: on the machine that enrolls, a second one would cost another core.
SURVEYS_AT_ONCE: Final = 1
# Steps of SQLite's machine, some 50 ms of a scan, after which it is asked whether anybody still waits for it.
SURVEY_STEPS: Final = 1_000_000
LONGEST_TURN: Final = 0.02  # seconds: an errand here is one wait for the disk or for a lock
STATEMENTS: Final = 256  # more than there are queries, so that none is ever prepared twice

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# What SQLite says of the disk, the file or a lock, as opposed to what it says of the statement.
_AWAY: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_AUTH,
    }
)
_UNIQUE: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})

# What sqlite3 takes as it is, but only after it has looked for an adapter in three places and met an exception: half a
# microsecond for each of the 20 in an ACME issuance. One that gives back what it is given spares most of that; both are
# the interpreter's own, since a call into Python takes as long again.
_nothing: Final[dict[None, None]] = {}
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(type(None), _nothing.get)


@cache
def _queries() -> dict[str, Positional[Value]]:
    return {name: positional(text) for name, text in for_sqlite().items()}


class SqliteUnit:
    """A unit of work on one connection."""

    __slots__ = ("_columns", "_cursor", "_queries", "events")

    def __init__(self, connection: sqlite3.Connection) -> None:
        # One for all statements: one of its own for each was a tenth of a read. Each is read to its end: one that was
        # not would keep its snapshot open, and the next on this connection would see the store as it was.
        self._cursor = connection.cursor()
        self._columns: dict[str, dict[str, int]] = {}
        self._queries = _queries()
        self.events: list[AuditEvent] | None = None

    def one(self, query: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        text, ordered = self._queries[query]
        try:
            found: list[tuple[Value, ...]] = self._cursor.execute(text, ordered(parameters)).fetchall()
        except sqlite3.Error as error:
            self._let_go()
            _fail(error)
        return Row(self._columns.get(query) or self._learn(query), found[0]) if found else None

    def all(self, query: str, **parameters: Value) -> list[Row]:
        """All rows."""
        text, ordered = self._queries[query]
        try:
            found: list[tuple[Value, ...]] = self._cursor.execute(text, ordered(parameters)).fetchall()
        except sqlite3.Error as error:
            self._let_go()
            _fail(error)
        columns = self._columns.get(query) or self._learn(query)
        return [Row(columns, values) for values in found]

    def run(self, query: str, **parameters: Value) -> int:
        """Change rows; how many were changed."""
        text, ordered = self._queries[query]
        try:
            return self._cursor.execute(text, ordered(parameters)).rowcount
        except sqlite3.Error as error:
            _fail(error)

    def many(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one change for each of `rows`, whose values stand as the query names them."""
        try:
            self._cursor.executemany(self._queries[query].text, rows)
        except sqlite3.Error as error:
            _fail(error)

    def audit(self, event: AuditEvent) -> None:
        """Append to the audit chain, with the unit."""
        if self.events is None:
            raise TypeError("a unit that reads has nothing to audit")
        self.events.append(event)

    def _let_go(self) -> None:
        """End a statement whose row could not be read: what it sees stays open, and no other writer's commit behind it.

        The writer's next BEGIN IMMEDIATE would be SQLITE_BUSY then, each time.
        """
        with suppress(sqlite3.Error):
            connection = self._cursor.connection
            self._cursor.close()
            self._cursor = connection.cursor()

    def _learn(self, query: str) -> dict[str, int]:
        """Where a query's columns stand, once: `sqlite3.Row` would search for each name in each row."""
        columns = self._columns[query] = {column[0]: place for place, column in enumerate(self._cursor.description)}
        return columns


class _Writing:
    """The write connection's transaction, for `run_units`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._unit = SqliteUnit(connection)
        self.unit: Unit = self._unit

    def begin(self, events: list[AuditEvent]) -> Unit:
        self._unit.events = events
        return self._unit

    def savepoint(self) -> None:
        self._execute("SAVEPOINT unit")

    def keep(self) -> None:
        self._execute("RELEASE unit")

    def undo(self) -> None:
        try:
            self._execute("ROLLBACK TO unit")
            self._execute("RELEASE unit")
        except sqlite3.Error as error:
            _fail(error)


class SqliteSight:
    """A connection for one survey, which ends when told so."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._seconds = seconds
        self._stopped = False
        self._connection = _connect(path, SURVEY_CACHE)
        self._connection.execute("PRAGMA query_only = ON")
        # An interrupt that comes just before a statement is lost on it: that one ends itself.
        self._connection.set_progress_handler(lambda: self._stopped, SURVEY_STEPS)

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in one transaction, which is all that sees it."""
        try:
            self._connection.execute("BEGIN")
            return work(Watched(SqliteUnit(self._connection), self))
        except sqlite3.Error as error:
            if self._stopped:
                raise SurveyTooLong(self._seconds) from error
            _fail(error)

    def require_asker(self) -> None:
        """Raises SurveyTooLong once nobody waits any more."""
        if self._stopped:
            raise SurveyTooLong(self._seconds)

    def stop(self) -> None:
        """Interrupt the statement that is under way."""
        self._stopped = True
        self._connection.interrupt()

    def close(self) -> None:
        """Close, and end the transaction with it."""
        with suppress(sqlite3.Error):
            self._connection.close()


class SqliteStore:
    """A store in one file, and the two connections to it; a survey has one of its own for as long as it takes."""

    def __init__(self, path: Path, *, queue: int) -> None:
        self._writer = _connect(path, WRITER_CACHE)
        self._writer.execute("PRAGMA busy_timeout = 0")
        self._reader = _connect(path, READER_CACHE)
        self._reader.execute("PRAGMA query_only = ON")
        self._frame_read = self._reader.cursor().execute
        self._reading = SqliteUnit(self._reader)
        self._writing = _Writing(self._writer)
        self.turns = Turns(LONGEST_TURN)
        self._errands = Errands("store-writer", self.turns)
        self._pace = 0.0  # seconds that a commit takes, of late
        self._slow = 0  # commits beside the loop since the last look
        self._since_checkpoint = 0  # units
        self._hands = _hands(path.with_name(f"{path.name}-hands"))
        self._had_it = False  # whether this process was the last to write, as far as it knows
        self.batches = Batches(self._carry_out, queue, rest=self._rest)
        self._surveys = Surveys(lambda seconds: SqliteSight(path, seconds), at_once=SURVEYS_AT_ONCE)

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` at once, on this thread: a read by key takes 10 microseconds, a hop to a thread 75."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._frame_read("BEGIN")
        except sqlite3.Error as error:
            _fail(error)
        try:
            return work(self._reading)
        finally:
            self._frame_read("ROLLBACK")

    async def survey(self, work: Callable[[Unit], T], *, seconds: float = SURVEY_SECONDS) -> T:
        """Run `work` beside the loop: half a second's scan of a large table would hold every enrollment."""
        return await self._surveys.ask(work, seconds)

    async def give_way(self) -> None:
        """Let threads have the interpreter that work for the loop, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.turns.run)
            nursery.start_soon(self._surveys.turns.run)

    @property
    def waiting(self) -> int:
        """How many units of work have been taken and are not yet durable."""
        return self.batches.waiting

    def write(self, work: Callable[[Unit], T], *, shielded: bool = False) -> Coroutine[object, None, T]:
        """Run `work` in the next batch."""
        return self.batches.submit(work, shielded=shielded)

    async def close(self) -> None:
        """Carry the log over into the file and close both connections."""
        with trio.CancelScope(shield=True):
            self._reader.close()
            await self._errands.do(self._writer.close)
            self._errands.close()
            self._hands.close()

    async def _carry_out(self, batch: list[Job]) -> None:
        try:
            if await self._begin():
                self.batches.top_up(batch)
            try:
                events = run_units(self._writing, batch, (StoreUnavailable,), savepoints=False)
            except UnitFailed:
                if len(batch) == 1:
                    return
                self._writer.execute("ROLLBACK")
                await self._begin()
                events = run_units(self._writing, batch, (StoreUnavailable,), savepoints=True)
            if events:
                audit.append(self._writing.unit, events)
            await self._make_durable()
        finally:
            if self._writer.in_transaction:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
        self._since_checkpoint += len(batch)

    async def _make_durable(self) -> None:
        """Commit: here while the disk is quick, beside the loop while it is not, with a look now and then."""
        self._slow = 0 if self._pace < QUICK else (self._slow + 1) % PROBE
        if self._slow:
            await self._errands.do(self._commit)
            return
        start = time.perf_counter()
        self._commit()
        # One slow commit in a hundred does not make a slow disk, and one quick one halves the doubt. Measured here
        # alone: beside the loop the wait for the interpreter would be measured with it.
        took = min(time.perf_counter() - start, 10 * QUICK)
        self._pace += (took - self._pace) / (16 if self._pace < QUICK else 2)

    async def _rest(self) -> None:
        """Between two batches: carry the log over. Only while nobody writes does it come to its end, and begin anew.

        Units that were committed are acknowledged before this.
        """
        if self._since_checkpoint >= CHECKPOINT:
            self._since_checkpoint = 0
            await self._errands.do(self._checkpoint)

    def _checkpoint(self) -> None:
        try:
            _, frames, carried = self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames > LONG_LOG and carried < frames:
                # Others write all the time: for the little that came meanwhile they wait, and the log begins anew.
                self._writer.execute(f"PRAGMA busy_timeout = {RESTART_TIMEOUT}")
                self._writer.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.Error as error:
            # The log only grows; the next commit says what is wrong, to those whom it concerns.
            log.warning("the store's log was not carried over: %s", error)
        finally:
            self._writer.execute("PRAGMA busy_timeout = 0")

    async def _begin(self) -> bool:
        """Take the write lock, at once or in turn with other processes; whether that took a while."""
        waited = self._had_it and self._hands.others()
        if waited:
            await trio.sleep(GAP)
        if self._begun():
            return waited
        self._hands.raise_own()
        try:
            until = trio.current_time() + BUSY_TIMEOUT / 1000
            while not self._begun():
                if trio.current_time() > until:
                    raise StoreUnavailable("the store is locked: another process has been writing for too long")
                await trio.sleep(POLL)
        finally:
            self._hands.lower_own()
        return True

    def _begun(self) -> bool:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                _fail(error)
            self._had_it = False
            return False
        self._had_it = True
        return True

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            _fail(error)


@asynccontextmanager
async def open_sqlite(path: str, *, queue: int, post: bool) -> AsyncIterator[Store]:
    """Open the file at `path`, made with mode 0600 if it is missing. Raises as `open_store` does."""
    file = Path(path)
    fresh = _prepare(file)
    try:
        _migrate(file, post=post)
        store = SqliteStore(file, queue=queue)
    except BaseException:
        if fresh:
            _remove(file)
        raise
    try:
        async with driven(store.batches, store.give_way, store) as ready:
            yield ready
    finally:
        await store.close()


def _hands(file: Path) -> Hands:
    try:
        return Hands(file)
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be made: {error.strerror}") from error


def _prepare(file: Path) -> bool:
    """Make the file if it is missing, and say so; recognise what is no database before SQLite touches it."""
    try:
        # Made here, because SQLite would make it readable by all; its log and index take this mode over.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        _look(file)
        return False
    except OSError as error:
        raise StoreUnavailable(f"the store {file} cannot be made: {error.strerror}") from error
    return True


def _look(file: Path) -> None:
    """Read the header: 16 bytes of magic, the page size at 16, the number of pages at 28 (sqlite.org/fileformat2)."""
    try:
        with file.open("r+b") as opened:
            header = opened.read(100)
            size = opened.seek(0, os.SEEK_END)
    except OSError as error:
        raise StoreUnavailable(f"the store {file} cannot be opened: {error.strerror}") from error
    if not header:
        return
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise DamagedStore(f"the store {file} is not an SQLite database")
    page = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    log = file.with_name(f"{file.name}-wal")
    whole = not log.exists() or log.stat().st_size == 0
    if whole and size < pages * (65536 if page == 1 else page):
        raise DamagedStore(f"the store {file} is damaged: it was cut off at {size} bytes")


def _remove(file: Path) -> None:
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm", f"{file.name}-hands"):
        file.with_name(name).unlink(missing_ok=True)


def _connect(file: Path, cache: int) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(
            file,
            timeout=BUSY_TIMEOUT / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=STATEMENTS,
        )
    except sqlite3.Error as error:
        _fail(error)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA cache_size = -{cache}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT}")
        connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT}")
        connection.execute("PRAGMA temp_store = MEMORY")
        # Some distributions' SQLite blanks whatever is deleted: not where that means to write pages only for it.
        connection.execute("PRAGMA secure_delete = FAST")
    except sqlite3.Error as error:
        connection.close()
        _fail(error)
    return connection


class _SqliteGround:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def tables(self) -> frozenset[str]:
        rows = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return frozenset(str(name) for (name,) in rows)

    def applied(self) -> frozenset[str]:
        return frozenset(str(name) for (name,) in self._connection.execute("SELECT name FROM migrations"))

    def execute(self, statement: str) -> None:
        self._connection.execute(statement)

    def record(self, name: str) -> None:
        self._connection.execute("INSERT INTO migrations (name) VALUES (?)", (name,))


def _migrate(file: Path, *, post: bool) -> None:
    connection = _connect(file, READER_CACHE)
    try:
        connection.execute("BEGIN IMMEDIATE")
        migrate(_SqliteGround(connection), post=post)
        connection.execute("COMMIT")
        # Kept in the file; asked for only now, so that a database of something else stays as it was.
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error as error:
        _fail(error)
    finally:
        connection.close()


def _fail(error: sqlite3.Error) -> NoReturn:
    """SQLite's error in the store's words; what speaks of a statement is a bug, and stays as it is."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _UNIQUE:
        raise Duplicate(str(error).rpartition(": ")[2]) from error
    if code & 0xFF in _DAMAGED:
        raise DamagedStore(f"the store is damaged: {error}") from error
    if code & 0xFF in _AWAY:
        raise StoreUnavailable(f"the store cannot work: {error}") from error
    raise error
