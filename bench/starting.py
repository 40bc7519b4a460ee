"""`python -m bench.starting`: how long from `muster serve` to the first answer on a store that exists (P14).

Wall-clock, since that is what an operator waits for, and the CPU beside it, which a busy machine does not stretch.
Never here: a first start, whose ceremony makes keys; the folder is made, and left, before anything is measured.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import interrupt, values
from bench.figure import Effort, Figure
from bench.fill import MILLION, filled, settings
from bench.serving import Started, serving
from gateway.serve.folder import require_complete
from gateway.serve.refusal import CannotStart

BUDGET: Final = 1.5  # seconds, P14


def measure(effort: Effort) -> list[Figure]:
    """P14 on a store as a first start leaves it, and with `effort.full` on one of a million certificates."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place:
        data = Path(place, "data")
        with serving(data):
            pass
        figures = [_figure("an empty store", starts(data))]
    if effort.full:
        with filled(MILLION, effort.say) as data:
            figures.append(_figure(f"a store of {MILLION:,} certificates", starts(data)))
    return figures


def starts(data: Path, rounds: int = 5) -> list[Started]:
    """Start on `data` so often, one after the other. The folder must have been served before."""
    started = []
    for _ in range(rounds):
        with serving(data) as each:
            started.append(each)
    return started


def _figure(what: str, started: Sequence[Started]) -> Figure:
    """The median of some starts; their CPU time beside it, which a busy machine does not stretch."""
    cpu = statistics.median(each.cpu for each in started)
    return Figure(
        number="P14",
        work=f"from muster serve to the first answer, {what}",
        figure=statistics.median(each.seconds for each in started),
        unit="s",
        budget=BUDGET,
        note=f"{cpu:.2f} s of CPU, all processes",
        conditions={"starts": len(started), "cpu_s": cpu},
    )


def _line(figure: Figure) -> str:
    return f"{figure.number} {figure.work:60} {figure.figure:5.2f} s  budget {BUDGET} s  {figure.note}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a new small store, and the folder that is given."""
    parser = argparse.ArgumentParser(prog="python -m bench.starting", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a data folder of yours, beside a new small one")
    parser.add_argument("--rounds", type=values.count, default=5, help="starts a row (default 5)")
    options = parser.parse_args(arguments)
    if options.data is not None:
        try:
            require_complete(settings(options.data))
        except CannotStart as refusal:
            parser.error(f"argument --data: {refusal}")
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place:
        data = Path(place, "data")
        with serving(data):
            pass
        print(_line(_figure("an empty store", starts(data, options.rounds))))
    if options.data is not None:
        print(_line(_figure(str(options.data), starts(options.data, options.rounds))))
    return 0


if __name__ == "__main__":
    interrupt.run(main)
