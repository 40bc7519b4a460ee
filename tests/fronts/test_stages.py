"""Requests that came together read together; nobody waits for company that is not there."""

from __future__ import annotations

import trio

from gateway.fronts.stages import COMPANY, Stage


async def walk(stage: Stage, name: int, seen: list[str]) -> None:
    seen.append(f"judged {name}")
    await stage.pass_together()
    seen.append(f"read {name}")


async def round_of(stage: Stage, count: int) -> list[str]:
    """What so many requests of one round did, in its order."""
    seen: list[str] = []
    stage.round_begins()
    async with trio.open_nursery() as nursery:
        for name in range(count):
            nursery.start_soon(walk, stage, name, seen)
    return seen


async def test_those_that_come_together_are_all_judged_before_the_first_of_them_reads() -> None:
    stage = Stage()
    await round_of(stage, 5)  # from now on it is known that several come
    seen = await round_of(stage, 5)
    assert {each.split()[0] for each in seen[:5]} == {"judged"}
    assert {each.split()[0] for each in seen[5:]} == {"read"}


async def test_whoever_is_alone_waits_for_nobody() -> None:
    stage = Stage()
    for _ in range(20):
        assert await round_of(stage, 1) == ["judged 0", "read 0"]


async def test_a_crowd_is_forgotten_by_and_by() -> None:
    stage = Stage()
    await round_of(stage, 8)
    seen = await round_of(stage, 2)
    assert {each.split()[0] for each in seen[:2]} == {"judged"}  # two are few, but there was a crowd just now
    for _ in range(8 - COMPANY):
        stage.round_begins()
    seen = await round_of(stage, 2)
    assert [each.split()[0] for each in seen] == ["judged", "read"] * 2


async def test_nobody_is_cancelled_between_two_stages() -> None:
    stage = Stage()
    await round_of(stage, 8)
    stage.round_begins()
    with trio.CancelScope() as scope:
        scope.cancel()
        await stage.pass_together()
    assert not scope.cancelled_caught
