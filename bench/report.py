"""`python -m bench report`: drawings and tables out of what the other benches wrote to bench-results/.

    python -m bench                 the table            bench.json
    python -m bench.curves          load and latency     curves.json
    python -m bench.where           microseconds         where.json
    python -m bench report          all three, as SVG and PNG beside them
    python -m bench report --docs   the tables and drawings of docs/performance.md

The tables stand between markers in the page, so that its figures are never typed. May not happen here: a measurement,
a figure that is in no file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from matplotlib.figure import Figure as Drawing

from bench import chosen, interrupt
from bench.curves import CURVES, Point
from bench.drawing import Bar, Line, Panel, curves, save, stacks
from bench.enrollments import NUMBERS
from bench.figure import Figure
from bench.table import missed
from bench.where import PARTS, Stack

RESULTS: Final = Path("bench-results")
PAGE: Final = Path("docs/performance.md")
PICTURES: Final = Path("docs/performance")

_NOTHING: Final = 100.0  # where an empty store stands on an axis of powers of ten, which has no zero
_MARK: Final = "<!-- {end}figures: {name} -->"
_ALT: Final = {
    "where": "Bars of microseconds for each protocol, by part of the server",
    "latency": "Completed and waited, against the offered rate",
    "growth": "Throughput by clients and by workers, cost by certificates",
}
_COLUMNS: Final = (
    *("#", "work", "figure", "budget", "paced", "floor", "of the floor", "bare", "of the bare", "a second"),
    "p50 / p95 / p99 ms",
)
About: TypeAlias = Mapping[str, object]


class Missing(Exception):
    """One sentence: which file is missing, or is none of ours, and what makes it."""


def drawings(points: Sequence[Point], bars: Sequence[Stack]) -> dict[str, Drawing]:
    """The drawings that can be made of what there is, by the file names that they get."""
    made = {}
    for name, draw in (("latency", latency), ("growth", growth)):
        if panels := draw(points):
            made[name] = curves(panels)
    if bars:
        found = [
            Bar(
                f"{each.number} {each.work}",
                {part: size * 1000 for part, size in each.parts.items()},
                each.floor * 1000,
            )
            for each in bars
        ]
        made["where"] = stacks("Where an enrollment's CPU time goes", "microseconds of CPU each", found, PARTS)
    return made


def latency(points: Sequence[Point]) -> list[Panel]:
    """Throughput and waits against the offered load, which show the knee."""
    found = [each for each in points if each.curve == "rate"]
    if not found:
        return []
    done = _lines(found, lambda each: each.per_second)
    waits = _lines(found, lambda each: each.p50_ms) + _lines(found, lambda each: each.p99_ms, dashed=True)
    return [
        Panel("Completed against offered", "offered a second", "completed a second", done),
        Panel("Wait against offered: median, and p99 dashed", "offered a second", "milliseconds", waits, y_log=True),
    ]


def growth(points: Sequence[Point]) -> list[Panel]:
    """How throughput goes with clients and workers, and cost with certificates in the store."""
    panels = []
    if by_clients := [each for each in points if each.curve == "clients"]:
        lines = _lines(by_clients, lambda each: each.per_second)
        title = "Throughput by clients, closed loop"
        panels.append(Panel(title, "clients", "completed a second", lines, x_log=True, ticks=_ticks(by_clients)))
    if by_workers := [each for each in points if each.curve == "workers"]:
        lines = _lines(by_workers, lambda each: each.per_second)
        title = "Throughput by gateway workers"
        panels.append(Panel(title, "workers", "completed a second", lines, ticks=_ticks(by_workers)))
    if by_size := [each for each in points if each.curve == "certificates"]:
        lines = _lines(by_size, lambda each: each.cpu_ms, at=lambda each: each.at or _NOTHING)
        title = "Cost by certificates in the store"
        panels.append(Panel(title, "certificates", "ms of CPU each", lines, x_log=True, ticks=_ticks(by_size)))
    return panels


def _ticks(points: Sequence[Point]) -> list[tuple[float, str]]:
    return [(at or _NOTHING, f"{at:,.0f}") for at in sorted({each.at for each in points})]


def _lines(
    points: Sequence[Point],
    value: Callable[[Point], float],
    *,
    at: Callable[[Point], float] = lambda each: each.at,
    dashed: bool = False,
) -> list[Line]:
    works = dict.fromkeys(each.work for each in points)
    return [
        Line(work, sorted((at(each), value(each)) for each in points if each.work == work), dashed) for work in works
    ]


def budgets(figures: Sequence[Figure]) -> str:
    """The plan's numbers as a table of Markdown; what misses its budget is bold."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        f"|{'---|' * len(_COLUMNS)}",
    ]
    for each in figures:
        figure = f"{_number(each.figure)} {each.unit}"
        if missed(each):
            figure = f"**{figure}**"
        budget = "" if each.budget is None else f"{'≥ ' if each.at_least else ''}{_number(each.budget)}"
        floor, bare = (_beside(each, other) for other in (each.floor, each.bare))
        known = each.p50_ms is not None and each.p95_ms is not None and each.p99_ms is not None
        waits = " / ".join(_number(wait) for wait in (each.p50_ms, each.p95_ms, each.p99_ms)) if known else ""
        paced = _number(each.paced)
        cells = (each.number, each.work, figure, budget, paced, *floor, *bare, _number(each.per_second), waits)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parts(bars: Sequence[Stack]) -> str:
    """Where the microseconds go, as a table of Markdown."""
    lines = [
        f"| microseconds of CPU each | all | floor | {' | '.join(PARTS)} |",
        f"|---|---|---|{'---|' * len(PARTS)}",
    ]
    for each in bars:
        cells = " | ".join(f"{each.parts.get(part, 0.0) * 1000:,.0f}" for part in PARTS)
        lines.append(f"| {each.number} {each.work} | {each.total * 1000:,.0f} | {each.floor * 1000:,.0f} | {cells} |")
    return "\n".join(lines)


def steps(points: Sequence[Point], curve: str, unit: str) -> str:
    """One curve as a table of Markdown."""
    lines = [f"| {unit} | work | a second | p50 ms | p99 ms | ms CPU each |", "|---|---|---|---|---|---|"]
    for each in points:
        if each.curve == curve:
            cells = (each.per_second, each.p50_ms, each.p99_ms, each.cpu_ms)
            lines.append(f"| {each.at:,.0f} | {each.work} | {' | '.join(_number(cell) for cell in cells)} |")
    return "\n".join(lines)


def about(machine: About) -> str:
    """The machine and the versions of a run, as one sentence."""
    words = [
        f"{machine.get('processor', 'a machine')}, {machine.get('cores', '?')} cores",
        str(machine.get("system", "")),
        f"Python {machine.get('python', '?')}",
        str(machine.get("openssl", "")),
        f"SQLite {machine.get('sqlite', '?')}",
        f"commit {machine.get('commit', '?')}",
        str(machine.get("date", ""))[:10],
    ]
    return f"{', '.join(word for word in words if word)}."


def filled_in(page: str, tables: Mapping[str, str]) -> str:
    """The page with each table between its markers. Raises Missing where the page has no place for one."""
    for name, table in tables.items():
        begin, end = _MARK.format(end="", name=name), _MARK.format(end="/", name=name)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(page):
            raise Missing(f"{PAGE} has no place for `{name}`: {begin} and {end}, a line each")
        page = pattern.sub(lambda _, found=f"{begin}\n{table}\n{end}": found, page)  # type: ignore[misc]
    return page


def tables(results: Path) -> tuple[dict[str, str], dict[str, Drawing]]:
    """Everything that can be made of the files in `results`. Raises Missing where there is nothing at all."""
    table, points, bars = _table(results), _points(results), _bars(results)
    found: dict[str, str] = {}
    if table is not None:
        machine, figures, _ = table
        found |= {"machine": about(machine), "budgets": budgets(figures)}
    if bars:
        found["where"] = parts(bars)
    for curve, unit in (("rate", "offered a second"), ("clients", "clients"), ("workers", "workers"),
                        ("certificates", "certificates in the store")):  # fmt: skip
        if any(each.curve == curve for each in points):
            found[curve] = steps(points, curve, unit)
    if not found:
        raise Missing(f"{results} has none of bench.json, curves.json, where.json: run python -m bench first")
    drawn = drawings(points, bars)
    # A page shows the drawings that there are: a link to one that nobody has made yet leads nowhere.
    found |= {f"{name}.svg": f"![{_ALT[name]}](performance/{name}.svg)" for name in drawn}
    return found, drawn


def require_whole(results: Path) -> None:
    """Raises Missing where a file in `results` has a part only of what the page shows; without a file it stays."""
    table, points, bars = _table(results), _points(results), _bars(results)
    if table is not None:
        _, figures, trouble = table
        _require(results / "bench.json", chosen.PLAN, {each.number for each in figures}, "python -m bench")
        if trouble:
            raise Missing(f"{results / 'bench.json'}: this could not run: {'; '.join(trouble)}")
    if points:
        _require(results / "curves.json", CURVES, {each.curve for each in points}, "python -m bench.curves")
    if bars:
        _require(results / "where.json", NUMBERS, {each.number for each in bars}, "python -m bench.where")


def _require(path: Path, wanted: Sequence[str], there: Collection[str], command: str) -> None:
    if left := [each for each in wanted if each not in there]:
        raise Missing(f"{path} is a part of the table, without {', '.join(left)}: run {command} without --only")


def _table(results: Path) -> tuple[About, list[Figure], list[str]] | None:
    known = set(Figure.__slots__)
    with _reading(path := results / "bench.json"):
        if (content := _read(path)) is None:
            return None
        rows = [{name: value for name, value in row.items() if name in known} for row in content["figures"]]
        figures = [Figure(**{**row, "figure": _nan(row["figure"])}) for row in rows]
        return dict(content["machine"]), figures, list(content.get("trouble", ()))


def _points(results: Path) -> list[Point]:
    with _reading(path := results / "curves.json"):
        return [Point(**each) for each in (_read(path) or {"points": ()})["points"]]


def _bars(results: Path) -> list[Stack]:
    with _reading(path := results / "where.json"):
        return [Stack(**each) for each in (_read(path) or {"stacks": ()})["stacks"]]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise Missing(f"{path} is not what a bench writes: {told}") from None


def _read(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202 - JSON: what a reader makes of it is typed
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Missing(f"{path} is no JSON: {error}") from None


def _nan(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _beside(figure: Figure, other: float | None) -> tuple[str, str]:
    """What a figure is seen beside, and how many times as much it is."""
    return _number(other), f"{figure.figure / other:.1f} x" if other else ""


def _number(value: float | None) -> str:
    if value is None or value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; 1, with a sentence, where there is nothing to draw."""
    parser = argparse.ArgumentParser(
        prog="python -m bench report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"where the files are (default {RESULTS})")
    parser.add_argument("--docs", action="store_true", help=f"write {PAGE} and {PICTURES}/ too")
    options = parser.parse_args(arguments)
    try:
        found, drawn = tables(options.results)
        if options.docs:
            require_whole(options.results)
            page = filled_in(PAGE.read_text(), found)
        for name, drawing in drawn.items():
            print(*save(drawing, options.results / name))
        if options.docs:
            PAGE.write_text(page)
            for name, drawing in drawn.items():
                save(drawing, PICTURES / name, png=False)
            print(PAGE, f"{PICTURES}/")
    except (Missing, OSError) as trouble:
        print(f"bench report: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    interrupt.run(main)
