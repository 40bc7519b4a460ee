"""PostgreSQL: the engine for more than one machine. Never here: SQL of a noun, a blocking call on the loop's thread.

No trio-native driver exists, so units run on threads of their own: one writes, some read, each with its connection, and
each takes whatever waits. READ COMMITTED and changes that name the state they start from keep gateways apart.
"""

from __future__ import annotations

import logging
import queue as queues
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar

import psycopg
import trio

from gateway.domain.audit import AuditEvent
from gateway.store import audit
from gateway.store.commit import Batches, Job, UnitFailed, Work, driven, run_units
from gateway.store.errands import Errands, Turns
from gateway.store.migrate import migrate
from gateway.store.postgres_connection import Again, Columns, Connection, PostgresUnit, connect, fail
from gateway.store.surveys import Surveys, Watched
from gateway.store.unit import SURVEY_SECONDS, Store, StoreBusy, StoreUnavailable, SurveyTooLong, Unit

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS: Final = 4  # threads and connections: reads by key are short, and a batch of them shares a snapshot
MOST_READS: Final = 32  # in one snapshot: the longest that the first of them waits for the others
MOST_WAITING_READS: Final = 4096
SURVEYS_AT_ONCE: Final = 2  # in each worker; connections, for as long as they take
LONGEST_TURN: Final = 0.0005  # seconds: a thread here needs the interpreter after each statement

# Seconds before a batch is tried again: after a serialization failure or a deadlock, or when the server was away.
PAUSES: Final = (0.05, 0.2, 0.8)

_MIGRATION_LOCK: Final = 0x6D757374  # "must": one gateway at a time looks at the schema

# The words of the schema files that PostgreSQL spells differently.
_WORDS: Final = (
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\) STRICT(, WITHOUT ROWID)?"), ")"),
)


class _Writing:
    """The writer's transaction, for `run_units`."""

    def __init__(self, connection: Connection, columns: Columns) -> None:
        self._connection = connection
        self._unit = PostgresUnit(connection, columns)
        self.unit: Unit = self._unit

    def begin(self, events: list[AuditEvent]) -> Unit:
        self._unit.events = events
        return self._unit

    def savepoint(self) -> None:
        self._execute("SAVEPOINT unit")

    def keep(self) -> None:
        self._execute("RELEASE unit")

    def undo(self) -> None:
        self._execute("ROLLBACK TO unit")
        self._execute("RELEASE unit")

    def _execute(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.Error as error:
            fail(error)


class PostgresSight:
    """A connection for one survey. Told to end, the server goes on with a statement until its time is up, at most."""

    def __init__(self, url: str, seconds: float) -> None:
        self._seconds = seconds
        self._stopped = False
        self._connection = connect(url, reads=True)

    def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` in one transaction, each of its statements with a time of its own."""
        try:
            # A number of ours, which SET takes as no parameter.
            limit = f"SET LOCAL statement_timeout = {max(1, int(self._seconds * 1000))}"
            self._connection.execute(limit.encode(), prepare=False)
            return work(Watched(PostgresUnit(self._connection, {}), self))
        except psycopg.Error as error:
            fail(error)
        except StoreUnavailable as error:
            if self._stopped or isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise SurveyTooLong(self._seconds) from error
            raise

    def require_asker(self) -> None:
        """Raises SurveyTooLong once nobody waits any more."""
        if self._stopped:
            raise SurveyTooLong(self._seconds)

    def stop(self) -> None:
        """A cancellation would wait for the network: the server has the deadline itself."""
        self._stopped = True

    def close(self) -> None:
        """Close, and end the transaction with it."""
        with suppress(psycopg.Error):
            self._connection.close()


class PostgresStore:
    """A store on a server: one thread that writes, some that read, and one for each survey under way."""

    def __init__(self, url: str, *, queue: int) -> None:
        self._url = url
        self.turns = Turns(LONGEST_TURN)
        self._errands = Errands("store-writer", self.turns)
        self._connection: Connection | None = None
        self._columns: Columns = {}
        self._reads = _Readers(url, self.turns, self._columns)
        self.batches = Batches(self._carry_out, queue)
        self._surveys = Surveys(lambda seconds: PostgresSight(url, seconds), at_once=SURVEYS_AT_ONCE)

    async def read(self, work: Callable[[Unit], T]) -> T:
        """Run `work` on one of the readers' threads, in a snapshot that it shares with others that waited."""
        return await self._reads.submit(work)

    async def survey(self, work: Callable[[Unit], T], *, seconds: float = SURVEY_SECONDS) -> T:
        """Run `work` on a connection of its own: among the readers it would hold up those that share its snapshot."""
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
        """Close all connections and end the threads."""
        with trio.CancelScope(shield=True):
            await self._errands.do(self._drop)
            self._errands.close()
            await trio.to_thread.run_sync(self._reads.close)

    async def _carry_out(self, batch: list[Job]) -> None:
        await self._errands.do(lambda: self._transact(batch))

    def _transact(self, batch: list[Job]) -> None:
        """On the writer's thread: run the batch until it is committed, or it is known that it cannot be."""
        for pause in (*PAUSES, None):
            try:
                self._attempt(batch)
            except Again as error:
                if pause is None:
                    raise StoreUnavailable(*error.args) from error
                time.sleep(pause)
            else:
                return

    def _attempt(self, batch: list[Job]) -> None:
        """Run the batch once. Raises Again if nothing of it was committed and running it again can help."""
        connection = self._connected()
        writing = _Writing(connection, self._columns)
        try:
            try:
                events = run_units(writing, batch, (StoreUnavailable,), savepoints=False)
            except UnitFailed:
                connection.rollback()
                if len(batch) == 1:
                    return
                events = run_units(writing, batch, (StoreUnavailable,), savepoints=True)
            if events:
                audit.append(writing.unit, events)
        except BaseException:
            self._rollback(connection)
            raise
        self._commit(connection)

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected) as error:
            raise Again(f"the store is contended: {error}") from error
        except psycopg.Error as error:
            # The answer to the commit is what was lost: it may have been carried out, so it is not run again.
            self._drop()
            raise StoreUnavailable(
                f"the store was lost in a commit, which may have been carried out: {error}"
            ) from error

    def _rollback(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except psycopg.Error:
            self._drop()

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._url)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


class _Readers:
    """Threads that read. Each takes all reads that wait, runs them in one snapshot, and wakes their askers together."""

    def __init__(self, url: str, turns: Turns, columns: Columns) -> None:
        self._url = url
        self._columns = columns
        self._turns = turns
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: queues.SimpleQueue[Job | None] = queues.SimpleQueue()
        self._open = 0
        self._threads = [
            threading.Thread(target=self._live, name=f"store-reader-{number}", daemon=True) for number in range(READERS)
        ]
        for thread in self._threads:
            thread.start()

    async def submit(self, work: Callable[[Unit], T]) -> T:
        """Queue a read and wait for it. Raises StoreBusy, StoreUnavailable, and what `work` raises."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._open >= MOST_WAITING_READS:
            raise StoreBusy(f"{self._open} reads are waiting")
        job: Work[T] = Work(work, trio.lowlevel.current_task())
        self._open += 1
        self._turns.begin()
        self._waiting.put(job)
        await trio.lowlevel.wait_task_rescheduled(job.abandon)
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """End the threads, off the loop's thread. Nothing may be under way."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _live(self) -> None:
        connection: Connection | None = None
        while batch := self._next():
            try:
                connection = self._read_all(connection, batch)
            except StoreUnavailable as error:
                for job in batch:
                    job.error = StoreUnavailable(*error.args)
            except Exception as error:
                log.exception("%d reads failed", len(batch))
                for job in batch:
                    job.error = StoreUnavailable(f"the store failed: {type(error).__name__}")
            try:
                self._token.run_sync_soon(self._wake, batch)
            except trio.RunFinishedError:
                break
        if connection is not None:
            connection.close()

    def _read_all(self, connection: Connection | None, batch: list[Job]) -> Connection:
        """Read, on a new connection if there is none or the old one has died; reads can always be run again."""
        for pause in (*PAUSES, None):
            try:
                if connection is None or connection.closed:
                    connection = connect(self._url, reads=True)
                _read(PostgresUnit(connection, self._columns), connection, batch)
            except Again as error:
                if pause is None:
                    raise StoreUnavailable(*error.args) from error
                time.sleep(pause)
            else:
                break
        assert connection is not None
        return connection

    def _next(self) -> list[Job]:
        """Everything that waits; nothing at the end."""
        first = self._waiting.get()
        batch = [] if first is None else [first]
        while batch and len(batch) < MOST_READS:
            try:
                job = self._waiting.get_nowait()
            except queues.Empty:
                break
            if job is None:
                self._waiting.put(None)
                break
            batch.append(job)
        return batch

    def _wake(self, batch: list[Job]) -> None:
        self._open -= len(batch)
        for job in batch:
            self._turns.end()
            if not job.abandoned and job.task is not None:
                trio.lowlevel.reschedule(job.task)


def _read(unit: Unit, connection: Connection, batch: list[Job]) -> None:
    """Run reads in one snapshot; one that fails ends it, and the others go on in a new one. Raises Again."""
    for job in batch:
        job.error = None
        try:
            job.result = job.work(unit)
        except Again:
            raise
        except Exception as error:  # noqa: BLE001, it is the asker's
            job.error = error
            _end(connection)
    _end(connection)


def _end(connection: Connection) -> None:
    try:
        connection.rollback()
    except psycopg.Error as error:
        fail(error)


@asynccontextmanager
async def open_postgres(url: str, *, queue: int, post: bool) -> AsyncIterator[Store]:
    """Open the store on the server at `url`. Raises as `open_store` does."""
    await trio.to_thread.run_sync(lambda: _migrate(url, post=post))
    store = PostgresStore(url, queue=queue)
    try:
        async with driven(store.batches, store.give_way, store) as ready:
            yield ready
    finally:
        await store.close()


class _PostgresGround:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tables(self) -> frozenset[str]:
        rows = self._connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        return frozenset(str(name) for (name,) in rows)

    def applied(self) -> frozenset[str]:
        return frozenset(str(name) for (name,) in self._connection.execute("SELECT name FROM migrations"))

    def execute(self, statement: str) -> None:
        self._connection.execute(in_postgres_words(statement))

    def record(self, name: str) -> None:
        self._connection.execute("INSERT INTO migrations (name) VALUES (%s)", (name,))


def in_postgres_words(statement: str) -> str:
    """A statement of the schema files as PostgreSQL spells it."""
    for word, ours in _WORDS:
        statement = word.sub(ours, statement)
    return statement


def _migrate(url: str, *, post: bool) -> None:
    connection = connect(url)
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        migrate(_PostgresGround(connection), post=post)
        connection.commit()
    except psycopg.Error as error:
        fail(error)
    finally:
        connection.close()
