"""`python -m bench.memory`: what a gateway worker holds after 100,000 enrollments, and whether it grows (P12).

The resident set of every process of the tree is read while clients enroll; the slope is over the second half, when
caches are full and pools are as large as they get. May not happen here: a verdict by the peak alone: a worker that is
small and grows is the worse one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import interrupt, served, values
from bench.figure import Effort, Figure
from bench.load.process_tree import descendants, resident_bytes
from bench.load.run import Plan, drivers
from bench.serving import serving

BUDGET: Final = 150.0  # MiB, P12
FULL: Final = 100_000
QUICK: Final = 6_000
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """How large each process was when so many enrollments were done. Bytes by process id."""

    done: int
    resident: dict[int, int]


@dataclass(frozen=True, slots=True)
class Growth:
    """One process. MiB at the beginning, at its largest and at the end, and MiB a thousand enrollments."""

    name: str
    first: float
    most: float
    last: float
    slope: float


def measure(effort: Effort) -> list[Figure]:
    """P12: 6,000 enrollments, with `effort.full` 100,000. The largest process of the gateway counts."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place, serving(Path(place, "data")) as at:
        names, samples, failures, note = watch(at.pid, at.data, FULL if effort.full else QUICK, effort)
    grown = growths(names, samples)
    worker = max((each for each in grown if "signer" not in each.name), key=lambda each: each.most)
    done = samples[-1].done
    return [
        Figure(
            number="P12",
            work=f"memory of one gateway worker after {done:,} enrollments",
            figure=worker.most,
            unit="MiB",
            budget=BUDGET,
            failures=failures,
            note=note
            or f"{worker.first:.0f} MiB at first; {worker.slope * 1000:+.1f} KiB a thousand in the second half",
            conditions={
                "enrollments": done,
                "first_mib": worker.first,
                "last_mib": worker.last,
                "kib_a_thousand": worker.slope * 1024,
            }
            | {f"{each.name}_mib": each.most for each in grown},
        )
    ]


def watch(pid: int, data: Path, count: int, effort: Effort) -> tuple[dict[int, str], list[Sample], int, str]:
    """Let clients enroll in turns until `count` is done; a sample before and after each turn.

    The processes' names by id, the samples, the failures and the first one's sentence.
    """
    names = {each: name(each) for each in descendants(pid)}
    done, failures, note = 0, 0, ""
    samples = [_sample(names, done)]
    with drivers(served.rest(data), Plan(clients=effort.clients, seconds=2.0, warm_up=0.0)) as driving:
        while done < count and failures <= count:
            outcome = driving.run(server=pid)
            done += outcome.tally.finished
            failures += outcome.tally.wrong
            note = note or outcome.tally.first_failure
            samples.append(_sample(names, done))
            effort.say(f"{done:,} of {count:,}, {outcome.per_second:,.0f}/s")
            if not outcome.tally.finished:
                break
    return names, samples, failures, note


def growths(names: dict[int, str], samples: Sequence[Sample]) -> list[Growth]:
    """What became of each process that was there from the first sample to the last."""
    found = []
    for pid, called in names.items():
        if any(pid not in sample.resident for sample in samples):
            continue
        sizes = [sample.resident[pid] / MIB for sample in samples]
        half = len(samples) // 2
        points = [(sample.done / 1000, size) for sample, size in zip(samples[half:], sizes[half:], strict=True)]
        found.append(Growth(called, sizes[0], max(sizes), sizes[-1], slope(points)))
    return found


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the straight line nearest to the points; 0.0 where one cannot be drawn."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / max(count, 1), sum(y for _, y in points) / max(count, 1)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def name(pid: int) -> str:
    """What a process is: the module that Python was started with, as far as the command line says."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else Path(words[0]).name
    return f"{module} {pid}"


def _sample(names: dict[int, str], done: int) -> Sample:
    resident = {}
    for pid in names:
        try:
            resident[pid] = resident_bytes(pid)
        except OSError:
            continue  # it has ended
    return Sample(done, resident)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print every process."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument(
        "--enrollments", type=values.count, default=QUICK, help=f"how many (default {QUICK}; P12: {FULL})"
    )
    parser.add_argument("--clients", type=values.count, default=16, help="closed-loop clients (default 16)")
    options = parser.parse_args(arguments)
    effort = Effort(clients=options.clients, say=lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place, serving(Path(place, "data")) as at:
        names, samples, failures, note = watch(at.pid, at.data, options.enrollments, effort)
    print(f"{'process':36} {'first':>7} {'most':>7} {'last':>7} MiB   KiB a thousand (second half)")
    for each in growths(names, samples):
        print(f"{each.name:36} {each.first:7.1f} {each.most:7.1f} {each.last:7.1f}       {each.slope * 1024:8.1f}")
    print(f"{samples[-1].done:,} enrollments, {failures} failed {note}")
    return 1 if failures else 0


if __name__ == "__main__":
    interrupt.run(main)
