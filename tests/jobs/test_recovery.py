"""Enrollments whose outcome could not be recorded: given up once they are overdue, and not before (A87)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import trio

from gateway.actions.resources import Resources
from gateway.jobs.recovery import OVERDUE, recover_overdue
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
