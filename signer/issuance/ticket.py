"""Once: a ticket is good for one signature until its deadline, and a serial is signed once. Memory is bounded.

A ticket stops the same ask from being carried out twice; a burnt serial, in the gateway's store, stops two workers. The
serials that this worker signed last are kept in two generations, so that forgetting is gradual.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused

HORIZON: Final = 600  # seconds; a ticket lives as long as one ask, which is well under two minutes
GENERATION: Final = 100_000  # serials; two generations of them take about 20 MiB
_LENGTHS: Final = range(16, 65)  # bytes


class Tickets:
    """The tickets that were spent and have not yet expired, and the serials that were signed last."""

    __slots__ = ("_deadlines", "_expiring", "_generation", "_latest", "_older", "_recent", "_spent")

    def __init__(self, *, generation: int = GENERATION) -> None:
        self._spent: set[bytes] = set()
        self._expiring: dict[int, list[bytes]] = {}
        self._deadlines: list[int] = []
        self._latest = 0
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._generation = generation

    def __len__(self) -> int:
        """How many spent tickets are remembered."""
        return len(self._spent)

    def spend(self, ticket: bytes, deadline: int, *, issuer: str, serial: int, now: int) -> None:
        """Spend `ticket` on `serial` of `issuer`. Raises `Refused` (TICKET, SERIAL), and then nothing is spent.

        `deadline` and `now` are seconds since the epoch.
        """
        # A clock that is set back must not revive a ticket that was forgotten.
        now = self._latest = max(now, self._latest)
        self._forget(now)
        if len(ticket) not in _LENGTHS:
            raise Refused(SignerRefusal.TICKET, "no ticket came with the ask")
        if deadline < now:
            raise Refused(SignerRefusal.TICKET, "the ticket has expired")
        if deadline > now + HORIZON:
            raise Refused(SignerRefusal.TICKET, f"the ticket is good for longer than {HORIZON} seconds")
        if ticket in self._spent:
            raise Refused(SignerRefusal.TICKET, "the ticket is spent")
        mark = blake2b(b"%b\0%d" % (issuer.encode(), serial), digest_size=16).digest()
        if mark in self._recent or mark in self._older:
            raise Refused(SignerRefusal.SERIAL, "this serial has been signed")
        self._remember(ticket, deadline, mark)

    def _remember(self, ticket: bytes, deadline: int, mark: bytes) -> None:
        self._spent.add(ticket)
        if deadline in self._expiring:
            self._expiring[deadline].append(ticket)
        else:
            self._expiring[deadline] = [ticket]
            heappush(self._deadlines, deadline)
        self._recent.add(mark)
        if len(self._recent) >= self._generation:
            self._older, self._recent = self._recent, set()

    def _forget(self, now: int) -> None:
        while self._deadlines and self._deadlines[0] < now:
            self._spent.difference_update(self._expiring.pop(heappop(self._deadlines)))
