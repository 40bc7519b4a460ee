"""What the store said a moment ago, for what every request asks again. Decides nothing, and keeps no refusal."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

# Whoever ends a token or a membership, in whichever process, is obeyed by all within a second.
LIFETIME: Final = timedelta(seconds=0.9)
_NOTHING: Final = timedelta(0)


class Recent(Generic[K, V]):
    """A bounded memory of what was read lately; what was read the longest ago goes first."""

    def __init__(self, *, most: int = 4096) -> None:
        self._most = most
        self._known: OrderedDict[K, tuple[datetime, V]] = OrderedDict()

    def get(self, key: K, at: datetime) -> V | None:
        """The value, if it was read lately at `at`."""
        known = self._known.get(key)
        # Nor if it was read later than now: a clock that is set back must not keep alive what ended.
        return known[1] if known is not None and _NOTHING <= at - known[0] < LIFETIME else None

    def put(self, key: K, value: V, at: datetime) -> None:
        """Remember what the store gives; `at` is the time before it was asked."""
        self._known.pop(key, None)
        self._known[key] = at, value
        if len(self._known) > self._most:
            self._known.popitem(last=False)
