"""What is committed together: those of one wave are, and nobody waits long for others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from gateway.store.commit import ENOUGH, GATHERING, MOST_IN_A_BATCH, Batches, Job
from gateway.store.unit import Unit


class Engine:
    """Carries nothing out, and remembers how many units each batch had."""

    def __init__(self) -> None:
        self.batches = Batches(self._carry_out, 1000)
        self.sizes: list[int] = []

    async def _carry_out(self, batch: list[Job]) -> None:
        self.sizes.append(len(batch))
        for job in batch:
            job.result = None

    @asynccontextmanager
    async def driven(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.batches.drive)
            await trio.testing.wait_all_tasks_blocked()
            yield
            self.batches.close()


def nothing(_: Unit) -> None:
    """A unit."""


async def rounds(count: int) -> None:
    for _ in range(count):
        await trio.lowlevel.cancel_shielded_checkpoint()


async def test_units_of_one_wave_are_one_batch() -> None:
    engine = Engine()

    async def come(after: int) -> None:
        await rounds(after)
        await engine.batches.submit(nothing)

    # Who runs first in a round is by chance: often enough that each order was there.
    async with engine.driven():
        for _ in range(20):
            async with trio.open_nursery() as wave:
                for after in (0, 0, 0, 1, 1):
                    wave.start_soon(come, after)
    assert engine.sizes == [5] * 20


async def test_whoever_is_alone_waits_one_round_and_no_longer() -> None:
    engine = Engine()
    async with engine.driven(), trio.open_nursery() as nursery:
        nursery.start_soon(engine.batches.submit, nothing)
        await rounds(4)  # it begins, the writer is woken, one round, and the batch
        assert engine.sizes == [1]


async def test_whoever_comes_first_does_not_wait_for_an_endless_row_of_others() -> None:
    engine = Engine()
    async with engine.driven(), trio.open_nursery() as nursery:
        for _ in range(20 * GATHERING):
            nursery.start_soon(engine.batches.submit, nothing)
            await rounds(1)
    assert max(engine.sizes) <= 2 * GATHERING
    assert sum(engine.sizes) == 20 * GATHERING


async def test_a_batch_that_is_large_enough_waits_one_round_and_no_longer() -> None:
    engine = Engine()
    async with engine.driven(), trio.open_nursery() as nursery:
        for _ in range(ENOUGH):
            nursery.start_soon(engine.batches.submit, nothing)
        for _ in range(2 * GATHERING):
            await rounds(1)
            nursery.start_soon(engine.batches.submit, nothing)
    assert ENOUGH <= engine.sizes[0] < ENOUGH + GATHERING
    assert sum(engine.sizes) == ENOUGH + 2 * GATHERING


async def test_whoever_has_nothing_to_write_has_a_turn_for_each_batch() -> None:
    engine, turns = Engine(), 0

    async def bystander() -> None:
        nonlocal turns
        while len(engine.sizes) < 7:
            turns += 1
            await rounds(1)

    async with engine.driven(), trio.open_nursery() as nursery:
        for _ in range(7 * MOST_IN_A_BATCH):
            nursery.start_soon(engine.batches.submit, nothing)
        nursery.start_soon(bystander)
    assert engine.sizes == [MOST_IN_A_BATCH] * 7
    assert turns >= 7


async def test_who_is_cancelled_while_others_gather_is_not_in_the_batch() -> None:
    engine = Engine()
    async with engine.driven(), trio.open_nursery() as nursery:
        nursery.start_soon(engine.batches.submit, nothing)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as leaving:
                leaving.start_soon(engine.batches.submit, nothing)
                await rounds(2)
                scope.cancel()
    assert engine.sizes == [1]


async def test_what_gathers_when_the_store_closes_is_still_carried_out() -> None:
    engine = Engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.batches.drive)
        nursery.start_soon(engine.batches.submit, nothing)
        await rounds(2)
        engine.batches.close()
    assert engine.sizes == [1]
