"""Whose turn it is to do what is done once for a store, and who lives: on one machine or on several.

Turn and life are locks that end with their process, however that ends. Never here: what is done, a lock that somebody
must clear away.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import struct
import threading
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import trio

from gateway.store.unit import StoreUnavailable

if TYPE_CHECKING:
    from gateway.store.postgres_connection import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

GLANCE: Final = 1.0  # seconds until another takes over
_TURN: Final = 0x6D757375  # "musu": who holds this advisory lock has the turn
_PRESENT: Final = 0x6D757376  # and who has the store open at all holds this one, with all others
# struct flock on Linux (fcntl(2)): type, whence, start, length, process.
_LOCK: Final = struct.Struct("hhqqi")


class Duty(Protocol):
    """The turn. `alone`: nobody else had the store open when this was opened. `holder` names this process.

    It is a number of 62 random bits, by which others can ask whether this process has ended.
    """

    alone: bool
    holder: int

    async def take(self) -> None:
        """Wait until it is ours."""
        ...

    async def lost(self) -> None:
        """Wait until it is ours no more."""
        ...

    async def gone(self, holders: Collection[int]) -> set[int]:
        """Which of other processes have ended; none, where that cannot be asked just now."""
        ...


class _File:
    """A lock of the kernel's on a file. Whoever serves from a folder holds that folder, so nobody else is there."""

    alone = True

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.holder = _name()
        # A record lock on a byte of its own, beside the turn's flock: they do not see each other (flock(2)).
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.holder)

    async def take(self) -> None:
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another has it, or the kernel has no lock to give just now
                await trio.sleep(GLANCE)
            else:
                return

    async def lost(self) -> None:
        await trio.sleep_forever()

    async def gone(self, holders: Collection[int]) -> set[int]:
        return {each for each in holders if each != self.holder and not self._locked(each)}

    def _locked(self, place: int) -> bool:
        asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        found: int = _LOCK.unpack_from(fcntl.fcntl(self.descriptor, fcntl.F_GETLK, asked))[0]
        return found != fcntl.F_UNLCK


class _Server:
    """Advisory locks of a session of its own, which the server lets go of when the session ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._one = threading.Lock()  # two threads may ask, and one of them find that the server has gone
        self.alone = False
        self.holder = _name()

    def open(self) -> None:
        """Connect, find out who else is there, and be there. Blocks. Raises as `connect` does."""
        from gateway.store.postgres_connection import connect

        connection = connect(self._url)
        connection.autocommit = True
        self._connection = connection
        self.alone = self._said("SELECT pg_try_advisory_lock(%s)", _PRESENT)
        self._said("SELECT pg_advisory_lock_shared(%s) IS NULL", _PRESENT)
        self._said("SELECT pg_try_advisory_lock(%s)", self.holder)
        if self.alone:
            self._said("SELECT pg_advisory_unlock(%s)", _PRESENT)

    def close(self) -> None:
        """Let go. Blocks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def take(self) -> None:
        while not await trio.to_thread.run_sync(self._quietly, self._try, False):  # noqa: ASYNC110 - the server tells nobody
            await trio.sleep(GLANCE)

    async def lost(self) -> None:
        while await trio.to_thread.run_sync(self._quietly, self._there, False):  # noqa: ASYNC110 - the same
            await trio.sleep(2 * GLANCE)

    async def gone(self, holders: Collection[int]) -> set[int]:
        none: set[int] = set()
        return await trio.to_thread.run_sync(self._quietly, lambda: self._ended(holders), none)

    def _ended(self, holders: Collection[int]) -> set[int]:
        found: set[int] = set()
        for each in holders:
            if self._connection is None:
                return set()
            if each != self.holder and self._said("SELECT pg_try_advisory_lock(%s)", each):
                self._said("SELECT pg_advisory_unlock(%s)", each)
                found.add(each)
        return found

    def _try(self) -> bool:
        if self._connection is None:
            self.open()
        return self._said("SELECT pg_try_advisory_lock(%s)", _TURN)

    def _there(self) -> bool:
        return self._connection is not None and self._said("SELECT %s > 0", 1)

    def _quietly(self, ask: Callable[[], T], otherwise: T) -> T:
        import psycopg

        from gateway.store.postgres_connection import Again

        with self._one:
            try:
                return ask()
            except (psycopg.Error, Again) as trouble:
                log.debug("the turn cannot be asked for: %s", trouble)
                with suppress(psycopg.Error):
                    self.close()
                return otherwise

    def _said(self, query: str, number: int) -> bool:
        assert self._connection is not None
        row = self._connection.execute(query, (number,)).fetchone()
        return row is not None and row[0] is True


def _name() -> int:
    """62 bits: an offset in a file (fcntl(2)), and the key of an advisory lock."""
    return secrets.randbits(62)


@asynccontextmanager
async def open_duty(url: str, file: Path) -> AsyncIterator[Duty]:
    """The turn of the store at `url`; `file` is locked for one that lives in a file. Given back at the end.

    Raises `StoreUnavailable` where the file cannot be made or the server not be reached.
    """
    if url.startswith("sqlite:"):
        try:
            duty = _File(file)
        except OSError as error:
            raise StoreUnavailable(f"{file}: {error.strerror}") from error
        try:
            yield duty
        finally:
            os.close(duty.descriptor)
        return
    server = _Server(url)
    await trio.to_thread.run_sync(server.open)
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.close)
