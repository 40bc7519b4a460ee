"""One worker's journal: what it signed, written before its answers leave. Nothing is signed here, and nothing decided.

`keys/journal/worker-NNNNNN.log`, a new file for each worker that begins to sign and whenever one is full. A heading
names the heading of the file before it, and what was found at the end of the files whose workers are gone: so a file
that is removed or cut is seen, the end of the newest alone is not, and there the gateway's store knows better.

Written with one write a batch, and handed to the disk once a second and at the end: a killed worker loses nothing, a
power failure the last seconds. Syncing each batch cost 0.14 ms of every answer and 42 us of CPU on an SSD, ten
milliseconds on a disk; what may exist stands durable in the gateway's store anyway, before it is asked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from signer.issuance.refused import Refused
from signer.issuance.ticket import GENERATION, Claim, Tickets
from signer.journal.claims import Claims
from signer.journal.entry import NOTHING, TOGETHER, Ended, Heading, Signed, batch, end, heading, seal, spelled
from signer.journal.failed import JournalFailed
from signer.journal.files import ended, file_name, first_line, numbers
from signer.keystore.durable import create, create_folder, sync_folder

FULL: Final = 64 * 1024 * 1024  # bytes; about 200,000 entries
_SYNC: Final = 1.0  # seconds


class Journal:
    """What the desk writes down. One process, one `Journal`; several share the folder.

    `key` is the store's for `entry.PURPOSE`. Raises `JournalFailed` where the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        key: bytes,
        *,
        now: Callable[[], float] = time.time,
        full: int = FULL,
        generation: int = GENERATION,
    ) -> None:
        self._folder = folder
        self._key = key
        self._now = now
        self._full = full
        self._pending: list[bytes] = []
        self._written = 0  # of the pending ones
        self._file = -1
        self._head, self._size, self._through = NOTHING, 0, 0
        self._synced = 0.0
        try:
            create_folder(folder)
        except OSError as error:
            raise JournalFailed(f"{folder} cannot be made: {error.strerror}") from None
        self._claims = Claims(folder, key, Tickets(generation=generation), generation=generation)
        # Its file is begun at the first claim: a worker that starts, and ends having signed nothing, leaves none.

    def claim(self, claims: Sequence[Claim]) -> list[Refused | None]:
        """Use tickets and serials up before anything is signed with them; None for each that was free.

        Raises `JournalFailed`: nothing may be signed. So it is while something that was signed is not written down.
        """
        self.write()
        if self._file < 0:
            self._open()
        return self._claims.take(claims, now=int(self._now()))

    def record(self, signed: Signed) -> None:
        """Take note of a signature by an issuer's key. It is written by the next `write`."""
        self._pending.append(spelled(signed))

    def write(self) -> None:
        """Write down what was recorded. Raises `JournalFailed`: no answer may leave, and the next call tries again."""
        if not self._pending:
            return
        try:
            if self._size >= self._full:
                self._finish()
            if self._file < 0:
                self._open()
            for start in range(0, len(self._pending), TOGETHER):
                part = self._pending[start : start + TOGETHER]
                self._put(batch(self._now(), self._through + len(part), part), len(part))
                self._written += len(part)
        except OSError as error:
            raise JournalFailed(f"the journal cannot be written: {error.strerror}") from None
        finally:
            del self._pending[: self._written]
            self._written = 0
        if time.monotonic() - self._synced > _SYNC:
            self._sync()

    def close(self) -> None:
        """End in order. What is pending is written; what cannot be written any more is not."""
        with contextlib.suppress(JournalFailed, OSError):
            self.write()
            self._finish()
        self._claims.close()

    def _put(self, body: bytes, entries: int) -> None:
        line, mac = seal(self._key, self._head, body)
        try:
            if os.write(self._file, line) != len(line):
                raise JournalFailed("the journal cannot be written: no room is left")
        except (OSError, JournalFailed):
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._head = mac
        self._size += len(line)
        self._through += entries

    def _finish(self) -> None:
        if self._file < 0:
            return
        self._put(end(self._now(), self._through), 0)
        self._sync()
        descriptor, self._file = self._file, -1
        os.close(descriptor)

    def _sync(self) -> None:
        with contextlib.suppress(OSError):  # a disk that cannot is heard of at the next write
            os.fdatasync(self._file)
        self._synced = time.monotonic()

    def _open(self) -> None:
        """Begin the next file, under the folder's lock, so that headings follow one another."""
        self._head, self._size, self._through = NOTHING, 0, 0
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._begin()
        except OSError as error:
            raise JournalFailed(f"a file of the journal cannot be begun: {error.strerror}") from None
        finally:
            os.close(folder)

    def _begin(self) -> None:
        known = numbers(self._folder)
        number = known[-1] + 1 if known else 1
        told = self._told(number, known)
        path = self._folder / file_name(number)
        self._file = create(path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._put(heading(told), 0)
            os.fsync(self._file)
            sync_folder(self._folder)
        except (OSError, JournalFailed):
            os.close(self._file)
            self._file = -1
            path.unlink(missing_ok=True)
            raise

    def _told(self, number: int, known: list[int]) -> Heading:
        """What the heading of file `number` says of those before it."""
        previous = ""
        candidates: list[int] = []
        for each in reversed(known):
            candidates.append(each)
            first = first_line(self._folder / file_name(each), self._key)
            if first is not None:  # one that has none was begun by a worker that died over it
                previous = first[1].hex()
                candidates += reversed(first[0].open)
                break
        over: list[Ended] = []
        still: list[int] = []
        for each in reversed(candidates):
            found = ended(self._folder, each)
            if found is None:
                still.append(each)
            else:
                over.append(found)
        return Heading(self._now(), number, os.getpid(), previous, over, still)
