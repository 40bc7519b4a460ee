"""Who accepts the next connection: a worker that has many more than another gives way for a moment.

All workers listen on the same sockets and the kernel wakes them all; in a burst the quickest would take nearly
everything, and keep it for as long as its clients keep their connections. Nothing here refuses a connection.
"""

from __future__ import annotations

from typing import Final

import trio

from gateway.serve.workers.memory import Memory

# Another worker that sleeps is awake and has accepted within half of it; one that is too busy loses its turn.
MOMENT: Final = 0.002  # seconds
# So many more than the worker with the fewest are no reason to wait: they come and go.
LEAD: Final = 2
_SHARE: Final = 16  # and a sixteenth of what that one has


class Turns:
    """One worker's turn to accept. The counts are a hint that all workers write, each its own."""

    def __init__(self, memory: Memory, slot: int) -> None:
        self._open = memory.open
        self._present = memory.present
        self._slot = slot
        self._own = memory.open[slot]
        self._own[0] = 0
        memory.present[slot][0] = 1

    def opened(self) -> None:
        """A connection was accepted."""
        self._own[0] += 1

    def closed(self) -> None:
        """One has ended."""
        self._own[0] -= 1

    async def give_way(self) -> None:
        """Let a worker that has much less go first, for `MOMENT`."""
        if self._ahead():
            await trio.sleep(MOMENT)

    def leave(self) -> None:
        """This worker accepts no more."""
        self._present[self._slot][0] = 0

    def _ahead(self) -> bool:
        fewest = None
        for slot, present in enumerate(self._present):
            if present[0] and slot != self._slot:
                count = self._open[slot][0]
                if fewest is None or count < fewest:
                    fewest = count
        return fewest is not None and self._own[0] > fewest + LEAD + fewest // _SHARE


class Room:
    """Places for connections at one listening socket. Where `turns` are kept, they hear of each that is taken."""

    def __init__(self, places: int, turns: Turns | None = None) -> None:
        self._places = trio.Semaphore(places)
        self._turns = turns

    @property
    def value(self) -> int:
        """How many places are free."""
        return self._places.value

    async def acquire(self) -> None:
        """Wait for a place; where there is one, nobody else runs meanwhile: whoever accepts waits for a peer anyway."""
        if self._places.value:
            self._places.acquire_nowait()
        else:
            await self._places.acquire()

    async def turn(self) -> None:
        """A connection waits to be accepted: wait for the moment to do so."""
        if self._turns is not None:
            await self._turns.give_way()

    def taken(self) -> None:
        """Somebody has the place that was acquired."""
        if self._turns is not None:
            self._turns.opened()

    def give_back(self) -> None:
        """Nobody came to the place that was acquired."""
        self._places.release()

    def release(self) -> None:
        """Whoever had the place has gone."""
        self._places.release()
        if self._turns is not None:
            self._turns.closed()
