"""`python -m bench.where`: where each microsecond of an enrollment goes, by room of the house.

How much is /proc's: CPU over the process tree, an enrollment, as in the table. Where it is in the gateway's worker is
sampled inside it (`probe`); what signer, supervisor and parent used is known by process. The floor beside a bar is the
bare cryptography in it, wherever it happens. May not happen here: a stage left out and the rest called its cost: what
layers cost one another is in no layer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import chosen, cores, floors, interrupt, probe, values
from bench.enrollments import NUMBERS, WORKS, Place, Work, place
from bench.load.process_tree import descendants
from bench.load.run import Plan, drivers
from bench.table import machine

SIGNER: Final = "signer"
PARENT: Final = "parent process"
PARTS: Final = (*probe.ROOMS, SIGNER, PARENT)  # from the network inwards, as the bars are stacked
_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stack:
    """One bar. Milliseconds of CPU an enrollment: in all, of the bare cryptography, and by part; how many samples."""

    number: str
    work: str
    total: float
    floor: float
    parts: dict[str, float]
    samples: int


def measure(seconds: float, clients: int, only: Sequence[str] = ()) -> list[Stack]:
    """A bar for each piece of work of the table, or those of `only`."""
    with cores.on(cores.halves().server):
        operations = floors.measure()
    plan = Plan(clients=clients, seconds=seconds, cores=cores.halves().load)
    stacks = []
    with TemporaryDirectory(prefix="muster-bench-") as folder, _probed(Path(folder)), place() as at:
        for work in WORKS:
            if not only or work.number in only:
                print(f"{work.number} {work.title} ...", file=sys.stderr)
                stacks.append(_stack(work, at, plan, Path(folder), work.floor(operations)))
    return stacks


def _stack(work: Work, at: Place, plan: Plan, folder: Path, floor: float) -> Stack:
    with drivers(work.fleet(at), plan) as driving:
        counted(at.at.pid, folder)  # what came before does not count
        outcome = driving.run(server=at.at.pid)
        samples = counted(at.at.pid, folder)
    each = 1000 / max(1, outcome.tally.finished)
    by_name = {name: seconds * each for name, seconds in outcome.by_name.items()}
    worker = by_name.pop(probe.WORKER, 0.0)
    total = samples.total()
    parts = {room: worker * samples[room] / total if total else 0.0 for room in probe.ROOMS}
    parts[SIGNER] = by_name.pop("signer", 0.0)
    parts[PARENT] = sum(by_name.values())
    return Stack(work.number, work.title, outcome.cpu_ms, floor, parts, total)


def counted(pid: int, folder: Path) -> Counter[str]:
    """Let every worker below `pid` hand over what it has counted. Raises RuntimeError where one does not."""
    samples: Counter[str] = Counter()
    for worker in descendants(pid):
        if probe.WORKER.encode() not in Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0"):
            continue
        file = folder / f"{worker}.json"
        os.kill(worker, signal.SIGUSR2)
        until = time.monotonic() + _PATIENCE
        while not file.exists():
            if time.monotonic() > until:
                raise RuntimeError(f"worker {worker} does not say where it was")
            time.sleep(0.01)
        samples.update(json.loads(file.read_text()))
        file.unlink()
    return samples


@contextlib.contextmanager
def _probed(folder: Path) -> Iterator[None]:
    """What is started within this finds the probe."""
    root = str(Path(__file__).parents[1])
    (folder / "sitecustomize.py").write_text("from bench import probe\n\nprobe.start_in_a_worker()\n")
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", probe.FOLDER)}
    paths = [str(folder), root, *filter(None, [before["PYTHONPATH"]])]
    os.environ.update({"PYTHONPATH": os.pathsep.join(paths), probe.FOLDER: str(folder)})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def printed(stacks: Sequence[Stack]) -> str:
    """The bars as a table of microseconds."""
    columns = " ".join(f"{part[:12]:>12}" for part in PARTS)
    lines = [f"{'us CPU each':52} {'all':>8} {'floor':>8} {columns}"]
    for each in stacks:
        parts = " ".join(f"{each.parts[part] * 1000:12.0f}" for part in PARTS)
        lines.append(f"{each.number} {each.work:49.49} {each.total * 1000:8.0f} {each.floor * 1000:8.0f} {parts}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what `bench report` draws."""
    parser = argparse.ArgumentParser(prog="python -m bench.where", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=6.0, help="how long each bar is measured (default 6)"
    )
    parser.add_argument("--clients", type=values.count, default=16, help="closed-loop clients (default 16)")
    parser.add_argument(
        "--only",
        type=chosen.one_of(NUMBERS),
        action="append",
        metavar="P5",
        default=[],
        help="only this number; may be repeated",
    )
    parser.add_argument(
        "--json",
        type=values.writable_file,
        metavar="FILE",
        help="where the figures go (default bench-results/where.json, where-only.json)",
    )
    options = parser.parse_args(arguments)
    file = chosen.destination(parser, options, "where")
    about = machine()
    stacks = measure(options.seconds, options.clients, options.only)
    print(printed(stacks))
    content = {"machine": about, "stacks": [asdict(each) for each in stacks]}
    file.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    interrupt.run(main)
