"""Overload, told early (P16): who may begin an enrollment while others wait, and what the rest are told.

Nothing is awaited here and nothing of a request is read: judging one costs less than refusing it. Never the word of a
request about whose share it uses; never a refusal while few are under way or all are answered soon.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from itertools import islice
from types import TracebackType
from typing import Final, Self, TypeVar

from gateway.domain.refusal import Refusal, RefusalReason
from protocols.exchange import Reply

_REFUSED: Final = 400  # the first status that says no
T = TypeVar("T")

USEFUL: Final = 2.0  # seconds; whoever waits longer for an answer has begun to ask again
TOO_MUCH: Final = "too much to do at the moment"

# A queue that stands is of no use to anybody (RFC 8289, 3.2): bursts may fill the whole useful time, what never empties
# a quarter of it.
_STANDING: Final = 1 / 4
# With so few under way nobody is refused: the signer and the store have bounds of their own.
_FEW: Final = 16
# What one request costs alone says little of what many cost together (commits and frames are shared): at least so many
# are thought to share what it took.
_SHARED: Final = 8
_FIRST_PACE: Final = 0.0005  # seconds; of a quick machine, so that the first burst is let in
_LEARNING: Final = 1 / 32
_LEAP: Final = 4  # a sample counts as so many times the pace at most: one that slept proves nothing
_GLANCE: Final = 0.05  # seconds for which the age of what is under way need not be looked up again
_LONGEST: Final = 30  # seconds to come back after, at most
_LATELY: Final = 1.0  # seconds; over which the loop's load is averaged
# Above this part of its time at work a loop has hardly any room left: an answer takes five times as long as alone.
_LOADED: Final = 0.8


class Spenders:
    """Whose share a bearer token's requests use, before their bodies say so: that of its last proved use.

    Told by nobody but a front that has checked the token. Kept are hashes under this process's own random key.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._known: OrderedDict[int, str] = OrderedDict()

    def lane(self, authorization: str | None, address: str) -> str:
        """The application that this Authorization was last used for, or else the address."""
        return self._known.get(self.key(authorization), address)

    @staticmethod
    def key(authorization: str | None) -> int:
        """How an Authorization is known here: its hash, under this process's own random key."""
        return hash(authorization)

    def lane_of(self, key: int, address: str) -> str:
        """As `lane`, for an Authorization whose `key` is known."""
        return self._known.get(key, address)

    def learn(self, authorization: str | None, application_id: str) -> None:
        """A token was checked and used for this application; the one that was new the longest ago is forgotten."""
        key = self.key(authorization)
        if self._known.get(key) == application_id:
            return
        self._known[key] = application_id
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class UnderWay:
    """One request that is being worked on, from its whole body to its answer."""

    __slots__ = ("_admission", "_ahead", "_teaches", "began", "lane")

    def __init__(self, admission: Admission, lane: str) -> None:
        self._admission = admission
        self._ahead = 0
        self._teaches = True
        self.began = 0.0
        self.lane = lane

    def __enter__(self) -> Self:
        self._ahead, self.began = self._admission.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.end(self, self._ahead if kind is None and self._teaches else None)

    def belongs_to(self, lane: str) -> None:
        """Count it among those of `lane` from now on: whose it is may show when it is read."""
        if lane != self.lane:
            self._admission.move(self, lane)

    async def aside(self, waiting: Awaitable[T]) -> T:
        """What `waiting` gives; meanwhile this request is not under way.

        For what strangers can make long: seventeen guesses that wait for their check would look like a queue that does
        not move, and have everybody refused who comes with a secret that is known.
        """
        self._admission.leave(self)
        try:
            return await waiting
        finally:
            self._ahead, self.began = self._admission.enter(self)

    def answered(self, reply: Reply) -> Reply:
        """`reply`; what was refused teaches nothing: how long it takes to be wrong is its sender's choice."""
        self._teaches = reply.status < _REFUSED and not reply.wrong
        return reply


class Admission:
    """What is under way, how long it takes, and so how long the next would wait. `useful` and `clock` are in seconds.

    The expected wait is the greater of two: the number under way times the pace of those that were answered (Little's
    law), and the age that the younger half has not reached; and with it what the loop takes for one round.
    A lane is an application: where several have something under way, the one that has more than its part is refused
    first, and one that has less is let in for as long as twice the useful time.
    """

    def __init__(self, useful: float = USEFUL, clock: Callable[[], float] = time.monotonic) -> None:
        self.refused = 0
        self._useful = useful
        self._standing = useful * _STANDING
        self._clock = clock
        self._going: OrderedDict[UnderWay, None] = OrderedDict()
        self._lanes: Counter[str] = Counter()
        self._pace = _FIRST_PACE
        self._since: float | None = None  # the expected wait has been above what may stand since then
        self._above = -math.inf
        self._age = 0.0
        self._looked = -math.inf
        self._rounds = (0.0, 0.0)
        self._load = 0.0
        self._coming = 0
        self._came = (0, 0, 0, 0)

    @property
    def crowded(self) -> bool:
        """Whether it is time to judge each request before it is read. Costs next to nothing to ask."""
        return self._since is not None or (len(self._going) + self._coming) * self._pace > self._standing

    @property
    def pressed(self) -> bool:
        """Whether there is so much to do that whoever asks for more than their part takes from others."""
        return self._load > _LOADED or self.crowded

    @property
    def going(self) -> int:
        """How many are under way."""
        return len(self._going)

    def refusal(self, lane: str, *, begun: bool = False, from_socket: bool = False) -> int:
        """Seconds after which a request of `lane` should come again, 0 if it may go on.

        `begun`: it carries on what earlier requests began, whose work would be lost; such are refused last.
        `from_socket`: it is behind all that are on their way to their doors; at its door it is before them.
        """
        count = len(self._going) + (self._coming if from_socket else 0)
        if count < _FEW and self._since is None:
            self._age = 0.0  # as `_wait` would find it; nearly all requests come to so few
            return 0
        now = self._clock()
        wait = self._wait(count, now)
        if wait <= self._standing or count < _FEW:
            # A queue that is held down by refusals stands nevertheless: it is over when it has been short for a while.
            if self._since is not None and now - self._above > self._useful:
                self._since = None
            return 0
        self._above = now
        if self._since is None:
            self._since = now
        stands = now - self._since > self._useful
        if wait <= self._bound(lane, count * self._standing / wait, begun=begun, stands=stands):
            return 0
        self.refused += 1
        least = math.ceil(wait)
        # Those who are refused together need not come back together.
        return min(_LONGEST, least + self.refused % (least + 1))

    def require(self, lane: str, *, begun: bool = False) -> None:
        """Raises `Refusal` BUSY, with `retry_after`, if a request of `lane` could not be answered in a useful time."""
        seconds = self.refusal(lane, begun=begun)
        if seconds:
            self.arrived()
            raise Refusal(RefusalReason.BUSY, TOO_MUCH, retry_after=seconds)

    def under_way(self, lane: str, *, begun: bool = False) -> UnderWay:
        """A request whose body is whole: judged once more, as many may have come with it, and counted when entered.

        Raises `Refusal` as `require` does.
        """
        self.require(lane, begun=begun)
        return UnderWay(self, lane)

    def round_took(self, seconds: float, idle: float = 0.0, waiting: int = 0) -> None:
        """A round of the loop took so long, and what lay in sockets waited for it. One long round proves nothing.

        `idle`: for how long there was nothing to do before it. `waiting`: so many that came have not had their turn.
        """
        # An exponential average whose weight is that of a first-order lag: no power is computed, each round.
        whole = seconds + idle
        self._load += (seconds - self._load * whole) / (_LATELY + whole)
        self._rounds = (self._rounds[1], seconds)
        # What came before these rounds has arrived, or was something else.
        came = self._came
        if any(came) or self._coming:
            self._coming = min(self._coming, sum(came) + waiting)
            self._came = (0, *came[:3])

    def comes(self) -> None:
        """An enrollment was let in from the socket; it is on its way to its door, and takes a place from now on."""
        self._coming += 1
        self._came = (self._came[0] + 1, *self._came[1:])

    def arrived(self) -> None:
        """One that was on its way has arrived: it is counted as under way now, or was refused."""
        if self._coming:
            self._coming -= 1

    def begin(self, entry: UnderWay) -> tuple[int, float]:
        """Count `entry`; gives how many were before it, and the time."""
        self.arrived()
        return self.enter(entry)

    def enter(self, entry: UnderWay) -> tuple[int, float]:
        """Count `entry`, which has arrived; gives as `begin` does."""
        ahead = len(self._going)
        self._going[entry] = None
        self._lanes[entry.lane] += 1
        return ahead, self._clock()

    def end(self, entry: UnderWay, ahead: int | None) -> None:
        """Count `entry` no more; with `ahead`, learn from how long it took behind so many."""
        self.leave(entry)
        if ahead is not None:
            sample = (self._clock() - entry.began) / max(ahead + 1, _SHARED)
            self._pace += (min(sample, _LEAP * self._pace) - self._pace) * _LEARNING

    def leave(self, entry: UnderWay) -> None:
        """Count `entry` no more; nothing is learned from it."""
        del self._going[entry]
        self._leave(entry.lane)

    def move(self, entry: UnderWay, lane: str) -> None:
        """Count `entry` in another lane."""
        self._leave(entry.lane)
        entry.lane = lane
        self._lanes[lane] += 1

    def _leave(self, lane: str) -> None:
        if self._lanes[lane] > 1:
            self._lanes[lane] -= 1
        else:
            del self._lanes[lane]  # so that there are never more lanes than requests

    def _bound(self, lane: str, room: float, *, begun: bool, stands: bool) -> float:
        """The longest expected wait with which a request of `lane` is let in now; `room`: how many may stand."""
        if begun:
            return 2 * self._useful
        own = self._lanes.get(lane, 0)
        lanes = len(self._lanes) + (0 if own else 1)
        if lanes > 1 and own < room / lanes:
            return 2 * self._useful
        return self._standing if stands or lanes > 1 else self._useful

    def _wait(self, count: int, now: float) -> float:
        going = len(self._going)
        if going <= _FEW:
            self._age = 0.0
        elif now - self._looked >= _GLANCE:
            self._looked = now
            # The older half may be slow for reasons of their own: a validation, a key that is generated.
            self._age = now - next(islice(self._going, max(_FEW, going // 2), None)).began
        return max(count * self._pace, self._age) + min(self._rounds)
