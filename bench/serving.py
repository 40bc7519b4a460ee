"""A gateway on a data folder that the caller chose, from its first answer to its end.

`gateway` makes one with a folder of its own. May not happen here: anything to the folder but what `muster serve` does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import interrupt
from bench.load.process_tree import cpu_seconds, descendants

_PATIENCE: Final = 60.0  # seconds
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

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, "--http", f"127.0.0.1:{port}", *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

        with interrupt.child(start, interrupt.terminated) as process:
            if not _answered(process, port, began + _PATIENCE):
                log.seek(0)
                raise RuntimeError(f"the gateway did not start: {log.read()[-2000:]}")
            seconds = time.perf_counter() - began
            cpu = cpu_seconds(descendants(process.pid))
            yield Started(process.pid, data, f"http://127.0.0.1:{port}", seconds, cpu)


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
