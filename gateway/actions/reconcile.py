"""Whether the signer and the inventory tell the same story: each entry of the journal against the store, and back.

Looks only. An entry costs eight bytes of memory and a certificate none, however many there are.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from gateway.domain.certificate import SerialStatus
from gateway.domain.identifier import Dice
from gateway.store import journal
from gateway.store.unit import Store, Unit
from protocols.exchange import Malformed
from protocols.pkix import der

ISSUED: Final = "issue-certificate"
CEREMONY: Final = "hold-ceremony"
# An ask and what follows take ten seconds at most; a busy store, and clocks that differ, a little more.
IN_FLIGHT: Final = timedelta(minutes=2)
_PAGE: Final = 500
_UNRECORDED: Final = {SerialStatus.RESERVED, SerialStatus.BURNT}


@dataclass(frozen=True, slots=True)
class Signed:
    """One entry of the signer's journal. `issuer` is a key's name; `tbs` the SHA-256 of what was signed, in hex."""

    verb: str
    issuer: str
    serial: str
    tbs: str
    at: datetime


@dataclass(slots=True)
class Tally:
    """What was compared."""

    entries: int = 0
    certificates: int = 0  # entries of the journal that speak of one
    ceremonies: int = 0  # entries of certificates of authorities, RAs and links
    in_flight: int = 0
    settled: int = 0  # signed and never recorded, and revoked since
    inventory: int = 0
    older: int = 0  # certificates from before the journal began
    differences: int = 0


class Reconciliation:
    """One comparison. `authorities` gives id and name by the name of the key; `tell` hears each difference at once."""

    def __init__(
        self,
        store: Store,
        authorities: Mapping[str, tuple[str, str]],
        *,
        now: datetime,
        dice: Dice,
        tell: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._authorities = authorities
        self._now = now
        self._tell = tell
        self._salt = dice(16)  # so that nobody can make two serials that look alike here
        self._seen: array[int] = array("Q")

    async def entries(self, pages: AsyncIterable[Sequence[Signed]], progress: Callable[[Tally], None]) -> None:
        """Hold every entry against the store."""
        async for page in pages:
            self.tally.entries += len(page)
            certificates = [each for each in page if each.verb == ISSUED]
            known = await self._store.read(partial(self._found, certificates))
            for entry, found in zip(certificates, known, strict=True):
                self._judge(entry, found)
            held = [each for each in page if each.verb == CEREMONY]
            known = await self._store.read(partial(self._found, held))
            for entry, found in zip(held, known, strict=True):
                self._judge_ceremony(entry, found)
            progress(self.tally)

    async def inventory(self, begun: datetime | None, progress: Callable[[Tally], None]) -> None:
        """Hold the inventory against the entries: all that was issued since `begun`, when the journal begins."""
        seen = self._sorted()
        names = dict(self._authorities.values())
        after = ""
        while page := await self._store.read(partial(journal.issued, after=after, until=self._now, most=_PAGE)):
            after = page[-1].id
            for each in page:
                if begun is None or each.created_at < begun:
                    self.tally.older += 1
                    continue
                self.tally.inventory += 1
                mark = self._mark(each.issuer_id, each.serial)
                place = bisect_left(seen, mark)
                if place == len(seen) or seen[place] != mark:
                    name = names.get(each.issuer_id, each.issuer_id)
                    self._differ(
                        f"certificate {each.id} (serial {each.serial} of {name}, {_when(each.created_at)}) is in the "
                        "inventory and not in the journal: it was not signed here, or a part of the journal is gone"
                    )
            progress(self.tally)
        if begun is None and self.tally.older:
            self._differ(f"there is no journal, and {self.tally.older} certificates that should be in one")

    def _found(self, entries: Sequence[Signed], unit: Unit) -> list[journal.Known | None]:
        known: list[journal.Known | None] = []
        for each in entries:
            authority = self._authorities.get(each.issuer)
            known.append(None if authority is None else journal.find(unit, authority[0], each.serial))
        return known

    def _judge(self, entry: Signed, found: journal.Known | None) -> None:
        self.tally.certificates += 1
        authority = self._authorities.get(entry.issuer)
        if authority is None:
            self._differ(
                f"serial {entry.serial} was signed by the key {entry.issuer}, which is no authority's that is known"
            )
            return
        self._seen.append(self._mark(authority[0], entry.serial))
        which = f"serial {entry.serial} of {authority[1]}, signed {_when(entry.at)},"
        path = f"/api/v1/cert-manager/authorities/{authority[1]}/serials/{entry.serial}/revoke"
        remedy = f"it may exist; revoke it: POST {path}"
        if found is None:
            self._differ(f"{which} is unknown to the store, which is an older copy, or was passed by; {remedy}")
        elif found.status in _UNRECORDED:
            if found.revoked:
                self.tally.settled += 1
            elif found.status is SerialStatus.RESERVED and entry.at > self._now - IN_FLIGHT:
                self.tally.in_flight += 1
            else:
                self._differ(f"{which} was never recorded; {remedy}")
        elif found.der is None or _tbs(found.der) != entry.tbs:
            self._differ(f"{which} is another certificate than the one in the inventory; {remedy}")

    def _judge_ceremony(self, entry: Signed, found: journal.Known | None) -> None:
        """What a person let sign. No serial is reserved for it, so that a ceremony that was interrupted is unknown."""
        self.tally.ceremonies += 1
        authority = self._authorities.get(entry.issuer)
        again = "hold the ceremony again to finish it"
        which = f"serial {entry.serial} of {entry.issuer if authority is None else authority[1]}"
        signed = f"{which}, signed in a ceremony {_when(entry.at)},"
        if found is None and entry.at > self._now - IN_FLIGHT:
            self.tally.in_flight += 1
        elif authority is None:
            self._differ(f"{signed} is by no authority that is known: {again}, or find out who held it")
        elif found is None:
            path = f"/api/v1/cert-manager/authorities/{authority[1]}/serials/{entry.serial}/revoke"
            self._differ(f"{signed} is unknown to the store: {again}; if nobody knows of it, revoke it: POST {path}")
        elif (found.der is None or _tbs(found.der) != entry.tbs) and not found.revoked:
            self._differ(f"{signed} is another certificate than the one in the inventory")

    def _sorted(self) -> array[int]:
        seen = array("Q", sorted(self._seen))
        for place in range(1, len(seen)):
            if seen[place] == seen[place - 1]:
                self._differ("a serial is in the journal twice: it was signed twice; the lines above name what differs")
        return seen

    def _mark(self, issuer_id: str, serial: str) -> int:
        digest = hashlib.blake2b(f"{issuer_id} {serial}".encode(), key=self._salt, digest_size=8).digest()
        return int.from_bytes(digest, "big")

    def _differ(self, sentence: str) -> None:
        self.tally.differences += 1
        self._tell(sentence)


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as an aware time, to the second that has begun."""
    return datetime.fromtimestamp(math.floor(seconds), UTC)


def _tbs(certificate: bytes) -> str:
    """SHA-256 of what the signature covers, in hex; of nothing where it is no certificate."""
    try:
        start, end = der.expect(certificate, 0, len(certificate), der.SEQUENCE)
        _, stop = der.expect(certificate, start, end, der.SEQUENCE)
    except Malformed:
        return ""
    return hashlib.sha256(certificate[start:stop]).hexdigest()


def _when(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")
