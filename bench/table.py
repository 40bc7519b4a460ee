"""Figures as one table of text, and as the records of one JSON file, with the machine that they were taken on.

May not happen here: measuring, and a verdict: a figure above its budget is marked, not refused.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import platform
import sqlite3
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, TypeAlias

from bench.figure import Figure

About: TypeAlias = Mapping[str, str | int | float]

_ROOT: Final = Path(__file__).parents[1]
_LIBRARIES: Final = ("cryptography", "trio", "hypercorn", "starlette", "httptools", "msgspec", "psycopg")


def printed(figures: Sequence[Figure]) -> str:
    """The rows as text; `*` marks what is over (or, for an `at_least`, under) its budget."""
    names = ("figure", "budget", "paced", "floor", "share", "bare", "/s", "p50 ms", "p95 ms", "p99 ms")
    wide = max([40, *(len(each.work) for each in figures)])
    lines = [f"{'':4} {'work':{wide}} {'unit':8} " + " ".join(f"{name:>8}" for name in names)]
    for each in figures:
        share = "-" if each.share is None else f"{each.share:.0%}"
        mark = "*" if missed(each) else " "
        values = (
            _number(each.figure) + mark,
            (">" if each.at_least else "") + _number(each.budget),
            _number(each.paced),
            _number(each.floor),
            share,
            _number(each.bare),
            _number(each.per_second),
            *(_number(wait) for wait in (each.p50_ms, each.p95_ms, each.p99_ms)),
        )
        lines.append(f"{each.number:4} {each.work:{wide}} {each.unit:8} " + " ".join(f"{value:>8}" for value in values))
        if each.failures:
            lines.append(f"     {each.failures} failed; {each.note}")
        elif each.note:
            lines.append(f"     {each.note}")
    return "\n".join(lines)


def missed(figure: Figure) -> bool:
    """Whether a figure is on the wrong side of its budget."""
    if figure.budget is None or math.isnan(figure.figure):
        return False
    return figure.figure < figure.budget if figure.at_least else figure.figure > figure.budget


def machine() -> dict[str, str | int | float]:
    """What figures depend on and no row says: hardware, versions, commit, date, and how busy the machine was."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "load_before": round(os.getloadavg()[0], 2),
        **{name: _version(name) for name in _LIBRARIES},
    }


def write(path: Path, about: About, figures: Sequence[Figure], trouble: Sequence[str]) -> None:
    """One file: `machine`, `figures`, and `trouble` with a sentence for each piece that could not run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": about, "figures": [_record(each) for each in figures], "trouble": list(trouble)}
    path.write_text(json.dumps(content, indent=2) + "\n")


def _record(figure: Figure) -> dict[str, object]:
    # JSON has no nan: what could not be measured is null.
    fields = {**asdict(figure), "share": figure.share, "of_budget": figure.of_budget}
    fields["conditions"] = {name: _known(value) for name, value in figure.conditions.items()}
    return {name: _known(value) for name, value in fields.items()}


def _known(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
