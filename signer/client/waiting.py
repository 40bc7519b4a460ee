"""The asks that wait, and whose turn it is. No socket, no clock: times come in as arguments."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

import trio
from trio.lowlevel import Task

from signer.client.pace import Kind
from signer.contract.messages import Outcome, Verb

AHEAD: Final = 8  # asks of fresh lanes, for each share that asks, before one of each lane that takes turns
# Fair parts that each fresh lane may have. A burst needs more than one; but whoever asks again as soon as an answer
# comes is fresh with each ask, and one such share beside nine storms would have nine tenths of the pool.
BURST: Final = 4
CREDIT: Final = 32  # asks of a lane that was empty, before it takes turns: room for bursts
# A lane that is so short beside the longest of those that take turns is no storm: by chance it asked for a little more
# than its fair part. Without this, nine shares that offer just that part beside a storm stay in turns with it once they
# got there, as long as they have become, and wait for half a second where they waited for ten milliseconds.
SHORT: Final = 1 / 2
# Fair parts that such a lane may have, so that it catches up. Of two that both ask for too much, the one that waits for
# less would have nine tenths otherwise.
FORGIVEN: Final = 1.25
# Seconds of work that fresh asks may have at once, half of what waits of them. Where they are many, whoever comes next
# waits for most of them in any case; and a worker that must ask for each of them anew idles in between, which beside
# shares that offer nine tenths of the pool is what is missing.
GROWN: Final = 0.008


class Busy(Exception):
    """Too much waits already, or it waited too long: nothing was signed. `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the signer is busy; try again in {retry_after} s")
        self.retry_after = retry_after


class WorkerLost(Exception):
    """A worker had the ask and gave no answer: it may have been carried out."""


class Unreachable(Exception):
    """No worker took the ask before its deadline: nothing was signed."""


class Entry:
    """One ask on its way. `task` is None once nobody waits for it any more; `cost` is in seconds of a worker's time.

    `unwanted`: whoever asked has gone, and waits only to hear what became of it.
    """

    __slots__ = ("cost", "deadline", "failure", "kind", "outcome", "sent", "share", "task", "unwanted", "verb")

    def __init__(self, verb: Verb, kind: Kind, cost: float, *, share: str, deadline: float, task: Task) -> None:
        self.verb = verb
        self.kind = kind
        self.cost = cost
        self.share = share
        self.deadline = deadline
        self.task: Task | None = task
        self.sent = False
        self.unwanted = False
        self.outcome: Outcome | None = None
        self.failure: Exception | None = None

    def settle(self, outcome: Outcome) -> None:
        """Tell the asker, if there still is one, what came of it."""
        if self.task is not None:
            self.outcome = outcome
            self._wake(self.task)

    def fail(self, failure: Exception) -> None:
        """Tell the asker, if there still is one, that nothing came of it."""
        if self.task is not None:
            self.failure = failure
            self._wake(self.task)

    def _wake(self, task: Task) -> None:
        self.task = None
        trio.lowlevel.reschedule(task)


class _Lane:
    """The asks of one share, in their order. `credit` is how many may still be taken before the lane takes turns."""

    __slots__ = ("credit", "entries", "forgiven", "seconds", "share")

    def __init__(self, share: str) -> None:
        self.share = share
        self.forgiven = False
        self.entries: OrderedDict[Entry, None] = OrderedDict()
        self.seconds = 0.0
        self.credit = CREDIT


class Waiting:
    """The asks that wait, in a lane for each share, so that one share's storm delays itself alone.

    A lane that was empty is fresh: it goes before those that always have something waiting, for `CREDIT` asks, and then
    takes turns with them, one ask each. So whoever asks for less than a fair part hardly waits for whoever asks for
    more (the two lists of RFC 8290, 4.2). Whoever asks for more gets what is left: fresh lanes have no more than
    `BURST` fair parts each, and whoever takes turns a ninth of one at least. A lane that is short beside the longest
    that takes turns (`SHORT`) is fresh again, for a little more than its fair part (`FORGIVEN`).
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes: dict[str, _Lane] = {}
        self._fresh: deque[_Lane] = deque()
        self._turns: deque[_Lane] = deque()
        self._forgiven = 0  # lanes among the fresh
        self._ahead = 0.0  # asks that went before those that take turns, since the last of these
        self.count = 0
        self.seconds = 0.0  # of workers' time that waits

    @property
    def full(self) -> bool:
        """Whether another ask needs room to be made."""
        return self.count >= self._room

    @property
    def shares(self) -> int:
        """How many shares have asked lately: one that went away counts until its turn has come."""
        return len(self._lanes)

    def before(self, share: str) -> float:
        """Seconds of workers' time that are spent, at most, before an ask of `share` that comes now is taken."""
        lane = self._lanes.get(share)
        return 0.0 if lane is None else min(self.seconds, lane.seconds * len(self._lanes))

    def crowded_by(self, share: str) -> bool:
        """Whether room for an ask of `share` could only come from its own lane, because it is the longest."""
        longest = max((len(lane.entries) for lane in self._lanes.values()), default=0)
        own = self._lanes.get(share)
        return longest <= (0 if own is None else len(own.entries)) + 1

    def make_room(self, share: str, busy: Busy) -> None:
        """Let the newest of the longest lane give way to an ask of `share`; raises `busy` if that lane is its own."""
        if self.crowded_by(share):
            raise busy
        longest = max(self._lanes.values(), key=lambda lane: len(lane.entries))
        displaced = next(reversed(longest.entries))
        self.forget(displaced)
        displaced.fail(busy)

    def put(self, entry: Entry) -> None:
        """Let an ask wait behind those of its share."""
        lane = self._lane(entry.share)
        lane.entries[entry] = None
        lane.seconds += entry.cost
        self.seconds += entry.cost
        self.count += 1

    def put_back(self, entry: Entry) -> None:
        """Let an ask that was taken, and never reached a worker, be the next of its lane again."""
        self.put(entry)
        self._lanes[entry.share].entries.move_to_end(entry, last=False)

    def take(self, most: int, seconds: float = math.inf, *, apart: bool = False) -> list[Entry]:
        """Up to `most` asks, and no more than are thought to take `seconds`, but one at least if any waits.

        `apart`: asks of lanes that take turns travel apart from fresh ones, and for half as long. What a worker has of
        them is what the next fresh one waits for, and a frame is answered as a whole. Many fresh ones (`GROWN`) may
        take longer.
        """
        self._forgive()
        taken: list[Entry] = []
        spent = 0.0
        turning = False
        limit = max(seconds, min(GROWN, self._fresh_seconds() / 2)) if apart else seconds
        while len(taken) < most and spent < limit:
            lane = self._overdue() or self._first()
            if lane is None and (turning or not (apart and taken)):
                lane = self._turn()
                if apart and not turning:
                    turning, limit = True, seconds / 2
            if lane is None:
                break
            entry, _ = lane.entries.popitem(last=False)
            lane.seconds -= entry.cost
            spent += entry.cost
            taken.append(entry)
        self.count -= len(taken)
        self.seconds -= spent
        if not self.count:
            self._lanes.clear()
            self._fresh.clear()
            self._turns.clear()
            self._forgiven = 0
            self.seconds = 0.0  # what rounding left
        return taken

    def expired(self, now: float) -> list[Entry]:
        """The asks whose deadline has passed; they wait no longer."""
        late = [entry for lane in self._lanes.values() for entry in lane.entries if entry.deadline <= now]
        for entry in late:
            self.forget(entry)
        return late

    def forget(self, entry: Entry) -> None:
        """Drop an ask whose asker is gone. Its lane keeps its place until its turn comes."""
        lane = self._lanes[entry.share]
        del lane.entries[entry]
        lane.seconds -= entry.cost
        self.seconds -= entry.cost
        self.count -= 1

    def _fresh_seconds(self) -> float:
        """Of workers' time, what the fresh asks are thought to take; enough of them to know that it is much."""
        seconds = 0.0
        for lane in self._fresh:
            seconds += lane.seconds
            if seconds >= 2 * GROWN:
                break
        return seconds

    def _forgive(self) -> None:
        """Lanes that take turns, but are short beside the longest of them, are fresh again."""
        if len(self._turns) < 2:
            return
        short = max(len(lane.entries) for lane in self._turns) * SHORT
        for _ in range(len(self._turns)):
            lane = self._turns.popleft()
            if len(lane.entries) <= short:
                lane.credit = CREDIT
                lane.forgiven = True
                self._forgiven += 1
                self._fresh.append(lane)
            else:
                self._turns.append(lane)

    def _overdue(self) -> _Lane | None:
        """The lane whose turn must come now, though fresh ones wait."""
        turns, fresh, shares = len(self._turns), len(self._fresh), len(self._lanes)
        if not turns or not fresh:
            return None
        ahead = AHEAD * shares / turns
        theirs = BURST * (fresh - self._forgiven) + FORGIVEN * self._forgiven
        if theirs < shares:
            ahead = min(ahead, theirs / (shares - theirs))
        if self._ahead < ahead:
            return None
        # Of many shares one fresh ask may be worth several turns, but what went ahead long ago is not made up for.
        owed = min(self._ahead - ahead, 1.0)
        lane = self._turn()
        self._ahead = owed
        return lane

    def _first(self) -> _Lane | None:
        while self._fresh:
            lane = self._fresh.popleft()
            if not lane.entries:
                del self._lanes[lane.share]
                self._forgiven -= lane.forgiven
            elif not lane.credit:
                self._turns.append(lane)
                self._forgiven -= lane.forgiven
                lane.forgiven = False
            else:
                lane.credit -= 1
                self._ahead += 1
                self._fresh.append(lane)
                return lane
        return None

    def _turn(self) -> _Lane | None:
        self._ahead = 0.0
        while self._turns:
            lane = self._turns.popleft()
            if lane.entries:
                self._turns.append(lane)
                return lane
            del self._lanes[lane.share]
        return None

    def _lane(self, share: str) -> _Lane:
        lane = self._lanes.get(share)
        if lane is None:
            lane = self._lanes[share] = _Lane(share)
            self._fresh.append(lane)
        return lane
