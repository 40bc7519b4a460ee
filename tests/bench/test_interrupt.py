"""Ctrl-C ends a bench with one line and status 130, whatever it was doing, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bench import interrupt
from bench.interrupt import interrupted
from bench.load.process_tree import descendants
from tests.doubles.programs import lacking

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


@contextlib.contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A Python of ours that leads a group of its own, as a terminal's foreground does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
        process_group=0,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def awaited(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE
    while not (found := true()) and time.monotonic() < until:
        time.sleep(0.01)
    return found


def gone(pids: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(("bench", "children"), [("handshake", 4), ("starting", 2), ("signing", 2), ("failover", 2)])
def test_ctrl_c_says_one_line_and_leaves_nobody_behind(bench: str, children: int):
    if bench == "failover" and shutil.which("softhsm2-util") is None:
        lacking("needs SoftHSM2 (Debian: softhsm2)")
    with running("-m", "bench", bench) as process:
        started = list[int]()

        def together() -> bool:
            started[:] = descendants(process.pid)  # itself too
            return len(started) > children

        assert awaited(together)
        # As a terminal does it: everybody hears it, whoever has just been started too.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (130, "interrupted\n")
        assert awaited(lambda: gone(started))


STORING = """
from bench import interrupt, storing
storing.SECONDS = 0.3
interrupt.run(lambda: storing.main([]))
"""


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_ctrl_c_in_the_midst_of_units_of_work_ends_the_store(rows: int):
    with running("-c", STORING) as process:
        assert process.stdout is not None
        while rows:
            rows -= process.stdout.readline().startswith("reserve")
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (130, "interrupted\n")


IMPORTING = """
import signal, sys
from bench import __main__ as table, interrupt
import runpy
def importing(*_, **__): signal.raise_signal(signal.SIGINT)
runpy.run_module = importing
sys.argv = ["bench", "storing"]
interrupt.run(table.main)
"""


def test_ctrl_c_while_a_bench_is_imported_says_one_line():
    with running("-c", IMPORTING) as process:
        _, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (130, "interrupted\n")


UNHEARD = """
import signal, subprocess, sys
from bench import interrupt
look = "print(*[line for line in open('/proc/self/status') if line.startswith('SigBlk')])"
try:
    with interrupt.later():
        subprocess.run([sys.executable, "-c", look])
        signal.raise_signal(signal.SIGINT)
        print("after it", flush=True)
    print("not here")
except KeyboardInterrupt:
    print("heard")
subprocess.run([sys.executable, "-c", look])
"""


def test_a_child_never_hears_it_and_its_parent_hears_it_once_the_child_is_started():
    with running("-c", UNHEARD) as process:
        said, _ = process.communicate(timeout=PATIENCE)
    lines = said.split()
    blocked, parents = (int(lines[lines.index("SigBlk:", start) + 1], 16) for start in (0, 2))
    assert blocked & 1 << (signal.SIGINT - 1)
    assert lines[2:5] == ["after", "it", "heard"]
    assert not parents & 1 << (signal.SIGINT - 1)


def test_an_interrupt_is_known_as_nurseries_wrap_it_and_nothing_else_is_taken_for_one():
    wrapped = BaseExceptionGroup("a nursery", [ValueError(), BaseExceptionGroup("another", [KeyboardInterrupt()])])
    assert interrupted(KeyboardInterrupt())
    assert interrupted(wrapped)
    assert not interrupted(ExceptionGroup("a nursery", [ValueError()]))


@pytest.mark.parametrize("raised", ["ValueError('a fault')", "ExceptionGroup('a nursery', [ValueError('a fault')])"])
def test_a_fault_is_told_in_full(raised: str):
    program = f"from bench import interrupt\ndef main(): raise {raised}\ninterrupt.run(main)"
    with running("-c", program) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "ValueError: a fault" in said


STARTING = """
import signal, subprocess, sys
from bench import interrupt
def start():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(process.pid, flush=True)
    signal.raise_signal(signal.SIGINT)
    return process
def end(process):
    signal.raise_signal(signal.SIGINT)
    interrupt.killed(process)
def main():
    with interrupt.child(start, end):
        print("not here")
interrupt.run(main)
"""


def test_a_child_is_ended_where_ctrl_c_comes_while_it_is_started_and_again_while_it_is_ended():
    with running("-c", STARTING) as process:
        pid, said = process.communicate(timeout=PATIENCE)
        assert (process.returncode, said) == (130, "interrupted\n")
        assert gone([int(pid)])


STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"


def test_a_child_that_does_not_end_itself_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interrupt, "_PATIENCE", 0.1)
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    interrupt.terminated(process)
    assert process.returncode == -signal.SIGKILL
