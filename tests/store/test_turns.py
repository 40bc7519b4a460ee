"""Threads that work for the loop get the interpreter, and a loop that has nothing to do is left alone."""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing

from gateway.store import errands
from gateway.store.errands import FIRST, MOMENT, Errands, Turns

LONGEST = 0.02


class Clock:
    """A monotonic clock that stands still but for who sleeps on it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(self.now)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(errands, "time", clock)
    return clock


def rounds(turns: Turns, clock: Clock, count: int, *, work: float, sending: float = 0.0) -> None:
    """So many rounds of a loop that works, and at each round's end sends for so long what has gathered."""
    for _ in range(count):
        clock.now += work
        turns.before_io_wait(0.0)
        clock.now += sending
        turns.after_io_wait(0.0)


def test_a_loop_that_is_never_idle_stands_still_now_and_then_and_ever_more_seldom(clock: Clock):
    turns = Turns(LONGEST)
    turns.begin()
    rounds(turns, clock, 2000, work=0.0001)
    gaps = [after - before for before, after in zip(clock.slept, clock.slept[1:], strict=False)]
    assert gaps[0] == pytest.approx(2 * FIRST + MOMENT, abs=2 * MOMENT)
    assert [round(gap, 3) for gap in gaps] == sorted(round(gap, 3) for gap in gaps)
    assert gaps[-1] == pytest.approx(LONGEST, abs=3 * MOMENT)


def test_where_no_thread_works_for_it_the_loop_never_stands_still(clock: Clock):
    turns = Turns(LONGEST)
    rounds(turns, clock, 100, work=0.01)
    turns.begin()
    turns.end()
    rounds(turns, clock, 100, work=0.01)
    assert not clock.slept


def test_long_sending_at_each_rounds_end_does_not_keep_a_thread_from_its_moments(clock: Clock):
    turns = Turns(LONGEST)
    turns.begin()
    began = clock.now
    rounds(turns, clock, 1000, work=0.006, sending=5 * MOMENT)
    assert len(clock.slept) >= (clock.now - began) / (2 * LONGEST)


def test_each_errand_begins_with_a_short_distance_again(clock: Clock):
    turns = Turns(LONGEST)
    for _ in range(3):
        clock.slept.clear()
        turns.begin()
        began = clock.now
        rounds(turns, clock, 1000, work=0.0001)
        turns.end()
        assert clock.slept[0] - began <= FIRST + 2 * MOMENT


async def test_beside_a_loop_that_is_never_idle_a_thread_has_its_moments(monkeypatch: pytest.MonkeyPatch):
    stood_still: list[float] = []

    class Watched(Clock):
        def monotonic(self) -> float:
            return time.monotonic()

        def sleep(self, seconds: float) -> None:
            stood_still.append(seconds)
            time.sleep(seconds)

    monkeypatch.setattr(errands, "time", Watched())
    turns = Turns(LONGEST)
    thread = Errands("busy", turns)

    async def never_idle() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        nursery.start_soon(never_idle)
        await thread.do(lambda: time.sleep(0.2))
        nursery.cancel_scope.cancel()
    thread.close()
    assert len(stood_still) >= 5
    assert set(stood_still) == {MOMENT}


async def test_an_idle_loop_is_not_woken_while_a_thread_works():
    turns = Turns(LONGEST)
    thread = Errands("idle", turns)
    woken = 0

    class Rounds(trio.abc.Instrument):
        def after_io_wait(self, timeout: float) -> None:
            nonlocal woken
            woken += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(counting := Rounds())
        await thread.do(lambda: time.sleep(0.2))
        trio.lowlevel.remove_instrument(counting)
        nursery.cancel_scope.cancel()
    thread.close()
    # One round when it was given away, one when it came back, and what wakes the loop for that.
    assert woken <= 5
