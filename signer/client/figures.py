"""What the client counts, and what workers tell of themselves, summed so that no number ever falls. Nothing is timed.

A worker that starts again begins to count anew: what the one before it at its place had told is kept and added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from signer.contract.messages import WorkerFigures

BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)  # asks in a frame: the upper ends of what is told apart
ANSWERED: Final = "answered"
BUSY: Final = "busy"
UNREACHABLE: Final = "unreachable"
LOST: Final = "lost"


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """One token, in all workers: how many of them are in each of its circuit's states, and what happened since."""

    states: Mapping[str, int]
    openings: int
    failures: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WorkersStatistics:
    """What the workers told. `ended` counts those that ended, by cause; `tokens` are by name."""

    ended: Mapping[str, int] = field(default_factory=dict)
    failovers: int = 0
    tokens: Mapping[str, TokenStatistics] = field(default_factory=dict)


class Places:
    """The latest figures of the worker at each socket, and the sum of those of its predecessors there."""

    def __init__(self) -> None:
        self._latest: dict[str, WorkerFigures] = {}
        self._ended: Counter[str] = Counter()
        self._failovers = 0
        self._openings: Counter[str] = Counter()
        self._failures: dict[str, Counter[str]] = {}

    def learn(self, path: str, told: WorkerFigures) -> None:
        """Take note of what the worker at `path` told."""
        before = self._latest.get(path)
        self._latest[path] = told
        if before is None:
            return
        if before.process != told.process:
            self._failovers += before.failovers
            for each in before.tokens:
                self._openings[each.name] += each.openings
                self._failures.setdefault(each.name, Counter()).update(each.failures)
        if any(told.ended.get(cause, 0) < number for cause, number in before.ended.items()):
            self._ended.update(before.ended)  # another supervisor, which knows nothing of it

    def statistics(self) -> WorkersStatistics:
        """All of it, summed."""
        ended = Counter(self._ended)
        openings = Counter(self._openings)
        failures = {name: Counter(counts) for name, counts in self._failures.items()}
        states: dict[str, Counter[str]] = {}
        for each in self._latest.values():
            ended.update(each.ended)
            for token in each.tokens:
                openings[token.name] += token.openings
                failures.setdefault(token.name, Counter()).update(token.failures)
                states.setdefault(token.name, Counter())[token.state] += 1
        tokens = {
            name: TokenStatistics(states.get(name, {}), openings[name], counts) for name, counts in failures.items()
        }
        failovers = self._failovers + sum(each.failovers for each in self._latest.values())
        return WorkersStatistics(ended, failovers, tokens)
