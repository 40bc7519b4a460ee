"""How drawings look: one style for light and dark pages, and files that are the same again for the same figures.

matplotlib alone is known here. May not happen here: reading figures, a date or an id of the run in a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# A card of its own, light on every page: a transparent drawing would lose its text on a dark one.
CARD: Final = "#fcfcfb"
INK: Final = "#1f2328"
FAINT: Final = "#6b7280"
GRID: Final = "#e4e5e7"
# Told apart by people who see no red or no green (Okabe and Ito), dark enough for lines on the card.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5d6470", "#a0522d", "#8a8d91")
MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*", ".")
_STYLE: Final = {
    "svg.hashsalt": "muster",  # else ids in the file are random
    "svg.fonttype": "none",  # text stays text: small files, and any reader's own font
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "figure.facecolor": CARD,
    "axes.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, its points in order, and whether it is the dashed one of a pair."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes. `x_log` and `y_log`: by powers of ten; `ticks` are places along x and what they are called."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    x_log: bool = False
    y_log: bool = False
    ticks: Sequence[tuple[float, str]] = ()


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of several parts, from left to right, and the floor that is marked in it."""

    name: str
    parts: Mapping[str, float]
    floor: float


def curves(panels: Sequence[Panel]) -> Figure:
    """Panels side by side, two in a row."""
    with _styled():
        wide = min(2, len(panels))
        rows = -(-len(panels) // wide)
        figure = Figure(figsize=(5.2 * wide, 3.5 * rows), layout="constrained")
        grid = figure.subplots(rows, wide, squeeze=False)
        places = [axes for row in grid for axes in row]
        for axes, panel in zip(places, panels, strict=False):
            _panel(axes, panel)
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        return figure


def stacks(title: str, unit: str, bars: Sequence[Bar], order: Sequence[str]) -> Figure:
    """Horizontal bars of parts in `order`, the first at the top; a black mark where the floor is."""
    with _styled():
        figure = Figure(figsize=(9.6, 1.5 + 0.42 * len(bars)), layout="constrained")
        axes = figure.subplots()
        places = range(len(bars), 0, -1)
        left = [0.0] * len(bars)
        for index, part in enumerate(order):
            sizes = [bar.parts.get(part, 0.0) for bar in bars]
            if any(sizes):
                axes.barh(places, sizes, left=left, height=0.62, color=COLOURS[index % len(COLOURS)], label=part)
            left = [begin + size for begin, size in zip(left, sizes, strict=True)]
        floors = [bar.floor for bar in bars]
        axes.scatter(
            floors, list(places), marker="|", s=260, color=INK, linewidths=2.2, label="bare cryptography", zorder=3
        )
        for place, end in zip(places, left, strict=True):
            axes.annotate(f"{end:,.0f}", (end, place), (5, 0), textcoords="offset points", va="center", color=FAINT)
        axes.set_yticks(list(places), [bar.name for bar in bars])
        axes.set_xlabel(unit)
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.08)
        axes.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=5, fontsize=9)
        return figure


def save(figure: Figure, path: Path, *, png: bool = True) -> list[Path]:
    """Write `path` as SVG, and beside it as PNG; the files that were written, the same again for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _styled():
        svg, picture = path.with_suffix(".svg"), path.with_suffix(".png")
        figure.savefig(svg, metadata={"Date": None, "Creator": None})
        if png:
            figure.savefig(picture, dpi=144, metadata={"Software": None})
    return [svg, picture] if png else [svg]


def _styled() -> AbstractContextManager[None]:
    return mpl.rc_context(_STYLE)  # type: ignore[arg-type]  # its types know each of 300 names, and no table of them


def _panel(axes: Axes, panel: Panel) -> None:
    names = list(dict.fromkeys(line.name for line in panel.lines))
    for line in panel.lines:
        index = names.index(line.name)
        axes.plot(
            [x for x, _ in line.points],
            [y for _, y in line.points],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKS[index % len(MARKS)],
            linestyle="--" if line.dashed else "-",
            label=None if line.dashed else line.name,
        )
    if panel.x_log:
        axes.set_xscale("log")
    if panel.ticks:
        axes.set_xticks([at for at, _ in panel.ticks], [name for _, name in panel.ticks])
        axes.minorticks_off()
    if panel.y_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    axes.legend(fontsize=8, ncols=2)
