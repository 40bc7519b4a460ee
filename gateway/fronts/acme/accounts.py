"""Accounts that were read a moment ago, so that a signed request costs one read and not two. Decides nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from protocols.acme.states import Account

_MOST: Final = 10_000

# Another worker, or a gateway on the same store, may deactivate an account; this one believes otherwise for no longer
# than this.
_LIFETIME: Final = 0.9  # seconds


class Accounts:
    """A bounded memory of accounts by pair and id; the longest unused goes first. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float], *, most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._known: OrderedDict[tuple[str, str], tuple[float, Account]] = OrderedDict()

    def get(self, pair_id: str, account_id: str) -> Account | None:
        """The account, if it was put here lately."""
        key = (pair_id, account_id)
        entry = self._known.get(key)
        if entry is None:
            return None
        until, account = entry
        if self._clock() >= until:
            del self._known[key]
            return None
        self._known.move_to_end(key)
        return account

    def now(self) -> float:
        """The time by this memory's clock."""
        return self._clock()

    def put(self, account: Account, since: float) -> None:
        """Remember an account as the store gave it; it was asked at `since`, and may have answered late."""
        key = (account.pair_id, account.id)
        self._known[key] = (since + _LIFETIME, account)
        self._known.move_to_end(key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def forget(self, pair_id: str, account_id: str) -> None:
        """Forget an account that is being changed."""
        self._known.pop((pair_id, account_id), None)
