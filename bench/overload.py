"""Overload (P16): arrivals at three times what a gateway can do, and what becomes of them, over REST with a CSR.

    python -m bench.overload

Capacity is what a closed loop reaches; then arrivals come at their own times, whoever waits, over as many kept
connections as `--connections`. Driver and gateway share the machine: what the driver uses, the gateway lacks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.gateway import Quickstart, gateway
from bench.load import rest
from bench.load.closed_loop import Client, run
from bench.pool import part


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rate of arrivals. `told` are answers 503; `late` are arrivals that found no connection free in time."""

    offered: float
    completed: float  # a second
    told: float  # a second
    late: float  # a second
    other: int
    p50_ms: float
    p99_ms: float


def offered(clients: list[Client], rate: float, seconds: float) -> Outcome:
    """Offer `rate` a second for so long; each connection takes the next arrival when its time has come."""
    numbers = itertools.count()
    began = time.perf_counter() + 0.2
    waits: list[float] = []
    outcomes: Counter[str] = Counter()

    def loop(client: Client) -> None:
        while (due := began + next(numbers) / rate) < began + seconds:
            now = time.perf_counter()
            if now < due:
                time.sleep(due - now)
            elif now - due > 1.0:
                outcomes["late"] += 1
                continue
            try:
                client.enroll()
            except Exception as error:  # noqa: BLE001, a failure of any kind is counted
                outcomes[str(error)[:4].strip()] += 1
            else:
                outcomes["completed"] += 1
                waits.append(time.perf_counter() - due)

    threads = [threading.Thread(target=loop, args=(each,), daemon=True) for each in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 60)
    waits.sort()
    wall = max(seconds, time.perf_counter() - began)
    completed, told, late = (outcomes.pop(each, 0) for each in ("completed", "503", "late"))
    return Outcome(
        rate,
        completed / wall,
        told / wall,
        late / wall,
        sum(outcomes.values()),
        part(waits, 0.5) * 1000,
        part(waits, 0.99) * 1000,
    )


def clients_of(at: Quickstart, count: int) -> list[Client]:
    """So many clients, each with a connection of its own."""
    return [rest.by_csr(at.rest, at.root, at.token, at.application, at.profile) for _ in range(count)]


def main() -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured (default 5)")
    parser.add_argument("--connections", type=int, default=200, help="kept connections (default 200)")
    parser.add_argument("--json", type=Path, default=Path("bench-results/overload.json"), help="where the figures go")
    options = parser.parse_args()
    with gateway(1) as at:
        closed = run(clients_of(at, 16), server=at.pid, seconds=options.seconds)
        print(
            f"capacity: {closed.per_second:.0f} a second by 16 clients in a closed loop, p50 {closed.p50 * 1000:.0f} ms"
        )
        names = f"{'offered':>9} {'completed':>10} {'of it':>6} {'503':>7} {'late':>7} {'other':>6}"
        print(f"{names} {'p50 ms':>8} {'p99 ms':>8}")
        rows = []
        for times in (0.7, 3.0):
            clients = clients_of(at, options.connections)
            outcome = offered(clients, times * closed.per_second, options.seconds)
            for each in clients:
                each.close()
            rows.append(asdict(outcome))
            reached = outcome.completed / closed.per_second
            counts = (
                f"{outcome.told:7.0f} {outcome.late:7.0f} {outcome.other:6} {outcome.p50_ms:8.0f} {outcome.p99_ms:8.0f}"
            )
            print(f"{outcome.offered:9.0f} {outcome.completed:10.0f} {reached:6.2f} {counts}", flush=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
