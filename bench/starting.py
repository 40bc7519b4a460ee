"""`python -m bench.starting`: how long from `muster serve` to the first answer on a store that exists (P14).

Wall-clock, since that is what an operator waits for, and the CPU beside it, which a busy machine does not stretch.
Never here: a first start, whose ceremony makes keys; the folder is made, and left, before anything is measured.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.load.process_tree import cpu_seconds, descendants

BUDGET: Final = 1.5  # seconds, P14
_PATIENCE: Final = 60.0
_GLANCE: Final = 0.005  # seconds between two tries to connect
_QUESTION: Final = b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Started:
    """A gateway on a folder. `seconds` until it first answered, `cpu` of all its processes until then."""

    pid: int
    data: Path
    http: str
    seconds: float
    cpu: float


@contextmanager
def serving(data: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Started]:
    """`muster serve` on `data`, on free ports of the loopback, from its first answer on; ended on the way out.

    Raises RuntimeError, with what it said, where it does not come up.
    """
    port = _free_port()
    command = [sys.executable, "-m", "gateway", "serve", "--data", str(data), "--https", "127.0.0.1:0"]
    with tempfile.TemporaryFile("w+") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--http", f"127.0.0.1:{port}", *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )
        try:
            if not _answered(process, port, began + _PATIENCE):
                log.seek(0)
                raise RuntimeError(f"the gateway did not start: {log.read()[-2000:]}")
            seconds = time.perf_counter() - began
            cpu = cpu_seconds(descendants(process.pid))
            yield Started(process.pid, data, f"http://127.0.0.1:{port}", seconds, cpu)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(data: Path, rounds: int = 5) -> list[Started]:
    """Start on `data` so often, one after the other. The folder must have been served before."""
    started = []
    for _ in range(rounds):
        with serving(data) as each:
            started.append(each)
    return started


def _answered(process: subprocess.Popen[bytes], port: int, until: float) -> bool:
    while time.perf_counter() < until and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(_QUESTION)
                if connection.recv(64).split(b" ", 2)[1:2] == [b"200"]:
                    return True
        except OSError:
            pass
        time.sleep(_GLANCE)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def line(title: str, started: Sequence[Started]) -> str:
    """The median start as a line of text."""
    seconds = statistics.median(each.seconds for each in started)
    cpu = statistics.median(each.cpu for each in started)
    return f"{title:40} {seconds:7.2f} s  {cpu:7.2f} s CPU  budget {BUDGET:.1f} s  {len(started)} starts"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a new small store, and the folder that is given."""
    parser = argparse.ArgumentParser(prog="python -m bench.starting", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a folder of yours, beside a new small one")
    parser.add_argument("--rounds", type=int, default=5, help="starts a row (default 5)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place:
        data = Path(place, "data")
        with serving(data):
            pass
        print(line("P14 start on a small store", measure(data, options.rounds)))
    if options.data is not None:
        print(line(f"P14 start on {options.data}", measure(options.data, options.rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
