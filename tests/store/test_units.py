"""Units of work: what one commit holds, what a failure undoes, what a caller is told. The same on both engines."""

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.audit import AuditEvent
from gateway.store import audit, outbox
from gateway.store.unit import Duplicate, Row, Store, StoreBusy, StoreUnavailable, Unit, millis, open_store

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)


def event(target: str) -> AuditEvent:
    return AuditEvent(NOW, "token:admin", "thing.make", target, "success", source="192.0.2.1", request_id="r")


def note(name: str) -> Callable[[Unit], None]:
    """A unit that leaves one row."""
    return lambda unit: outbox.append(unit, kind="noted", application_id=None, subject_id=name, at=NOW)


async def noted(store: Store) -> list[str]:
    found = await store.read(lambda unit: outbox.pending(unit, at=NOW, limit=10_000))
    return sorted(each.subject_id for each in found)


async def together(store: Store, works: list[Callable[[Unit], None]]) -> list[BaseException | None]:
    """Run the units of one round of the loop, and what became of each."""
    outcomes: list[BaseException | None] = [None] * len(works)

    async def one(index: int, work: Callable[[Unit], None]) -> None:
        try:
            await store.write(work)
        except Exception as error:
            outcomes[index] = error

    async with trio.open_nursery() as nursery:
        for index, work in enumerate(works):
            nursery.start_soon(one, index, work)
    return outcomes


async def test_what_was_acknowledged_is_there_in_the_next_read_and_after_reopening(store: Store, url: str):
    await store.write(note("a"))
    assert await noted(store) == ["a"]
    async with open_store(url) as again:
        assert await noted(again) == ["a"]


async def test_a_unit_gives_back_what_its_function_returns(store: Store):
    assert await store.write(lambda _: ("anything", 1)) == ("anything", 1)
    assert await store.read(lambda _: "read") == "read"


async def test_a_failing_unit_is_undone_alone_and_its_error_is_its_callers(store: Store):
    def fail(unit: Unit) -> None:
        note("undone")(unit)
        unit.audit(event("undone"))
        raise LookupError("mine")

    def succeed(unit: Unit) -> None:
        note("kept")(unit)
        unit.audit(event("kept"))

    outcomes = await together(store, [note("before"), fail, succeed])
    assert [type(outcome) for outcome in outcomes] == [type(None), LookupError, type(None)]
    assert await noted(store) == ["before", "kept"]
    entries = await store.read(audit.entries)
    assert [entry.event.target for entry in entries] == ["kept"]
    assert await store.read(audit.verify) is None


async def test_a_lone_failing_unit_leaves_nothing_and_the_next_one_works(store: Store):
    def fail(unit: Unit) -> None:
        note("undone")(unit)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await store.write(fail)
    await store.write(note("kept"))
    assert await noted(store) == ["kept"]


async def test_a_second_row_with_the_same_key_is_a_duplicate_of_that_unit_alone(store: Store):
    await store.write(note("taken"))
    outcomes = await together(store, [note("free"), note("taken"), note("also free")])
    assert [type(outcome) for outcome in outcomes] == [type(None), Duplicate, type(None)]
    assert "outbox" in str(outcomes[1])
    assert await noted(store) == ["also free", "free", "taken"]


async def test_a_statement_that_is_wrong_is_a_bug_and_is_not_dressed_as_an_outage(store: Store):
    def wrong(unit: Unit) -> None:
        unit.run("outbox.append", id="x", kind=None, application_id=None, subject_id="x", at=1)

    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.NotNullViolation)):
        await store.write(wrong)
    with pytest.raises(KeyError):
        await store.write(lambda unit: unit.one("no.such_query"))
    await store.write(note("works"))


async def test_reads_change_nothing_and_audit_nothing(store: Store):
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction, StoreUnavailable)):
        await store.read(note("a"))
    with pytest.raises(TypeError, match="audit"):
        await store.read(lambda unit: unit.audit(event("a")))
    assert await noted(store) == []


def insert_from_outside(url: str, name: str) -> None:
    """One row, committed by somebody who does not go through the store."""
    statement = "INSERT INTO outbox VALUES ('{0}', 'noted', NULL, '{0}', {1}, 'pending', 0, {1})".format(
        name, millis(NOW)
    )
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        connection.execute(statement)
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(statement)


async def test_a_read_sees_one_moment_whatever_is_committed_meanwhile(store: Store, url: str):
    """A catalogue of many tables must not be put together from two versions."""

    def read(unit: Unit) -> tuple[int, int]:
        before = len(outbox.pending(unit, at=NOW, limit=100))
        insert_from_outside(url, "second")
        return before, len(outbox.pending(unit, at=NOW, limit=100))

    await store.write(note("first"))
    assert await store.read(read) == (1, 1)
    assert await noted(store) == ["first", "second"]


async def test_two_hundred_writers_at_once_are_all_durable_and_chained(store: Store, url: str):
    def work(number: int) -> Callable[[Unit], None]:
        def unit(unit: Unit) -> None:
            note(f"{number:03}")(unit)
            unit.audit(event(f"{number:03}"))

        return unit

    assert await together(store, [work(number) for number in range(200)]) == [None] * 200
    async with open_store(url) as again:
        assert await noted(again) == [f"{number:03}" for number in range(200)]
        entries = await again.read(audit.entries)
        assert sorted(entry.event.target for entry in entries) == await noted(again)
        assert [entry.position for entry in entries] == list(range(1, 201))
        assert await again.read(audit.verify) is None


async def test_two_gateways_on_one_store_append_to_one_chain(store: Store, url: str):
    async with open_store(url) as other, trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon((store, other)[number % 2].write, lambda unit, n=number: unit.audit(event(str(n))))
    assert len(await store.read(audit.entries)) == 60
    assert await store.read(audit.verify) is None


async def test_a_full_queue_says_busy_at_once_and_what_it_had_taken_is_done(url: str):
    async with open_store(url, queue=5) as store:
        # Only a writer that has nothing to do takes nothing in the round in which they all come.
        await trio.testing.wait_all_tasks_blocked()
        outcomes = await together(store, [note(str(number)) for number in range(8)])
        busy = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreBusy)]
        assert len(busy) == 3
        assert await noted(store) == sorted(str(number) for number in range(8) if number not in busy)
        await store.write(note("later"))


async def test_a_caller_that_is_cancelled_leaves_its_unit_whole_or_undone_and_the_store_working(store: Store):
    """The unit writes two rows: never is there one of them."""

    def two(name: str) -> Callable[[Unit], None]:
        def unit(unit: Unit) -> None:
            note(f"{name} one")(unit)
            note(f"{name} two")(unit)

        return unit

    for number in range(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.write, two(str(number)))
            for _ in range(number % 5):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    await store.write(two("last"))
    found = await noted(store)
    assert "last one" in found
    halves = [name.removesuffix(" one").removesuffix(" two") for name in found]
    assert all(halves.count(name) == 2 for name in halves)


async def test_a_shielded_caller_that_is_cancelled_hears_what_became_of_its_unit(store: Store):
    """An enrollment must know whether its serial stands in the store, whoever has gone away meanwhile."""
    heard: list[str] = []

    async def write(name: str) -> None:
        heard.append(await store.write(lambda unit: note(name)(unit) or name, shielded=True))
        await trio.lowlevel.checkpoint()
        heard.append("never: the cancellation comes with the next checkpoint")

    with trio.CancelScope() as before:
        before.cancel()
        await write("cancelled before")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "cancelled while it waits")
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert heard == ["cancelled before", "cancelled while it waits"] == await noted(store)


async def test_abandoned_units_do_not_fill_the_queue(url: str):
    async with open_store(url, queue=4) as store:
        for _ in range(20):
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.write(note("never"))
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(store.write, lambda _: None)
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            with trio.fail_after(60):
                while store.waiting:
                    await trio.sleep(0.001)
        await store.write(note("room"))
        assert await noted(store) == ["room"]


async def test_units_that_wait_when_the_store_is_closed_are_carried_out(url: str):
    done = []
    async with trio.open_nursery() as nursery:

        async def write(name: str) -> None:
            await store.write(note(name))
            done.append(name)

        async with open_store(url) as store:
            for number in range(20):
                nursery.start_soon(write, f"{number:02}")
            # After two rounds of the loop every task has queued its unit.
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
    with pytest.raises(StoreUnavailable):
        await store.write(note("too late"))
    async with open_store(url) as again:
        assert await noted(again) == sorted(done)
        assert len(done) == 20


async def test_an_error_of_the_body_comes_out_of_the_store_as_it_is(url: str):
    with pytest.raises(ZeroDivisionError):
        async with open_store(url):
            raise ZeroDivisionError


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.booleans()), max_size=40))
def test_whatever_mixture_runs_together_each_unit_is_whole_or_undone(url: str, plan: list[tuple[int, bool, bool]]):
    """Keys collide, units fail after writing, some audit: the store holds exactly what was acknowledged."""

    async def play() -> None:
        async with open_store(url) as store:
            before = await noted(store)
            chained = len(await store.read(audit.entries))

            def work(key: int, fails: bool, audits: bool) -> Callable[[Unit], None]:
                def unit(unit: Unit) -> None:
                    note(f"{len(before)}-{key}")(unit)
                    if audits:
                        unit.audit(event(str(key)))
                    if fails:
                        raise LookupError

                return unit

            outcomes = await together(store, [work(*each) for each in plan])
            kept = [key for (key, _, _), outcome in zip(plan, outcomes, strict=True) if outcome is None]
            assert await noted(store) == sorted(before + [f"{len(before)}-{key}" for key in kept])
            assert len(kept) == len(set(kept)) == len({key for key, fails, _ in plan if not fails})
            for (_, fails, _), outcome in zip(plan, outcomes, strict=True):
                assert outcome is None or isinstance(outcome, LookupError if fails else Duplicate) or fails
            audited = [outcome for (_, _, audits), outcome in zip(plan, outcomes, strict=True) if audits]
            assert len(await store.read(audit.entries)) == chained + audited.count(None)
            assert await store.read(audit.verify) is None

    trio.run(play)


def test_a_row_is_strict_about_types():
    row = Row({"n": 0, "t": 1, "b": 2, "null": 3}, (1, "x", b"y", None))
    assert (row.integer("n"), row.text("t"), row.blob("b")) == (1, "x", b"y")
    assert (row.maybe_integer("null"), row.maybe_text("null"), row.maybe_blob("null"), row.maybe_time("null")) == (
        None,
    ) * 4
    assert (row.maybe_integer("n"), row.maybe_text("t"), row.maybe_blob("b")) == (1, "x", b"y")
    for wrong in (lambda: row.text("n"), lambda: row.integer("t"), lambda: row.blob("null"), lambda: row.time("t")):
        with pytest.raises(TypeError):
            wrong()


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_come_back_to_the_millisecond(at: datetime):
    back = Row({"at": 0}, (millis(at),)).time("at")
    assert timedelta(0) <= at - back < timedelta(milliseconds=1)


def test_a_store_url_of_another_kind_is_refused_without_its_password():
    with pytest.raises(ValueError, match=r"sqlite:///path") as refused:
        open_store("mysql://user:secret@host/db")
    assert "secret" not in str(refused.value)
    for url in ("sqlite:store.db", "sqlite:///", "store.db", ""):
        with pytest.raises(ValueError, match=r"sqlite:///path"):
            open_store(url)
