"""Connections to PostgreSQL, units of work on them, and errors in the store's words. Never here: a thread, a retry."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from gateway.domain.audit import AuditEvent
from gateway.store.statements import for_postgres, in_order
from gateway.store.unit import DamagedStore, Duplicate, Row, StoreUnavailable, Value

# Seconds and milliseconds after which a peer that does not answer counts as gone; nobody waits for ever.
_TIMEOUTS: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_VERIFYING: Final = frozenset({"verify-ca", "verify-full"})
_OPTIONS: Final = "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"

Connection = psycopg.Connection[TupleRow]


class Again(StoreUnavailable):
    """The transaction is gone and nothing of it was committed: the batch may be run again."""


Columns: TypeAlias = dict[str, dict[str, int]]


class PostgresUnit:
    """A unit of work on one connection. `columns` remembers, for a whole store, where a query's columns stand."""

    __slots__ = ("_columns", "_connection", "_queries", "events")

    def __init__(self, connection: Connection, columns: Columns) -> None:
        self._connection = connection
        self._columns = columns
        self._queries = for_postgres()
        self.events: list[AuditEvent] | None = None

    def one(self, query: str, **parameters: Value) -> Row | None:
        """The first row, or None."""
        cursor = self._execute(query, parameters)
        values = cursor.fetchone()
        return None if values is None else Row(self._columns.get(query) or self._learn(query, cursor), values)

    def all(self, query: str, **parameters: Value) -> list[Row]:
        """All rows."""
        cursor = self._execute(query, parameters)
        columns = self._columns.get(query) or self._learn(query, cursor)
        return [Row(columns, values) for values in cursor]

    def run(self, query: str, **parameters: Value) -> int:
        """Change rows; how many were changed."""
        return self._execute(query, parameters).rowcount

    def many(self, query: str, rows: Iterable[Sequence[Value]]) -> None:
        """Run one change for each of `rows`, whose values stand as the query names them, in one pipeline."""
        try:
            with self._connection.cursor() as cursor:
                cursor.executemany(in_order(self._queries[query]), rows)
        except psycopg.Error as error:
            fail(error)

    def audit(self, event: AuditEvent) -> None:
        """Append to the audit chain, with the unit."""
        if self.events is None:
            raise TypeError("a unit that reads has nothing to audit")
        self.events.append(event)

    def _learn(self, query: str, cursor: psycopg.Cursor[TupleRow]) -> dict[str, int]:
        columns = self._columns[query] = {column.name: place for place, column in enumerate(cursor.description or ())}
        return columns

    def _execute(self, query: str, parameters: Mapping[str, Value]) -> psycopg.Cursor[TupleRow]:
        try:
            return self._connection.execute(self._queries[query], parameters, binary=True)
        except psycopg.Error as error:
            fail(error)


def connect(url: str, *, reads: bool = False) -> Connection:
    """A connection. One for reads sees the same moment throughout a transaction, and cannot change anything."""
    try:
        connection: Connection = psycopg.connect(conninfo(url))
        # Every query is one of ours and comes again and again: prepared at its first use.
        connection.prepare_threshold = 0
        connection.prepared_max = None
        if reads:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        else:
            _insist_on_durability(connection)
    except psycopg.Error as error:
        raise Again(f"the store cannot be reached: {_sentence(error)}") from error
    return connection


def conninfo(url: str) -> str:
    """What libpq is told: the URL's own words first, then our deadlines, and the system's roots where TLS is verified.

    The libpq in psycopg's wheels was built elsewhere, and does not find this system's roots by itself.
    Raises psycopg.Error for a URL that it cannot read.
    """
    given = conninfo_to_dict(url)
    settings = {**_TIMEOUTS, **given, "options": f"{_OPTIONS} {given.get('options', '')}"}
    if given.get("sslmode") in _VERIFYING and "sslrootcert" not in given and "PGSSLROOTCERT" not in os.environ:
        from oscrypto import trust_list

        settings["sslrootcert"] = trust_list.get_path()
    return make_conninfo(url, **settings)


def _insist_on_durability(connection: Connection) -> None:
    """A server may be set to acknowledge what a crash can still undo; what was promised to a client must not vanish."""
    row = connection.execute("SHOW synchronous_commit").fetchone()
    if row is not None and row[0] == "off":
        connection.execute("SET synchronous_commit TO on")
    connection.commit()


def _sentence(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def fail(error: psycopg.Error) -> NoReturn:
    """PostgreSQL's error in the store's words; what speaks of a statement is a bug, and stays as it is."""
    match error:
        case psycopg.errors.UniqueViolation():
            raise Duplicate(error.diag.constraint_name or error.diag.table_name or "") from error
        case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
            raise Again(f"the store is contended: {_sentence(error)}") from error
        case psycopg.errors.DataCorrupted() | psycopg.errors.IndexCorrupted():
            raise DamagedStore(f"the store is damaged: {_sentence(error)}") from error
        case psycopg.errors.QueryCanceled() | psycopg.errors.LockNotAvailable() | psycopg.errors.DiskFull():
            raise StoreUnavailable(f"the store cannot work: {_sentence(error)}") from error
        case psycopg.OperationalError() | psycopg.InterfaceError():
            # Whatever was under way was not committed: commits are not run through here.
            raise Again(f"the store cannot be reached: {_sentence(error)}") from error
        case _:
            raise error
