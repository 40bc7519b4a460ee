"""Group commit: whatever units are waiting share one durable commit. Never here: an engine's own calls, SQL, a timer.

A writer's task takes all that waits, an engine carries it out, every asker of the batch is woken. While one batch is
being made durable the next one gathers, so the batches grow exactly as the disk is slow.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

import trio

from gateway.domain.audit import AuditEvent
from gateway.store.unit import StoreBusy, StoreError, StoreUnavailable, Unit

log = logging.getLogger(__name__)

T = TypeVar("T")
S = TypeVar("S")

# Units run on the loop's own thread with SQLite: at 20 to 40 microseconds each, a batch holds the loop for some
# milliseconds. More units a commit gain nothing: the commit's share of each is small by then.
MOST_IN_A_BATCH: Final = 128
# Rounds of the loop that the first unit of a batch waits while others still come, and units that are enough: those of
# one wave of enrollments come within a few rounds of each other. A commit writes some twenty pages, and those of one
# batch go through the signer and back together too: with 16 clients an enrollment costs a twentieth less CPU. Whoever
# is alone waits one round, 20 us where the loop has nothing else to do.
GATHERING: Final = 4
ENOUGH: Final = 64


class Job:
    """A unit that waits, is run, or is done. `error` is what its asker is told; `abandoned`: nobody listens.

    Its work may be run again, and then only the last time's result counts.
    """

    __slots__ = ("abandoned", "error", "result", "task", "work")

    def __init__(self, work: Callable[[Unit], object], task: trio.lowlevel.Task | None = None) -> None:
        self.work = work
        self.task = task
        self.result: object
        self.error: BaseException | None = None
        self.abandoned = False

    def abandon(self, _: object) -> trio.lowlevel.Abort:
        """Its asker is cancelled."""
        self.abandoned = True
        return trio.lowlevel.Abort.SUCCEEDED


class Work(Job, Generic[T]):
    """A job with a result of its own type."""

    __slots__ = ()

    result: T


class UnitFailed(Exception):
    """A unit of a batch that was run without savepoints failed; nothing of the batch is left."""


class Transaction(Protocol):
    """What an engine offers to run a batch in: one open transaction."""

    def begin(self, events: list[AuditEvent]) -> Unit:
        """The unit of all that is run in it; its audit events go into `events`."""
        ...

    def savepoint(self) -> None:
        """From here on, `undo` goes back to here."""
        ...

    def keep(self) -> None:
        """Forget the savepoint; what was done stays."""
        ...

    def undo(self) -> None:
        """Go back to the savepoint, and forget it. Raises the engine's error if the whole transaction is gone."""
        ...


def run_units(
    transaction: Transaction, jobs: Sequence[Job], fatal: tuple[type[BaseException], ...], *, savepoints: bool
) -> list[AuditEvent]:
    """Run each unit of a batch in the open transaction, and give the audit events of those that succeeded.

    Failures are rare and savepoints cost as much as a statement, so a batch is first run without them: the first
    failure then raises UnitFailed, the engine rolls back, and the batch is run again with savepoints, where a failure
    is its unit's own. Errors of the kinds in `fatal` concern the whole batch, and are raised.
    """
    events: list[AuditEvent] = []
    unit = transaction.begin(events)
    for job in jobs:
        job.error = None
        before = len(events)
        if savepoints:
            transaction.savepoint()
        try:
            job.result = job.work(unit)
        except fatal:
            raise
        except Exception as error:
            # A lone unit's savepoint is the transaction itself.
            job.error = error
            if not savepoints:
                raise UnitFailed from error
            transaction.undo()
            del events[before:]
        else:
            if savepoints:
                transaction.keep()
    return events


class Batches:
    """The queue before an engine, and the task that empties it.

    `carry_out` makes a batch durable, or raises: then each of its units that has no error of its own gets that one.
    `rest` is run after each batch, when its askers have been woken; it does not raise.
    """

    def __init__(
        self,
        carry_out: Callable[[list[Job]], Awaitable[None]],
        most_waiting: int,
        *,
        rest: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._carry_out = carry_out
        self._rest = rest
        self._most_waiting = most_waiting
        self._queue: deque[Job] = deque()
        self._open = 0  # jobs that have not been answered
        self._idle: trio.lowlevel.Task | None = None
        self._closing = False

    @property
    def waiting(self) -> int:
        """How many jobs have not been answered."""
        return self._open

    async def submit(self, work: Callable[[Unit], T], *, shielded: bool = False) -> T:
        """Queue a unit and wait until its batch is durable. Raises as `Store.write` does."""
        if not shielded:
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._closing:
            raise StoreUnavailable("the store is closed")
        if self._open >= self._most_waiting:
            raise StoreBusy(f"{self._open} units of work are waiting")
        job: Work[T] = Work(work, trio.lowlevel.current_task())
        self._queue.append(job)
        self._open += 1
        self._wake()
        await trio.lowlevel.wait_task_rescheduled(_stay if shielded else job.abandon)
        if job.error is not None:
            raise job.error
        return job.result

    async def drive(self) -> None:
        """Carry out batch after batch, until `close` and the last one. Cancellation is answered by `close` alone."""
        with trio.CancelScope(shield=True):
            while await self._some():
                await self._gather()
                batch = self._take()
                await self._settle(batch)
                self._open -= len(batch)
                for job in batch:
                    if not job.abandoned and job.task is not None:
                        trio.lowlevel.reschedule(job.task)
                if self._rest is not None:
                    await self._rest()

    def top_up(self, batch: list[Job]) -> None:
        """Add to a batch that had to wait for its turn what has come meanwhile. For engines, before they run it."""
        batch += self._take(MOST_IN_A_BATCH - len(batch))

    def close(self) -> None:
        """Take no more units; those that wait are still carried out, and then `drive` ends."""
        self._closing = True
        self._wake()

    async def _settle(self, batch: list[Job]) -> None:
        if not batch:
            return
        try:
            await self._carry_out(batch)
        except StoreError as error:
            _tell(batch, error)
        except Exception as error:
            # A bug in an engine must not leave everyone waiting for ever; nobody is told success.
            log.exception("a batch of %d units failed", len(batch))
            _tell(batch, StoreUnavailable(f"the store failed: {type(error).__name__}"))

    def _wake(self) -> None:
        if self._idle is not None:
            trio.lowlevel.reschedule(self._idle)
            self._idle = None

    async def _some(self) -> bool:
        """Wait for units; false once there will be none any more."""
        while not self._queue:
            if self._closing:
                return False
            # Woken by the first unit, this task runs in the loop's next round: all units of this one have come by then.
            self._idle = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        return True

    async def _gather(self) -> None:
        """Let those join who come in the next rounds of the loop, as long as each brings somebody.

        One at least: an engine that never waits must not keep the loop from all others until the queue is empty.
        """
        for _ in range(GATHERING):
            came = len(self._queue)
            await trio.lowlevel.cancel_shielded_checkpoint()
            if came >= ENOUGH or len(self._queue) == came:
                return

    def _take(self, most: int = MOST_IN_A_BATCH) -> list[Job]:
        batch: list[Job] = []
        while self._queue and len(batch) < most:
            job = self._queue.popleft()
            if job.abandoned:
                self._open -= 1
            else:
                batch.append(job)
        return batch


def _stay(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


def _tell(batch: list[Job], error: StoreError) -> None:
    """Every asker gets an exception of its own: a shared one would gather the tracebacks of all."""
    for job in batch:
        if job.error is None:
            job.error = type(error)(*error.args)


@asynccontextmanager
async def driven(batches: Batches, bystander: Callable[[], Awaitable[None]], store: S) -> AsyncIterator[S]:
    """Run the batches' task, and `bystander` beside it until that has ended, for as long as `store` is used.

    What is raised inside comes out as it is, in no group.
    """
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def drive() -> None:
            await batches.drive()
            ended.set()

        nursery.start_soon(drive)
        nursery.start_soon(bystander)
        try:
            yield store
        except BaseException as error:  # noqa: BLE001, raised again below, outside the nursery
            failure = error
        batches.close()
        with trio.CancelScope(shield=True):
            await ended.wait()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
