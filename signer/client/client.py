"""Asks on their way to workers and back. Nothing is decided here about what an ask means."""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from signer.client.connection import Connection, connect
from signer.client.figures import ANSWERED, BATCHES, BUSY, LOST, UNREACHABLE, Places, WorkersStatistics
from signer.client.pace import Pace, kind
from signer.client.waiting import Busy, Entry, Unreachable, Waiting, WorkerLost
from signer.contract.framing import BadFrame, FrameTooLarge, decode_answers, encode_batch
from signer.contract.messages import (
    VERSION,
    Ask,
    Batch,
    GenerateKey,
    IssueCertificate,
    No,
    Outcome,
    SignCrl,
    SignOcsp,
    Verb,
)
from signer.contract.refusal import SignerRefusal

MOST: Final = 64  # asks in a frame; more would gain little (13 us each at 64) and delay the first of them
# Asks in a frame, where that many wait, before another free worker is given any. A second worker has them done sooner,
# and costs the machine its waking and a frame of its own; what came back together goes on together. With 8 an
# enrollment took a twentieth more CPU than with 16. Where an ask is slow, a frame is bounded by its time long before.
LEAST: Final = 16
# How long a worker is given work at once. Whoever comes next waits for half of that on average: a millisecond costs
# nothing that could be measured where the asks are short, and nobody else waits while one share asks alone.
TOGETHER: Final = 0.001  # seconds, while several shares ask
ALONE: Final = 0.008  # seconds
_LATELY: Final = 1.0  # seconds for which a share that has asked is thought to ask again
# An ask is refused at once where it would wait for more than this part of its time: the estimate may be wrong by half,
# and its asker has work to do with the answer.
_USEFUL: Final = 0.5
_SWEEP: Final = 0.1  # seconds
_BACKOFF: Final = (0.01, 0.05, 0.2, 1.0)  # seconds before the first, second, ... attempt to connect again
_LONGEST_WAIT: Final = 60  # seconds that a busy peer is told to wait, at most

_WORDS: Final[dict[type[Exception], str]] = {Busy: BUSY, Unreachable: UNREACHABLE, WorkerLost: LOST}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the client has done since its start, and what it holds at the moment, for telemetry.

    `sizes` counts frames by the first of `BATCHES` that their asks are within; `outcomes` counts asks by the tag of
    their verb and what became of them: `answered`, a `SignerRefusal`, `busy`, `unreachable` or `lost`. `told` is what
    the workers say.
    """

    frames: int
    asks: int
    largest: int  # asks in one frame
    waiting: int
    in_flight: int
    workers: int  # connected
    sizes: tuple[int, ...]
    outcomes: Mapping[tuple[str, str], int]
    told: WorkersStatistics


class SignerClient:
    """Asks the workers behind `sockets`. `run` must be running while `ask` is awaited; one event loop.

    `queue` bounds how many asks wait in each class; what an ask would wait for is bounded by its deadline. Issuance and
    status (OCSP) have half of every frame each, and what the other leaves. Keys to generate and lists to sign, which
    take a worker's time by the second, travel alone, take turns with the rest, and never occupy the last of several
    workers.
    """

    def __init__(self, sockets: Sequence[str], *, queue: int = 4096) -> None:
        self._paths = tuple(sockets)
        self._issuance = Waiting(queue)
        self._status = Waiting(queue)
        self._slow = Waiting(max(16, queue // 16))
        self._classes = (self._issuance, self._status, self._slow)
        self._pace = Pace()
        self._slow_flying = 0
        self._slow_most = max(1, len(self._paths) - 1)
        self._connections: deque[Connection] = deque()
        self._distributor: trio.lowlevel.Task | None = None
        self._rung = False
        self._idle: trio.Event | None = None  # the sweeper's, while it has nothing to sweep
        self._ended = False
        self._next_id = 0
        self._last_share: str | None = None
        self._together_until = -math.inf
        self._frames = self._asks = self._largest = 0
        self._sizes = [0] * len(BATCHES)
        self._outcomes: Counter[tuple[type[Verb], str]] = Counter()
        self._places = Places()

    @property
    def reachable(self) -> bool:
        """Whether any worker is connected."""
        return bool(self._connections)

    def statistics(self) -> Statistics:
        """The numbers of this moment."""
        return Statistics(
            frames=self._frames,
            asks=self._asks,
            largest=self._largest,
            waiting=sum(each.count for each in self._classes),
            in_flight=sum(len(each.flying) for each in self._connections),
            workers=len(self._connections),
            sizes=tuple(self._sizes),
            outcomes={(str(verb.__struct_config__.tag), what): n for (verb, what), n in self._outcomes.items()},
            told=self._places.statistics(),
        )

    def require_room(self, share: str, *, seconds: float) -> None:
        """Raises `Busy` if an ask of `share` for a certificate, with that much time, would be refused now.

        For whoever has something to write down before asking: what is refused here costs nothing.
        """
        waiting = self._issuance
        if self._too_late(waiting, share, seconds) or (waiting.full and waiting.crowded_by(share)):
            self._outcomes[IssueCertificate, BUSY] += 1
            raise Busy(self._retry_after(waiting, share))

    async def ask(self, verb: Verb, *, share: str, deadline: float, told: bool = False) -> Outcome:
        """What a worker answers to `verb`. `deadline` is of trio's clock; `share` names whose fair part is used.

        Raises `Busy` and `Unreachable` (nothing was signed) or `WorkerLost` (it may have been). An ask that is
        cancelled, or whose deadline passes, before it was sent is never sent. With `told`, one that was sent cannot be
        cancelled any more: its asker hears what became of it. Deadlines are kept within 0.1 s.
        """
        waiting = self._class(verb)
        try:
            entry = self._entered(waiting, verb, share, deadline)
            await trio.lowlevel.wait_task_rescheduled(self._leaving(waiting, entry, told=told))
            if entry.outcome is None:
                assert entry.failure is not None
                raise entry.failure
        except (Busy, Unreachable, WorkerLost) as failure:
            self._outcomes[type(verb), _WORDS[type(failure)]] += 1
            raise
        outcome = entry.outcome
        self._outcomes[type(verb), outcome.reason if isinstance(outcome, No) else ANSWERED] += 1
        return outcome

    def _entered(self, waiting: Waiting, verb: Verb, share: str, deadline: float) -> Entry:
        """This task's ask, which waits from now on."""
        if self._ended:
            raise Unreachable("the signer's client has ended")
        if self._connections and self._too_late(waiting, share, deadline - trio.current_time()):
            raise Busy(self._retry_after(waiting, share))
        if waiting.full:
            waiting.make_room(share, Busy(self._retry_after(waiting, share)))
        of = kind(verb)
        entry = Entry(verb, of, self._pace.of(of), share=share, deadline=deadline, task=trio.lowlevel.current_task())
        waiting.put(entry)
        self._wake()
        return entry

    @staticmethod
    def _leaving(
        waiting: Waiting, entry: Entry, *, told: bool
    ) -> Callable[[trio.lowlevel.RaiseCancelT], trio.lowlevel.Abort]:
        """What becomes of an ask whose asker is cancelled."""

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            if entry.sent and told:
                entry.unwanted = True
                return trio.lowlevel.Abort.FAILED
            entry.task = None
            if not entry.sent:
                waiting.forget(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        return abort

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection to each worker until cancelled. Asks that are left then fail."""
        try:
            async with trio.open_nursery() as nursery:
                for path in self._paths:
                    nursery.start_soon(self._attend, path)
                nursery.start_soon(self._distribute)
                nursery.start_soon(self._sweep)
                task_status.started()
        finally:
            self._ended = True
            for waiting in self._classes:
                for entry in waiting.take(waiting.count):
                    entry.fail(Unreachable("the signer's client has ended"))

    def _class(self, verb: Verb) -> Waiting:
        match verb:
            case GenerateKey() | SignCrl():
                return self._slow
            case SignOcsp():
                return self._status
            case _:
                return self._issuance

    def _too_late(self, waiting: Waiting, share: str, seconds: float) -> bool:
        return waiting.before(share) > max(0.0, seconds) * _USEFUL * (len(self._connections) or 1)

    def _retry_after(self, waiting: Waiting, share: str) -> int:
        """When what waits before the next ask of `share` is thought to be done, in whole seconds."""
        seconds = waiting.before(share) / max(1, len(self._connections))
        return min(max(1, math.ceil(seconds)), _LONGEST_WAIT)

    def _wake(self) -> None:
        """Let the distributor run in the loop's next round, when everybody who asks in this one has asked."""
        self._rung = True
        if self._idle is not None:
            self._idle.set()
            self._idle = None
        if self._distributor is not None:
            task, self._distributor = self._distributor, None
            trio.lowlevel.reschedule(task)

    async def _distribute(self) -> None:
        while True:
            if not self._rung:  # it may have been rung while a long frame was being sent
                self._distributor = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._stop_distributing)
            self._rung = False
            self._connections.rotate(-1)
            for connection in tuple(self._connections):
                if connection.flying or connection not in self._connections:
                    continue
                try:
                    await self._load(connection)
                except (OSError, trio.ClosedResourceError):
                    continue  # its reader hears of it too, and puts back what was not sent

    async def _sweep(self) -> None:
        """End what is over its deadline. One task for all, since a cancel scope an ask costs a quarter of the ask."""
        while True:
            await trio.sleep(_SWEEP)
            if not self._outstanding():
                self._idle = trio.Event()
                await self._idle.wait()
            now = trio.current_time()
            for waiting in self._classes:
                for entry in waiting.expired(now):
                    entry.fail(self._not_taken(waiting, entry))
            for connection in self._connections:
                for entry in connection.flying.values():
                    if entry.deadline <= now:
                        entry.fail(WorkerLost("a worker did not answer in time"))

    def _outstanding(self) -> bool:
        return any(each.count for each in self._classes) or any(each.flying for each in self._connections)

    def _not_taken(self, waiting: Waiting, entry: Entry) -> Exception:
        if self._connections:
            return Busy(self._retry_after(waiting, entry.share))
        return Unreachable("no worker is connected")

    def _stop_distributing(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._distributor = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _attend(self, path: str) -> None:
        failures = 0
        while True:
            try:
                connection = await connect(path)
            except (OSError, BadFrame, trio.TooSlowError) as error:
                if failures == len(_BACKOFF):
                    _log.warning("the signer's worker at %s cannot be reached: %s", path, error)
                await trio.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1
                continue
            failures = 0
            try:
                await self._converse(connection)
            except (OSError, BadFrame) as error:
                _log.warning("the connection to the signer's worker at %s ended: %s", path, error)
            finally:
                self._lose(connection)

    async def _converse(self, connection: Connection) -> None:
        self._connections.append(connection)
        if connection.greeting is not None:
            self._places.learn(connection.path, connection.greeting)
        await self._load(connection)
        while True:
            for payload in connection.frames.feed(await connection.receive()):
                self._settle(connection, payload)
                await self._load(connection)

    async def _load(self, connection: Connection) -> None:
        """Give a free worker what waits, if anything does."""
        while taken := self._next(connection):
            entries = self._in_time(taken)
            if not entries:
                continue
            frame = self._frame(connection, entries)
            if frame is not None:
                self._frames += 1
                self._asks += len(connection.flying)
                self._largest = max(self._largest, len(connection.flying))
                self._sizes[bisect_left(BATCHES, len(connection.flying))] += 1
                connection.began = trio.current_time()
                await connection.send(frame)
                return

    def _next(self, connection: Connection) -> list[Entry]:
        quick = self._issuance.count + self._status.count
        if self._slow.count and self._slow_flying < self._slow_most and (connection.was_quick or not quick):
            connection.was_quick = False
            self._slow_flying += 1
            return self._slow.take(1)
        if not quick:
            return []
        connection.was_quick = True
        free = sum(not each.flying for each in self._connections)
        most = min(MOST, max(LEAST, -(-quick // max(1, free))))
        taken = self._share_out(most)
        if any(each.share != (self._last_share or each.share) for each in taken):
            self._together_until = trio.current_time() + _LATELY
        self._last_share = taken[-1].share
        return taken

    def _in_time(self, taken: list[Entry]) -> list[Entry]:
        """Those that can be answered by their deadline; the others are told now that nothing was signed.

        Sent all the same, they would end as lost: nobody could say whether they were signed.
        """
        answered = trio.current_time() + sum(each.cost for each in taken) + _SWEEP
        late = [each for each in taken if each.deadline < answered]
        for each in late:
            self._landed(each)
            each.fail(self._not_taken(self._class(each.verb), each))
        return [each for each in taken if each.deadline >= answered] if late else taken

    def _share_out(self, most: int) -> list[Entry]:
        """Half for issuance, half for status; what one has no use for is the other's."""
        one, other = self._issuance, self._status
        together = one.shares + other.shares > 1 or trio.current_time() < self._together_until
        seconds = TOGETHER if together else ALONE
        if not other.count:
            return one.take(most, seconds, apart=together)
        if not one.count:
            return other.take(most, seconds, apart=together)
        taken = one.take(max(1, most // 2), seconds / 2, apart=True)
        taken += other.take(max(1, most - len(taken)), seconds - sum(each.cost for each in taken), apart=True)
        return taken

    def _frame(self, connection: Connection, entries: list[Entry]) -> bytearray | None:
        """The frame for these asks, which are then in flight; None if one alone is too large, and has been told so."""
        while True:
            first = self._next_id
            try:
                frame = encode_batch(Batch(VERSION, [Ask(first + n, each.verb) for n, each in enumerate(entries)]))
            except FrameTooLarge as error:
                if len(entries) == 1:
                    entries[0].settle(No(SignerRefusal.UNSUPPORTED, str(error)))
                    self._landed(entries[0])
                    return None
                half = len(entries) // 2
                for entry in reversed(entries[half:]):
                    self._class(entry.verb).put_back(entry)
                entries = entries[:half]
            else:
                self._next_id += len(entries)
                for number, entry in enumerate(entries, first):
                    entry.sent = True
                    connection.flying[number] = entry
                return frame

    def _settle(self, connection: Connection, payload: bytes | memoryview) -> None:
        told = decode_answers(payload)
        if told.figures is not None:
            self._places.learn(connection.path, told.figures)
        # The worker's own time where it tells: ours holds the loop's delays too, which smaller frames would not mend.
        took = told.worked / 1e6 if told.worked else trio.current_time() - connection.began
        self._pace.learn((entry.kind for entry in connection.flying.values()), took)
        for answer in told.answers:
            entry = connection.flying.pop(answer.id, None)
            if entry is None:
                raise BadFrame("an answer to what was not asked")
            self._landed(entry)
            entry.settle(answer.outcome)
        if connection.flying:
            raise BadFrame("an ask was left without an answer")

    def _landed(self, entry: Entry) -> None:
        if self._class(entry.verb) is self._slow:
            self._slow_flying -= 1

    def _lose(self, connection: Connection) -> None:
        """A worker is gone. What it had whole may have been carried out; a frame that was cut short was not."""
        self._connections.remove(connection)
        trio.lowlevel.notify_closing(connection.socket)  # the distributor may be sending
        connection.socket.close()
        for entry in reversed(connection.flying.values()):
            self._landed(entry)
            if not connection.sending:
                entry.fail(WorkerLost("a worker went away with this ask"))
            elif entry.unwanted:
                entry.fail(Unreachable("the worker never had this ask, and its asker has gone"))
            elif entry.task is not None:
                entry.sent = False
                self._class(entry.verb).put_back(entry)
        connection.flying.clear()
        self._wake()
