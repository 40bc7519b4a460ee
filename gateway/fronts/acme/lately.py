"""What this worker wrote or read a moment ago, for the request that follows. Never an answer about what can change.

A finalize follows the newOrder, and a download the finalize, on the same connection: to read the row again that was
just written costs as much as the rest of the host's work. What is kept here is believed for no more than it is worth:
an order that was ready is claimed in the store, the outcome of a validation counts there only where all is as it was,
and a certificate that was issued stays as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_MOST: Final = 1000  # the half megabyte of a thousand orders, the two of as many chains
_LIFETIME: Final = 30.0  # seconds


class Lately(Generic[T]):
    """A bounded memory by names, each thing given out once, within `lifetime`; the oldest goes first.

    `clock` and `lifetime` are in seconds.
    """

    def __init__(self, clock: Callable[[], float], *, most: int = _MOST, lifetime: float = _LIFETIME) -> None:
        self._clock = clock
        self._most = most
        self._lifetime = lifetime
        self._known: OrderedDict[tuple[str, ...], tuple[float, T]] = OrderedDict()

    def now(self) -> float:
        """The time by this memory's clock."""
        return self._clock()

    def put(self, key: tuple[str, ...], thing: T, since: float | None = None) -> None:
        """Remember a thing as it was at `since`, by default now."""
        self._known[key] = ((self._clock() if since is None else since) + self._lifetime, thing)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def take(self, key: tuple[str, ...]) -> T | None:
        """The thing, if it was put here lately; it is forgotten with that."""
        until, thing = self._known.pop(key, (0.0, None))
        return thing if thing is not None and self._clock() < until else None
