"""How many workers there are, and whose turn it is to accept."""

import os
from pathlib import Path

import pytest
import trio

from gateway.serve.settings import load
from gateway.serve.workers import slots, spread
from gateway.serve.workers.count import MOST_BY_ITSELF, processors, workers
from gateway.serve.workers.memory import Memory
from gateway.serve.workers.spread import Room, Turns


def settings(tmp_path: Path, count: str):
    return load({"data": str(tmp_path), "workers": count}, {}, folder=tmp_path)


def test_as_many_as_are_asked_for_within_reason_and_else_one_a_processor(tmp_path: Path):
    assert workers(settings(tmp_path, "3")) == 3
    assert workers(settings(tmp_path, "1000")) == slots.MOST_WORKERS
    assert workers(settings(tmp_path, "0")) == min(processors(), MOST_BY_ITSELF)


@pytest.mark.parametrize(
    ("quota", "most"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", 10_000), ("nonsense", 10_000)]
)
def test_a_control_groups_share_bounds_the_processors(tmp_path: Path, quota: str, most: int):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert processors(tmp_path / "cpu.max") == min(most, len(os.sched_getaffinity(0)))
    assert processors(tmp_path / "none") == len(os.sched_getaffinity(0))


async def test_who_has_many_more_gives_way_and_nobody_else_does(autojump_clock: trio.testing.MockClock):
    descriptor = slots.make()
    memory = Memory(descriptor)
    one, other = Turns(memory, 0), Turns(memory, 1)
    room = Room(100, one)
    for _ in range(spread.LEAD + 1):
        await room.acquire()
        room.taken()
    began = trio.current_time()
    await other.give_way()
    assert trio.current_time() == began
    await room.turn()
    assert trio.current_time() == pytest.approx(began + spread.MOMENT)
    room.release()
    await room.turn()
    assert trio.current_time() == pytest.approx(began + spread.MOMENT)
    room.taken()
    other.leave()
    await room.turn()
    assert trio.current_time() == pytest.approx(began + spread.MOMENT), "nobody waits for one that accepts no more"
    slots.vacate(descriptor, 0)
    assert memory.open[0][0] == 0
    os.close(descriptor)
