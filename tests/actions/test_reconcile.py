"""The signer's journal against the inventory: they agree, or each difference is a sentence (`muster doctor --journal`)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from gateway.actions.reconcile import CEREMONY, ISSUED, Reconciliation, Signed, Tally, moment
from gateway.domain.issuance import Issued
from gateway.domain.refusal import Refusal
from gateway.domain.revocation import RevocationReason
from gateway.outbound.signer import SignerLost
from gateway.store import catalogue, revocations
from gateway.store.unit import Unit, open_store
from tests.actions.test_enroll import Waist, asked
from tests.doubles.issuer import NOW, dice

BEGUN = NOW - timedelta(days=1)
LATER = NOW + timedelta(minutes=10)


@pytest.fixture
async def waist(tmp_path: Path) -> AsyncIterator[Waist]:
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        waist = Waist(store)

        def unit(unit: Unit) -> None:
            catalogue.save_authority(unit, waist.pair.authority)
            catalogue.save_policy(unit, waist.pair.profile.policy)
            catalogue.save_profile(unit, waist.pair.profile)
            catalogue.save_application(unit, waist.pair.application)
            catalogue.save_settings(unit, waist.pair.application.id, waist.pair.profile.id, waist.pair.settings)

        await store.write(unit)
        yield waist


async def entry(waist: Waist) -> Signed:
    """What the signer would have written down for a certificate that is enrolled now."""
    issued = await waist.enroll(asked())
    assert isinstance(issued, Issued)
    tbs = x509.load_der_x509_certificate(issued.certificate).tbs_certificate_bytes
    return Signed(ISSUED, waist.pair.authority.key, issued.serial, hashlib.sha256(tbs).hexdigest(), NOW)


async def compared(waist: Waist, *entries: Signed, begun=BEGUN, now=LATER) -> tuple[Tally, list[str]]:
    async def pages():
        for each in entries:
            yield [each]

    told: list[str] = []
    shown: list[int] = []
    authority = waist.pair.authority
    names = {authority.key: (authority.id, authority.name)}
    comparison = Reconciliation(waist.store, names, now=now, dice=dice, tell=told.append)
    await comparison.entries(pages(), lambda tally: shown.append(tally.entries))
    await comparison.inventory(begun, lambda _: None)
    assert shown == list(range(1, len(entries) + 1))
    assert comparison.tally.differences == len(told)
    return comparison.tally, told


async def test_what_agrees_is_counted_and_nothing_is_said(waist: Waist):
    entries = [await entry(waist) for _ in range(3)]
    crl = Signed("sign-crl", waist.pair.authority.key, "1", "", NOW)
    tally, told = await compared(waist, *entries, crl)
    assert told == []
    assert (tally.entries, tally.certificates, tally.inventory, tally.older) == (4, 3, 3, 0)


async def test_a_certificate_that_is_not_in_the_journal_is_named(waist: Waist):
    kept, lost = await entry(waist), await entry(waist)
    tally, [sentence] = await compared(waist, kept)
    assert f"serial {lost.serial} of {waist.pair.authority.name}" in sentence
    assert "not in the journal" in sentence
    assert tally.inventory == 2


async def test_certificates_from_before_the_journal_are_not_missed_and_all_of_them_are_if_there_is_none(waist: Waist):
    await entry(waist)
    tally, told = await compared(waist, begun=NOW + timedelta(minutes=5))
    assert (tally.older, told) == (1, [])
    tally, [sentence] = await compared(waist, begun=None)
    assert "there is no journal, and 1 certificates" in sentence


async def test_a_serial_that_was_signed_and_never_recorded_is_named_with_the_way_to_revoke_it(waist: Waist):
    waist.signer.failures.extend([SignerLost("it died")] * 3)
    with pytest.raises(Refusal):
        await waist.enroll(asked())
    burnt = [serial for serial, _ in await waist.serials()]
    assert len(burnt) == 3
    signed = Signed(ISSUED, waist.pair.authority.key, burnt[0], "00", NOW)
    _, [sentence] = await compared(waist, signed)
    assert "was never recorded; it may exist" in sentence
    assert f"/authorities/{waist.pair.authority.name}/serials/{burnt[0]}/revoke" in sentence

    def revoke(unit: Unit) -> None:
        issuer_id = waist.pair.authority.id
        revocations.put(
            unit,
            issuer_id=issuer_id,
            serial=burnt[0],
            reason=RevocationReason.UNSPECIFIED,
            at=NOW,
            not_after=LATER,
            partition=None,
            revision=1,
        )

    await waist.store.write(revoke)
    tally, told = await compared(waist, signed)
    assert (tally.settled, told) == (1, [])


async def test_what_is_being_recorded_just_now_is_no_difference_and_later_is_one(waist: Waist):
    serial = "7fffffff00000000"
    signed = Signed(ISSUED, waist.pair.authority.key, serial, "00", NOW)
    await waist.store.write(
        lambda unit: unit.run(
            "issuance.reserve",
            issuer_id=waist.pair.authority.id,
            serial=serial,
            request_id="r",
            plan=b"",
            at=int(NOW.timestamp() * 1000),
            holder=None,
        )
    )
    tally, told = await compared(waist, signed, now=NOW + timedelta(seconds=30))
    assert (tally.in_flight, told) == (1, [])
    tally, told = await compared(waist, signed, now=NOW + timedelta(minutes=3))
    assert (tally.in_flight, len(told)) == (0, 1)


async def test_a_store_that_is_an_older_copy_is_named(waist: Waist):
    signed = await entry(waist)
    _, [sentence] = await compared(waist, signed, replace(signed, serial="123456"))
    assert "serial 123456" in sentence
    assert "unknown to the store, which is an older copy" in sentence


async def test_another_certificate_under_a_serial_is_named(waist: Waist):
    signed = await entry(waist)
    _, told = await compared(waist, signed, replace(signed, tbs="11" * 32))
    assert "is another certificate than the one in the inventory" in told[0]
    assert "signed twice" in told[1]


async def test_a_key_that_is_no_authority_s_is_named(waist: Waist):
    _, [sentence] = await compared(waist, Signed(ISSUED, "stranger", "1", "", NOW))
    assert "stranger" in sentence


def test_seconds_become_the_second_that_has_begun():
    assert moment(NOW.timestamp() + 0.999) == NOW.replace(microsecond=0)


async def test_what_a_ceremony_signed_past_the_store_is_named_and_a_ceremony_of_this_moment_is_not(waist: Waist):
    known = replace(await entry(waist), verb=CEREMONY)
    other = replace(known, tbs="00" * 32)
    unknown = replace(known, serial="4711")
    stranger = replace(known, issuer="nobody")
    tally, told = await compared(waist, known, unknown, stranger, other)
    assert tally.ceremonies == 4
    assert ["unknown to the store" in told[0], "no authority that is known" in told[1]] == [True, True]
    assert any("is another certificate" in each for each in told)
    assert f"/authorities/{waist.pair.authority.name}/serials/4711/revoke" in told[0]
    tally, _ = await compared(
        waist, known, replace(unknown, at=LATER), replace(stranger, issuer="x", serial="5", at=LATER)
    )
    assert tally.in_flight == 2
