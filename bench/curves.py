"""`python -m bench.curves`: how throughput and latency go with load, clients, workers and the store's size.

Open loop at rising rates: waits are measured from when work was due, so the knee shows where the queue begins and not
where clients gave up asking. May not happen here: drawing (`report`), a verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench import cores, interrupt, served, values
from bench.enrollments import place
from bench.fill import fill
from bench.load.arrivals import Closed, Open
from bench.load.fleet import Fleet
from bench.load.run import Outcome, Plan, load
from bench.serving import Started, serving
from bench.table import machine

SHARES: Final = (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.3)  # of the closed loop's capacity
CLIENTS: Final = (1, 2, 4, 8, 16, 32, 64)
GROWTH: Final = (0, 1_000, 10_000, 100_000, 1_000_000)
CURVES: Final = ("rate", "clients", "workers", "certificates")
OPEN_CLIENTS: Final = 64  # connections of an open loop: more than wait at once below capacity
BELOW: Final[dict[str, Callable[[Path], Fleet]]] = {"REST": served.rest, "EST": served.est, "SCEP": served.scep}


@dataclass(frozen=True, slots=True)
class Point:
    """One run: what was varied, `at` which value, and what came of it. Waits in milliseconds, CPU of the server."""

    curve: str  # rate, clients, workers or certificates
    work: str
    at: float
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    told: int
    wrong: int
    driver: float  # share of a core that the busiest driver process used: near 1.0 it was the limit


def rates(seconds: float) -> list[Point]:
    """Each protocol at rising rates, to beyond its capacity, on one core."""
    points = []
    with place() as at:
        fleets: dict[str, Fleet] = {
            "ACME": at.acme(at.at.reuse_directory),
            **{name: fleet(at.at.data) for name, fleet in BELOW.items()},
        }
        for name, fleet in fleets.items():
            capacity = _run(fleet, at.at.pid, Plan(Closed(), 16, seconds=seconds)).per_second
            for share in SHARES:
                plan = Plan(Open(capacity * share), OPEN_CLIENTS, seconds=seconds)
                points.append(_point("rate", name, capacity * share, _run(fleet, at.at.pid, plan)))
    return points


def clients(seconds: float) -> list[Point]:
    """REST by more and more clients, each of whom waits for its answer."""
    with place() as at:
        fleet = served.rest(at.at.data)
        counts = {count: _run(fleet, at.at.pid, Plan(Closed(), count, seconds=seconds)) for count in CLIENTS}
    return [_point("clients", "REST", count, outcome) for count, outcome in counts.items()]


def workers(seconds: float) -> list[Point]:
    """REST by one gateway worker, two, and so on, to one for each core. Nothing is bound to a core."""
    points = []
    for count in range(1, (os.cpu_count() or 1) + 1):
        with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
            with serving(Path(folder, "data"), "--workers", str(count)) as at:
                outcome = load(served.rest(at.data), Plan(Closed(), 16 * count, seconds=seconds), server=at.pid)
            points.append(_point("workers", "REST", count, outcome))
    return points


def growth(seconds: float, most: int) -> list[Point]:
    """Each protocol with more and more certificates in one store."""
    points = []
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        data = Path(folder, "data")
        for count in (each for each in GROWTH if each <= most):
            print(f"filling: {count:,} ...", file=sys.stderr)
            fill(data, count)
            with cores.on(cores.halves().server), serving(data, "--workers", "1") as at:
                points += [_grown(name, at, count, seconds) for name in BELOW]
    return points


def _grown(name: str, at: Started, count: int, seconds: float) -> Point:
    outcome = _run(BELOW[name](at.data), at.pid, Plan(Closed(), 16, seconds=seconds))
    return _point("certificates", name, count, outcome)


def _run(fleet: Fleet, pid: int, plan: Plan) -> Outcome:
    there = cores.halves().load
    return load(fleet, Plan(plan.arrivals, plan.clients, 1, plan.seconds, plan.warm_up, there), server=pid)


def _point(curve: str, work: str, at: float, outcome: Outcome) -> Point:
    tally = outcome.tally
    p50, p99 = (tally.waits.quantile(share) * 1000 for share in (0.5, 0.99))
    cpu = outcome.cpu_ms if tally.finished else 0.0
    print(
        f"{curve:12} {work:5} {at:12,.0f}: {outcome.per_second:7.0f}/s  p50 {p50:8.1f}  p99 {p99:8.1f} ms"
        f"  {cpu:.2f} ms CPU  {tally.not_now} told  {tally.wrong} wrong",
        file=sys.stderr,
    )
    return Point(curve, work, at, outcome.per_second, p50, p99, cpu, tally.not_now, tally.wrong, tally.cpu)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; points of other curves that the file has stay in it."""
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=5.0, help="how long each point is measured (default 5)"
    )
    parser.add_argument("--only", action="append", choices=CURVES, default=[], help="this curve; may be repeated")
    parser.add_argument(
        "--certificates",
        type=values.count_or_none,
        default=100_000,
        metavar="N",
        help="how far the store grows (default 100000)",
    )
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/curves.json", help="where the figures go"
    )
    options = parser.parse_args(arguments)
    about = machine()
    measured: dict[str, Callable[[], list[Point]]] = {
        "rate": lambda: rates(options.seconds),
        "clients": lambda: clients(options.seconds),
        "workers": lambda: workers(options.seconds),
        "certificates": lambda: growth(options.seconds, options.certificates),
    }
    wanted = options.only or list(measured)
    kept = earlier(options.json)
    points = [each for each in kept if each.curve not in wanted]
    for kind in wanted:
        points += measured[kind]()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "points": [asdict(each) for each in points]}
    options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(f"written to {options.json}")
    return 1 if any(each.wrong for each in points if each.curve != "rate") else 0


def earlier(path: Path) -> list[Point]:
    """What an earlier run wrote there; nothing where there is no such file."""
    if not path.exists():
        return []
    return [Point(**each) for each in json.loads(path.read_text())["points"]]


if __name__ == "__main__":
    interrupt.run(main)
