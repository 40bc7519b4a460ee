"""The asks that wait, and whose turn it is. No socket, no clock: times come in as arguments."""

from __future__ import annotations

from collections import OrderedDict, deque

import trio

from signer.contract.messages import Outcome, Verb


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
        """Tell the asker, if there still is one, what came of it."""
        if self.task is not None:
            self.outcome = outcome
            self._wake(self.task)

    def fail(self, failure: Exception) -> None:
        """Tell the asker, if there still is one, that nothing came of it."""
        if self.task is not None:
            self.failure = failure
            self._wake(self.task)

    def _wake(self, task: trio.lowlevel.Task) -> None:
        self.task = None
        trio.lowlevel.reschedule(task)


class Waiting:
    """The asks that wait, in a lane for each share. Lanes take turns, so that one share's storm delays itself alone."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._lanes: dict[str, OrderedDict[Entry, None]] = {}
        self._turns: deque[str] = deque()
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether another ask needs room to be made."""
        return self.count >= self._room

    def make_room(self, share: str, busy: Busy) -> None:
        """Let the newest of the longest lane give way to an ask of `share`; raises `busy` if that lane is its own."""
        longest = max(self._lanes.values(), key=len)
        if len(longest) <= len(self._lanes.get(share, ())) + 1:
            raise busy
        displaced, _ = longest.popitem()
        self.count -= 1
        displaced.fail(busy)

    def put(self, entry: Entry) -> None:
        """Let an ask wait behind those of its share."""
        self._lane(entry.share)[entry] = None
        self.count += 1

    def put_back(self, entry: Entry) -> None:
        """Let an ask that was taken, and never reached a worker, be the next of its lane again."""
        lane = self._lane(entry.share)
        lane[entry] = None
        lane.move_to_end(entry, last=False)
        self.count += 1

    def take(self, most: int) -> list[Entry]:
        """Up to `most` asks, one from each lane in turn."""
        taken: list[Entry] = []
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

    def expired(self, now: float) -> list[Entry]:
        """The asks whose deadline has passed; they wait no longer."""
        late = [entry for lane in self._lanes.values() for entry in lane if entry.deadline <= now]
        for entry in late:
            self.forget(entry)
        return late

    def forget(self, entry: Entry) -> None:
        """Drop an ask whose asker is gone."""
        lane = self._lanes[entry.share]
        del lane[entry]
        self.count -= 1
        if not lane:
            del self._lanes[entry.share]
            self._turns.remove(entry.share)

    def _lane(self, share: str) -> OrderedDict[Entry, None]:
        lane = self._lanes.get(share)
        if lane is None:
            lane = self._lanes[share] = OrderedDict()
            self._turns.append(share)
        return lane
