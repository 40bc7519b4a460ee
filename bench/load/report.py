"""What came of runs, for people and as records: rows of a table, and warnings where the driver was not at its best.

May not happen here: measuring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from bench.load.histogram import Histogram
from bench.load.run import Outcome

_BUSY: Final = 0.85  # of a core: a driver that has no more to give measures itself
_BEHIND: Final = 0.005  # seconds that a driver itself may come late to an arrival
QUANTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))

HEADING: Final = (
    f"{'offered':>8} {'done':>7} {'told':>6} {'late':>6} {'failed':>6} {'lost':>6}   "
    f"{'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'p99.9':>8} {'max':>8}   {'CPU ms':>7} {'driver':>6}"
)
MEANING: Final = (
    "offered, done and told (503, 429) a second; late, failed and lost are counts; waits from when work was due;\n"
    "CPU: of the server's process tree, each that was done (with --pid); driver: the busiest one's share of a core."
)


def row(outcome: Outcome) -> str:
    """One run as a line under `HEADING`."""
    tally, seconds = outcome.tally, outcome.seconds
    offered = f"{outcome.rate:8.0f}" if outcome.rate else f"{'closed':>8}"
    counts = f"{outcome.per_second:7.0f} {tally.not_now / seconds:6.0f} {tally.late:6} {tally.failed:6} {tally.lost:6}"
    waits = " ".join(_milliseconds(tally.waits.quantile(share)) for _, share in QUANTILES)
    cpu = "-" if math.isnan(outcome.cpu_ms) else f"{outcome.cpu_ms:.2f}"
    largest = tally.waits.largest if tally.waits.count else math.nan
    return f"{offered} {counts}   {waits} {_milliseconds(largest)}   {cpu:>7} {tally.cpu:6.0%}"


def warnings(outcome: Outcome) -> Sequence[str]:
    """Sentences that a reader of the figures must know."""
    tally = outcome.tally
    said: list[str] = []
    if not tally.done:
        said.append("nothing was completed in the time that counts")
    if tally.requests_each > 1.05:
        said.append(f"{tally.requests_each:.1f} requests each")
    if tally.cpu > _BUSY:
        said.append(f"a driver process used {tally.cpu:.0%} of a core: it is the limit; give it more --processes")
    if tally.behind > _BEHIND:
        said.append(
            f"the driver itself came up to {tally.behind * 1000:.0f} ms late to an arrival; the waits hold that"
        )
    if tally.late:
        said.append(f"{tally.late} arrivals found no client free in time: more --clients, or the server is too slow")
    if tally.again:
        said.append(f"{tally.again} requests were sent again, as the server had closed a kept connection")
    if tally.told:
        told = ", ".join(f"{count} were told {status}" for status, count in sorted(tally.told.items()))
        said.append(f"{told}, in {tally.told_waits.quantile(0.99) * 1000:.1f} ms (p99)")
    if tally.first_failure:
        said.append(f"the first failure: {tally.first_failure}")
    return said


def came_back(outcome: Outcome) -> bool:
    """Whether something was completed, and nothing that counts was late, failed or lost; told to wait is an answer."""
    return bool(outcome.tally.done) and not outcome.tally.wrong


def record(outcome: Outcome) -> dict[str, object]:
    """One run for a JSON file. Seconds, but for names that say otherwise."""
    tally = outcome.tally
    return {
        "rate": outcome.rate or None,
        "seconds": outcome.seconds,
        "arrived": tally.arrived,
        "done": tally.done,
        "done_in_time": tally.finished,
        "per_second": outcome.per_second,
        "told": {str(status): count for status, count in sorted(tally.told.items())},
        "late": tally.late,
        "failed": tally.failed,
        "lost": tally.lost,
        "sent_again": tally.again,
        "requests_each": None if math.isnan(tally.requests_each) else tally.requests_each,
        "first_failure": tally.first_failure,
        "waits": _histogram(tally.waits),
        "told_waits": _histogram(tally.told_waits),
        "server_cpu_ms": None if math.isnan(outcome.cpu_ms) else outcome.cpu_ms,
        "server_cpu_seconds_by_name": outcome.by_name,
        "driver_share_of_a_core": tally.cpu,
        "driver_behind": tally.behind,
    }


def _histogram(waits: Histogram) -> dict[str, object] | None:
    if not waits.count:
        return None
    quantiles = {name: waits.quantile(share) for name, share in QUANTILES}
    return {"count": waits.count, "mean": waits.mean, **quantiles, "max": waits.largest, "cells": list(waits.cells())}


def _milliseconds(seconds: float) -> str:
    return f"{'-':>8}" if math.isnan(seconds) else f"{seconds * 1000:8.1f}"
