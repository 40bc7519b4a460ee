"""What a benchmark hands over: figures, each with its budget and floor, and how much effort was asked for.

Every module that has rows of the table exposes `measure(effort) -> list[Figure]`; `python -m bench` composes them.
May not happen here: measuring, printing, judging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    `number` is P1..P16 of the performance plan, `work` says what was done. `figure`, `budget`, `floor`, `bare` and
    `paced` are in `unit` (`ms CPU` is the server's user and system time over its process tree, each piece of work); a
    budget is a ceiling unless `at_least`. `floor` is the cryptography in it, `bare` what the same work costs a program
    that does nothing else (`bench.bare`), `paced` the budget at this machine's pace (`bench.floors`). Waits
    are wall-clock milliseconds, as clients saw them. `failures` are pieces of work that went wrong, `note` is the first
    one's sentence, or what a reader must know. `conditions` is what the figure depends on and the file's head does not
    say: clients, rate, connections, certificates in the store.
    """

    number: str
    work: str
    figure: float
    unit: str = "ms CPU"
    budget: float | None = None
    floor: float | None = None
    bare: float | None = None
    paced: float | None = None
    at_least: bool = False
    per_second: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None
    max_ms: float | None = None
    failures: int = 0
    note: str = ""
    conditions: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def share(self) -> float | None:
        """The floor's share of the figure: 1.0 is nothing left to save. None where there is no floor."""
        return None if self.floor is None or not self.figure else self.floor / self.figure

    @property
    def of_budget(self) -> float | None:
        """The figure as a share of its budget, or None without one."""
        return None if not self.budget else self.figure / self.budget


def _silent(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much a module may take: `seconds` a row, so many closed-loop `clients`, and with `full` the long ones.

    Without `full` a module's rows together take a minute at most, and say in `conditions` what was cut short.
    `say` takes a progress line for whoever waits.
    """

    seconds: float = 4.0
    clients: int = 16
    full: bool = False
    say: Callable[[str], None] = _silent


Measure: TypeAlias = Callable[[Effort], list[Figure]]
