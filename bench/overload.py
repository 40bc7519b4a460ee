"""Overload (P16): arrivals at three times what a gateway can do, and what becomes of them, over REST with a CSR.

    python -m bench.overload

The gateway and its signers have one core, the driver another. Capacity is what a closed loop reaches there; else
arrivals come at their own times, whoever waits, over kept connections. Capacity is measured again around each row, as
neighbours on the machine change it; "of it" is the share of their mean, and "by cpu" the same by the server's CPU time,
which neighbours do not take.

What the offers are: an arrival takes any connection that is free, and one that was told 503 is free at once, as those
of a proxy are that keeps connections for many clients. The gateway hears such a connection half a second later, so
that with few connections most arrivals beyond the capacity find none ("late") and cost the server nothing; with a
thousand they can be told two thousand times a second. Clients that keep to their Retry-After are gentler than this;
clients that come with a new connection each are worse, as each costs a handshake (`bench.storms`). "By cpu" counts
against the storm, too, that work shared by many at once (commits, frames) is shared by fewer below the capacity.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

from bench import cores, interrupt, values
from bench.figure import Effort, Figure
from bench.gateway import Quickstart, gateway
from bench.load import rest
from bench.load.open_loop import Answers, Connections
from bench.load.process_tree import cpu_seconds, descendants
from bench.pool import part

BUDGET: Final = 0.9
# What a standing queue needs to be noticed and to go down again, twice over.
WARM_UP: Final = 6.0  # seconds


@dataclass(frozen=True, slots=True)
class Row:
    """One rate of arrivals, `times` the capacity (0: a closed loop). A second each, but for waits and counts.

    `told` are answers 503; `late` are arrivals that found no connection free in time; `cpu_ms` is the server's, each
    enrollment that was completed.
    """

    times: float
    offered: float
    completed: float
    told: float
    late: float
    other: int
    p50_ms: float
    p99_ms: float
    told_p99_ms: float
    cpu_ms: float
    of_capacity: float = 1.0
    by_cpu: float = 1.0


def measured(at: Quickstart, connections: int, *, times: float, capacity: float, seconds: float) -> Row:
    """One row; without `times` a closed loop."""
    requests = rest.prepared(at.rest, at.token, at.application, at.profile, 500)
    kept = Connections(at.rest, at.root, connections)
    warm_up = WARM_UP if times else 2.0
    pids = descendants(at.pid)
    before = cpu_seconds(pids)
    came = kept.run(requests, rate=times * capacity if times else None, seconds=seconds, warm_up=warm_up)
    used = cpu_seconds(pids) - before
    kept.close()
    return _row(times, came, used * seconds / (seconds + warm_up))


def _row(times: float, came: Answers, cpu: float) -> Row:
    completed = sum(count for status, count in came.statuses.items() if status < 300)
    told = came.statuses[503]
    return Row(
        times,
        came.arrived / came.seconds,
        completed / came.seconds,
        told / came.seconds,
        came.late / came.seconds,
        sum(came.statuses.values()) - completed - told + came.lost,
        part(came.waits, 0.5) * 1000,
        part(came.waits, 0.99) * 1000,
        part(came.told_waits, 0.99) * 1000,
        cpu * 1000 / completed if completed else float("nan"),
    )


def _line(row: Row) -> str:
    return (
        f"{row.times:6.1f} {row.offered:9.0f} {row.completed:10.0f} {row.told:7.0f} {row.late:6.0f} {row.other:6} "
        f"{row.p50_ms:8.0f} {row.p99_ms:8.0f} {row.told_p99_ms:8.0f} {row.cpu_ms:7.2f} {row.of_capacity:6.2f} "
        f"{row.by_cpu:7.2f}"
    )


def _beside(row: Row, before: Row, after: Row) -> Row:
    """The row with its shares of what the closed loops before and after it reached."""
    share = row.completed / ((before.completed + after.completed) / 2)
    return replace(row, of_capacity=share, by_cpu=(before.cpu_ms + after.cpu_ms) / 2 / row.cpu_ms)


def measure(effort: Effort) -> list[Figure]:
    """P13 and P16: 0.7 and 3 times the capacity, each between two closed loops that say what the capacity is."""
    halves, connections = cores.halves(), 1000 if effort.full else 200
    figures = []
    with ExitStack() as stack:
        with cores.on(halves.server):
            at = stack.enter_context(gateway(1))
        stack.enter_context(cores.on(halves.load))
        closed = partial(measured, at, 2 * effort.clients, times=0.0, capacity=0.0, seconds=effort.seconds)
        for times in (0.7, 3.0):
            effort.say(f"arrivals at {times:.1f} x the capacity, {connections} connections ...")
            before = closed()
            row = measured(at, connections, times=times, capacity=before.completed, seconds=2 * effort.seconds)
            figures.append(_figure(_beside(row, before, closed()), connections))
    return figures


def _figure(row: Row, connections: int) -> Figure:
    """P13 for arrivals below the capacity, P16 for those above it."""
    conditions = {**asdict(row), "connections": connections}
    if row.times < 1:
        told = f"{row.told:.1f} a second were told 503, {row.other} failed"
        return Figure(
            "P13",
            f"p99 latency at {row.times:.0%} of capacity, against the median",
            row.p99_ms / row.p50_ms,
            "x",
            10.0,
            floor=1.0,
            per_second=row.completed,
            p50_ms=row.p50_ms,
            p99_ms=row.p99_ms,
            failures=row.other,
            note=told,
            conditions=conditions,
        )
    return Figure(
        "P16",
        f"completed at {row.times:.0f} x capacity, against capacity",
        row.of_capacity,
        "x",
        BUDGET,
        floor=1.0,
        at_least=True,
        per_second=row.completed,
        p50_ms=row.p50_ms,
        p99_ms=row.p99_ms,
        failures=row.other,
        note=f"{row.by_cpu:.2f} by CPU; {row.told:.0f} a second were told 503, {row.late:.0f} came too late",
        conditions=conditions,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=10.0, help="how long each row is measured (default 10)"
    )
    parser.add_argument(
        "--connections", type=values.count, default=1000, help="kept connections of the open loop (1000)"
    )
    parser.add_argument("--closed", type=values.count, default=32, help="kept connections of the closed loop (32)")
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/overload.json", help="where the figures go"
    )
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    # What is started inherits the core; the driver then moves to the others.
    os.sched_setaffinity(0, cores[:1])
    with gateway(1) as at:
        os.sched_setaffinity(0, cores[1:] or cores)
        print(f"server on core {cores[0]}, driver on {cores[1:] or cores}; REST with a CSR, P-256, SQLite, TLS 1.3")
        print(
            f"{'times':>6} {'offered':>9} {'completed':>10} {'503':>7} {'late':>6} {'other':>6} "
            f"{'p50 ms':>8} {'p99 ms':>8} {'503 p99':>8} {'cpu ms':>7} {'of it':>6} {'by cpu':>7}"
        )
        rows = [measured(at, options.closed, times=0.0, capacity=0.0, seconds=options.seconds)]
        print(_line(rows[0]), flush=True)
        for times in (0.7, 3.0):
            before = rows[-1]
            row = measured(at, options.connections, times=times, capacity=before.completed, seconds=options.seconds)
            after = measured(at, options.closed, times=0.0, capacity=0.0, seconds=options.seconds)
            rows += [_beside(row, before, after), after]
            print("\n".join(map(_line, rows[-2:])), flush=True)
        ordinary, storm = rows[1], rows[3]
        print(f"P16: at least {BUDGET} of capacity at 3 x, here {storm.of_capacity:.2f}, by cpu {storm.by_cpu:.2f};")
        print(f"nobody told 503 at 0.7 x, here {ordinary.told:.1f} a second; floor: 1.0, were a refusal free")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    interrupt.run(main)
