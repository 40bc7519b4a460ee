"""Rows that are on the disk before anybody hears of them: what waits while one commit runs is the next one.

Never here: an index beside the key, a second table, a look at what is stored.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import trio

_SCHEMA = "CREATE TABLE row (id BLOB PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID"


class Ledger:
    """One table by one key, durable (`synchronous=FULL`)."""

    def __init__(self, path: Path) -> None:
        self._writer = _connect(path)
        self._writer.execute(_SCHEMA)
        self._reader = _connect(path)
        self._rows: list[tuple[bytes, bytes]] = []
        self._waiting: list[trio.Event] = []
        self._some = trio.Event()

    async def keep(self, key: bytes, content: bytes) -> None:
        """Return when the row is durable."""
        durable = trio.Event()
        self._rows.append((key, content))
        self._waiting.append(durable)
        self._some.set()
        await durable.wait()

    def find(self, key: bytes) -> bytes:
        """One read by key. Raises KeyError."""
        row = self._reader.execute("SELECT content FROM row WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        content: bytes = row[0]
        return content

    async def run(self) -> None:
        """Commit what waits, until cancelled."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            rows, waiting, self._rows, self._waiting = self._rows, self._waiting, [], []
            await trio.to_thread.run_sync(self._commit, rows)
            for each in waiting:
                each.set()

    def _commit(self, rows: list[tuple[bytes, bytes]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany("INSERT INTO row VALUES (?, ?)", rows)
        self._writer.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
