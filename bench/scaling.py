"""P15: two gateway workers on two cores against one on one, the load elsewhere; REST enrollments over kept connections.

    python -m bench.scaling

That takes four cores: two for the server, the rest for the load. With fewer, nobody can see two workers on two free
cores; then both run wherever there is room, and the figure is what their CPU says: how many enrollments two busy cores
would do, at the cost of one with two workers, against one busy core at its cost with one worker. Waits for the store's
one write lock cost no CPU, and the table says which of the two it was.

Beside it stands what two gateways do that share nothing: no store, no signer, one worker each. What these fall short
of two is the machine's, whose cores have caches, memory and a load in common; what two workers of one gateway fall
short of these is ours. All take turns in short windows, since a machine's pace changes within tenths of a second.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from bench import cores, interrupt, values
from bench.figure import Effort, Figure
from bench.gateway import Quickstart, gateway
from bench.load.rest import Rest
from bench.load.run import Outcome, Plan, drivers
from bench.load.trust import Trust
from bench.rolling import workers
from bench.table import printed

BUDGET: Final = 1.8
ENOUGH: Final = 4  # cores
ROUNDS: Final = 12
SHARE: Final = 6  # a window is so much of what a row may take
_WARM_UP: Final = 0.15  # seconds


@dataclass(frozen=True, slots=True)
class Round:
    """A window of each: one worker, two workers, and one worker of each of two gateways at the same time.

    The last one's two outcomes stand for themselves.
    """

    one: Outcome
    two: Outcome
    apart: tuple[Outcome, Outcome]

    def by_rate(self) -> tuple[float, float]:
        """How many times as much as one worker: two of a gateway, and two gateways."""
        return self.two.per_second / self.one.per_second, sum(
            each.per_second for each in self.apart
        ) / self.one.per_second

    def by_cpu(self) -> tuple[float, float]:
        """The same by what an enrollment costs, at two cores against one."""
        return 2 * self.one.cpu_ms / self.two.cpu_ms, 2 * self.one.cpu_ms / cost(self.apart)


def cost(outcomes: Sequence[Outcome]) -> float:
    """Milliseconds of CPU of an enrollment, of several servers at the same time."""
    done = sum(each.tally.finished for each in outcomes)
    return sum(each.cpu_ms * each.tally.finished for each in outcomes) / done if done else float("nan")


def measure(effort: Effort) -> list[Figure]:
    """The ratio, as one figure: the median over rounds of short windows, one worker and two by turns."""
    known = sorted(os.sched_getaffinity(0))
    enough = len(known) >= ENOUGH
    everywhere = frozenset(known)
    first, second, both, load = (
        (frozenset(known[:1]), frozenset(known[1:2]), frozenset(known[:2]), frozenset(known[2:]))
        if enough
        else (everywhere,) * 4
    )
    seconds = max(0.5, effort.seconds / SHARE)
    half = Plan(clients=effort.clients, seconds=seconds, warm_up=_WARM_UP, cores=load)
    whole = replace(half, clients=2 * effort.clients)
    # All stand all the while: a start takes longer than a round, and one that nobody asks takes no CPU to speak of.
    with ExitStack() as stack:
        alone, other = (stack.enter_context(_serving(1, where)) for where in (first, second))
        pair = stack.enter_context(_serving(2, both))
        one, two, here, there = (
            stack.enter_context(drivers(_fleet(at), plan))
            for at, plan in ((alone, whole), (pair, whole), (alone, half), (other, half))
        )
        beside = stack.enter_context(ThreadPoolExecutor(1))

        def apart() -> tuple[Outcome, Outcome]:
            elsewhere = beside.submit(there.run, server=other.pid)
            return here.run(server=alone.pid), elsewhere.result()

        effort.say(f"P15 {ROUNDS} rounds ...")
        rounds = [
            _round(lambda: one.run(server=alone.pid), lambda: two.run(server=pair.pid), apart, forth=number % 2 == 0)
            for number in range(ROUNDS)
        ]
    return [figure(rounds, by_rate=enough)]


def figure(rounds: Sequence[Round], *, by_rate: bool) -> Figure:
    """The medians of the rounds' ratios, as the table's row."""
    ratios = [each.by_rate() if by_rate else each.by_cpu() for each in rounds]
    ours, apart = (statistics.median(each[which] for each in ratios) for which in (0, 1))
    note = f"two gateways that share nothing: {apart:.2f} x"
    return Figure(
        "P15",
        "two workers on two cores against one on one, REST" if by_rate else "two workers against one by CPU, REST",
        ours,
        unit="x",
        budget=BUDGET,
        at_least=True,
        per_second=statistics.median(each.two.per_second for each in rounds),
        failures=sum(outcome.tally.wrong for each in rounds for outcome in (each.one, each.two, *each.apart)),
        note=note if by_rate else f"{note}; too few cores: what two busy ones would do at the cost that was measured",
        conditions={
            "rounds": len(rounds),
            "two gateways that share nothing": apart,
            "per_second one worker": statistics.median(each.one.per_second for each in rounds),
            "per_second two workers": statistics.median(each.two.per_second for each in rounds),
            "cpu_ms one worker": statistics.median(each.one.cpu_ms for each in rounds),
            "cpu_ms two workers": statistics.median(each.two.cpu_ms for each in rounds),
            "cpu_ms two gateways": statistics.median(cost(each.apart) for each in rounds),
            "cores": os.cpu_count() or 0,
        },
    )


def _round(
    one: Callable[[], Outcome], two: Callable[[], Outcome], apart: Callable[[], tuple[Outcome, Outcome]], *, forth: bool
) -> Round:
    """The three windows, to and fro, so that none always has what another leaves behind."""
    if forth:
        return Round(one(), two(), apart())
    last, middle, first = apart(), two(), one()
    return Round(first, middle, last)


def _fleet(at: Quickstart) -> Rest:
    return Rest(at.rest, Trust(at.root), at.token, at.application, at.profile)


@contextmanager
def _serving(count: int, where: frozenset[int]) -> Iterator[Quickstart]:
    with cores.on(where), gateway(8089, "--workers", str(count)) as at:
        until = time.monotonic() + 60
        while len(workers(at.pid)) < count and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2.0)  # the last one loads what it needs
        yield at


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratio, and what it was made of."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--seconds", type=values.positive, default=6.0, help=f"{SHARE} times a window (default 6)")
    parser.add_argument("--clients", type=values.count, default=16, help="half as many as enroll (default 16)")
    options = parser.parse_args(arguments)
    figures = measure(Effort(seconds=options.seconds, clients=options.clients, say=print))
    print(printed(figures))
    for each in figures:
        for name, value in each.conditions.items():
            print(f"  {name}: {value:.2f}" if isinstance(value, float) else f"  {name}: {value}")


if __name__ == "__main__":
    interrupt.run(main)
