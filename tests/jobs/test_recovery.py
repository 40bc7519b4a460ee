"""Enrollments whose outcome could not be recorded: given up once they are overdue, and not before (A87)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import trio

from gateway.actions.resources import Resources
from gateway.jobs.recovery import OVERDUE, recover_abandoned, recover_overdue
from gateway.store.unit import StoreUnavailable

NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Store:
    """Answers units of the job: exceptions are raised, lists are the serials that were burnt."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[datetime, datetime]] = []

    async def write(self, work) -> list[str]:
        self.asked.append((work.keywords["at"], work.keywords["before"]))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_it_looks_twice_a_minute_and_outlives_an_outage(nursery, autojump_clock, caplog) -> None:
    store = Store([], StoreUnavailable("away"), ["1f"])
    resources = Resources(store, None, None, lambda: NOW, None)  # type: ignore[arg-type]
    nursery.start_soon(recover_overdue, resources)
    await trio.sleep(95)
    assert store.asked == [(NOW, NOW - OVERDUE)] * 3
    assert "1f" in caplog.text
    assert "away" in caplog.text


def test_nothing_that_may_still_be_under_way_is_overdue() -> None:
    assert timedelta(seconds=60) < OVERDUE < timedelta(minutes=5)


class Holding:
    """A store in which some processes have something under way; `recovered` says whose was recovered, and when."""

    def __init__(self, *holders: int) -> None:
        self.holders = set(holders)
        self.away = False
        self.recovered: list[tuple[float, set[int]]] = []

    async def read(self, work) -> set[int]:
        if self.away:
            raise StoreUnavailable("away")
        return set(self.holders)

    async def write(self, work) -> list[str]:
        self.recovered.append((trio.current_time(), work.keywords["holders"]))
        self.holders -= work.keywords["holders"]
        return ["1f"]


async def test_what_a_dead_process_had_is_recovered_at_once_and_an_outage_outlived(nursery, autojump_clock) -> None:
    store, dead = Holding(1, 2, 3), set()

    async def gone(asked) -> set[int]:
        return dead & set(asked)

    resources = Resources(store, None, None, lambda: NOW, None, holder=3)  # type: ignore[arg-type]
    nursery.start_soon(recover_abandoned, resources, gone)
    await trio.sleep(10.5)
    assert store.recovered == []
    store.away = True
    dead |= {2, 3}
    await trio.sleep(10)
    store.away = False
    began = trio.current_time()
    await trio.sleep(10)
    [(when, whose)] = store.recovered
    assert whose == {2}, "and never its own"
    assert when - began <= 1


async def test_who_lost_a_servers_connection_for_a_moment_lives(nursery, autojump_clock) -> None:
    store, dead = Holding(1), {1}

    async def gone(asked) -> set[int]:
        return dead & set(asked)

    resources = Resources(store, None, None, lambda: NOW, None, holder=3)  # type: ignore[arg-type]
    began = trio.current_time()
    nursery.start_soon(partial(recover_abandoned, resources, gone, patience=15))
    await trio.sleep(14.5)
    dead.clear()
    await trio.sleep(2)
    dead.add(1)
    await trio.sleep(14)
    assert store.recovered == []
    await trio.sleep(4)
    assert [whose for when, whose in store.recovered if when - began > 30] == [{1}]
