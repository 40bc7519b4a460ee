"""Connections that rest before they are heard again."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from gateway.serve.http1.later import ROUND_SECONDS, Later


async def rested(later: Later, seconds: float, came: list[float]) -> None:
    await later.rest(seconds)
    came.append(trio.current_time())


async def test_each_comes_back_when_its_time_has_come(autojump_clock: trio.testing.MockClock) -> None:
    later, came = Later(), []
    async with trio.open_nursery() as keeping:
        keeping.start_soon(later.keep)
        await trio.sleep(1)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for seconds in (2.0, 0.5, 1.0, 0.5, 0.0):
                nursery.start_soon(rested, later, seconds, came)
        keeping.cancel_scope.cancel()
    assert [each - began for each in came] == pytest.approx([0.0, 0.5, 0.5, 1.0, 2.0], abs=1.1 * ROUND_SECONDS)


async def test_whoever_has_gone_meanwhile_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """A gateway that ends, a peer that went away: others come back as they would have."""
    later, came = Later(), []
    async with trio.open_nursery() as keeping:
        keeping.start_soon(later.keep)
        with trio.move_on_after(0.2) as gone:
            await later.rest(0.5)
        assert gone.cancelled_caught
        began = trio.current_time()
        await rested(later, 0.5, came)
        keeping.cancel_scope.cancel()
    assert [each - began for each in came] == pytest.approx([0.5], abs=1.1 * ROUND_SECONDS)


async def test_where_nobody_rests_nothing_is_waited_for() -> None:
    later = Later()
    async with trio.open_nursery() as keeping:
        keeping.start_soon(later.keep)
        await later.rest(0.1)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf
        keeping.cancel_scope.cancel()
