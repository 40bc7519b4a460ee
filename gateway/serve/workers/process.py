"""A worker as a child process: how it is started. It gets no variable of ours and no argument that says anything."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gateway.serve.signer_process import plain_environment

# What a worker could not do (exit status), as opposed to what killed it.
REFUSED: Final = 2


@dataclass(frozen=True, slots=True)
class Started:
    """A process, and our end of the pair that is its standard input."""

    process: subprocess.Popen[bytes]
    channel: socket.socket

    def kill(self) -> None:
        """End it at once, whatever it does, and wait for that."""
        self.channel.close()
        self.process.kill()
        self.process.wait()


def command() -> list[str]:
    """The command line of a worker's program. -P: a module of that name in the working folder is not it."""
    return [sys.executable, "-P", "-m", "gateway.serve.workers"]


def start(passed: Collection[int]) -> Started:
    """Start a worker that inherits these descriptors; it loads what it needs and then waits for its orders."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own program, arguments as a list
            command(),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            pass_fds=passed,
            env=plain_environment(),
            # Ctrl-C in a terminal goes to the whole group: the parent says when a worker drains.
            start_new_session=True,
        )
    ours.setblocking(False)
    return Started(process, ours)


def how(status: int) -> str:
    """How a process ended, for a log line."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
