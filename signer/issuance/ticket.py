"""Once: a ticket is good for one signature until its deadline, and a serial is signed once. Memory is bounded.

Here is what is remembered; `journal.claims` shares it among the workers of a store and carries it over a restart. The
serials that were signed last are kept in two generations, so that forgetting is gradual.
"""

from __future__ import annotations

from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

import msgspec

from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused

# A clock that is set back by more was wrong before, by hours perhaps. A gateway's tickets live a little longer.
STEP: Final = 60  # seconds
HORIZON: Final = 600  # seconds; a ticket lives as long as one ask, which is well under two minutes
GENERATION: Final = 100_000  # serials; two generations of them take about 20 MiB
OUTSTANDING: Final = 2_000_000  # tickets; an honest gateway's live for 70 seconds, and these take about 200 MiB
MARK: Final = 16  # bytes
_LENGTHS: Final = range(16, 65)  # bytes


class Claim(msgspec.Struct, frozen=True, gc=False):  # a frozen dataclass takes six times as long to make
    """What one ask would use up: marks of its ticket and of its serial. `deadline` is in seconds since the epoch."""

    ticket: bytes
    serial: bytes
    deadline: int


def claim_of(issuer: str, serial: bytes, ticket: bytes, deadline: int) -> Claim:
    """The claim of an ask; `serial` is big-endian, with or without leading zeros. Raises `Refused` (TICKET)."""
    if len(ticket) not in _LENGTHS:
        raise Refused(SignerRefusal.TICKET, "no ticket came with the ask")
    if not 0 <= deadline < 1 << 63:
        raise Refused(SignerRefusal.TICKET, "the ticket's deadline is impossible")
    return Claim(blake2b(ticket, digest_size=MARK).digest(), serial_mark(issuer, serial), deadline)


def serial_mark(issuer: str, serial: bytes) -> bytes:
    """What is remembered of an issuer's serial, which is big-endian, with or without leading zeros."""
    return blake2b(b"%b\0%b" % (issuer.encode(), serial.lstrip(b"\0")), digest_size=MARK).digest()


class Tickets:
    """The tickets that were spent and have not yet expired, and the serials that were signed last."""

    __slots__ = ("_deadlines", "_expiring", "_generation", "_latest", "_older", "_outstanding", "_recent", "_spent")

    def __init__(self, *, generation: int = GENERATION, outstanding: int = OUTSTANDING) -> None:
        self._spent: set[bytes] = set()
        self._expiring: dict[int, list[bytes]] = {}
        self._deadlines: list[int] = []
        self._latest = 0
        self._recent: set[bytes] = set()
        self._older: set[bytes] = set()
        self._generation = generation
        self._outstanding = outstanding

    def __len__(self) -> int:
        """How many spent tickets are remembered."""
        return len(self._spent)

    def spend(self, claim: Claim, *, now: int) -> None:
        """Use `claim` up. Raises `Refused` (TICKET, SERIAL), and then nothing is spent.

        `now` is in seconds since the epoch.
        """
        # A clock that is set back must not revive a ticket that was forgotten. But one that ran ahead, as after a start
        # before the time was known, must not keep every ticket out until that time has come: what it lets be forgotten
        # has its serial still.
        if now + STEP < self._latest:
            self._latest = now
        now = self._latest = max(now, self._latest)
        self._forget(now)
        if claim.deadline < now:
            raise Refused(SignerRefusal.TICKET, "the ticket has expired")
        if claim.deadline > now + HORIZON:
            raise Refused(SignerRefusal.TICKET, f"the ticket is good for longer than {HORIZON} seconds")
        if claim.ticket in self._spent:
            raise Refused(SignerRefusal.TICKET, "the ticket is spent")
        if len(self._spent) >= self._outstanding:
            raise Refused(
                SignerRefusal.TICKET, "more tickets were spent than can be remembered; they expire by themselves"
            )
        if claim.serial in self._recent or claim.serial in self._older:
            raise Refused(SignerRefusal.SERIAL, "this serial has been signed")
        self.remember(claim.ticket, claim.serial, claim.deadline)

    def remember(self, ticket: bytes, serial: bytes, deadline: int) -> None:
        """Take note of what was used up, here or by another worker."""
        if deadline >= self._latest and ticket not in self._spent:
            self._spent.add(ticket)
            if deadline in self._expiring:
                self._expiring[deadline].append(ticket)
            else:
                self._expiring[deadline] = [ticket]
                heappush(self._deadlines, deadline)
        self._recent.add(serial)
        if len(self._recent) >= self._generation:
            self._older, self._recent = self._recent, set()

    def _forget(self, now: int) -> None:
        while self._deadlines and self._deadlines[0] < now:
            self._spent.difference_update(self._expiring.pop(heappop(self._deadlines)))
