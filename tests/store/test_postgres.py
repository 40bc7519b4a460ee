"""PostgreSQL when things go wrong: lost connections, contention, a server that is away."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import trio
from oscrypto import trust_list
from psycopg.conninfo import conninfo_to_dict

from gateway.store import outbox, postgres
from gateway.store.postgres_connection import Again, conninfo
from gateway.store.unit import Store, StoreUnavailable, Unit, open_store
from tests.doubles.postgresql import Cluster
from tests.store.things import NOW

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgresql: Cluster) -> Iterator[str]:
    with postgresql.database() as found:
        yield found


def note(name: str) -> Callable[[Unit], None]:
    return lambda unit: outbox.append(unit, kind="noted", application_id=None, subject_id=name, at=NOW)


async def noted(store: Store) -> set[str]:
    return {each.subject_id for each in await store.read(lambda unit: outbox.pending(unit, at=NOW, limit=1000))}


async def test_a_server_that_restarts_between_two_units_is_not_noticed(store: Store, postgresql: Cluster):
    await store.write(note("before"))
    assert await noted(store) == {"before"}
    await trio.to_thread.run_sync(postgresql.disconnect_everyone)
    await store.write(note("after"))
    assert await noted(store) == {"before", "after"}


async def test_a_connection_lost_within_a_unit_runs_the_unit_again(store: Store, postgresql: Cluster):
    runs = []

    def unit(unit: Unit) -> None:
        note("once")(unit)
        runs.append("run")
        if len(runs) == 1:
            postgresql.disconnect_everyone()
        note("twice")(unit)

    await store.write(unit)
    assert len(runs) == 2
    assert await noted(store) == {"once", "twice"}


async def test_a_connection_lost_in_the_commit_is_an_outage_and_is_not_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """It may have been carried out: running it again could do it twice."""
    runs = []
    commit = psycopg.Connection.commit

    def lost(connection: psycopg.Connection[object]) -> None:
        if not runs:
            return commit(connection)
        commit(connection)
        raise psycopg.OperationalError("the answer got lost")

    def unit(unit: Unit) -> None:
        runs.append("run")
        note("a")(unit)

    monkeypatch.setattr(psycopg.Connection, "commit", lost)
    with pytest.raises(StoreUnavailable, match="may have been carried out"):
        await store.write(unit)
    monkeypatch.undo()
    assert runs == ["run"]
    assert await noted(store) == {"a"}
    await store.write(note("b"))


async def test_a_serialization_failure_is_tried_again_for_the_whole_batch(store: Store):
    runs = []

    def contended(unit: Unit) -> None:
        runs.append("run")
        note("contended")(unit)
        if len(runs) < 3:
            raise Again("deadlock")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.write, note("neighbour"))
        nursery.start_soon(store.write, contended)
    assert len(runs) == 3
    assert await noted(store) == {"neighbour", "contended"}


async def test_a_deadlock_of_two_gateways_ends_with_both_units_done(store: Store, url: str):
    """Rows taken in opposite orders: the server ends one of the two, which is run again."""
    for name in "ab":
        await store.write(note(name))
    met = trio.Event()

    def take(first: str, second: str, other_has_begun: list[int]) -> Callable[[Unit], None]:
        def unit(unit: Unit) -> None:
            for name in (first, second):
                unit.run("outbox.mark", id=f"{name}:noted", status="pending", due=1)
                other_has_begun.append(1)
                unit.all("outbox.pending", at=0, limit=len(other_has_begun))

        return unit

    begun: list[int] = []
    async with open_store(url) as other:
        for _ in range(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.write, take("a", "b", begun))
                nursery.start_soon(other.write, take("b", "a", begun))
        met.set()
    found = await store.read(lambda unit: outbox.pending(unit, at=NOW, limit=9))
    assert [each.attempts for each in found] == [20, 20]


async def test_a_server_that_is_away_is_one_sentence_and_nobody_waits_for_ever(
    tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(postgres, "PAUSES", (0.01,))
    with pytest.raises(StoreUnavailable, match="cannot be reached") as away:
        async with open_store(f"postgresql://muster:secret@/muster?host={tmp_path}"):
            pass
    assert "secret" not in str(away.value)
    assert "\n" not in str(away.value)


async def test_reads_fail_apart_and_share_what_works(store: Store):
    await store.write(note("a"))
    outcomes: list[object] = []

    async def read(number: int) -> None:
        def work(unit: Unit) -> int:
            if number % 3 == 0:
                raise LookupError(number)
            if number % 3 == 1:
                unit.run("outbox.mark", id="a:noted", status="delivered", due=0)
            return len(outbox.pending(unit, at=NOW, limit=9))

        try:
            outcomes.append(await store.read(work))
        except LookupError as error:
            outcomes.append(type(error))
        except psycopg.errors.ReadOnlySqlTransaction as error:
            outcomes.append(type(error))

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(read, number)
    assert outcomes.count(LookupError) == 20
    assert outcomes.count(psycopg.errors.ReadOnlySqlTransaction) == 20
    assert outcomes.count(1) == 20


async def test_reads_that_are_cancelled_leave_the_readers_working(store: Store):
    for _ in range(20):
        with trio.move_on_after(0.001):
            await noted(store)
    assert await noted(store) == set()


async def test_a_server_set_to_forget_commits_is_told_to_keep_them(postgresql: Cluster, url: str):
    postgresql.execute("ALTER SYSTEM SET synchronous_commit = off")
    postgresql.execute("SELECT pg_reload_conf()")
    try:
        with trio.fail_after(60):
            while _setting(url, "synchronous_commit") != "off":  # servers read it when they come to it
                await trio.sleep(0.05)
        async with open_store(url) as store:
            connection = await store.write(
                lambda unit: unit._connection.execute("SHOW synchronous_commit").fetchone()  # type: ignore[attr-defined]
            )
        assert connection == ("on",)
    finally:
        postgresql.execute("ALTER SYSTEM RESET synchronous_commit")
        postgresql.execute("SELECT pg_reload_conf()")


def _setting(url: str, name: str) -> str:
    """What a new connection is given."""
    with psycopg.connect(url) as connection:
        (value,) = connection.execute(f"SHOW {name}").fetchone()
    return value


def test_a_verified_connection_trusts_the_systems_roots_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    """The file is the one that oscrypto finds, not the one of the machine on which libpq was built."""
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    roots = trust_list.get_path()
    for mode in ("verify-ca", "verify-full"):
        told = conninfo_to_dict(conninfo(f"postgresql://muster@db.example/muster?sslmode={mode}"))
        assert told["sslrootcert"] == roots
        assert "BEGIN CERTIFICATE" in Path(roots).read_text()
    told = conninfo_to_dict(conninfo("postgresql://muster@db.example/muster?sslmode=verify-full&sslrootcert=/ours.pem"))
    assert told["sslrootcert"] == "/ours.pem"
    assert "sslrootcert" not in conninfo_to_dict(conninfo("postgresql://muster@db.example/muster?sslmode=require"))
    monkeypatch.setenv("PGSSLROOTCERT", "/theirs.pem")
    assert "sslrootcert" not in conninfo_to_dict(conninfo("postgresql://db.example/muster?sslmode=verify-full"))
