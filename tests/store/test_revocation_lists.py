"""Lists as signed: numbers that only grow, one signer at a time, whatever gateways share the store (D19)."""

from datetime import datetime, timedelta

import trio

from gateway.store import certificates, revocation_lists, revocations
from gateway.store.revocation_lists import WHOLE, ListState
from gateway.store.unit import EPOCH, Store, Unit, millis, open_store
from tests.store import things
from tests.store.things import NOW

PATIENCE = timedelta(seconds=45)


def claim(at: datetime = NOW, part: int = WHOLE, *urls: str):
    def unit(unit: Unit) -> tuple[int, ListState] | None:
        return revocation_lists.claim(unit, "authority", part, urls=urls, at=at, patience=PATIENCE)

    return unit


def signed(number: int, part: int = WHOLE) -> ListState:
    return ListState("authority", part, number, NOW, NOW + timedelta(days=7), 3, ())


async def keep(store: Store, number: int, der: bytes = b"list", part: int = WHOLE) -> bool:
    return await store.write(lambda unit: revocation_lists.keep(unit, signed(number, part), der))


async def claimed(store: Store, at: datetime = NOW) -> int:
    found = await store.write(claim(at))
    assert found is not None
    return found[0]


async def test_a_list_that_was_kept_is_found_by_every_gateway(url: str):
    async with open_store(url) as one, open_store(url) as other:
        number = await claimed(one)
        assert await other.read(lambda unit: revocation_lists.find(unit, "authority", WHOLE)) is None
        assert await keep(one, number)
        found = await other.read(lambda unit: revocation_lists.find(unit, "authority", WHOLE))
        assert found == (signed(number), b"list")
        states = await other.read(revocation_lists.states)
        assert states == {("authority", WHOLE): signed(number)}


async def test_numbers_grow_over_restarts_and_a_clock_that_stands_or_goes_back(url: str):
    """RFC 5280, 5.2.3."""
    numbers = []
    for at in (NOW, NOW, NOW - timedelta(days=1), NOW - timedelta(days=400), NOW + timedelta(seconds=1)):
        async with open_store(url) as store:
            numbers.append(await claimed(store, at))
            assert await keep(store, numbers[-1])
    assert numbers == sorted(set(numbers))


async def test_a_store_restored_from_an_older_copy_does_not_go_back(url: str):
    """The number is not below the clock's milliseconds: lists from after the copy have lower ones."""
    async with open_store(url) as store:
        number = await claimed(store)
        assert number == millis(NOW)


async def test_of_all_gateways_at_once_one_signs(url: str):
    async with open_store(url) as one, open_store(url) as other:
        won: list[int] = []

        async def attempt(store: Store) -> None:
            found = await store.write(claim())
            if found is not None:
                won.append(found[0])

        async with trio.open_nursery() as nursery:
            for store in (one, other) * 4:
                nursery.start_soon(attempt, store)
        assert len(won) == 1
        assert await keep(one, won[0])
        assert await other.write(claim()) is not None


async def test_what_a_stop_left_claimed_is_in_nobodys_way_after_a_start(store: Store):
    """kill -9 between the claim and the list: a revocation is on a list within seconds all the same (D19)."""
    left = await claimed(store)
    assert await store.write(claim()) is None
    assert await store.write(revocation_lists.give_all_back) == 1
    assert await store.write(revocation_lists.give_all_back) == 0
    number = await claimed(store)
    assert number > left
    assert not await keep(store, left)
    assert await keep(store, number)


async def test_whoever_failed_under_a_claim_may_claim_again_at_once_and_nobody_else(store: Store):
    """The store was away just when the list was to be kept."""
    first = await claimed(store)

    def again(own: int):
        return lambda unit: revocation_lists.claim(
            unit, "authority", WHOLE, urls=(), at=NOW, patience=PATIENCE, own=own
        )

    assert await store.write(again(first - 1)) is None
    second = await store.write(again(first))
    assert second is not None
    assert second[0] > first
    assert await store.write(again(first)) is None


async def test_an_abandoned_claim_is_taken_over_and_whoever_comes_late_keeps_nothing(store: Store):
    late = await claimed(store)
    assert await store.write(claim(NOW + PATIENCE)) is None
    number = await claimed(store, NOW + PATIENCE + timedelta(seconds=1))
    assert number > late
    assert not await keep(store, late)
    assert await keep(store, number)
    assert not await keep(store, number)


async def test_a_claim_that_was_given_back_leaves_its_number_unused(store: Store):
    number = await claimed(store)
    await store.write(lambda unit: revocation_lists.give_back(unit, "authority", WHOLE, number))
    assert await claimed(store) == number + 1


async def test_a_claim_from_a_clock_that_was_wrong_does_not_block_for_ever(store: Store):
    first = await claimed(store, NOW + timedelta(days=400))
    assert await claimed(store) == first + 1


async def test_partitions_have_numbers_of_their_own_and_keep_every_name_they_had(store: Store):
    """RFC 5280, 5.2.3: a sequence for each scope; 6.3.3: the names of certificates that were issued before."""
    assert await store.write(claim(NOW, 0, "http://old/0.crl"))
    found = await store.write(claim(NOW, 1, "http://old/1.crl"))
    assert found == (millis(NOW), ListState("authority", 1, 0, EPOCH, EPOCH, 0, ()))
    await keep(store, found[0], part=1)
    again = await store.write(claim(NOW, 1, "http://new/1.crl"))
    assert again is not None
    assert again[1].urls == ("http://old/1.crl",)
    await keep(store, again[0], part=1)
    third = await store.write(claim(NOW, 1, "http://new/1.crl"))
    assert third is not None
    assert third[1].urls == ("http://new/1.crl", "http://old/1.crl")


async def test_two_gateways_that_revoke_at_once_lose_nothing(url: str):
    """The narrow rows and their revisions under contention."""
    async with open_store(url) as one, open_store(url) as other:
        made = [things.certificate() for _ in range(40)]
        for each in made:
            await one.write(lambda unit, it=each: certificates.record(unit, it))

        async def revoke(store: Store, certificate_id: str) -> None:
            await store.write(lambda unit: certificates.revoke(unit, certificate_id, reason=1, at=NOW))

        async with trio.open_nursery() as nursery:
            for number, each in enumerate(made):
                nursery.start_soon(revoke, (one, other)[number % 2], each.id)
        rows = await one.read(lambda unit: revocations.since(unit, "authority", revision=0, serial="", most=99))
        assert sorted(each.revision for each in rows) == list(range(1, 41))
        assert {each.serial for each in rows} == {each.serial for each in made}
