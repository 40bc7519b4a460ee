"""What Ctrl-C does to a bench: one line and status 130; its children do not hear it, and are ended by who started them.

May not happen here: ending a process whose start did not say how.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, TypeVar

INTERRUPTED: Final = 128 + 2  # what shells give for SIGINT

_PATIENCE: Final = 30.0  # seconds

P = TypeVar("P")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a bench's `main` as this process, and exit: with its status, or with 130 and one line after Ctrl-C."""
    try:
        status = main()
    except (KeyboardInterrupt, BaseExceptionGroup) as raised:
        if not interrupted(raised):
            raise
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


def interrupted(raised: BaseException) -> bool:
    """Whether Ctrl-C is in it, as nurseries wrap it; whatever else is in it came of that."""
    if isinstance(raised, BaseExceptionGroup):
        return any(interrupted(each) for each in raised.exceptions)
    return isinstance(raised, KeyboardInterrupt)


@contextlib.contextmanager
def child(start: Callable[[], P], end: Callable[[P], object]) -> Iterator[P]:
    """What `start` starts, which never hears Ctrl-C, and is ended on the way out, whenever that comes.

    A terminal sends it to all processes at once, and each would tell of it in as many lines as Python has. Here it is
    heard after the start, when it is known what must be ended, and after the end, which a second does not cut short.
    """
    with contextlib.ExitStack() as stack:
        with later():
            started = start()
            stack.callback(_ended, end, started)
        yield started


def terminated(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Let a process end itself, in half a minute at the most."""
    with process:
        process.terminate()
        try:
            process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def killed(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process at once."""
    with process:
        process.kill()


def _ended(end: Callable[[P], object], started: P) -> None:
    with later():
        end(started)


@contextlib.contextmanager
def later() -> Iterator[None]:
    """An interrupt within comes at its end, and never to a process that is started within. In the main thread alone."""
    heard: list[int] = []
    # Blocked for the child, which inherits that; another thread of this process may still hear it, hence the handler.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)
