"""What is revoked by one authority, packed in memory: 45 bytes a serial, read from the store as it changes.

Never here: a signature, a decision what is revoked. Work comes in pages, so that the loop never stands for long.
"""

from __future__ import annotations

from datetime import datetime
from struct import Struct
from typing import Final

import trio

from gateway.actions.resources import Resources
from gateway.domain.revocation import RevocationReason
from gateway.outbound.signer import ENTRY
from gateway.store import revocations
from gateway.store.revocation_lists import WHOLE
from gateway.store.revocations import EVERY_PARTITION, Revocation
from gateway.store.unit import millis

# Rows that are read, and records that are looked at, without giving way: some milliseconds each.
PAGE: Final = 400
STRIDE: Final = 8000

# An entry as the signer takes it; notAfter in milliseconds; the partition; the revision.
_RECORD: Final = Struct(f">{ENTRY.size}sQiQ")
_SERIAL: Final = 20  # bytes, at the head of an entry
_WHEN: Final = 4  # bytes, behind it
_NO_PARTITION: Final = -2
_REMOVED: Final = RevocationReason.REMOVE_FROM_CRL.code


class Ledger:
    """The revocations of one authority, ordered by serial; `revision` is the latest that it has seen.

    With `since` those alone that changed after that revision: a delta list costs what changed, not what is revoked.
    """

    def __init__(self, since: int = 0) -> None:
        self.since: Final = since
        self._records = b""
        self._latest: dict[int, int] = {}
        self._known = (since + 1, "")  # all rows of one revision are committed at once
        self._revision = since

    @property
    def revision(self) -> int:
        """The issuer's revision up to which everything is here."""
        return self._revision

    def __len__(self) -> int:
        return len(self._records) // _RECORD.size

    def changed(self, part: int) -> int:
        """The latest revision that concerns this part."""
        if part == WHOLE:
            return self._revision
        return max(self._latest.get(part, 0), self._latest.get(EVERY_PARTITION, 0))

    async def catch_up(self, resources: Resources, issuer_id: str) -> None:
        """Read what has changed since. Raises as the store does."""
        while True:
            revision, serial = self._known
            page = await resources.store.read(
                lambda unit, revision=revision, serial=serial: revocations.since(  # type: ignore[misc]
                    unit, issuer_id, revision=revision, serial=serial, most=PAGE
                )
            )
            await trio.lowlevel.checkpoint()
            self.merge(page)
            if len(page) < PAGE:
                return
            await trio.lowlevel.checkpoint()

    def merge(self, page: list[Revocation]) -> None:
        """Take in rows in the order of their revisions."""
        if not page:
            return
        fresh: dict[bytes, bytes] = {}
        for row in page:
            serial = int(row.serial, 16).to_bytes(_SERIAL, "big")
            partition = _NO_PARTITION if row.partition is None else row.partition
            entry = ENTRY.pack(serial, row.revoked_at // 1000, row.reason)
            fresh[serial] = _RECORD.pack(entry, row.not_after, partition, row.revision)
            self._latest[partition] = row.revision
        self._records = self._merged(sorted(fresh.items()))
        self._known = (page[-1].revision, page[-1].serial)
        self._revision = page[-1].revision

    def _merged(self, fresh: list[tuple[bytes, bytes]]) -> bytes:
        old = memoryview(self._records)
        pieces: list[bytes | memoryview] = []
        done = 0
        for serial, record in fresh:
            place, there = self._place(serial, done)
            pieces += (old[done * _RECORD.size : place * _RECORD.size], record)
            done = place + there
        return b"".join((*pieces, old[done * _RECORD.size :]))

    def _place(self, serial: bytes, low: int) -> tuple[int, bool]:
        """Where a serial stands or belongs, from `low` on, and whether it is there."""
        records, size, high = self._records, _RECORD.size, len(self)
        while low < high:
            middle = (low + high) // 2
            if records[middle * size : middle * size + _SERIAL] < serial:
                low = middle + 1
            else:
                high = middle
        return low, records[low * size : low * size + _SERIAL] == serial

    async def entries(self, part: int, *, expired_by: datetime, listed: int, now: int) -> bytes:
        """The packed entries of a part's next list, none of them revoked later than `now` (seconds since the epoch).

        What was revoked while the clock was ahead would be: the signer refuses a list with such a date, and rightly.

        An entry leaves once its certificate has expired before `expired_by`, if the last list, of the revision
        `listed`, had it: it has then been on a list that was signed after the end (RFC 5280, 3.3).
        """
        return await self._packed(part, -1, _REMOVED, expired_by=expired_by, listed=listed, now=now)

    async def changes(self, part: int, *, after: int, expired_by: datetime, listed: int, now: int) -> bytes:
        """The packed entries of a delta to a list of the revision `after`; what is revoked, or released from its hold.

        What has expired before `expired_by` stays until a complete list had it, the last of which is of the revision
        `listed`: the first list that has it may be a delta, and "the revocation notice MUST be included in all
        subsequent delta CRLs until" then (RFC 5280, 5.2.4). It leaves as it leaves complete lists: a delta would become
        longer than they are where certificates live for a few hours.
        """
        return await self._packed(part, after, None, expired_by=expired_by, listed=listed, now=now)

    async def _packed(
        self, part: int, after: int, without: int | None, *, expired_by: datetime, listed: int, now: int
    ) -> bytes:
        """What concerns a part and changed after a revision, without those of one reason; in slices, as it is much."""
        records, until = memoryview(self._records), millis(expired_by)
        whole, wanted, latest = part == WHOLE, (part, EVERY_PARTITION), now.to_bytes(_WHEN, "big")
        chunks: list[bytes] = []
        for start in range(0, len(records), STRIDE * _RECORD.size):
            some = records[start : start + STRIDE * _RECORD.size]
            chunks.append(
                b"".join(
                    entry if entry[_SERIAL:-1] <= latest else entry[:_SERIAL] + latest + entry[-1:]
                    for entry, not_after, partition, revision in _RECORD.iter_unpack(some)
                    if revision > after
                    and entry[-1] != without
                    and (whole or partition in wanted)
                    and (not_after >= until or revision > listed)
                )
            )
            await trio.lowlevel.checkpoint()
        return b"".join(chunks)
