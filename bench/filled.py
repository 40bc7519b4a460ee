"""`python -m bench.filled`: what an enrollment costs with a million certificates in the store, against none (P10).

Two gateways run side by side, one on a full store and one on an empty; the same clients load them in turn, so that a
noisy machine is noisy to both. CPU over each one's whole process tree. May not happen here: a signature that is not
asked for; `fill` says what is in the full one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench import interrupt, served, values
from bench.figure import Effort, Figure
from bench.fill import MILLION, Line, fill, filled
from bench.load.fleet import Fleet
from bench.load.run import Drivers, Plan, drivers
from bench.serving import Started, serving

BUDGET: Final = 1.2  # times, P10
QUICK: Final = 20_000  # certificates where nobody asked for the million: ten seconds of filling
ROUNDS: Final = 6

FLEETS: Final[dict[str, Callable[[Path], Fleet]]] = {"REST": served.rest, "EST": served.est, "SCEP": served.scep}


@dataclass(slots=True)
class Turns:
    """What each round found: milliseconds of CPU an enrollment, and the median wait in milliseconds."""

    cpu: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failures: int = 0
    note: str = ""


def measure(effort: Effort) -> list[Figure]:
    """P10 on a store that is filled for it: twenty thousand certificates, with `effort.full` a million."""
    count = MILLION if effort.full else QUICK
    with filled(count, effort.say) as data:
        return compare(data, count, effort)


def compare(data: Path, count: int, effort: Effort) -> list[Figure]:
    """P10 on the folder `data`, which holds `count` certificates, beside a new one."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place, ExitStack() as stack:
        empty = stack.enter_context(serving(Path(place, "empty")))
        full = stack.enter_context(serving(data))
        return [_compare(name, empty, full, count, effort) for name in FLEETS]


def _compare(name: str, empty: Started, full: Started, count: int, effort: Effort) -> Figure:
    """One protocol: rounds on the one and on the other, in turn."""
    plan = Plan(clients=effort.clients, seconds=effort.seconds / 2, warm_up=0.5)
    turns = {empty.pid: Turns(), full.pid: Turns()}
    with ExitStack() as stack:
        pairs = [(each, stack.enter_context(drivers(FLEETS[name](each.data), plan))) for each in (empty, full)]
        for number in range(ROUNDS):
            effort.say(f"{name}, round {number + 1} of {ROUNDS} ...")
            for each, driving in pairs if number % 2 else reversed(pairs):
                _turn(driving, each, turns[each.pid])
    bare, laden = turns[empty.pid], turns[full.pid]
    # The least of the rounds: other work on the machine only ever adds.
    before, after = min(bare.cpu), min(laden.cpu)
    return Figure(
        number="P10",
        work=f"{name} enrollment, {count:,} certificates in the store, against none",
        figure=after / before,
        unit="x",
        budget=BUDGET,
        p50_ms=statistics.median(laden.waits),
        failures=bare.failures + laden.failures,
        note=bare.note or laden.note or f"{before:.2f} ms CPU empty, {after:.2f} filled",
        conditions={"certificates": count, "clients": plan.clients, "cpu_ms_empty": before, "cpu_ms_filled": after},
    )


def _turn(driving: Drivers, at: Started, turns: Turns) -> None:
    outcome = driving.run(server=at.pid)
    turns.cpu.append(outcome.cpu_ms)
    turns.waits.append(outcome.tally.waits.quantile(0.5) * 1000)
    turns.failures += outcome.tally.wrong
    turns.note = turns.note or outcome.tally.first_failure


def line(figure: Figure) -> str:
    """One figure as text."""
    return f"{figure.number} {figure.work:70} {figure.figure:5.2f} x  budget {BUDGET:.1f} x  {figure.note}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.filled", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a folder of `bench fill`; made full if it is not")
    parser.add_argument(
        "--certificates", type=values.count_or_none, default=QUICK, help=f"how many it is to hold (default {QUICK})"
    )
    parser.add_argument("--seconds", type=values.positive, default=8.0, help="seconds a round (default 8)")
    parser.add_argument("--clients", type=values.count, default=16, help="closed-loop clients (default 16)")
    options = parser.parse_args(arguments)
    effort = Effort(options.seconds * 2, options.clients, say=lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place:
        data = options.data or Path(place, "filled")
        found = fill(data, options.certificates, progress=Line())
        figures = compare(data, found, effort)
    for figure in figures:
        print(line(figure))
    return 1 if any(figure.failures for figure in figures) else 0


if __name__ == "__main__":
    interrupt.run(main)
