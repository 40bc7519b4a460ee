"""P15: two gateway workers on two cores against one on one, the load elsewhere; REST enrollments over kept connections.

    python -m bench.scaling

That takes four cores: two for the server, the rest for the load. With fewer, nobody can see two workers on two free
cores; then both run wherever there is room, and the figure is what their CPU says: how many enrollments two busy cores
would do, at the cost of one with two workers, against one busy core at its cost with one worker. Waits for the store's
one write lock cost no CPU, so that is an upper bound, and the table says which of the two it was.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from bench import cores
from bench.figure import Effort, Figure
from bench.gateway import Quickstart, gateway
from bench.load.rest import Rest
from bench.load.run import Outcome, Plan, load
from bench.load.trust import Trust
from bench.rolling import workers
from bench.table import printed

BUDGET: Final = 1.8
ENOUGH: Final = 4  # cores
ROUNDS: Final = 3


def measure(effort: Effort) -> list[Figure]:
    """The ratio, as one figure; medians of some rounds, one worker and two by turns, as machines are noisy."""
    known = sorted(os.sched_getaffinity(0))
    apart = len(known) >= ENOUGH
    everywhere = frozenset(known)
    places = {
        1: (frozenset(known[:1]), frozenset(known[2:])) if apart else (everywhere, everywhere),
        2: (frozenset(known[:2]), frozenset(known[2:])) if apart else (everywhere, everywhere),
    }
    done: dict[int, list[Outcome]] = {1: [], 2: []}
    # Both stand all the while: a start takes as long as a round, and the one that nobody asks takes no CPU to speak of.
    with _serving(1, places[1][0]) as alone, _serving(2, places[2][0]) as pair:
        for number in range(ROUNDS):
            for count, at in ((1, alone), (2, pair)):
                effort.say(f"P15 {count} worker(s), round {number + 1} ...")
                fleet = Rest(at.rest, Trust(at.root), at.token, at.application, at.profile)
                plan = Plan(clients=2 * effort.clients, seconds=effort.seconds, cores=places[count][1])
                done[count].append(load(fleet, plan, server=at.pid))
    return [_figure(done[1], done[2], apart=apart)]


def _figure(one: Sequence[Outcome], two: Sequence[Outcome], *, apart: bool) -> Figure:
    rates = [statistics.median(each.per_second for each in group) for group in (one, two)]
    costs = [statistics.median(each.cpu_ms for each in group) for group in (one, two)]
    ratio = rates[1] / rates[0] if apart else 2 * costs[0] / costs[1]
    return Figure(
        "P15",
        "two workers on two cores against one on one, REST" if apart else "two workers against one by CPU, REST",
        ratio,
        unit="x",
        budget=BUDGET,
        at_least=True,
        per_second=rates[1],
        failures=sum(each.tally.wrong for each in (*one, *two)),
        note="" if apart else "too few cores: what two busy ones would do at the cost that was measured",
        conditions={
            "per_second one worker": rates[0],
            "per_second two workers": rates[1],
            "cpu_ms one worker": costs[0],
            "cpu_ms two workers": costs[1],
            "cores": os.cpu_count() or 0,
        },
    )


@contextmanager
def _serving(count: int, where: frozenset[int]) -> Iterator[Quickstart]:
    with cores.on(where), gateway(8089, "--workers", str(count)) as at:
        until = time.monotonic() + 60
        while len(workers(at.pid)) < count and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2.0)  # the last one loads what it needs
        yield at


def main() -> None:
    """Print the ratio, and what it was made of."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    parser.add_argument("--clients", type=int, default=16, help="half as many as enroll")
    options = parser.parse_args()
    figures = measure(Effort(seconds=options.seconds, clients=options.clients, say=print))
    print(printed(figures))
    for each in figures:
        for name, value in each.conditions.items():
            print(f"  {name}: {value:.2f}" if isinstance(value, float) else f"  {name}: {value}")


if __name__ == "__main__":
    main()
