"""The schema: the sum of its migrations, the same state names as the enums, and nobody else's."""

import re
import sqlite3
from enum import StrEnum
from pathlib import Path

import psycopg
import pytest

from gateway.domain.access import ApplicationRole, IdentityKind, ProductRole
from gateway.domain.certificate import SerialStatus
from gateway.domain.request import ProofKind, Protocol, RequestStatus
from gateway.store import migrate, statements
from gateway.store.migrate import Phase
from gateway.store.outbox import OutboxStatus
from gateway.store.postgres import in_postgres_words
from gateway.store.unit import DamagedStore, NewerSchema, open_store
from protocols.acme.states import AccountStatus, AuthorizationStatus, IdentifierType, OrderStatus
from tests.doubles.postgresql import Cluster

CHECKS: dict[str, type[StrEnum]] = {
    "identity_kind": IdentityKind,
    "product_role": ProductRole,
    "member_role": ApplicationRole,
    "request_protocol": Protocol,
    "request_status": RequestStatus,
    "proof_kind": ProofKind,
    "serial_status": SerialStatus,
    "account_status": AccountStatus,
    "order_status": OrderStatus,
    "authorization_status": AuthorizationStatus,
    "identifier_type": IdentifierType,
    "outbox_status": OutboxStatus,
}
# Text in the domain, and no enum: the sentences are those of `AuditEvent` and `Certificate`.
WORDS = {"audit_outcome": {"success", "refused", "failed"}, "certificate_source": {"issued", "imported", "ceremony"}}


def test_the_checks_name_exactly_the_states_of_the_enums():
    found = {
        name: set(re.findall(r"'([^']+)'", body))
        for name, body in re.findall(r"CONSTRAINT (\w+) CHECK \(([^()]*)\)", migrate.current())
    }
    assert found == {name: {each.value for each in enum} for name, enum in CHECKS.items()} | WORDS


def schema_of_sqlite(scripts: list[str]) -> list[tuple[str, str, str]]:
    connection = sqlite3.connect(":memory:")
    for script in scripts:
        for statement in migrate.statements(script):
            connection.execute(statement)
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name"
    ).fetchall()
    connection.close()
    # ALTER TABLE writes its column behind the last one's text: blanks before a comma or a bracket say nothing.
    return [(kind, name, re.sub(r" (?=[,)])", "", " ".join(sql.split()))) for kind, name, sql in rows]


def test_a_fresh_schema_equals_the_sum_of_the_migrations():
    fresh = schema_of_sqlite([migrate.current()])
    assert fresh == schema_of_sqlite([migration.script for migration in migrate.migrations()])
    assert len(fresh) > 20


@pytest.mark.postgres
def test_a_fresh_schema_equals_the_sum_of_the_migrations_on_postgresql(postgresql: Cluster):
    def schema(scripts: list[str]) -> list[tuple[object, ...]]:
        with postgresql.database() as url, psycopg.connect(url) as connection:
            for script in scripts:
                for statement in migrate.statements(script):
                    connection.execute(in_postgres_words(statement))  # type: ignore[arg-type]
            columns = connection.execute(
                "SELECT table_name, column_name, data_type, is_nullable, column_default"
                " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
            ).fetchall()
            indexes = connection.execute(
                "SELECT tablename, indexname, replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2"
            ).fetchall()
            constraints = connection.execute(
                "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE connamespace = current_schema()::regnamespace ORDER BY 1, 2, 3"
            ).fetchall()
            return columns + indexes + constraints

    fresh = schema([migrate.current()])
    assert fresh == schema([migration.script for migration in migrate.migrations()])
    assert len(fresh) > 100


# Read while nothing else is, in steps, or along an index that holds only what is under way.
READS_THE_WHOLE_TABLE = {
    "requests.search",
    "requests.count",
    "outbox.collect",
    "acme.unfinished",
    "issuance.release_orders",
}
TABLES_OF_EVERY_ENROLLMENT = re.compile(
    r"SCAN (certificates|certificate_requests|serials|outbox|audit|acme_(orders|authorizations|order_authorizations))\b"
)


def test_no_query_looks_at_every_row_of_a_table_that_grows_with_each_enrollment():
    connection = sqlite3.connect(":memory:")
    for statement in migrate.statements(migrate.current()):
        connection.execute(statement)
    scanning = set()
    for name, text in statements.for_sqlite().items():
        query = statements.positional(text).text
        plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (None,) * query.count("?")).fetchall()
        if any(TABLES_OF_EVERY_ENROLLMENT.match(step[3]) for step in plan):
            scanning.add(name)
    connection.close()
    assert scanning == READS_THE_WHOLE_TABLE


def test_migrations_are_numbered_without_gaps_and_pre_comes_before_post():
    found = migrate.migrations()
    assert [each.number for each in found] == sorted(each.number for each in found)
    assert {each.number for each in found} == set(range(1, found[-1].number + 1))
    assert all(each.name.startswith(f"{each.number:04}_{each.phase}_") for each in found)


async def test_opening_twice_changes_nothing_the_second_time(url: str):
    async with open_store(url):
        pass
    async with open_store(url) as store:
        assert await store.read(lambda unit: unit.one("audit.head")) is not None


def execute(url: str, statement: str) -> None:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[arg-type]


async def test_the_store_of_a_newer_version_is_left_alone(url: str):
    async with open_store(url):
        pass
    execute(url, "INSERT INTO migrations (name) VALUES ('9999_pre_from_the_future')")
    with pytest.raises(NewerSchema, match="9999_pre_from_the_future"):
        async with open_store(url):
            pass


async def test_a_store_that_lacks_a_table_is_damaged_and_the_sentence_names_it(url: str):
    async with open_store(url):
        pass
    execute(url, "DROP TABLE tokens")
    with pytest.raises(DamagedStore, match="tokens"):
        async with open_store(url):
            pass


async def test_a_database_of_something_else_is_left_as_it_was(url: str):
    execute(url, "CREATE TABLE theirs (x INTEGER)")
    before = Path(url.removeprefix("sqlite:///")).read_bytes() if url.startswith("sqlite") else None
    with pytest.raises(DamagedStore, match="something else"):
        async with open_store(url):
            pass
    if before is not None:
        assert Path(url.removeprefix("sqlite:///")).read_bytes() == before


class Ground:
    """A schema on paper."""

    def __init__(self, applied: set[str]) -> None:
        self.names = applied
        self.executed: list[str] = []

    def tables(self) -> frozenset[str]:
        return frozenset({"migrations"})

    def applied(self) -> frozenset[str]:
        return frozenset(self.names)

    def execute(self, statement: str) -> None:
        self.executed.append(statement)

    def record(self, name: str) -> None:
        self.names.add(name)


def test_the_second_phase_waits_until_older_gateways_are_gone(monkeypatch: pytest.MonkeyPatch):
    steps = (
        migrate.Migration(1, Phase.PRE, "0001_pre_a", "A;"),
        migrate.Migration(2, Phase.PRE, "0002_pre_b", "B;B2;"),
        migrate.Migration(2, Phase.POST, "0002_post_c", "C;"),
        migrate.Migration(3, Phase.PRE, "0003_pre_d", "D;"),
    )
    monkeypatch.setattr(migrate, "migrations", lambda: steps)
    ground = Ground({"0001_pre_a"})
    assert migrate.migrate(ground, post=False) is True
    assert ground.executed == ["B", "B2", "D"]
    assert migrate.migrate(ground, post=True) is True
    assert ground.executed == ["B", "B2", "D", "C"]


def test_both_engines_have_the_same_queries():
    assert statements.for_sqlite().keys() == statements.for_postgres().keys()


def test_queries_and_parameters_are_read_as_they_are_written():
    text = (
        "-- a file --not a name\n-- first --\n-- why\nSELECT ':x' -- :y\n\n-- second_2 --\nSELECT :a, CAST(:b AS TEXT)"
    )
    blocks = statements.parse(text)
    assert set(blocks) == {"first", "second_2"}
    assert statements.to_postgres("x = :a AND y LIKE '%' AND z = :b_c::text") == (
        "x = %(a)s AND y LIKE '%%' AND z = %(b_c)s::text"
    )
    for wrong in ("-- a --\nSELECT 1\n-- a --\nSELECT 2", "-- a --\n\n-- only a comment"):
        with pytest.raises(ValueError, match="twice, or empty"):
            statements.parse(wrong)


def test_no_query_lacks_a_caller():
    source = "".join(path.read_text() for path in Path(statements.__file__).parent.glob("*.py"))
    assert [name for name in statements.for_sqlite() if f'"{name}"' not in source] == []
