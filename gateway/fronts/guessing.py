"""Wrong credentials, counted by all workers of a machine together: a guesser gains nothing by asking each of them.

No secret and no address is kept: a table of marks under a key that nobody outside knows (`arrivals`).
"""

from __future__ import annotations

from typing import Final

from gateway.actions.throttle import Throttle
from gateway.fronts.arrivals import ENTRY, Arrivals, Pace

TABLE: Final = 16_384 * ENTRY
"""Bytes of a table that remembers as many guessers as one process does alone."""


class SharedThrottle(Throttle):
    """What `Throttle` does, in a table that several processes write to. Past its size those free soonest are forgotten.

    Two that fail in the same microsecond may count as one; the shares of a burst are counted as they come.
    """

    def __init__(self, table: bytearray | memoryview, key: bytes, *, burst: int = 10, interval: float = 6.0) -> None:
        super().__init__(burst=burst, interval=interval)
        self._arrivals = Arrivals(table, key)
        self._pace = Pace(interval, (burst - 1) * interval)

    def wait(self, key: tuple[str, str], now: float) -> int:
        """Whole seconds until `key` may try again; 0 means now. `now` is in seconds."""
        early = self._arrivals.early(self._arrivals.place("\0".join(key)), self._pace, now)
        return 0 if early <= 0 else int(early) + 1

    def fail(self, key: tuple[str, str], now: float) -> None:
        """Count one wrong credential of `key`."""
        self._arrivals.take(self._arrivals.place("\0".join(key)), self._pace, now)
