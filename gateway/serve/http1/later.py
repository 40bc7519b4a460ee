"""Whoever is heard later: connections that rest for a while. Nothing is read from a socket here.

One task wakes them all, a hundred times a second at most. A deadline each (`trio.sleep`) costs a scope, an exception
and the garbage of both: in a storm of refusals that was a third of what a refusal cost.
"""

from __future__ import annotations

import heapq
import math
from itertools import count
from typing import Final

import trio
from trio.lowlevel import Task

ROUND_SECONDS: Final = 0.01


class Later:
    """The connections of one listening process that rest."""

    def __init__(self) -> None:
        self._resting: list[tuple[float, int, list[Task]]] = []  # a heap; without its task once that was cancelled
        self._numbers = count()
        self._stirred = trio.Event()

    async def rest(self, seconds: float) -> None:
        """Come back after so many seconds, or a little later; `keep` must be running."""
        resting = [trio.lowlevel.current_task()]
        due = trio.current_time() + seconds
        if not self._resting or due < self._resting[0][0]:
            self._stirred.set()
        heapq.heappush(self._resting, (due, next(self._numbers), resting))

        def abort(_: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            resting.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def keep(self) -> None:
        """Wake those whose time has come, until cancelled."""
        while True:
            self._stirred = trio.Event()
            due = self._resting[0][0] if self._resting else math.inf
            with trio.CancelScope(deadline=max(due, trio.current_time() + ROUND_SECONDS)):
                await self._stirred.wait()
            now = trio.current_time()
            while self._resting and self._resting[0][0] <= now:
                for task in heapq.heappop(self._resting)[2]:
                    trio.lowlevel.reschedule(task)
