"""What the store said a moment ago, for what every request asks again. Decides nothing, and keeps no refusal."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Whoever ends a token or a membership, in whichever process, is obeyed by all within a second.
LIFETIME: Final = timedelta(seconds=0.9)
_SECONDS: Final = LIFETIME.total_seconds()
_NOTHING: Final = timedelta(0)


class Recent(Generic[K, V]):
    """A bounded memory of what was read lately; what was read the longest ago goes first.

    `clock` is in seconds, and nobody sets it: the machine's own, since to ask the event loop for it takes four calls.
    """

    def __init__(self, *, most: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._known: OrderedDict[K, tuple[datetime, float, V]] = OrderedDict()

    def get(self, key: K, at: datetime) -> V | None:
        """The value, if it was read lately at `at`."""
        known = self._known.get(key)
        if known is None:
            return None
        read_at, since, value = known
        # A clock that is set back must not keep alive what ended, now or when it comes to that moment once more: what
        # was read later than now is not known, nor what was read long ago by a clock that nobody sets.
        lately = _NOTHING <= at - read_at < LIFETIME and self._clock() - since < _SECONDS
        return value if lately else None

    def put(self, key: K, value: V, at: datetime) -> None:
        """Remember what the store gives; `at` is the time before it was asked."""
        self._known.pop(key, None)
        self._known[key] = at, self._clock(), value
        if len(self._known) > self._most:
            self._known.popitem(last=False)
