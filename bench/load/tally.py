"""What came of the work: done, told to wait, late, failed, lost: each counted apart, and how long each took.

May not happen here: an average over outcomes. A refusal that is quick must not make an enrollment look quick.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bench.load.histogram import Histogram


@dataclass(slots=True)
class Tally:
    """One process's, or several added up.

    In an open loop whatever was due in the time that counts is in exactly one of `done`, `told`, `late` (no client was
    free within its patience), `failed` and `lost` (the connection broke, or no answer came in time). In a closed loop
    what ended in that time counts, and as lost what was under way at its end and never was answered. `finished` is
    what was done within that time, whenever it began: the server's CPU time is divided by it. `again` are requests sent
    once more as the server had closed a kept connection. `asked` are requests and `all_done` is completed work of the
    whole run, warm-up included: see `requests_each`.
    """

    arrived: int = 0
    told: Counter[int] = field(default_factory=Counter)
    late: int = 0
    failed: int = 0
    lost: int = 0
    finished: int = 0
    again: int = 0
    asked: int = 0
    all_done: int = 0
    waits: Histogram = field(default_factory=Histogram)
    told_waits: Histogram = field(default_factory=Histogram)
    first_failure: str = ""
    cpu: float = 0.0  # the driver's own, as a share of a core; of several processes the largest
    behind: float = 0.0  # seconds, the most by which the driver itself came too late to an arrival

    @property
    def done(self) -> int:
        """Work that was completed."""
        return self.waits.count

    @property
    def requests_each(self) -> float:
        """Requests that a piece of work took; more than the protocol needs where clients had to poll. Or nan."""
        return self.asked / self.all_done if self.all_done else float("nan")

    @property
    def not_now(self) -> int:
        """Work that was told to come again, with whatever status."""
        return self.told.total()

    @property
    def wrong(self) -> int:
        """Work that neither was done nor told to wait."""
        return self.late + self.failed + self.lost

    def fail(self, sentence: str) -> None:
        """Count a failure, and keep the first one's sentence."""
        self.failed += 1
        self.first_failure = self.first_failure or sentence

    def lose(self, sentence: str) -> None:
        """Count a loss, and keep the first one's sentence."""
        self.lost += 1
        self.first_failure = self.first_failure or sentence

    def add(self, other: Tally) -> None:
        """Take in another process's."""
        self.arrived += other.arrived
        self.told.update(other.told)
        self.late += other.late
        self.failed += other.failed
        self.lost += other.lost
        self.finished += other.finished
        self.again += other.again
        self.asked += other.asked
        self.all_done += other.all_done
        self.waits.add(other.waits)
        self.told_waits.add(other.told_waits)
        self.first_failure = self.first_failure or other.first_failure
        self.cpu = max(self.cpu, other.cpu)
        self.behind = max(self.behind, other.behind)
