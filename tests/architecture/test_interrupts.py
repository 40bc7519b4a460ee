"""Ctrl-C comes where it can do no harm: at a checkpoint, in every loop that is run for a person at a terminal.

Between two checkpoints it would strike anywhere in the store or in a queue, and whoever waits there would wait for ever.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A served gateway (`gateway/serve`) has handlers of its own for the signals that end it, and nothing is interrupted.
FILES = sorted([*(ROOT / "gateway" / "cli").rglob("*.py"), *(ROOT / "bench").rglob("*.py")])


def runs(path: Path) -> list[tuple[int, set[str | None]]]:
    """Where a file names `trio.run`, and the options that it gives it there or through `partial`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and "trio.run" in {ast.unparse(each) for each in (node.func, *node.args)}:
            found.append((node.lineno, {each.arg for each in node.keywords}))
    return found


RUNS = [(path, line, options) for path in FILES for line, options in runs(path)]


def test_the_loops_of_commands_and_benches_are_found():
    assert {"apply.py", "bearer.py", "doctor.py", "doing.py", "fill.py", "storing.py"} <= {
        path.name for path, *_ in RUNS
    }


@pytest.mark.parametrize(
    ("path", "line", "options"), RUNS, ids=[f"{path.relative_to(ROOT)}:{line}" for path, line, _ in RUNS]
)
def test_an_interrupt_of_a_loop_comes_at_a_checkpoint(path: Path, line: int, options: set[str | None]):
    assert "restrict_keyboard_interrupt_to_checkpoints" in options, f"{path}:{line}"
