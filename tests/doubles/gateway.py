"""A real gateway in a process of its own, on free loopback ports, for tests that speak to it as clients do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 180.0  # a first start takes three; a busy machine takes its time
END_SECONDS = 90.0
READY = re.compile(rb"^ready \S+\n", re.MULTILINE)


class GatewayDidNotStart(Exception):
    """`status` is its exit status, `log` what it wrote on standard error."""

    def __init__(self, status: int | None, log: str) -> None:
        super().__init__(f"status {status}: {log}")
        self.status = status
        self.log = log


@dataclass
class RunningGateway:
    """A gateway that is ready. `quickstart` is what its `quickstart.json` says; `greeting` what it printed."""

    folder: Path
    process: subprocess.Popen[bytes]
    quickstart: dict[str, Any]
    greeting: str
    log_file: Path
    seconds: float  # from the command to the line `ready`
    arguments: Sequence[str] = field(default=())

    @property
    def log(self) -> str:
        """What it has written on standard error so far."""
        return self.log_file.read_text()

    def stop(self) -> int:
        """End it by SIGTERM and give its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(END_SECONDS)
        _release(self.process)
        return status

    def kill(self) -> None:
        """End it by SIGKILL, as a crash does."""
        self.process.kill()
        self.process.wait(END_SECONDS)
        _release(self.process)


def command(*arguments: str) -> list[str]:
    """The command line of `muster` in this interpreter."""
    return [sys.executable, "-m", "gateway", *arguments]


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without settings of a gateway that somebody may have in it.

    One worker, where a test does not say: each more costs a second of CPU at each of a hundred starts.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    return {**kept, "PYTHONPATH": str(ROOT), "MUSTER_WORKERS": "1", **more}


def start_gateway(
    folder: Path, *arguments: str, program: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> RunningGateway:
    """Start `muster serve` on `folder` and wait for its line `ready`. `program` replaces the command before `serve`.

    Raises `GatewayDidNotStart` with its exit status where it ended before.
    """
    log_file = folder.parent / f"{folder.name}.log"
    words = [*(program or command()), "serve", "--data", str(folder)]
    for flag in ("--https", "--http"):
        if flag not in arguments:
            words += [flag, "127.0.0.1:0"]
    began = time.monotonic()
    with log_file.open("a") as log:
        process = subprocess.Popen(
            [*words, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=folder.parent,
            env=environment(**(variables or {})),
        )
    printed = b""
    while not READY.search(printed):
        part = _more(process, began + START_SECONDS)
        if not part:
            process.kill()
            status = process.wait()
            _release(process)
            raise GatewayDidNotStart(status, log_file.read_text())
        printed += part
    seconds = time.monotonic() - began
    quickstart = json.loads((folder / "quickstart.json").read_text())
    return RunningGateway(folder, process, quickstart, printed.decode(), log_file, seconds, arguments)


@contextlib.contextmanager
def running_gateway(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> Iterator[RunningGateway]:
    """The same for the length of a block; ended at its end, by SIGKILL if it does not end by itself."""
    gateway = start_gateway(folder, *arguments, variables=variables)
    try:
        yield gateway
    finally:
        try:
            gateway.stop()
        except subprocess.TimeoutExpired:
            gateway.kill()
            raise


def muster(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run another command of `muster` to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**variables),
        timeout=180,
        check=False,
    )


def _release(process: subprocess.Popen[bytes]) -> None:
    if process.stdout is not None:
        process.stdout.close()


def _more(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    return os.read(process.stdout.fileno(), 65536) if readable else b""
