"""Deltas as signed, and their bases: one sequence of numbers, the oldest list in force (RFC 5280, 5.2.3 and 5.2.4)."""

import contextlib
import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from gateway.store import migrate, revocation_deltas, revocation_lists, revocations, statements
from gateway.store.postgres import in_postgres_words
from gateway.store.revocation_deltas import Base, DeltaState
from gateway.store.revocation_lists import WHOLE, ListState
from gateway.store.unit import EPOCH, Store, Unit, from_millis, millis, open_store
from tests.doubles.postgresql import Cluster
from tests.store.things import NOW

DAY = timedelta(days=1)
WHERE = ("http://a/x-delta.crl",)


async def claimed(store: Store, at: datetime = NOW, part: int = WHOLE) -> int:
    def unit(unit: Unit) -> tuple[int, ListState] | None:
        return revocation_lists.claim(unit, "authority", part, urls=(), at=at, patience=timedelta(seconds=45))

    found = await store.write(unit)
    assert found is not None
    return found[0]


async def named(
    store: Store, at: datetime = NOW, *, revision: int = 0, lasts: timedelta = 3 * DAY, urls: tuple[str, ...] = ()
) -> int:
    """A complete list that names a delta, kept; its number."""
    number = await claimed(store, at)
    signed = ListState("authority", WHOLE, number, at, at + lasts, revision, urls)

    def unit(unit: Unit) -> None:
        assert revocation_lists.keep(unit, signed, b"list")
        revocation_deltas.name(unit, signed, WHERE, at=at)

    await store.write(unit)
    return number


async def state(store: Store) -> DeltaState:
    found = await store.read(lambda unit: revocation_deltas.state(unit, "authority", WHOLE))
    assert found is not None
    return found


async def base(store: Store, at: datetime = NOW) -> Base | None:
    return await store.read(lambda unit: revocation_deltas.base(unit, "authority", WHOLE, at=at))


async def keep(store: Store, number: int, revision: int = 1) -> bool:
    before = await state(store)
    made = replace(before, number=number, this_update=NOW, next_update=NOW + timedelta(hours=1), revision=revision)
    return await store.write(lambda unit: revocation_deltas.keep(unit, made, b"delta"))


async def test_a_part_has_no_delta_before_a_list_names_one(store: Store):
    assert await store.read(lambda unit: revocation_deltas.state(unit, "authority", WHOLE)) is None
    assert await base(store) is None
    number = await named(store, revision=4)
    assert await state(store) == DeltaState(
        "authority", WHOLE, number, NOW + 3 * DAY, WHERE, 0, EPOCH, EPOCH, base_revision=4, revision=4
    )
    assert await store.read(lambda unit: revocation_deltas.find(unit, "authority", WHOLE)) is None
    assert await base(store) == Base(number, 4, ())


async def test_a_delta_that_was_kept_is_found_by_every_gateway(url: str):
    async with open_store(url) as one, open_store(url) as other:
        complete = await named(one)
        number = await claimed(other)
        assert number > complete
        assert await keep(other, number)
        found = await one.read(lambda unit: revocation_deltas.find(unit, "authority", WHOLE))
        assert found == (await state(other), b"delta")
        assert await one.read(revocation_deltas.states) == {("authority", WHOLE): await state(other)}
        assert await claimed(one) > number, "lists and deltas share their numbers, and keeping one ends its claim"


async def test_a_delta_whose_claim_was_taken_over_is_dropped(store: Store):
    await named(store)
    late = await claimed(store)
    number = await claimed(store, NOW + timedelta(seconds=46))
    assert not await keep(store, late)
    assert await keep(store, number)
    assert not await keep(store, number), "an older delta never replaces a newer"
    assert (await state(store)).number == number


async def test_the_base_is_the_oldest_list_in_force(store: Store):
    numbers = [await named(store, NOW + day * DAY, revision=day) for day in range(3)]
    for day, oldest in ((2, 0), (2.5, 0), (3, 1), (4, 2)):
        assert await base(store, NOW + day * DAY) == Base(numbers[oldest], oldest, ())
    assert await base(store, NOW + 5 * DAY) is None
    assert (await state(store)).named_until == NOW + 5 * DAY
    await named(store, NOW + 3 * DAY, revision=3, lasts=DAY)
    assert (await state(store)).named_until == NOW + 5 * DAY, "one from before lasts longer"


async def test_a_list_of_other_names_is_no_base_for_what_fits_the_newest(store: Store):
    await named(store, urls=("http://a/0.crl",), lasts=9 * DAY)
    number = await named(store, urls=("http://b/0.crl", "http://a/0.crl"))
    assert await base(store) == Base(number, 0, ("http://b/0.crl", "http://a/0.crl"))
    assert (await state(store)).named_until == NOW + 3 * DAY


async def test_a_list_of_the_future_is_forgotten_when_the_clock_is_right_again(store: Store):
    await named(store, NOW + 400 * DAY)
    number = await named(store, NOW)
    assert await base(store) == Base(number, 0, ())
    assert (await state(store)).named_until == NOW + 3 * DAY


MANY = 20_000
ROWS = "SELECT 'authority', CAST(n AS TEXT), 0, 4, 0, NULL, n FROM"


def test_changes_are_found_by_their_revision_on_sqlite():
    connection = sqlite3.connect(":memory:")
    for statement in migrate.statements(migrate.current()):
        connection.execute(statement)
    numbers = f"(WITH RECURSIVE up (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM up LIMIT {MANY}) SELECT n FROM up)"
    connection.execute(f"INSERT INTO revocations {ROWS} {numbers}")
    query = statements.for_sqlite()["revocations.since"]
    asked = {"issuer_id": "authority", "revision": MANY - 3, "serial": "", "most": 400}
    assert len(connection.execute(query, asked).fetchall()) == 4
    [step, *more] = connection.execute(f"EXPLAIN QUERY PLAN {query}", asked).fetchall()
    assert "SEARCH revocations USING INDEX revocations_by_revision (issuer_id=? AND " in step[3]
    assert not [each for each in more if "SCAN" in each[3]]
    connection.close()


@pytest.mark.postgres
def test_changes_are_found_by_their_revision_on_postgresql(postgresql: Cluster):
    with postgresql.database() as url, psycopg.connect(url) as connection:
        for statement in migrate.statements(migrate.current()):
            connection.execute(in_postgres_words(statement))  # type: ignore[arg-type]
        connection.execute(f"INSERT INTO revocations {ROWS} generate_series(1, {MANY}) AS up (n)")
        connection.execute("ANALYZE revocations")
        query = statements.for_sqlite()["revocations.since"]
        for name, value in {"issuer_id": "'authority'", "revision": MANY - 3, "serial": "''", "most": 400}.items():
            query = query.replace(f":{name}", str(value))
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN (ANALYZE, TIMING off) {query}"))  # type: ignore[arg-type]
        assert "revocations_by_revision" in plan
        assert "Seq Scan" not in plan
        assert "Rows Removed by Filter" not in plan


async def test_what_changed_since_a_list_is_what_a_delta_reads(store: Store):
    """And nothing of the revision that the list itself shows."""
    for number in range(6):

        def unit(unit: Unit, number: int = number) -> None:
            revision = revocations.begin(unit, "authority")
            for serial in ("a", "b"):
                unit.run(
                    "revocations.put", issuer_id="authority", serial=f"{serial}{number}", revoked_at=0, reason=4,
                    not_after=0, crl_partition=None, revision=revision,
                )  # fmt: skip

        await store.write(unit)
    rows = await store.read(lambda unit: revocations.since(unit, "authority", revision=5, serial="", most=99))
    assert [each.serial for each in rows] == ["a4", "b4", "a5", "b5"]


def before_deltas(url: str) -> None:
    """A store of the version before, with a list: its claimed number is far above the clock."""
    older = [each for each in migrate.migrations() if each.number < 5]
    texts = [statement for each in older for statement in migrate.statements(each.script)]
    texts += [f"INSERT INTO migrations (name) VALUES ('{each.name}')" for each in older]
    der = "X'6c697374'" if url.startswith("sqlite") else "'list'"
    number = millis(NOW + 50 * DAY)
    texts.append(
        f"INSERT INTO revocation_lists VALUES ('authority', -1, {number - 1}, {millis(NOW)}, {millis(NOW + 7 * DAY)}, 3,"
        f" {number}, {millis(NOW)}, '[\"http://a/x.crl\"]', {der})"
    )
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection, connection:
            for text in texts:
                connection.execute(text)
    else:
        with psycopg.connect(url) as server:
            for text in texts:
                server.execute(in_postgres_words(text))  # type: ignore[arg-type]


async def test_a_store_of_the_version_before_goes_on_with_its_list_its_names_and_its_numbers(url: str):
    before_deltas(url)
    number = millis(NOW + 50 * DAY)
    async with open_store(url) as store:
        kept = ListState(
            "authority", WHOLE, number - 1, millis_of(NOW), millis_of(NOW + 7 * DAY), 3, ("http://a/x.crl",)
        )
        assert await store.read(lambda unit: revocation_lists.find(unit, "authority", WHOLE)) == (kept, b"list")
        found = await store.write(
            lambda unit: revocation_lists.claim(
                unit, "authority", WHOLE, urls=("http://b/x.crl",), at=NOW, patience=timedelta(seconds=45)
            )
        )
        assert found == (number + 1, kept), "nobody of that version signs any more"
        again = replace(kept, number=number + 1, urls=("http://b/x.crl", "http://a/x.crl"))
        assert await store.write(lambda unit: revocation_lists.keep(unit, again, b"next"))
        assert await store.read(revocation_lists.states) == {("authority", WHOLE): again}
        assert await named(store) == number + 2


def millis_of(at: datetime) -> datetime:
    """A time as the store gives it back."""
    return from_millis(millis(at))


def test_a_delta_beside_a_list_of_megabytes_writes_a_few_pages(tmp_path: Path):
    """An engine writes a row anew when a column of it changes: numbers do not stand beside lists."""
    connection = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for statement in migrate.statements(migrate.current()):
        connection.execute(statement)
    queries = statements.for_sqlite()
    of = {"issuer_id": "authority", "part": WHOLE}
    times = {"this_update": 0, "next_update": 10**15, "revision": 1}
    connection.execute(queries["revocation_lists.prepare"], of)
    connection.execute(
        queries["revocation_lists.keep"], {**of, **times, "number": 1, "urls": "[]", "der": b"l" * 4_000_000}
    )
    connection.execute(queries["revocation_deltas.add"], {**of, **times, "number": 1, "urls": "[]"})
    name = {**of, "named_by": 1, "freshest": "[]", "urls": "[]", "revision": 1, "der": b"", "at": 0}
    connection.execute(queries["revocation_deltas.name"], name)
    log = tmp_path / "store.db-wal"
    before = log.stat().st_size
    assert before > 4_000_000
    claim = {**of, "number": 2, "own": 0, "at": 0, "abandoned": 0, "impossible": 0, "urls": "[]"}
    kept = {**of, **times, "number": 2, "base_revision": 1, "der": b"d" * 200}
    for query, given in (("lists.claim", claim), ("lists.give_back", claim), ("deltas.keep", kept)):
        assert connection.execute(queries[f"revocation_{query}"], {**of, **given}).rowcount == 1
    assert log.stat().st_size - before < 100_000
    connection.close()
