"""Whose turn it is to do what is done once for a store: one process at a time, on one machine or on several.

The turn ends with its holder, however that ends. Never here: what is done, a lock that somebody must clear away.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from gateway.store.postgres_connection import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

GLANCE: Final = 1.0  # seconds until another takes over
_TURN: Final = 0x6D757375  # "musu": who holds this advisory lock has the turn
_PRESENT: Final = 0x6D757376  # and who has the store open at all holds this one, with all others


class Duty(Protocol):
    """The turn. `alone`: nobody else had the store open when this was opened."""

    alone: bool

    async def take(self) -> None:
        """Wait until it is ours."""
        ...

    async def lost(self) -> None:
        """Wait until it is ours no more."""
        ...


class _File:
    """A lock of the kernel's on a file. Whoever serves from a folder holds that folder, so nobody else is there."""

    alone = True

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def take(self) -> None:
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await trio.sleep(GLANCE)
            else:
                return

    async def lost(self) -> None:
        await trio.sleep_forever()


class _Server:
    """Advisory locks of a session of its own, which the server lets go of when the session ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self.alone = False

    def open(self) -> None:
        """Connect, find out who else is there, and be there. Blocks. Raises as `connect` does."""
        from gateway.store.postgres_connection import connect

        connection = connect(self._url)
        connection.autocommit = True
        self._connection = connection
        self.alone = self._said("SELECT pg_try_advisory_lock(%s)", _PRESENT)
        self._said("SELECT pg_advisory_lock_shared(%s) IS NULL", _PRESENT)
        if self.alone:
            self._said("SELECT pg_advisory_unlock(%s)", _PRESENT)

    def close(self) -> None:
        """Let go. Blocks."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def take(self) -> None:
        while not await trio.to_thread.run_sync(self._quietly, self._try):  # noqa: ASYNC110 - the server tells nobody
            await trio.sleep(GLANCE)

    async def lost(self) -> None:
        while await trio.to_thread.run_sync(self._quietly, self._there):  # noqa: ASYNC110 - the same
            await trio.sleep(2 * GLANCE)

    def _try(self) -> bool:
        if self._connection is None:
            self.open()
        return self._said("SELECT pg_try_advisory_lock(%s)", _TURN)

    def _there(self) -> bool:
        return self._connection is not None and self._said("SELECT %s > 0", 1)

    def _quietly(self, ask: Callable[[], bool]) -> bool:
        import psycopg

        from gateway.store.postgres_connection import Again

        try:
            return ask()
        except (psycopg.Error, Again) as trouble:
            log.debug("the turn cannot be asked for: %s", trouble)
            with suppress(psycopg.Error):
                self.close()
            return False

    def _said(self, query: str, number: int) -> bool:
        assert self._connection is not None
        row = self._connection.execute(query, (number,)).fetchone()
        return row is not None and row[0] is True


@asynccontextmanager
async def open_duty(url: str, file: Path) -> AsyncIterator[Duty]:
    """The turn of the store at `url`; `file` is locked for one that lives in a file. Given back at the end.

    Raises `StoreUnavailable` where the server cannot be reached.
    """
    if url.startswith("sqlite:"):
        duty = _File(file)
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
