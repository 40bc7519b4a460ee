"""The outbox: pending until delivered, at least once, and never forgotten before."""

from datetime import timedelta

from gateway.store import outbox
from gateway.store.outbox import OutboxStatus
from gateway.store.unit import Store
from tests.store.things import NOW


async def test_an_event_is_due_until_it_is_settled(store: Store):
    for name in ("b", "a"):
        await store.write(
            lambda unit, name=name: outbox.append(unit, kind="k", application_id=None, subject_id=name, at=NOW)
        )

    async def due(seconds: int) -> list[tuple[str, int]]:
        at = NOW + timedelta(seconds=seconds)
        return [
            (each.subject_id, each.attempts)
            for each in await store.read(lambda unit: outbox.pending(unit, at=at, limit=9))
        ]

    assert await due(-1) == []
    assert await due(0) == [("a", 0), ("b", 0)]
    later = NOW + timedelta(seconds=60)
    assert await store.write(lambda unit: outbox.mark(unit, "a:k", OutboxStatus.PENDING, due=later)) is True
    assert await due(59) == [("b", 0)]
    assert await due(60) == [("b", 0), ("a", 1)]
    assert await store.write(lambda unit: outbox.mark(unit, "a:k", OutboxStatus.DELIVERED, due=later)) is True
    assert await store.write(lambda unit: outbox.mark(unit, "a:k", OutboxStatus.ABANDONED, due=later)) is False
    assert await due(60) == [("b", 0)]
    end = NOW + timedelta(days=1)
    assert await store.write(lambda unit: outbox.collect(unit, before=end)) == 1
    assert await due(60) == [("b", 0)]


async def test_what_nobody_took_for_long_is_forgotten_a_little_at_a_time_and_the_oldest_first(store: Store):
    for number in range(5):
        at = NOW + timedelta(days=number)
        await store.write(
            lambda unit, number=number, at=at: outbox.append(
                unit, kind="k", application_id=None, subject_id=str(number), at=at
            )
        )
    later = NOW + timedelta(days=9)
    await store.write(lambda unit: outbox.mark(unit, "1:k", OutboxStatus.PENDING, due=later))  # to be tried again
    await store.write(lambda unit: outbox.mark(unit, "0:k", OutboxStatus.DELIVERED, due=NOW))
    before = NOW + timedelta(days=4)
    assert await store.write(lambda unit: outbox.forget(unit, before=before, limit=1)) == 1

    async def left() -> list[str]:
        at = NOW + timedelta(days=10)
        return [each.subject_id for each in await store.read(lambda unit: outbox.pending(unit, at=at, limit=9))]

    assert await left() == ["3", "4", "1"]
    assert await store.write(lambda unit: outbox.forget(unit, before=before)) == 1
    assert await store.write(lambda unit: outbox.forget(unit, before=before)) == 0
    assert await left() == ["4", "1"]
