"""Whose the connections of a listener are, and who may have more while few places are left.

Nothing is awaited or refused here. What is kept is one number for each address that has a connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from gateway.actions.throttle import guesser

# The last tenth of the places is for those who have less than a tenth: one address can then take nine tenths of them,
# as a load balancer or a fleet behind one address should, and cannot keep others out.
SCARCE: Final = 10
SHARE: Final = 10


class Places:
    """The `most` places of one listener, of which `free` are free; an IPv6 address stands for `prefix` bits."""

    def __init__(self, most: int, free: Callable[[], int], prefix: int = 64) -> None:
        self._most = most
        self._free = free
        self._prefix = prefix
        self._taken: Counter[str] = Counter()

    @property
    def scarce(self) -> bool:
        """Whether few are left, so that nobody should hold one for nothing."""
        return self._free() * SCARCE < self._most

    def take(self, address: str) -> str | None:
        """Under which name `address` has one more now, for `leave`; None where others are to have what is left."""
        whose = guesser(address, self._prefix)
        if self.scarce and self._taken[whose] * SHARE >= self._most:
            return None
        self._taken[whose] += 1
        return whose

    def leave(self, whose: str) -> None:
        """One that was taken is free again."""
        if self._taken[whose] > 1:
            self._taken[whose] -= 1
        else:
            del self._taken[whose]  # never more names than connections
