"""A run: driver processes for one fleet, prepared, started together, and added up; the server's CPU beside them.

May not happen here: a protocol's own words, printing.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.load.arrivals import Arrivals, Closed, Open
from bench.load.fleet import Fleet
from bench.load.job import Job, Ready
from bench.load.loop import PATIENCE, Span
from bench.load.process_tree import used
from bench.load.tally import Tally

_AHEAD: Final = 0.2  # seconds between the order to start and the start, so that all processes start together
_CLOSED_AHEAD: Final = 150  # pieces of work a second that are prepared for a closed loop, whose rate nobody knows
_MOST_AHEAD: Final = 6000  # pieces of work; SCEP's take a millisecond each to prepare


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fleet is to work. Seconds; `clients` are of all processes together; `cores` is where drivers may run."""

    arrivals: Arrivals = field(default_factory=Closed)
    clients: int = 16
    processes: int = 1
    seconds: float = 5.0
    warm_up: float = 1.0
    cores: frozenset[int] = frozenset()

    def ahead(self) -> int:
        """Pieces of work that a process prepares, if its protocol lets it."""
        rate = self.arrivals.rate if isinstance(self.arrivals, Open) else _CLOSED_AHEAD
        return min(_MOST_AHEAD, int(rate * (self.seconds + self.warm_up) / self.processes))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `server_cpu` is in seconds over the process tree, None where no pid was given.

    `by_name` is the same by program; `rate` is what was offered a second, 0.0 in a closed loop. `counted` are the two
    moments (time.perf_counter) between which work and CPU were counted.
    """

    tally: Tally
    seconds: float
    rate: float
    server_cpu: float | None = None
    by_name: dict[str, float] = field(default_factory=dict)
    counted: tuple[float, float] = (0.0, 0.0)

    @property
    def per_second(self) -> float:
        """Pieces of work that were completed, a second."""
        return self.tally.finished / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of the server's CPU time for each piece of work that was completed; nan where unknown."""
        if self.server_cpu is None or not self.tally.finished:
            return float("nan")
        return self.server_cpu * 1000 / self.tally.finished


class Drivers:
    """Processes whose clients are prepared; they may run several times, and go on with their connections."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], plan: Plan) -> None:
        self._processes = processes
        self._plan = plan

    def run(self, *, server: int = 0) -> Outcome:
        """One run. Raises RuntimeError where a driver process ends."""
        plan = self._plan
        start = time.perf_counter() + _AHEAD
        counts = start + plan.warm_up
        ends = counts + plan.seconds
        for each in self._processes:
            _say(each, Span(start, counts, ends))
        _until(counts)
        before, began = used(server) if server else None, time.perf_counter()
        _until(ends)
        after, ended = used(server) if server else None, time.perf_counter()
        tally = Tally()
        for each in self._processes:
            heard = _hear(each)
            assert isinstance(heard, Tally)
            tally.add(heard)
        rate = plan.arrivals.rate if isinstance(plan.arrivals, Open) else 0.0
        if before is None or after is None:
            return Outcome(tally, plan.seconds, rate, counted=(counts, ends))
        # The two readings are as far apart as they are, not as they should be.
        share = plan.seconds / (ended - began)
        by_name = {name: (seconds - before.by_name.get(name, 0.0)) * share for name, seconds in after.by_name.items()}
        return Outcome(tally, plan.seconds, rate, (after.seconds - before.seconds) * share, by_name, (counts, ends))


@contextlib.contextmanager
def drivers(fleet: Fleet, plan: Plan) -> Iterator[Drivers]:
    """Processes with prepared clients; ended on the way out. Raises RuntimeError with what they say is wrong."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(plan.processes):
            clients = max(1, plan.clients // plan.processes + (number < plan.clients % plan.processes))
            job = Job(fleet, clients, plan.ahead(), plan.arrivals, number, plan.processes)
            processes.append(_started(plan.cores))
            _say(processes[-1], job)
        for each in processes:
            ready = _hear(each)
            assert isinstance(ready, Ready)
            if ready.trouble:
                raise RuntimeError(ready.trouble)
        yield Drivers(processes, plan)
        for each in processes:
            _say(each, None)
    finally:
        for each in processes:
            _end(each)


def load(fleet: Fleet, plan: Plan, *, server: int = 0) -> Outcome:
    """Prepare, run once, end."""
    with drivers(fleet, plan) as prepared:
        return prepared.run(server=server)


def _started(cores: frozenset[int]) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    # A driver ignores an interrupt once it is up; what comes while it still imports must not end it with a traceback.
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.load.process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)
    if cores:
        os.sched_setaffinity(process.pid, cores)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _say(process: subprocess.Popen[bytes], what: object) -> None:
    assert process.stdin is not None
    pickle.dump(what, process.stdin)
    process.stdin.flush()


def _hear(process: subprocess.Popen[bytes]) -> object:
    """What a driver says next."""
    assert process.stdout is not None
    try:
        heard: object = pickle.load(process.stdout)
    except EOFError:
        raise RuntimeError(f"a driver process ended with status {process.wait()}") from None
    return heard


def _until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
