"""The sweep: on and on until nothing is left, and through outages of the store."""

from __future__ import annotations

from datetime import UTC, datetime

import trio

from gateway.actions.resources import Resources
from gateway.jobs.retention import KEPT, UNDELIVERED, sweep
from gateway.store.unit import StoreUnavailable

NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Store:
    """Answers units of the sweep: exceptions are raised, numbers are rows that went."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)
        self.before: list[datetime] = []

    async def write(self, work) -> int:
        self.before.append(work.keywords["before"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_sweep_goes_on_until_nothing_is_left_and_outlives_an_outage(nursery, autojump_clock) -> None:
    # Orders and authorizations, then events: a round is both.
    store = Store(500, 0, 3, 0, 0, 500, 0, 0, StoreUnavailable("away"), 1, StoreUnavailable("away"), 0, 1, 0, 0)
    resources = Resources(store, None, None, lambda: NOW, None)  # type: ignore[arg-type]
    nursery.start_soon(sweep, resources)
    await trio.sleep(4.5 * 3600)
    assert not store.answers
    assert set(store.before) == {NOW - KEPT, NOW - UNDELIVERED}
