"""Surveys: beside the loop and beside enrollments, few at once, and ended when nobody waits for them."""

import threading

import pytest
import trio
import trio.testing

from gateway.domain.request import RequestStatus, San, SanType
from gateway.store import audit, outbox, requests
from gateway.store.surveys import MOST_ASKED
from gateway.store.unit import Store, StoreBusy, SurveyTooLong, Unit
from tests.store.things import NOW, request

# Longer than anything here should take on two busy cores; what would hang fails.
PATIENCE = 60.0
# Names of one request: some steps of the engine each, and a search has to look at all of them.
MANY = 100_000


def endless(unit: Unit) -> None:
    while True:
        audit.length(unit)


def quick(unit: Unit) -> int:
    return audit.length(unit)


async def test_an_enrollment_is_durable_while_a_survey_runs(store: Store):
    """P10, P16: whoever looks at a large table holds nobody up, and sees one moment of it throughout."""
    reading, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def survey(unit: Unit) -> str:
        seen.append(_count(unit))
        reading.set()
        assert go_on.wait(PATIENCE)
        seen.append(_count(unit))
        return "read"

    answers: list[str] = []

    async def look() -> None:
        answers.append(await store.survey(survey, seconds=PATIENCE))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            while not reading.is_set():
                await trio.sleep(0.001)
            await store.write(_record)
            assert await store.read(_count) == 1
            assert not answers
            go_on.set()
    assert answers == ["read"]
    assert seen == [0, 0]
    assert await store.survey(_count) == 1


async def test_a_statement_that_takes_too_long_is_ended_and_the_asker_hears_it(store: Store):
    names = (San(SanType.DNS_NAME, "a"),) * MANY
    await store.write(lambda unit: requests.record(unit, request(status=RequestStatus.REJECTED, sans=names)))

    def search(unit: Unit) -> int:
        while True:  # one statement may be quick on some machine; all of them are not
            _search(unit, "nothing")

    with trio.fail_after(PATIENCE):
        with pytest.raises(SurveyTooLong, match="longer than 0"):
            await store.survey(search, seconds=0.05)
        assert await store.survey(quick, seconds=PATIENCE) == 0


async def test_a_survey_of_many_statements_ends_too_and_leaves_its_place_to_the_next(store: Store):
    with trio.fail_after(PATIENCE):
        for _ in range(3):  # more than run at once
            with pytest.raises(SurveyTooLong):
                await store.survey(endless, seconds=0.2)
        assert await store.survey(quick, seconds=PATIENCE) == 0


async def test_one_whose_asker_went_away_ends(store: Store):
    with trio.fail_after(PATIENCE):
        for _ in range(3):
            with trio.move_on_after(0.05) as gone:
                await store.survey(endless, seconds=PATIENCE)
            assert gone.cancelled_caught
        assert await store.survey(quick, seconds=PATIENCE) == 0


async def test_who_comes_when_many_wait_is_told_so_at_once(store: Store):
    go_on = threading.Event()
    answered: list[int] = []

    def slow(unit: Unit) -> int:
        assert go_on.wait(PATIENCE)
        return audit.length(unit)

    async def look() -> None:
        answered.append(await store.survey(slow, seconds=PATIENCE))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(MOST_ASKED):
                nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StoreBusy):
                await store.survey(quick)
            assert not answered
            go_on.set()
    assert answered == [0] * MOST_ASKED
    assert await store.survey(quick) == 0


async def test_one_that_never_had_its_turn_is_told_that_others_came_first(store: Store):
    go_on = threading.Event()

    async def look() -> None:
        await store.survey(lambda _: go_on.wait(PATIENCE), seconds=PATIENCE)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(2):  # as many as run at once on the one engine, and one more than on the other
                nursery.start_soon(look)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StoreBusy):
                await store.survey(quick, seconds=0.05)
            go_on.set()


async def test_a_survey_changes_nothing(store: Store):
    def change(unit: Unit) -> None:
        outbox.append(unit, kind="k", application_id=None, subject_id="a", at=NOW)

    with pytest.raises(TypeError, match="changes nothing"):
        await store.survey(change)
    with pytest.raises(ZeroDivisionError):
        await store.survey(lambda _: 1 // 0)


def _record(unit: Unit) -> None:
    requests.record(unit, request(status=RequestStatus.REJECTED))


def _count(unit: Unit) -> int:
    return _search(unit, None)


def _search(unit: Unit, name: str | None) -> int:
    return requests.search(unit, application_ids=None, profile_id=None, status=None, search=name, limit=1, offset=0)[1]
