"""Revocation lists: who is on them, for how long, on which (D19; RFC 5280, 3.3 and 5)."""

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.actions.publish import Publications, outlook, renew_revocation_lists, revocation_list
from gateway.actions.publish.ledger import PAGE, STRIDE, Ledger
from gateway.domain.authority import Authority, ListSettings
from gateway.domain.refusal import Refusal
from gateway.outbound.signer import ENTRY, SignerRefused, SignerUnreachable
from gateway.store import certificates, revocation_lists
from gateway.store.revocation_lists import WHOLE
from gateway.store.revocations import EVERY_PARTITION, Revocation
from gateway.store.unit import EPOCH, StoreUnavailable
from signer.contract.refusal import SignerRefusal
from tests.doubles.house import NOW, House, open_house
from tests.store import things

DAY = dt.timedelta(days=1)
URLS = ("http://pki.example/ca/test-root/{partition}.crl",)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, lambda front: []) as house:
        yield house


async def lists(house: House, **settings_: object) -> Authority:
    """The authority with lists made in this way."""
    urls = URLS if settings_.get("partitions") else ()
    authority = replace(house.pair.authority, lists=ListSettings(**settings_), crl_urls=urls)  # type: ignore[arg-type]
    house.pair = replace(house.pair, authority=authority)
    await house.save(house.pair)
    return authority


async def revoked(house: House, *, not_after: dt.datetime, partition: int | None = None, reason: int = 4) -> int:
    made = things.certificate(not_after=not_after, crl_partition=partition, created_at=house.now)
    await house.store.write(lambda unit: certificates.record(unit, made))
    await house.store.write(lambda unit: certificates.revoke(unit, made.id, reason=reason, at=house.now))
    return int(made.serial, 16)


async def renew(house: House, authority: Authority, publications: Publications | None = None) -> int:
    publications = publications or house.front.publications
    publications.rest(authority.id, 0)
    return await renew_revocation_lists(house.resources, publications, authority, await outlook(house.resources))


def on(publications: Publications, authority: Authority, now: dt.datetime, part: int = WHOLE) -> set[int]:
    held = publications.current(authority.id, now, part)
    assert held is not None
    return {each.serial_number for each in x509.load_der_x509_crl(held.der)}


async def test_an_entry_stays_until_it_was_on_a_scheduled_list_after_the_end(house: House):
    """RFC 5280, 3.3."""
    authority = await lists(house, lifetime=7 * DAY, refresh=DAY)
    serial = await revoked(house, not_after=NOW + DAY)
    seen = []
    for _ in range(8):
        await renew(house, authority)
        held = house.front.publications.current(authority.id, house.now)
        assert held is not None
        seen.append((held.this_update, serial in on(house.front.publications, authority, house.now)))
        house.now += DAY
    after_the_end = [there for at, there in seen if at > NOW + DAY]
    assert all(there for at, there in seen if at <= NOW + DAY)
    assert after_the_end[:2] == [True, True]
    assert after_the_end[-1] is False


async def test_what_is_revoked_after_its_end_is_on_a_list_all_the_same(house: House):
    authority = await lists(house, lifetime=7 * DAY, refresh=DAY)
    await renew(house, authority)
    house.now += 30 * DAY
    await renew(house, authority)
    serial = await revoked(house, not_after=NOW + DAY)
    await renew(house, authority)
    assert serial in on(house.front.publications, authority, house.now)


async def test_each_partition_lists_its_own_and_the_whole_list_all(house: House):
    authority = await lists(house, partitions=2)
    ours = {
        part: await revoked(house, not_after=NOW + 9 * DAY, partition=part) for part in (0, 1, None, EVERY_PARTITION)
    }
    assert await renew(house, authority) == 3
    publications = house.front.publications
    for part in (0, 1):
        assert on(publications, authority, house.now, part) == {ours[part], ours[EVERY_PARTITION]}
        held = publications.current(authority.id, house.now, part)
        assert held is not None
        point = x509.load_der_x509_crl(held.der).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert point.critical  # RFC 5280, 5.2.5
        assert [each.value for each in point.value.full_name] == [f"http://pki.example/ca/test-root/{part}.crl"]
    assert on(publications, authority, house.now) == set(ours.values())


async def test_a_change_signs_the_lists_that_it_concerns_and_no_others(house: House):
    authority = await lists(house, partitions=4)
    assert await renew(house, authority) == 5
    assert await renew(house, authority) == 0
    await revoked(house, not_after=NOW + 9 * DAY, partition=2)
    assert await renew(house, authority) == 2


async def test_a_list_that_the_signer_will_not_sign_keeps_no_other_from_being_signed(house: House):
    """One that does not fit into a frame, say: the next try will not help, and the others would run out."""
    authority = await lists(house, partitions=3)
    sign = house.signer.sign_crl

    async def picky(issuer: str, **ask):
        if ask["names"][:1] == ("http://pki.example/ca/test-root/0.crl",):
            raise SignerRefused(SignerRefusal.UNSUPPORTED, "a frame of 16777217 bytes")
        return await sign(issuer, **ask)

    house.signer.sign_crl = picky  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Refusal):
            await renew(house, authority)
        serial = await revoked(house, not_after=NOW + 9 * DAY, partition=2)
        with pytest.raises(Refusal):
            await renew(house, authority)
        for part in (2, WHOLE):
            assert serial in on(house.front.publications, authority, house.now, part)
    house.signer.sign_crl = sign  # type: ignore[method-assign]
    assert await renew(house, authority) == 1


async def test_partitions_live_on_when_their_number_changes(house: House):
    authority = await lists(house, partitions=4)
    await renew(house, authority)
    authority = await lists(house, partitions=2)
    serial = await revoked(house, not_after=NOW + 9 * DAY, partition=3)
    authority = replace(authority, crl_urls=("http://new.example/{partition}.crl",))
    await renew(house, authority)
    assert serial in on(house.front.publications, authority, house.now, 3)
    held = house.front.publications.current(authority.id, house.now, 3)
    assert held is not None
    point = x509.load_der_x509_crl(held.der).extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert [each.value for each in point.full_name] == [
        "http://new.example/3.crl",
        "http://pki.example/ca/test-root/3.crl",
    ]
    assert await revocation_list(house.resources, house.front.publications, authority, 4) is None


async def test_another_gateway_hands_out_the_same_list_and_signs_none(house: House):
    authority = await lists(house)
    await revoked(house, not_after=NOW + 9 * DAY)
    assert await renew(house, authority) == 1
    other = Publications()
    assert await renew(house, authority, other) == 0
    assert other.current(authority.id, house.now) == house.front.publications.current(authority.id, house.now)
    assert house.signer.lists == 1


async def test_a_restart_serves_what_was_signed_before_it(house: House):
    authority = await lists(house)
    await renew(house, authority)
    house.signer.crash = SignerUnreachable("not up yet")
    assert await revocation_list(house.resources, Publications(), authority) is not None


async def test_a_failing_signer_leaves_the_old_list_in_force_and_is_asked_again(house: House):
    authority = await lists(house)
    await renew(house, authority)
    before = house.front.publications.current(authority.id, house.now)
    serial = await revoked(house, not_after=NOW + 9 * DAY)
    house.signer.crash = SignerUnreachable("away")
    for _ in range(3):
        with pytest.raises(Refusal):
            await renew(house, authority)
        assert house.front.publications.current(authority.id, house.now) == before
    house.signer.crash = None
    assert await renew(house, authority) == 1
    assert serial in on(house.front.publications, authority, house.now)


async def test_a_store_that_fails_when_a_list_is_to_be_kept_delays_it_by_nothing_more(house: House):
    authority = await lists(house)

    class Away:
        read = house.store.read
        times = 0

        async def write(self, work):
            self.times += 1
            if self.times == 2:  # the claim is the first
                raise StoreUnavailable("away")
            return await house.store.write(work)

    serial = await revoked(house, not_after=NOW + 9 * DAY)
    whole, house.resources = house.resources, replace(house.resources, store=Away())  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await renew(house, authority)
    house.resources = whole
    assert await renew(house, authority) == 1
    assert serial in on(house.front.publications, authority, house.now)


async def test_an_end_just_when_a_number_was_claimed_leaves_no_claim_in_the_way(house: House):
    """A gateway that is stopped right after its start; or someone who asks for a first list and goes away."""
    authority = await lists(house)
    claimed = trio.Event()

    class Answering:
        read = house.store.read

        async def write(self, work):
            with trio.CancelScope(shield=True):
                result = await house.store.write(work)
            claimed.set()
            await trio.sleep(0)  # what was committed is not known here yet
            return result

    whole, house.resources = house.resources, replace(house.resources, store=Answering())  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(renew, house, authority)
        await claimed.wait()
        nursery.cancel_scope.cancel()
    house.resources = whole
    other = Publications()
    await revoked(house, not_after=NOW + 9 * DAY)
    assert await renew(house, authority, other) == 1


async def test_a_list_that_follows_at_once_has_a_later_thisupdate_never_in_the_future(house: House):
    """RFC 9110, 8.8.2.2: a cache that knows a list by its Last-Modified must not take the next for the same."""
    authority = await lists(house)
    updates = []
    for _ in range(4):
        await revoked(house, not_after=NOW + 9 * DAY)
        await renew(house, authority)
        held = house.front.publications.current(authority.id, house.now)
        assert held is not None
        updates.append(held.this_update)
    assert updates == sorted(set(updates))
    house.now -= dt.timedelta(minutes=10)  # the clock was set back
    await revoked(house, not_after=NOW + 9 * DAY)
    await renew(house, authority)
    held = house.front.publications.current(authority.id, house.now)
    assert held is not None
    assert held.this_update == house.now


async def test_a_clock_that_was_years_ahead_for_a_while_leaves_no_list_of_the_future_and_loses_no_entry(house: House):
    authority = await lists(house)
    serial = await revoked(house, not_after=NOW + 9 * DAY)
    await renew(house, authority)
    house.now += 1000 * DAY
    assert await renew(house, authority) == 1
    house.now = NOW + DAY / 2
    assert await renew(house, authority) == 1
    held = house.front.publications.current(authority.id, house.now)
    assert held is not None
    assert held.this_update <= house.now
    assert serial in on(house.front.publications, authority, house.now)
    assert await renew(house, authority) == 0


async def test_what_was_revoked_while_the_clock_was_ahead_is_listed_as_revoked_now(house: House):
    """The signer refuses dates of the future: one such entry would keep every later list from being signed."""
    authority = await lists(house)
    house.now += 1000 * DAY
    serial = await revoked(house, not_after=NOW + 2000 * DAY)
    house.now = NOW
    await renew(house, authority)
    held = house.front.publications.current(authority.id, house.now)
    assert held is not None
    entry = x509.load_der_x509_crl(held.der).get_revoked_certificate_by_serial_number(serial)
    assert entry is not None
    assert entry.revocation_date_utc == NOW
    [reason] = entry.extensions
    assert reason.value == x509.CRLReason(x509.ReasonFlags.superseded)


async def test_lists_are_signed_ahead_though_nothing_changed_and_never_run_out(house: House):
    """D19."""
    authority = await lists(house, lifetime=dt.timedelta(hours=8), refresh=dt.timedelta(hours=2))
    signed = 0
    for _ in range(48):
        signed += await renew(house, authority)
        held = house.front.publications.current(authority.id, house.now)
        assert held is not None
        assert held.next_update - house.now >= dt.timedelta(hours=5)
        house.now += dt.timedelta(hours=1)
    assert signed == 24


async def test_while_another_gateway_signs_whoever_asks_waits_for_its_list(
    house: House, autojump_clock: trio.abc.Clock
):
    authority = await lists(house)
    found = await house.store.write(
        lambda unit: revocation_lists.claim(unit, authority.id, WHOLE, urls=(), at=NOW, patience=DAY)
    )
    assert found is not None
    with pytest.raises(Refusal, match="being signed"):
        await revocation_list(house.resources, Publications(), authority)
    assert house.signer.lists == 0


rows = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from((0, 1, 6, 8)), st.sampled_from((None, -1, 0, 1)), st.integers(0, 3)),
    max_size=80,
)


@settings(max_examples=100, deadline=None)
@given(rows, st.integers(1, 9))
def test_a_ledger_holds_what_a_dictionary_would(changes: list[tuple[int, int, int | None, int]], size: int):
    ledger, model = Ledger(), {}
    made = [
        Revocation(f"{serial:x}", revision * 1000, reason, not_after, partition, revision)
        for revision, (serial, reason, partition, not_after) in enumerate(changes, 1)
    ]
    for start in range(0, len(made), size):
        ledger.merge(made[start : start + size])
    for row in made:
        model[int(row.serial, 16)] = row
    for part in (WHOLE, 0, 1):
        for listed in (0, len(made) // 2):
            packed = trio.run(entries, ledger, part, listed)
            expected = [
                (number, row.revision, row.reason)
                for number, row in sorted(model.items())
                if row.reason != 8
                and (part == WHOLE or row.partition in (part, EVERY_PARTITION))
                and (row.not_after >= 2 or row.revision > listed)
            ]
            assert [(int.from_bytes(serial), at, why) for serial, at, why in ENTRY.iter_unpack(packed)] == expected
    assert len(ledger) == len(model)
    assert ledger.revision == len(made)


async def entries(ledger: Ledger, part: int, listed: int) -> bytes:
    return await ledger.entries(part, expired_by=EPOCH + dt.timedelta(milliseconds=2), listed=listed, now=2**32 - 1)


async def test_the_loop_goes_on_while_a_long_list_is_gathered():
    """A page and a stride at a time: others have their turn in between."""
    ledger = Ledger()
    many = STRIDE * 6
    for start in range(0, many, PAGE):
        ledger.merge([Revocation(f"{n + 1:x}", 0, 1, 10, None, n + 1) for n in range(start, start + PAGE)])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        assert len(await entries(ledger, WHOLE, 0)) == many * ENTRY.size
        nursery.cancel_scope.cancel()
    assert turns >= 3
