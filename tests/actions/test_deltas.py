"""Delta lists: when they are made, what they cost, and who hands them out (D19; RFC 5280, 5.2.3 to 5.2.6)."""

import contextlib
import datetime as dt
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from cryptography import x509

from gateway.actions.publish import (
    WHOLE,
    Publications,
    RevocationList,
    delta_list,
    outlook,
    renew_revocation_lists,
    revocation_list,
)
from gateway.actions.publish.renew import AHEAD
from gateway.domain.authority import Authority, ListSettings
from gateway.domain.refusal import Refusal
from gateway.domain.revocation import RevocationReason
from gateway.outbound.signer import SignerUnreachable
from gateway.store import certificates, revocation_lists, revocations
from gateway.store.revocations import EVERY_PARTITION
from gateway.store.unit import Row, StoreUnavailable, Unit, millis
from tests.doubles.house import NOW, House, open_house
from tests.store import things

HOUR = dt.timedelta(hours=1)
DAY = 24 * HOUR
URL = "http://pki.example/ca/test-root.crl"
DELTA = "http://pki.example/ca/test-root-delta.crl"
PARTS = "http://pki.example/ca/test-root/{partition}.crl"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, lambda front: []) as house:
        yield house


async def settle(house: House, *urls: str, **lists: object) -> Authority:
    """The authority with lists made in this way; with deltas unless it says otherwise."""
    settings = ListSettings(**{"deltas": True, **lists})  # type: ignore[arg-type]
    urls = urls or (PARTS if settings.partitions else URL,)
    authority = replace(house.pair.authority, lists=settings, crl_urls=urls)
    house.pair = replace(house.pair, authority=authority)
    await house.save(house.pair)
    return authority


async def revoked(house: House, reason: int = 4, partition: int | None = None, **changes: object) -> tuple[str, int]:
    """The id and the serial of a certificate that was issued, and revoked at once."""
    changes = {"not_after": NOW + 90 * DAY, "created_at": house.now, **changes}
    made = things.certificate(crl_partition=partition, **changes)
    await house.store.write(lambda unit: certificates.record(unit, made))
    await house.store.write(lambda unit: certificates.revoke(unit, made.id, reason=reason, at=house.now))
    return made.id, int(made.serial, 16)


async def release(house: House, certificate_id: str) -> None:
    def unit(unit: Unit) -> None:
        found = certificates.find(unit, certificate_id)
        assert found is not None
        revision = revocations.begin(unit, "authority")
        why = RevocationReason.REMOVE_FROM_CRL
        certificates.change_revocation(unit, found, why, since=house.now, at=house.now, revision=revision)

    await house.store.write(unit)


async def renew(house: House, authority: Authority, publications: Publications | None = None) -> int:
    publications = publications or house.front.publications
    publications.rest(authority.id, 0)
    return await renew_revocation_lists(house.resources, publications, authority, await outlook(house.resources))


def base(house: House, part: int = WHOLE) -> tuple[RevocationList, x509.CertificateRevocationList]:
    held = house.front.publications.current("authority", house.now, part)
    assert held is not None
    return held, x509.load_der_x509_crl(held.der)


def delta(house: House, part: int = WHOLE) -> tuple[RevocationList, x509.CertificateRevocationList]:
    held = house.front.publications.delta("authority", house.now, part)
    assert held is not None
    return held, x509.load_der_x509_crl(held.der)


def base_number(of: x509.CertificateRevocationList) -> int:
    found = of.extensions.get_extension_for_class(x509.DeltaCRLIndicator)
    assert found.critical  # RFC 5280, 5.2.4
    return found.value.crl_number


def serials(of: x509.CertificateRevocationList) -> set[int]:
    return {each.serial_number for each in of}


def freshest(of: x509.CertificateRevocationList) -> list[str]:
    found = of.extensions.get_extension_for_class(x509.FreshestCRL)
    assert not found.critical  # RFC 5280, 5.2.6
    [point] = found.value
    assert point.reasons is None
    assert point.crl_issuer is None
    return [each.value for each in point.full_name or ()]


async def test_there_are_none_unless_they_are_asked_for(house: House):
    authority = await settle(house, deltas=False)
    assert await renew(house, authority) == 1
    with pytest.raises(x509.ExtensionNotFound):
        base(house)[1].extensions.get_extension_for_class(x509.FreshestCRL)
    assert await delta_list(house.resources, house.front.publications, authority) is None


async def test_a_new_list_says_where_its_delta_is_and_the_delta_follows_though_it_be_empty(house: House):
    """5.2.6. It has a number of its own: they are not made at the same time (5.2.3)."""
    authority = await settle(house)
    assert await renew(house, authority) == 2
    complete, delta_ = base(house), delta(house)
    assert freshest(complete[1]) == [DELTA]
    assert base_number(delta_[1]) == complete[0].number
    assert delta_[0].number > complete[0].number
    assert delta_[0].this_update > complete[0].this_update
    assert serials(delta_[1]) == set()
    with pytest.raises(x509.ExtensionNotFound):
        delta_[1].extensions.get_extension_for_class(x509.FreshestCRL)


async def test_a_revocation_makes_a_delta_and_no_complete_list(house: House):
    authority = await settle(house)
    await renew(house, authority)
    before = base(house)[0]
    _, serial = await revoked(house, reason=1)
    assert await renew(house, authority) == 1
    assert base(house)[0] == before
    held, made = delta(house)
    [entry] = made
    assert entry.serial_number == serial
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert held.next_update - house.now == HOUR
    assert await renew(house, authority) == 0


async def test_what_is_released_from_its_hold_is_taken_off_by_the_delta(house: House):
    """5.2.4, b."""
    authority = await settle(house)
    held_id, serial = await revoked(house, reason=6)
    await renew(house, authority)
    assert serials(base(house)[1]) == {serial}
    await release(house, held_id)
    await renew(house, authority)
    [entry] = delta(house)[1]
    assert entry.serial_number == serial
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.remove_from_crl
    house.now += DAY
    await renew(house, authority)
    assert serials(base(house)[1]) == set()


async def test_a_delta_fits_every_list_that_is_in_force(house: House):
    """6.3.3, a: a list that somebody holds says where to find a delta to it for as long as it lasts."""
    authority = await settle(house, lifetime=3 * DAY)
    numbers, indicated = [], []
    for _ in range(6):
        await renew(house, authority)
        numbers.append(base(house)[0].number)
        indicated.append(base_number(delta(house)[1]))
        house.now += DAY
    assert indicated == [numbers[0], numbers[0], numbers[0], numbers[1], numbers[2], numbers[3]]


async def test_a_delta_is_signed_ahead_of_its_end_though_nothing_changed_and_lists_at_their_own_turn(house: House):
    authority = await settle(house, delta_lifetime=2 * HOUR)
    complete = deltas = 0
    last: tuple[int, int] = (0, 0)
    for _ in range(4 * 48):
        await renew(house, authority)
        held = delta(house)[0]
        assert held.next_update - house.now >= HOUR / 2
        complete += base(house)[0].number != last[0]
        deltas += held.number != last[1]
        last = base(house)[0].number, held.number
        house.now += HOUR / 4
    assert complete == 2
    assert 47 <= deltas <= 50


async def test_many_deltas_are_renewed_a_few_at_a_time_and_a_change_goes_before_them(house: House):
    """A revocation does not wait until those of a thousand partitions are signed."""
    authority = await settle(house, partitions=AHEAD * 2)
    assert await renew(house, authority) == 2 * (2 * AHEAD + 1)
    house.now += HOUR / 2 + dt.timedelta(seconds=2)
    _, serial = await revoked(house, partition=2 * AHEAD - 1)
    assert await renew(house, authority) == AHEAD + 2
    assert serials(delta(house, 2 * AHEAD - 1)[1]) == serials(delta(house)[1]) == {serial}
    assert [await renew(house, authority) for _ in range(2)] == [AHEAD - 1, 0]


async def test_many_lists_whose_turn_comes_at_once_are_made_a_few_at_a_time_too(house: House):
    """They were made together once, and fall due together every day: each with its delta, seconds on end."""
    authority = await settle(house, partitions=AHEAD * 2)
    await renew(house, authority)
    before = [base(house, part)[0].number for part in (*range(2 * AHEAD), WHOLE)]
    house.now += DAY - HOUR / 2
    while await renew(house, authority):  # deltas that ran out meanwhile
        house.now += dt.timedelta(seconds=1)
    house.now += HOUR / 2
    _, serial = await revoked(house, partition=2 * AHEAD - 1)
    renewed = []
    for _ in range(3):
        await renew(house, authority)
        assert serials(delta(house, 2 * AHEAD - 1)[1]) == serials(delta(house)[1]) == {serial}
        now = [base(house, part)[0].number for part in (*range(2 * AHEAD), WHOLE)]
        renewed.append(sum(number > old for number, old in zip(now, before, strict=True)))
        house.now += dt.timedelta(seconds=1)
    assert renewed == [AHEAD, 2 * AHEAD, 2 * AHEAD + 1]


async def test_a_notice_that_a_delta_had_first_stays_on_deltas_until_a_complete_list_had_it(house: House):
    """5.2.4: also where the certificate expires before then."""
    authority = await settle(house)
    await renew(house, authority)
    _, serial = await revoked(house, not_after=NOW + HOUR)
    for _ in range(23):
        await renew(house, authority)
        assert serial in serials(delta(house)[1])
        house.now += HOUR
    house.now += HOUR
    await renew(house, authority)
    assert serial in serials(base(house)[1])


async def test_what_has_expired_leaves_deltas_as_it_leaves_lists(house: House):
    """Or, of certificates that live for an hour, a delta would soon be longer than its list, and than a frame."""
    authority = await settle(house)
    for day in range(5):
        await renew(house, authority)
        here = [serials(each) for each in (delta(house)[1], base(house)[1])]
        assert all(len(each) <= 2 for each in here), day
        _, serial = await revoked(house, not_after=house.now + HOUR)
        house.now += dt.timedelta(seconds=1)
        await renew(house, authority)
        assert serial in serials(delta(house)[1])
        house.now += DAY
    _, last = await revoked(house)
    await renew(house, authority)
    assert last in serials(delta(house)[1])


async def test_turned_off_lists_follow_each_revocation_and_who_holds_an_old_one_still_finds_its_delta(house: House):
    authority = await settle(house)
    await renew(house, authority)
    old = base(house)[0]
    authority = await settle(house, deltas=False)
    assert await renew(house, authority) == 1
    with pytest.raises(x509.ExtensionNotFound):
        base(house)[1].extensions.get_extension_for_class(x509.FreshestCRL)
    _, serial = await revoked(house)
    assert await renew(house, authority) == 2
    assert serials(base(house)[1]) == serials(delta(house)[1]) == {serial}
    assert base_number(delta(house)[1]) == old.number
    for _ in range(200):
        await renew(house, authority)
        held = await delta_list(house.resources, house.front.publications, authority)
        assert (held is not None) is (house.now < old.next_update)
        house.now += HOUR
    house.now += DAY
    assert await renew(house, authority) == 1  # the complete list alone, at its turn


async def test_turned_on_a_list_that_names_a_delta_is_made_at_once(house: House):
    """Or nobody would look for one before the list's next turn."""
    authority = await settle(house, deltas=False)
    await renew(house, authority)
    authority = await settle(house)
    assert await renew(house, authority) == 2
    assert freshest(base(house)[1]) == [DELTA]


async def test_each_partition_has_a_delta_of_its_own_scope(house: House):
    """5.2.4: the same issuing distribution point as the base."""
    authority = await settle(house, partitions=2)
    assert await renew(house, authority) == 6
    ours = {part: (await revoked(house, partition=part))[1] for part in (0, 1, EVERY_PARTITION)}
    assert await renew(house, authority) == 3
    for part in (0, 1):
        complete, made = base(house, part)[1], delta(house, part)[1]
        assert freshest(complete) == [f"http://pki.example/ca/test-root/{part}-delta.crl"]
        assert serials(made) == {ours[part], ours[EVERY_PARTITION]}
        points = [each.extensions.get_extension_for_class(x509.IssuingDistributionPoint) for each in (complete, made)]
        assert points[0] == points[1]
    assert freshest(base(house)[1]) == [DELTA]
    assert serials(delta(house)[1]) == set(ours.values())
    await revoked(house, partition=1)
    assert await renew(house, authority) == 2


async def test_a_partition_that_moves_has_a_new_list_and_a_delta_to_that_one(house: House):
    """5.2.4, b: a delta with other names than a list has another scope."""
    authority = await settle(house, partitions=1)
    await renew(house, authority)
    await revoked(house, partition=0)
    authority = await settle(house, "http://new.example/x/{partition}.crl", partitions=1)
    await renew(house, authority)
    complete, made = base(house, 0), delta(house, 0)[1]
    assert freshest(complete[1]) == ["http://new.example/x/0-delta.crl"]
    assert base_number(made) == complete[0].number
    assert serials(made) == set()
    points = [each.extensions.get_extension_for_class(x509.IssuingDistributionPoint) for each in (complete[1], made)]
    assert points[0] == points[1]
    assert len(points[0].value.full_name or ()) == 2


@pytest.mark.parametrize("url", ["https://pki.example/ca/test-root.crl", "http://pki.example/list?ca=1"])
async def test_a_list_beside_which_no_delta_can_stand_follows_each_revocation(house: House, url: str):
    authority = await settle(house, url)
    assert await renew(house, authority) == 1
    _, serial = await revoked(house)
    assert await renew(house, authority) == 1
    assert serials(base(house)[1]) == {serial}


async def test_another_worker_hands_out_the_same_delta_and_signs_none(house: House):
    authority = await settle(house)
    await renew(house, authority)
    await revoked(house)
    await renew(house, authority)
    other, signed = Publications(), house.signer.lists
    assert await renew(house, authority, other) == 0
    assert other.delta("authority", house.now) == delta(house)[0]
    assert await delta_list(house.resources, Publications(), authority) == delta(house)[0]
    assert house.signer.lists == signed


async def test_what_somebody_signed_since_one_looked_is_not_signed_again(house: House):
    authority = await settle(house)
    others = Publications(), Publications()
    before_all = await outlook(house.resources)
    await renew(house, authority)
    assert await renew(house, authority, others[0]) == 0
    assert await renew_revocation_lists(house.resources, others[1], authority, before_all) == 0
    await revoked(house)
    before_the_delta = await outlook(house.resources)
    house.now += dt.timedelta(seconds=1)
    await renew(house, authority)
    assert await renew_revocation_lists(house.resources, others[0], authority, before_the_delta) == 0
    await revoked(house)
    assert await renew(house, authority, others[0]) == 1, "nobody's claim is left"


async def test_of_many_workers_at_once_one_signs_and_no_number_is_used_twice(house: House):
    authority = await settle(house)
    crew = [Publications() for _ in range(4)]
    for _ in range(3):
        await revoked(house)
        house.now += dt.timedelta(seconds=1)
        before = house.signer.lists
        async with trio.open_nursery() as nursery:
            for each in crew:
                nursery.start_soon(renew, house, authority, each)
        assert 1 <= house.signer.lists - before <= 2
        for each in crew:
            await renew(house, authority, each)
        assert len({each.delta_number("authority", WHOLE) for each in crew}) == 1
        held = crew[0].delta("authority", house.now)
        assert held is not None
        assert held.revision == (await outlook(house.resources)).revision("authority")
        assert held.number > crew[0].number("authority", WHOLE)


async def test_a_delta_that_was_signed_and_not_kept_is_made_up_for_under_another_number(house: House):
    """kill -9, or a store that went away, between the signature and the store: nothing is lost, no number reused."""
    authority = await settle(house)
    await renew(house, authority)
    first = delta(house)[0]
    _, serial = await revoked(house)

    class Away:
        read = house.store.read
        times = 0

        async def write(self, work):
            self.times += 1
            if self.times == 2:  # the claim is the first
                raise StoreUnavailable("away")
            return await house.store.write(work)

    whole, house.resources = house.resources, replace(house.resources, store=Away())  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        await renew(house, authority)
    house.resources = whole
    lost = house.front.publications.claimed["authority", WHOLE]
    assert lost > first.number
    after_a_restart = Publications()
    assert await renew(house, authority, after_a_restart) == 0, "its claim still stands"
    await house.store.write(revocation_lists.give_all_back)  # as a start does
    assert await renew(house, authority, after_a_restart) == 1
    held = after_a_restart.delta("authority", house.now)
    assert held is not None
    assert held.number > lost
    assert serials(x509.load_der_x509_crl(held.der)) == {serial}


async def test_a_failing_signer_leaves_the_old_delta_in_force_and_is_asked_again(house: House):
    authority = await settle(house)
    await renew(house, authority)
    before = delta(house)[0]
    _, serial = await revoked(house)
    house.signer.crash = SignerUnreachable("away")
    for _ in range(2):
        with pytest.raises(Refusal):
            await renew(house, authority)
    assert delta(house)[0] == before
    house.now += HOUR + dt.timedelta(seconds=1)
    with pytest.raises(Refusal):
        await delta_list(house.resources, house.front.publications, authority)
    house.signer.crash = None
    held = await delta_list(house.resources, house.front.publications, authority)
    assert held is not None
    assert serials(x509.load_der_x509_crl(held.der)) == {serial}


async def test_a_clock_that_was_ahead_for_a_while_leaves_no_base_of_the_future(house: House):
    authority = await settle(house)
    await renew(house, authority)
    first = base(house)[0]
    house.now += 1000 * DAY
    await renew(house, authority)
    house.now = NOW + DAY
    assert await renew(house, authority) == 1
    house.now += dt.timedelta(seconds=1)
    assert await renew(house, authority) == 1
    assert base(house)[0].this_update <= house.now
    assert base_number(delta(house)[1]) == first.number
    assert await renew(house, authority) == 0
    state = (await outlook(house.resources)).deltas["authority", WHOLE]
    assert state.named_until == base(house)[0].next_update


@pytest.mark.parametrize("wrong", [-20_000 * DAY, -6 * DAY, 30 * DAY])
async def test_a_clock_that_was_wrong_for_a_while_leaves_nobody_who_holds_an_older_list_alone(
    house: House, tmp_path: Path, wrong: dt.timedelta
):
    """A machine that begins in 1970, or far ahead: what was published before lives on, and needs its delta (5.2.4)."""
    authority = await settle(house)
    await renew(house, authority)
    old = base(house)[0]
    house.now += DAY
    await renew(house, authority)
    right = house.now
    house.now += wrong
    await renew(house, authority)
    house.now = right + HOUR
    _, serial = await revoked(house)
    for _ in range(2):
        await renew(house, authority)
        house.now += dt.timedelta(seconds=1)
        await renew(house, authority)
        held, made = delta(house)
        assert base_number(made) == old.number
        assert serial in serials(made)
        assert held.this_update <= house.now < held.next_update
        assert (await outlook(house.resources)).deltas["authority", WHOLE].named_until == base(house)[0].next_update
        house.now += DAY
    house.now = old.next_update
    for _ in range(3):
        house.now += DAY
        await renew(house, authority)
    assert base_number(delta(house)[1]) > old.number
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        ends = [int(end) for [end] in connection.execute("SELECT next_update FROM revocation_bases")]
    earliest, latest = millis(house.now - 2 * DAY), millis(house.now + 7 * DAY)
    assert all(earliest <= end <= latest for end in ends), "what has run out is forgotten, and what was never in force"


async def test_no_two_lists_say_that_they_were_made_in_the_same_second(house: House):
    """5.2.3; and who asks by If-Modified-Since alone would not be given the second. Several workers make more than one
    a second: they use up the time by which thisUpdate lies in the past."""
    authority = await settle(house)
    await renew(house, authority)
    first = delta(house)[0]
    house.now = first.this_update  # as if that was used up
    _, serial = await revoked(house)
    assert await renew(house, authority) == 0
    house.now += dt.timedelta(seconds=1)
    assert await renew(house, authority) == 1
    held, made = delta(house)
    assert held.this_update == first.this_update + dt.timedelta(seconds=1)
    assert serials(made) == {serial}


async def test_after_a_clock_that_was_ahead_a_list_and_its_delta_have_a_second_each(house: House):
    """5.2.3: of the same thisUpdate they would need the same number."""
    authority = await settle(house)
    house.now += HOUR
    await renew(house, authority)
    house.now -= HOUR
    assert await renew(house, authority) == 1
    assert base(house)[0].this_update == house.now
    house.now += dt.timedelta(seconds=1)
    assert await renew(house, authority) == 1
    assert base(house)[0].this_update < delta(house)[0].this_update == house.now


class CountingUnit:
    """A unit that counts the rows of a query which it gives."""

    def __init__(self, unit: Unit, counted: list[int], query: str = "revocations.since") -> None:
        self._unit = unit
        self._counted = counted
        self._query = query
        self.one, self.run = unit.one, unit.run

    def all(self, query: str, **parameters: object) -> list[Row]:
        rows = list(self._unit.all(query, **parameters))  # type: ignore[arg-type]
        if query.startswith(self._query):
            self._counted.append(len(rows))
        return rows


async def test_who_asks_for_what_is_not_there_makes_nobody_read_what_is(house: House):
    """Anybody may, as often as they like: of a thousand partitions that would be thousands of rows each time."""
    authority = await settle(house, deltas=False, partitions=3)
    await renew(house, authority)
    counted: list[int] = []

    class Counting:
        write = house.store.write

        async def read(self, work):
            return await house.store.read(lambda unit: work(CountingUnit(unit, counted, "")))

    resources = replace(house.resources, store=Counting())  # type: ignore[arg-type]
    assert await delta_list(resources, house.front.publications, authority) is None
    assert await delta_list(resources, house.front.publications, authority, 1) is None
    assert await revocation_list(resources, house.front.publications, authority, 7) is None
    found = await revocation_list(resources, Publications(), authority, 2)
    assert found is not None
    assert found.number == base(house, 2)[0].number
    assert counted == []


async def test_a_delta_reads_what_changed_and_not_what_is_revoked_in_all(house: House):
    """In a worker that has just started, and in one that knows what was there."""
    authority = await settle(house)

    def many(unit: Unit) -> None:
        for number in range(3000):
            revision = revocations.begin(unit, "authority")
            revocations.put(
                unit, issuer_id="authority", serial=f"{number + 1:x}", reason=RevocationReason.SUPERSEDED,
                at=NOW, not_after=NOW + 90 * DAY, partition=None, revision=revision,
            )  # fmt: skip

    await house.store.write(many)
    await renew(house, authority)
    for _ in range(5):
        await revoked(house)
    counted: list[int] = []

    class Counting:
        write = house.store.write

        async def read(self, work):
            return await house.store.read(lambda unit: work(CountingUnit(unit, counted)))

    house.resources = replace(house.resources, store=Counting())  # type: ignore[arg-type]
    fresh = Publications()
    assert await renew(house, authority, fresh) == 1
    assert sum(counted) == 5
    counted.clear()
    await revoked(house)
    assert await renew(house, authority, fresh) == 1
    assert sum(counted) == 1
    held = fresh.delta("authority", house.now)
    assert held is not None
    assert len(serials(x509.load_der_x509_crl(held.der))) == 6
