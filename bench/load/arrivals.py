"""When work begins: at times of its own (open loop), or when the one before it is done (closed loop).

May not happen here: clocks. A schedule says when something was due; how late it was is the loop's to measure.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Closed:
    """Each client begins again when it is done."""


@dataclass(frozen=True, slots=True)
class Open:
    """`rate` arrivals a second, whoever is still waiting: by chance, as many independent clients do, or even."""

    rate: float
    even: bool = False

    def __post_init__(self) -> None:
        if not self.rate > 0:
            raise ValueError(f"a rate is more than nothing, not {self.rate}")

    def due(self, seed: int) -> Iterator[float]:
        """Seconds from the start, for ever, in order. The same seed gives the same times."""
        if self.even:
            # By multiplication: sums of a step drift.
            number = 0
            while True:
                yield number / self.rate
                number += 1
        dice = random.Random(seed)
        at = 0.0
        while True:
            at += dice.expovariate(self.rate)
            yield at

    def part(self, of: int) -> Open:
        """The share of one of several processes. Even schedules are shifted by their starts, see `offset`."""
        return Open(self.rate / of, self.even)

    def offset(self, number: int, of: int) -> float:
        """How much later one of several processes starts, so that together they are even too."""
        return number / self.rate if self.even and of > 1 else 0.0


Arrivals = Closed | Open
