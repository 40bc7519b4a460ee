"""`python -m bench.pace`: what the bare operations cost from one tenth of a second to the next, until its input ends.

A shared machine's speed changes by a factor of two within tenths of a second. A figure is a mean over seconds, so its
floor and its pace are means over the same seconds on the same core (`beside`), and not the best moment of others. May
not happen here: a server, and more than about a twentieth of its core.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from bench import cores, floors, interrupt
from bench.floors import Operations

EVERY: Final = 0.12  # seconds from one round to the next; no multiple of the 100 ms in which hosts share processors out
# The two long ones take turns: a handshake, of which both sides must be played, takes as long as three RSA signatures,
# and one of those as long as all others together. With both in each round it would take a tenth of a slow core.
HANDSHAKE_EVERY: Final = 3  # rounds; in the others there is an RSA signature

FIRST: Final = "real-time"
LIKE_OTHERS: Final = "as all others"

Span: TypeAlias = tuple[float, float]  # two readings of time.perf_counter, which all processes of a machine share

_NAMES: Final = tuple(each.name for each in fields(Operations))


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: when it was (time.perf_counter), and CPU microseconds by the operation's name in `Operations`."""

    moment: float
    taken: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is handed over.

    `operations` are the `mean` of each. `samples` are rounds; `share` is of a core, used since it was
    ready; `priority` is `FIRST` or `LIKE_OTHERS`.
    """

    operations: Operations
    samples: int
    share: float
    priority: str

    def conditions(self) -> dict[str, str | int | float | bool]:
        """What a figure beside these operations depends on."""
        return {
            "pace": self.operations.pace,
            "pace sampled": self.samples,
            "sampler's priority": self.priority,
            "sampler's share of the core": self.share,
        }


def mean(samples: Sequence[Sample], spans: Sequence[Span] = ()) -> Operations:
    """The harmonic mean of each operation over the rounds within `spans`, or over all without one.

    It is what the operation costs who does nothing else all the while, and so does more of it in quick moments, as a
    server does that is never idle. Where the speed swings by two the arithmetic mean is a tenth more: too kind.
    An operation that no round within them had is given the mean of all its rounds. Raises ValueError where there is
    none of one at all.
    """
    means = {}
    for name in _NAMES:
        rounds = [each for each in samples if name in each.taken]
        if not rounds:
            raise ValueError(f"nothing was sampled of {name}")
        means[name] = statistics.harmonic_mean([each.taken[name] for each in within(rounds, spans) or rounds])
    return Operations(**means)


def within(samples: Sequence[Sample], spans: Sequence[Span]) -> list[Sample]:
    """Those of them; all of them without a span."""
    return [each for each in samples if not spans or any(since <= each.moment < to for since, to in spans)]


def written(sampled: Sampled) -> str:
    """One line of JSON, without its end."""
    return json.dumps(asdict(sampled))


def read(line: str) -> Sampled:
    """What `written` wrote. Raises ValueError or KeyError or TypeError on anything else."""
    said = json.loads(line)
    return Sampled(Operations(**said["operations"]), int(said["samples"]), float(said["share"]), str(said["priority"]))


class Rounds:
    """The operations with keys of their own, and what each round of them took."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self._calls, self._shaking = floors.prepared(), floors.Handshakes()

    def take(self) -> None:
        """Each operation once, so that it is in the caches that the server has just filled, and once more, timed."""
        moment, taken = time.perf_counter(), {}
        shakes = len(self.samples) % HANDSHAKE_EVERY == 0
        # The first round has both, so that there is a mean from the first moment on.
        left_out = "rsa_private" if shakes and self.samples else ""
        for name, call in self._calls.items():
            if name == left_out:
                continue
            call()
            began = time.thread_time_ns()
            call()
            taken[name] = (time.thread_time_ns() - began) / 1000
        if shakes:
            self._shaking.server_seconds()
            taken["handshake"] = self._shaking.server_seconds() * 1e6
        self.samples.append(Sample(moment, taken))
        gc.collect()  # never in the midst of an operation; what was there before the first round is frozen


class Beside:
    """A sampler that runs: ask it for means as often as wanted."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def mean(self, spans: Sequence[Span] = ()) -> Sampled:
        """The means within `spans`, or since it began. Raises RuntimeError where it has ended."""
        assert self._process.stdin is not None
        try:
            # Past the file's buffer, which would be written once more when it is closed.
            os.write(self._process.stdin.fileno(), json.dumps(list(spans)).encode() + b"\n")
        except (OSError, ValueError):
            raise RuntimeError("the sampler of the pace has ended") from None
        return read(self.line())

    def line(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the sampler of the pace ended with status {self._process.wait()}")
        return line


@contextlib.contextmanager
def beside(where: frozenset[int]) -> Iterator[Beside]:
    """A sampler on these cores, in a process of its own that no server's tree counts; ended on the way out."""
    command, root = [sys.executable, "-m", "bench.pace"], Path(__file__).parents[1]
    start = partial(subprocess.Popen[str], command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)
    with contextlib.ExitStack() as stack:
        with cores.on(where):
            process = stack.enter_context(interrupt.child(start, interrupt.killed))
        sampler = Beside(process)
        sampler.line()  # it is ready
        yield sampler


def first() -> str:
    """Go before the server on its core, so that no timed operation is cut in two, where this process may."""
    # One above what it was started with, and so above the server, which was started with the same; 0 is no real time.
    above = min(os.sched_getparam(0).sched_priority + 1, os.sched_get_priority_max(os.SCHED_FIFO))
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(above))
    except OSError:
        return LIKE_OTHERS
    return FIRST


def main(arguments: Sequence[str] | None = None) -> None:
    """Say means on standard output until standard input ends."""
    argparse.ArgumentParser(prog="python -m bench.pace", description=__doc__).parse_args(arguments)
    try:
        sample()
    except BrokenPipeError:
        # Whoever asked is gone, and with it the reader of the last line, which Python would try to write once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def sample() -> None:
    """Say the mean of the first round; then sample, and say means for each line of spans, and at the end for all."""
    rounds, priority = Rounds(), first()
    rounds.take()  # the first finds nothing prepared, and is no sample
    rounds.samples.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
    used, began = time.process_time(), time.perf_counter()
    rounds.take()

    def say(spans: Sequence[Span]) -> None:
        share = (time.process_time() - used) / (time.perf_counter() - began)
        samples = len(within(rounds.samples, spans))
        print(written(Sampled(mean(rounds.samples, spans), samples, share, priority)), flush=True)

    say(())
    due, text = began + EVERY, b""
    while True:
        if select.select([0], [], [], max(0.0, due - time.perf_counter()))[0]:
            if not (data := os.read(0, 65536)):
                break
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                say([(since, to) for since, to in json.loads(line)])
        elif time.perf_counter() >= due:
            # From now on, and not from when it was due: a late round is not made up for by a hasty one.
            due = time.perf_counter() + EVERY
            rounds.take()
    say(())


if __name__ == "__main__":
    interrupt.run(main)
