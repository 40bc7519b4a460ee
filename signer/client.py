"""The gateway's side of the wire: bounded, fair between applications, batched by draining. No key or file is touched.

While a worker is busy asks gather; when it is free, one frame carries what waits. Nobody waits on a timer. An ask is
sent once: what became of it is told, or it is `WorkerLost`, and then it may have been signed.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import struct
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from signer.contract.framing import MAX_ANSWERS, BadFrame, Frames, FrameTooLarge, decode_answers, encode_batch
from signer.contract.messages import VERSION, Ask, Batch, GenerateKey, No, Outcome, SignCrl, Verb
from signer.contract.refusal import SignerRefusal

MOST: Final = 64  # asks in a frame; more would gain little (13 us each at 64) and delay the first of them
LEAST: Final = 8  # asks in a frame, where that many wait, before another free worker is given any
_SWEEP: Final = 0.1  # seconds
_READ: Final = 256 * 1024  # bytes
_BACKOFF: Final = (0.01, 0.05, 0.2, 1.0)  # seconds before the first, second, ... attempt to connect again
_GREETING: Final = 30.0  # seconds; a worker answers the first frame when its keys are open and its batch is done
_LONGEST_WAIT: Final = 60  # seconds that a busy peer is told to wait, at most

_log = logging.getLogger(__name__)


class Busy(Exception):
    """Too much waits already, or it waited too long: nothing was signed. `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the signer is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class WorkerLost(Exception):
    """A worker had the ask and gave no answer: it may have been carried out."""


class Unreachable(Exception):
    """No worker took the ask before its deadline: nothing was signed."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the client has done since its start, and what it holds at the moment, for telemetry."""

    frames: int
    asks: int
    largest: int  # asks in one frame
    waiting: int
    in_flight: int
    workers: int  # connected


class _Entry:
    """One ask on its way. `task` is None once nobody waits for it any more."""

    __slots__ = ("deadline", "failure", "outcome", "sent", "share", "task", "verb")

    def __init__(self, verb: Verb, share: str, deadline: float, task: trio.lowlevel.Task) -> None:
        self.verb = verb
        self.share = share
        self.deadline = deadline
        self.task: trio.lowlevel.Task | None = task
        self.sent = False
        self.outcome: Outcome | None = None
        self.failure: Exception | None = None

    def settle(self, outcome: Outcome) -> None:
        if self.task is not None:
            self.outcome = outcome
            self._wake(self.task)

    def fail(self, failure: Exception) -> None:
        if self.task is not None:
            self.failure = failure
            self._wake(self.task)

    def _wake(self, task: trio.lowlevel.Task) -> None:
        self.task = None
        trio.lowlevel.reschedule(task)


class _Waiting:
    """The asks that wait, in a lane for each share. Lanes take turns, so that one share's storm delays itself alone."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes: dict[str, OrderedDict[_Entry, None]] = {}
        self._turns: deque[str] = deque()
        self.count = 0

    @property
    def full(self) -> bool:
        return self.count >= self._room

    def make_room(self, share: str, busy: Busy) -> None:
        """Let the newest of the longest lane give way to an ask of `share`; raises `busy` if that lane is its own."""
        longest = max(self._lanes.values(), key=len)
        if len(longest) <= len(self._lanes.get(share, ())) + 1:
            raise busy
        displaced, _ = longest.popitem()
        self.count -= 1
        displaced.fail(busy)

    def put(self, entry: _Entry) -> None:
        """Let an ask wait behind those of its share."""
        self._lane(entry.share)[entry] = None
        self.count += 1

    def put_back(self, entry: _Entry) -> None:
        """Let an ask that was taken, and never reached a worker, be the next of its lane again."""
        lane = self._lane(entry.share)
        lane[entry] = None
        lane.move_to_end(entry, last=False)
        self.count += 1

    def take(self, most: int) -> list[_Entry]:
        """Up to `most` asks, one from each lane in turn."""
        taken: list[_Entry] = []
        while self._turns and len(taken) < most:
            share = self._turns[0]
            lane = self._lanes[share]
            taken.append(lane.popitem(last=False)[0])
            if lane:
                self._turns.rotate(-1)
            else:
                self._turns.popleft()
                del self._lanes[share]
        self.count -= len(taken)
        return taken

    def expired(self, now: float) -> list[_Entry]:
        """The asks whose deadline has passed; they wait no longer."""
        late = [entry for lane in self._lanes.values() for entry in lane if entry.deadline <= now]
        for entry in late:
            self.forget(entry)
        return late

    def forget(self, entry: _Entry) -> None:
        """Drop an ask whose asker is gone."""
        lane = self._lanes[entry.share]
        del lane[entry]
        self.count -= 1
        if not lane:
            del self._lanes[entry.share]
            self._turns.remove(entry.share)

    def _lane(self, share: str) -> OrderedDict[_Entry, None]:
        lane = self._lanes.get(share)
        if lane is None:
            lane = self._lanes[share] = OrderedDict()
            self._turns.append(share)
        return lane


class _Connection:
    """A worker that answers. It has at most one frame in its hands; while `sending` it has not got all of it."""

    __slots__ = ("began", "flying", "frames", "sending", "socket", "was_quick")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.frames = Frames(MAX_ANSWERS)
        self.flying: dict[int, _Entry] = {}
        self.sending = False
        self.was_quick = False
        self.began = 0.0

    async def send(self, frame: bytearray) -> None:
        self.sending = True
        rest = memoryview(frame)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)
        self.sending = False

    async def receive(self) -> bytes:
        await trio.lowlevel.wait_readable(self.socket)
        received = self.socket.recv(_READ)
        if not received:
            raise ConnectionResetError("the worker closed the connection")
        return received


class SignerClient:
    """Asks the workers behind `sockets`. `run` must be running while `ask` is awaited; one event loop.

    `queue` bounds how many asks wait. Keys to generate and lists to sign, which take a worker's time by the second,
    wait apart: they travel alone, take turns with the rest, and never occupy the last of several workers.
    """

    def __init__(self, sockets: Sequence[str], *, queue: int = 4096) -> None:
        self._paths = tuple(sockets)
        self._quick = _Waiting(queue)
        self._slow = _Waiting(max(16, queue // 16))
        self._slow_flying = 0
        self._slow_most = max(1, len(self._paths) - 1)
        self._connections: deque[_Connection] = deque()
        self._distributor: trio.lowlevel.Task | None = None
        self._rung = False
        self._idle: trio.Event | None = None  # the sweeper's, while it has nothing to sweep
        self._ended = False
        self._next_id = 0
        self._pace = 0.001  # seconds an ask takes a worker, a moving average
        self._frames = self._asks = self._largest = 0

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
            waiting=self._quick.count + self._slow.count,
            in_flight=sum(len(each.flying) for each in self._connections),
            workers=len(self._connections),
        )

    async def ask(self, verb: Verb, *, share: str, deadline: float) -> Outcome:
        """What a worker answers to `verb`. `deadline` is of trio's clock; `share` names whose fair part is used.

        Raises `Busy` and `Unreachable` (nothing was signed) or `WorkerLost` (it may have been). An ask that is
        cancelled, or whose deadline passes, before it was sent is never sent. Deadlines are kept to a tenth of a second.
        """
        if self._ended:
            raise Unreachable("the signer's client has ended")
        waiting = self._lane(verb)
        if waiting.full:
            waiting.make_room(share, Busy(self._retry_after()))
        entry = _Entry(verb, share, deadline, trio.lowlevel.current_task())
        waiting.put(entry)
        self._wake()

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            entry.task = None
            if not entry.sent:
                waiting.forget(entry)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        if entry.outcome is None:
            assert entry.failure is not None
            raise entry.failure
        return entry.outcome

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
            for waiting in (self._quick, self._slow):
                for entry in waiting.take(waiting.count):
                    entry.fail(Unreachable("the signer's client has ended"))

    def _lane(self, verb: Verb) -> _Waiting:
        return self._slow if isinstance(verb, GenerateKey | SignCrl) else self._quick

    def _retry_after(self) -> int:
        seconds = (self._quick.count + self._slow.count) * self._pace / max(1, len(self._connections))
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
            for waiting in (self._quick, self._slow):
                for entry in waiting.expired(now):
                    entry.fail(self._not_taken())
            for connection in self._connections:
                for entry in connection.flying.values():
                    if entry.deadline <= now:
                        entry.fail(WorkerLost("a worker did not answer in time"))

    def _outstanding(self) -> bool:
        return bool(self._quick.count or self._slow.count or any(each.flying for each in self._connections))

    def _not_taken(self) -> Exception:
        return Busy(self._retry_after()) if self._connections else Unreachable("no worker is connected")

    def _stop_distributing(self, _: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._distributor = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _attend(self, path: str) -> None:
        failures = 0
        while True:
            try:
                connection = await _connect(path)
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

    async def _converse(self, connection: _Connection) -> None:
        self._connections.append(connection)
        await self._load(connection)
        while True:
            for payload in connection.frames.feed(await connection.receive()):
                self._settle(connection, payload)
                await self._load(connection)

    async def _load(self, connection: _Connection) -> None:
        """Give a free worker what waits, if anything does."""
        while entries := self._next(connection):
            frame = self._frame(connection, entries)
            if frame is not None:
                self._frames += 1
                self._asks += len(connection.flying)
                self._largest = max(self._largest, len(connection.flying))
                connection.began = trio.current_time()
                await connection.send(frame)
                return

    def _next(self, connection: _Connection) -> list[_Entry]:
        if self._slow.count and self._slow_flying < self._slow_most and (connection.was_quick or not self._quick.count):
            connection.was_quick = False
            self._slow_flying += 1
            return self._slow.take(1)
        if not self._quick.count:
            return []
        connection.was_quick = True
        free = sum(not each.flying for each in self._connections)
        return self._quick.take(min(MOST, max(LEAST, -(-self._quick.count // max(1, free)))))

    def _frame(self, connection: _Connection, entries: list[_Entry]) -> bytearray | None:
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
                    self._quick.put_back(entry)
                entries = entries[:half]
            else:
                self._next_id += len(entries)
                for number, entry in enumerate(entries, first):
                    entry.sent = True
                    connection.flying[number] = entry
                return frame

    def _settle(self, connection: _Connection, payload: bytes | memoryview) -> None:
        answers = decode_answers(payload).answers
        if answers:
            took = (trio.current_time() - connection.began) / len(answers)
            self._pace += (took - self._pace) / 16
        for answer in answers:
            entry = connection.flying.pop(answer.id, None)
            if entry is None:
                raise BadFrame("an answer to what was not asked")
            self._landed(entry)
            entry.settle(answer.outcome)
        if connection.flying:
            raise BadFrame("an ask was left without an answer")

    def _landed(self, entry: _Entry) -> None:
        if self._lane(entry.verb) is self._slow:
            self._slow_flying -= 1

    def _lose(self, connection: _Connection) -> None:
        """A worker is gone. What it had whole may have been carried out; a frame that was cut short was not."""
        self._connections.remove(connection)
        trio.lowlevel.notify_closing(connection.socket)  # the distributor may be sending
        connection.socket.close()
        for entry in reversed(connection.flying.values()):
            self._landed(entry)
            if not connection.sending:
                entry.fail(WorkerLost("a worker went away with this ask"))
            elif entry.task is not None:
                entry.sent = False
                self._lane(entry.verb).put_back(entry)
        connection.flying.clear()
        self._wake()


async def _connect(path: str) -> _Connection:
    """A connection to the worker at `path`, which has answered an empty batch: it accepts, it speaks our version.

    The supervisor's socket accepts before a worker is there; an ask that was sent then would wait where no other worker
    could take it.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        connected.connect(path)
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        if uid != os.geteuid():
            raise BadFrame(f"the socket belongs to another user ({uid})")
        connection = _Connection(connected)
        with trio.fail_after(_GREETING):
            await connection.send(encode_batch(Batch(VERSION, [])))
            while not (payloads := connection.frames.feed(await connection.receive())):
                pass
        decode_answers(payloads[0])
    except BaseException:
        connected.close()
        raise
    return connection
