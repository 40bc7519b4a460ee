"""The lists that this process hands out, and whose turn it is to sign. Nothing is signed or read here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import trio

from gateway.actions.publish.ledger import Ledger
from gateway.store.revocation_lists import WHOLE


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A signed list, complete or a delta, DER. `revision` is that of the issuer's revocations that it shows.

    `freshest` is where a complete list says that its delta is.
    """

    der: bytes
    number: int
    this_update: datetime
    next_update: datetime
    revision: int
    freshest: tuple[str, ...] = ()


class Publications:
    """The lists in force, by authority and part. One task at a time works on an authority's."""

    def __init__(self) -> None:
        self._lists: dict[tuple[str, int], RevocationList] = {}
        self._deltas: dict[tuple[str, int], RevocationList] = {}
        self._turns: dict[str, trio.Lock] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._changes: dict[str, Ledger] = {}
        self._rest_until: dict[str, float] = {}
        self.claimed: dict[
            tuple[str, int], int
        ] = {}  # the last number that this process claimed, whatever became of it
        self._bell = trio.Event()

    def current(self, authority_id: str, now: datetime, part: int = WHOLE) -> RevocationList | None:
        """The list of this part, unless it has run out: an old list is worse than none (RFC 5280, 6.3.3)."""
        held = self._lists.get((authority_id, part))
        return held if held is not None and now < held.next_update else None

    def delta(self, authority_id: str, now: datetime, part: int = WHOLE) -> RevocationList | None:
        """The delta of this part, unless it has run out."""
        held = self._deltas.get((authority_id, part))
        return held if held is not None and now < held.next_update else None

    def earliest(self, authority_id: str) -> datetime | None:
        """When the first of an authority's complete lists runs out, or ran out; None while there is none."""
        ends = [each.next_update for (issuer_id, _), each in self._lists.items() if issuer_id == authority_id]
        return min(ends, default=None)

    def earliest_delta(self, authority_id: str) -> datetime | None:
        """The same of its deltas, as far as its lists name one."""
        ends = [
            each.next_update
            for place, each in self._deltas.items()
            if place[0] == authority_id and (of := self._lists.get(place)) is not None and of.freshest
        ]
        return min(ends, default=None)

    def number(self, authority_id: str, part: int) -> int:
        """The number of the list that is held, in force or not; 0 if there is none."""
        held = self._lists.get((authority_id, part))
        return 0 if held is None else held.number

    def delta_number(self, authority_id: str, part: int) -> int:
        """The same of the delta."""
        held = self._deltas.get((authority_id, part))
        return 0 if held is None else held.number

    def keep(self, authority_id: str, part: int, signed: RevocationList) -> None:
        """Hand out `signed` from now on."""
        self._lists[authority_id, part] = signed

    def keep_delta(self, authority_id: str, part: int, signed: RevocationList) -> None:
        """Hand out the delta `signed` from now on."""
        self._deltas[authority_id, part] = signed

    def turn(self, authority_id: str) -> trio.Lock:
        """Who holds this lock works on the authority's lists; the others find them when it is their turn."""
        return self._turns.setdefault(authority_id, trio.Lock())

    def ledger(self, authority_id: str) -> Ledger:
        """What this authority has revoked, as far as it was read."""
        return self._ledgers.setdefault(authority_id, Ledger())

    def changes(self, authority_id: str, after: int) -> Ledger:
        """What this authority has changed after a revision, for its deltas; it may be some more, which others asked."""
        held = self._changes.get(authority_id)
        if held is None or held.since > after:
            held = self._changes[authority_id] = Ledger(after)
        return held

    def forget_changes(self, authority_id: str, before: int) -> None:
        """No delta asks for what changed up to this revision any more."""
        held = self._changes.get(authority_id)
        if held is not None and held.since < before:
            del self._changes[authority_id]

    def ring(self) -> None:
        """Something was revoked by this process: the job need not wait for its next look at the store."""
        self._bell.set()

    async def wait(self, seconds: float) -> None:
        """Until the bell rings, at most so long."""
        with trio.move_on_after(seconds):
            await self._bell.wait()
        self._bell = trio.Event()

    def rest(self, authority_id: str, seconds: float) -> None:
        """Sign nothing for this authority on account of a change for so long."""
        self._rest_until[authority_id] = trio.current_time() + seconds

    def resting(self, authority_id: str) -> float:
        """For how many seconds yet."""
        return max(0.0, self._rest_until.get(authority_id, 0.0) - trio.current_time())
