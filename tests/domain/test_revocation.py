"""What asking for a revocation comes to, and which list a certificate names (RFC 5280, 5; D19)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.authority import Authority, ListSettings
from gateway.domain.revocation import Change, RevocationReason, change
from tests.store import things

HOLD, RELEASE, COMPROMISE = (
    RevocationReason.CERTIFICATE_HOLD,
    RevocationReason.REMOVE_FROM_CRL,
    RevocationReason.KEY_COMPROMISE,
)
FINAL = [each for each in RevocationReason if each not in (HOLD, RELEASE)]


@pytest.mark.parametrize("asked", [HOLD, *FINAL])
def test_a_good_certificate_is_revoked_for_any_reason(asked: RevocationReason):
    assert change(None, asked) is Change.REVOKE


@pytest.mark.parametrize("asked", FINAL)
def test_a_hold_becomes_final(asked: RevocationReason):
    assert change(HOLD, asked) is Change.REVOKE


def test_only_a_hold_is_released():
    assert change(HOLD, RELEASE) is Change.RELEASE
    assert {change(before, RELEASE) for before in (None, *FINAL)} == {Change.CONFLICT}


@pytest.mark.parametrize("before", FINAL)
def test_what_is_final_changes_to_a_compromise_alone(before: RevocationReason):
    assert change(before, before) is Change.NONE
    for asked in (each for each in (HOLD, *FINAL) if each is not before):
        assert change(before, asked) is (Change.REVOKE if asked is COMPROMISE else Change.CONFLICT)


def authority(partitions: int, *urls: str) -> Authority:
    return replace(things.authority(), lists=ListSettings(partitions=partitions), crl_urls=urls)


def test_without_partitions_a_certificate_names_the_whole_list():
    plain = authority(0, "http://a/ca/x.crl")
    assert plain.partition(12345) is None
    assert plain.crl_addresses(None) == ("http://a/ca/x.crl",)


@given(st.integers(1, 1000), st.integers(1, 1 << 159))
def test_with_partitions_it_names_that_of_its_serial(partitions: int, serial: int):
    spread = authority(partitions, "http://a/ca/x/{partition}.crl", "http://a/ca/x.crl")
    part = spread.partition(serial)
    assert part is not None
    assert 0 <= part < partitions
    assert spread.crl_addresses(part) == (f"http://a/ca/x/{part}.crl", "http://a/ca/x.crl")
    assert spread.crl_addresses(None) == ("http://a/ca/x.crl",)
