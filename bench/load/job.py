"""What is said between a run and its driver processes, beside spans and tallies.

Not in the program itself: what unpickles a job must find the same class as who pickled it. May not happen here: work.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.load.arrivals import Arrivals
from bench.load.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Job:
    """What one of `processes` does: so many `clients` of a fleet, with its part of `arrivals`."""

    fleet: Fleet
    clients: int
    ahead: int
    arrivals: Arrivals
    number: int
    processes: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The clients are prepared; `trouble` is a sentence if they could not be."""

    trouble: str = ""
