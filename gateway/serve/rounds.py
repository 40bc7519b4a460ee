"""How long the loop takes for one round: what lies in a socket waits for it unseen. Nothing is judged here."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio


class Rounds(trio.abc.Instrument):
    """Tells `told` the seconds between two waits for sockets, the work of one round of all tasks that could run; and
    the seconds of the wait before it.
    """

    def __init__(self, told: Callable[[float, float], None]) -> None:
        self._told = told
        self._began = self._ended = time.perf_counter()

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002, an instrument's shape
        """A round begins."""
        self._began = time.perf_counter()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002, an instrument's shape
        """A round has ended."""
        idle = self._began - self._ended
        self._ended = time.perf_counter()
        self._told(self._ended - self._began, idle)
