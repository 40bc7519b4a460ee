"""Tickets and serials that were used up, for all workers of a store: `keys/journal/claims`. Nothing is signed here.

Marks of one size behind a heading, appended under a lock on the folder: who wants to sign a batch takes the lock, reads
what others appended, checks its own, appends them with one write, and lets go. So a gateway that asks two workers for
the same serial gets it once, and a worker that starts again knows what it and the others had signed. A full file
becomes `claims.older`, and the two are what a worker reads when it starts.

A mark that was cut short is removed: its writer died before it signed. A file that is gone, shorter than it was, or not
the successor of the one that was read ends all signing: somebody changed it. At the next start one that is gone is made
again from the journal (`recent`). What this does not stop is whoever can write to the folder of keys, removes the
journal too, and restarts the workers; the gateway's store names that. It is not synced: it guards against asks, not
against a power failure, behind which the gateway's store still knows each serial.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from signer.issuance.refused import Refused
from signer.issuance.ticket import GENERATION, MARK, Claim, Tickets
from signer.journal.failed import JournalFailed
from signer.journal.recent import recent
from signer.keystore.durable import create

NAME: Final = "claims"
OLDER: Final = "claims.older"
_RECORD: Final = struct.Struct(f">{MARK}s{MARK}sQ")
SIZE: Final = _RECORD.size  # bytes; the heading takes as many
_HEADING: Final = struct.Struct(">8sQ24s")
_MAGIC: Final = b"MSTRCLM1"
_PURPOSE: Final = b"muster claims"


class _Locked:
    """The lock on the folder, for the length of a `with`."""

    __slots__ = ("_folder",)

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        fcntl.flock(self._folder, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._folder, fcntl.LOCK_UN)


class Claims:
    """One worker's hand on the claims of its store. `key` is the journal's; `folder` exists."""

    def __init__(self, folder: Path, key: bytes, tickets: Tickets, *, generation: int = GENERATION) -> None:
        self._path = folder / NAME
        self._name = str(self._path)
        self._older = folder / OLDER
        self._key = key
        self._tickets = tickets
        self._generation = generation
        self._number = 0
        self._file = -1
        self._identity = (0, 0)
        self._read = 0
        try:
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            self._locked = _Locked(self._lock)
            with self._locked:
                if not self._path.exists():  # a first start, or somebody removed it: then the journal knows
                    self._begin(self._older_number() + 1, recent(folder, key, 2 * generation))
                self._open()
        except OSError as error:
            raise JournalFailed(f"the claims in {folder} cannot be used: {error.strerror}") from None

    def close(self) -> None:
        """Let go of the files."""
        for each in (self._file, self._lock):
            os.close(each)

    def take(self, claims: Sequence[Claim], *, now: int) -> list[Refused | None]:
        """Use `claims` up, in their order; those that were used before, here or elsewhere, are refused.

        `now` is in seconds since the epoch. Raises `JournalFailed`, and then nothing may be signed.
        """
        refusals: list[Refused | None] = []
        taken = bytearray()
        try:
            with self._locked:
                self._catch_up()
                for claim in claims:
                    try:
                        self._tickets.spend(claim, now=now)
                    except Refused as refused:
                        refusals.append(refused)
                    else:
                        refusals.append(None)
                        taken += _packed(claim)
                if taken:
                    self._append(taken)
        except OSError as error:
            raise JournalFailed(f"the claims cannot be written: {error.strerror}") from None
        return refusals

    def _catch_up(self) -> None:
        """Learn what others took since we looked last."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - once a batch: Path's own costs as much again
        except FileNotFoundError:
            raise JournalFailed("the claims were removed while they were in use; look who did, then restart") from None
        if (status.st_dev, status.st_ino) != self._identity:
            self._learn(os.fstat(self._file).st_size)  # the end of the one that we had
            self._open()
        elif status.st_size < self._read:
            raise JournalFailed("the claims were cut short while they were in use; look who did, then restart")
        elif status.st_size > self._read:
            self._learn(status.st_size)

    def _learn(self, size: int) -> None:
        content = os.pread(self._file, size - self._read, self._read)
        whole = len(content) - len(content) % SIZE
        for ticket, serial, deadline in _RECORD.iter_unpack(content[:whole]):
            self._tickets.remember(ticket, serial, deadline)
        self._read += whole
        if whole != len(content):  # its writer died over it, and signed nothing of it; we hold the lock
            os.ftruncate(self._file, self._read)

    def _append(self, taken: bytearray) -> None:
        try:
            if os.write(self._file, taken) != len(taken):
                raise JournalFailed("the claims cannot be written: no room is left")
        except (OSError, JournalFailed):
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._read)
            raise
        self._read += len(taken)
        if self._read >= SIZE * (1 + self._generation):
            with contextlib.suppress(OSError, JournalFailed):  # no room for a new file: this one grows until there is
                self._turn()

    def _turn(self) -> None:
        """Begin a new file, and keep this one as the older. There is a file of the name at every moment."""
        aside = self._older.with_name(f".{OLDER}.new")
        aside.unlink(missing_ok=True)
        os.link(self._path, aside)
        aside.replace(self._older)
        self._begin(self._number + 1)

    def _begin(self, number: int, known: Sequence[Claim] = ()) -> None:
        aside = self._path.with_name(f".{NAME}.new")
        aside.unlink(missing_ok=True)
        descriptor = create(aside)
        try:
            content = self._heading(number) + b"".join(map(_packed, known))
            if os.write(descriptor, content) != len(content):
                raise JournalFailed("the claims cannot be begun: no room is left")
            os.fsync(descriptor)  # a name that leads to nothing after a power failure would be taken for damage
        finally:
            os.close(descriptor)
        aside.replace(self._path)

    def _heading(self, number: int) -> bytes:
        body = _HEADING.pack(_MAGIC, number, b"")[:16]
        return body + blake2b(_PURPOSE + body, key=self._key, digest_size=24).digest()

    def _open(self) -> None:
        """Read the file of the name from its beginning, behind the older one where that was not read.

        At a start the two may be one, or have one number: a turn was interrupted, or a copy was made during one.
        """
        before, known = self._file, self._number
        for path in (self._older, self._path):
            descriptor = -1
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            if descriptor < 0:
                continue
            number = self._numbered(descriptor, path)
            if number <= known and path is self._older:
                os.close(descriptor)
                continue
            if number <= known:
                os.close(descriptor)
                raise JournalFailed("the claims were exchanged while they were in use; look who did, then restart")
            if self._file not in {-1, before}:
                os.close(self._file)
            self._file, self._number, self._read = descriptor, number, SIZE
            status = os.fstat(descriptor)
            self._identity = (status.st_dev, status.st_ino)
            self._learn(status.st_size)
        if before not in {-1, self._file}:
            os.close(before)

    def _older_number(self) -> int:
        """The number of the older file, 0 where there is none."""
        try:
            descriptor = os.open(self._older, os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            return self._numbered(descriptor, self._older)
        finally:
            os.close(descriptor)

    def _numbered(self, descriptor: int, path: Path) -> int:
        heading = os.pread(descriptor, SIZE, 0)
        number = int.from_bytes(heading[8:16], "big")
        if heading != self._heading(number):
            raise JournalFailed(f"{path} is damaged; move it away to go on with what the journal still knows")
        return number


def _packed(claim: Claim) -> bytes:
    return _RECORD.pack(claim.ticket, claim.serial, claim.deadline)
