"""A closed loop: each client enrolls, waits for its certificate, and enrolls again.

It measures what an enrollment costs the server. It does not measure how latency behaves near capacity: a closed loop
slows down with its server and so hides the queue; that is an open loop's work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.load.process_tree import cpu_seconds, descendants


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Seconds but for `cpu_ms`: server CPU, user and system, over the process tree, each enrollment."""

    enrollments: int
    failures: int
    seconds: float
    per_second: float
    cpu_ms: float
    p50: float
    p95: float
    p99: float
    first_failure: str = ""


@dataclass(frozen=True, slots=True)
class Client:
    """One client with its connection. `enroll` is one enrollment, and raises where it failed."""

    enroll: Callable[[], object]
    close: Callable[[], None]


def run(clients: Sequence[Client], *, server: int, seconds: float, warm_up: float = 1.0) -> Figures:
    """Run each of `clients` in a thread of its own, over and over, for `seconds`, and close it.

    `server` is the root pid. What finishes during `warm_up` is not counted.
    """
    latencies: list[list[float]] = [[] for _ in clients]
    failures: list[str] = []
    counting = threading.Event()
    ending = threading.Event()

    def loop(client: Client, into: list[float]) -> None:
        while not ending.is_set():
            begun = time.perf_counter()
            try:
                client.enroll()
            except Exception as error:  # noqa: BLE001, a failure of any kind is counted and shown
                failures.append(f"{type(error).__name__}: {error}")
                if len(failures) > 100:
                    return
                continue
            if counting.is_set():
                into.append(time.perf_counter() - begun)

    threads = [
        threading.Thread(target=loop, args=(client, into), daemon=True)
        for client, into in zip(clients, latencies, strict=True)
    ]
    for thread in threads:
        thread.start()
    time.sleep(warm_up)
    pids = descendants(server)
    counting.set()
    cpu, begun = cpu_seconds(pids), time.perf_counter()
    time.sleep(seconds)
    elapsed, used = time.perf_counter() - begun, cpu_seconds(pids) - cpu
    done = sorted(latency for each in latencies for latency in list(each))
    ending.set()
    for thread in threads:
        thread.join(timeout=30)
    for client in clients:
        client.close()
    count = len(done)
    return Figures(
        enrollments=count,
        failures=len(failures),
        seconds=elapsed,
        per_second=count / elapsed,
        cpu_ms=used * 1000 / count if count else float("nan"),
        p50=_quantile(done, 0.50),
        p95=_quantile(done, 0.95),
        p99=_quantile(done, 0.99),
        first_failure=failures[0] if failures else "",
    )


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
