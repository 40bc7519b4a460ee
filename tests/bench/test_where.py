"""Where time goes: a stack belongs to the room of its innermost frame, and the probe counts CPU time, not waiting."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from bench import probe
from bench.memory import Sample, growths, slope

ROOT = Path(__file__).parents[2]


def stack(*files: str) -> FrameType:
    """A real stack of frames, each of a function in one of `files`, the outermost first; `!` names a function."""

    def enter(index: int) -> FrameType:
        path, _, name = files[index].partition("!")
        scope: dict[str, Callable[[Callable[[], FrameType]], FrameType]] = {}
        exec(compile(f"def {name or 'f'}(inner): return inner()", path, "exec"), scope)
        innermost = index == len(files) - 1
        return scope[name or "f"](lambda: _caller() if innermost else enter(index + 1))

    return enter(0)


def _caller() -> FrameType:
    """The frame of the function of the last file: two above this one, past the lambda."""
    return sys._getframe(2)


@pytest.mark.parametrize(
    ("files", "room"),
    [
        (("/x/gateway/serve/http1/connection.py",), probe.HTTP),
        (("/x/gateway/serve/http1/connection.py", "/x/gateway/serve/asgi.py"), probe.FRONT),
        (("/x/gateway/fronts/est.py", "/x/protocols/est/operations.py", "/y/cryptography/x.py"), probe.FRONT),
        (("/x/gateway/fronts/est.py", "/x/gateway/actions/enroll.py"), probe.WAIST),
        (("/x/gateway/actions/enroll.py", "/x/gateway/store/sqlite.py", "/usr/lib/json.py"), probe.STORE),
        (("/x/gateway/outbound/signer.py", "/x/signer/client/asks.py"), probe.ASKS),
        (("/x/gateway/serve/workers/__main__.py", "/y/trio/_core/_run.py!unrolled_run"), probe.LOOP),
        (("/usr/lib/python3/json.py",), probe.LOOP),
    ],
)
def test_a_stack_belongs_to_the_room_of_its_innermost_frame(files: tuple[str, ...], room: str):
    assert probe.room(stack(*files)) == room


def test_the_probe_counts_work_and_no_waiting(tmp_path: Path):
    """By its own CPU clock: of a second of sleep and a third of a second of work it sees the work."""
    program = """
import os, signal, sys, time
from pathlib import Path
from bench import probe
folder = Path(sys.argv[1])
probe.start(folder)
time.sleep(1.0)
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(os.getpid(), 0)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=True, timeout=60)
    (file,) = tmp_path.glob("*.json")
    counted = json.loads(file.read_text())
    assert set(counted) == {probe.LOOP}
    # A tick of the kernel is one to ten milliseconds of it; a second more would be a hundred and more beyond that.
    assert 10 <= counted[probe.LOOP] <= 150


def test_only_workers_are_sampled(tmp_path: Path):
    program = "import signal; from bench import probe; probe.start_in_a_worker(); print(signal.getsignal(signal.SIGPROF) == signal.SIG_DFL)"
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={probe.FOLDER: str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout == "True\n"


def test_growth_is_the_slope_of_the_second_half():
    """P12: what fills up at first, caches and pools, is no growth."""
    mib = 1024 * 1024
    samples = [Sample(at, {1: min(60, 30 + at // 100) * mib, 2: at * 1024}) for at in range(0, 10_000, 1000)]
    flat, growing = growths({1: "flat", 2: "growing", 3: "gone"}, samples)
    assert (flat.first, flat.most, flat.slope) == (30.0, 60.0, 0.0)
    assert growing.slope == pytest.approx(1000 / 1024)


def test_a_slope_needs_two_places():
    assert slope([]) == slope([(1.0, 5.0)]) == slope([(1.0, 5.0), (1.0, 7.0)]) == 0.0
    assert slope([(0.0, 1.0), (2.0, 2.0)]) == 0.5
