"""When who may come again, in a table of one fixed size. It knows no protocol, no setting and no clock.

Nothing here grows, waits or raises, whatever the memory holds: other processes write to it at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

ENTRY: Final = 16  # bytes: a mark and a time
WAYS: Final = 8

Place: TypeAlias = tuple[int, int]
"""A name's mark, and the first of the `WAYS` entries where it may stand."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What may come, by the generic cell rate algorithm (ITU-T I.371): one each `interval`, and what was not used of
    up to `tolerance` before. Seconds.
    """

    interval: float
    tolerance: float


class Arrivals:
    """The theoretical arrival time of each name that came lately. `buffer` may be shared with other processes.

    A set-associative table: a name has eight places, found by a hash under `key`, so that nobody can choose whose they
    are (and so lock another out, or make another's count forgotten). Where all eight are taken, the name that is free
    to come the soonest makes room: it loses the least. Processes that write at once may lose a count; what a torn write
    leaves counts for one interval at most.
    """

    def __init__(self, buffer: bytearray | memoryview, key: bytes) -> None:
        sets = len(buffer) // (ENTRY * WAYS)
        if sets < 1:
            raise ValueError(f"a table has at least {ENTRY * WAYS} bytes")
        sets = 1 << (sets.bit_length() - 1)
        half = sets * WAYS * 8
        whole = memoryview(buffer).cast("B")
        self._marks = whole[:half].cast("Q")
        self._times = whole[half : 2 * half].cast("d")
        self._last = sets - 1
        self._key = key

    def place(self, name: str) -> Place:
        """Where `name` stands, if it does. Costs a microsecond: to be remembered for names that come again."""
        digest = blake2b(name.encode(), key=self._key, digest_size=16).digest()
        # Zero is nobody's mark: it is what fresh memory holds.
        return int.from_bytes(digest[:8]) | 1, (int.from_bytes(digest[8:]) & self._last) * WAYS

    def take(self, place: Place, pace: Pace, now: float) -> float:
        """Let one come at `now`, if its time has come; gives for how many seconds it comes too early.

        Zero or less: it was counted, and so many seconds of `tolerance` are unused. More: it was not counted.
        """
        mark, first = place
        marks = self._marks[first : first + WAYS].tolist()
        if mark in marks:
            at = first + marks.index(mark)
            time = self._times[at]
            due = _due(time, pace, now)
            if due != time and due > now:
                self._times[at] = due  # else what is always too late would be so for ever
        else:
            times = self._times[first : first + WAYS].tolist()
            at = first + times.index(min(times))
            due = now
            self._marks[at] = mark
        early = due - now - pace.tolerance
        if early <= 0:
            self._times[at] = due + pace.interval
        return early

    def charge(self, place: Place, pace: Pace, now: float, count: int) -> None:
        """Count so many more for a name that stands in the table. It never owes more than what it may have at once."""
        mark, first = place
        marks = self._marks[first : first + WAYS].tolist()
        if mark in marks:
            at = first + marks.index(mark)
            due = _due(self._times[at], pace, now) + count * pace.interval
            self._times[at] = min(due, now + pace.tolerance + pace.interval)

    def early(self, place: Place, pace: Pace, now: float) -> float:
        """What `take` would say, without counting anything."""
        mark, first = place
        marks = self._marks[first : first + WAYS].tolist()
        due = _due(self._times[first + marks.index(mark)], pace, now) if mark in marks else now
        return due - now - pace.tolerance


def _due(time: float, pace: Pace, now: float) -> float:
    """`time` as this pace could have left it. What it could not (another pace's, or torn) is its latest."""
    latest = now + pace.tolerance + pace.interval
    return max(time, now) if time < latest else latest
