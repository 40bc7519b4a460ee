"""What asking for a revocation comes to, and which list a certificate names (RFC 5280, 5; D19)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.authority import Authority, ListSettings
from gateway.domain.declaration import nouns
from gateway.domain.declaration.shape import AuthorityDeclaration, Declaration
from gateway.domain.revocation import Change, RevocationReason, change, reason_of
from tests.domain.made import DAY
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


@pytest.mark.parametrize(
    ("urls", "whole", "third"),
    [
        (("http://a/ca/x.crl",), ("http://a/ca/x-delta.crl",), ()),
        (("http://a/x.crl", "https://b/x.crl", "http://c/list"), ("http://a/x-delta.crl",), ()),
        (("http://a/ca/x/{partition}.crl",), ("http://a/ca/x-delta.crl",), ("http://a/ca/x/3-delta.crl",)),
        (
            ("http://a/x-{partition}.crl", "http://b/x/{partition}.crl", "http://b/x.crl"),
            ("http://b/x-delta.crl",),
            ("http://a/x-3-delta.crl", "http://b/x/3-delta.crl"),
        ),
        (("http://a/{partition}/x.crl",), (), ("http://a/3/x-delta.crl",)),
        # Without the partition nothing is left but the host: `a.crl` would be somebody else's.
        (("http://a/{partition}.crl",), (), ("http://a/3-delta.crl",)),
        ((), (), ()),
    ],
)
def test_a_delta_stands_beside_its_list_over_plain_http(
    urls: tuple[str, ...], whole: tuple[str, ...], third: tuple[str, ...]
):
    """RFC 5280, 5.2.6: of the same scope as the list that names it."""
    plain = replace(things.authority(), lists=ListSettings(partitions=4, deltas=True), crl_urls=urls)
    assert (plain.delta_addresses(None), plain.delta_addresses(3)) == (whole, third)
    without = replace(plain, lists=ListSettings(partitions=4))
    assert (without.delta_addresses(None), without.delta_addresses(3)) == ((), ())


def test_every_reason_has_its_value_in_crlreason():
    assert [reason_of(each.code) for each in RevocationReason] == list(RevocationReason)


NO_PLACE = "crlUrls needs an address of plain HTTP that ends in .crl: deltas stand beside it"
HTTP, SPREAD = "http://a/ca/x.crl", "http://a/ca/x/{partition}.crl"


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        ({}, []),
        ({"crl_lifetime": "400d", "crl_refresh": "200d"}, []),
        ({"crl_partitions": 4, "crl_urls": [SPREAD, HTTP]}, []),
        ({"crl_partitions": 0, "crl_urls": [HTTP]}, []),
        ({"crl_lifetime": "401d"}, ["authorities[0].crlLifetime: must be at most 400d"]),
        (
            {"crl_lifetime": "2d", "crl_refresh": "25h"},
            ["authorities[0].crlRefresh: must be at most half of crlLifetime"],
        ),
        (
            {"crl_partitions": 1001, "crl_urls": [SPREAD]},
            ["authorities[0].crlPartitions: must be from 0 to 1000"],
        ),
        ({"crl_partitions": 4}, ["authorities[0].crlPartitions: crlUrls must stand beside it"]),
        (
            {"crl_partitions": 4, "crl_urls": [HTTP]},
            ["authorities[0].crlUrls: crlPartitions is 4: an address needs {partition} in it"],
        ),
        (
            {"crl_urls": [SPREAD]},
            ["authorities[0].crlUrls: crlPartitions is 0: no address may have {partition} in it"],
        ),
        ({"crl_deltas": True, "crl_urls": [HTTP], "crl_delta_lifetime": "12h"}, []),
        ({"crl_deltas": True, "crl_urls": [SPREAD], "crl_partitions": 4}, []),
        ({"crl_deltas": True}, []),  # beside the addresses that are there
        ({"crl_deltas": False, "crl_urls": []}, []),
        (
            {"crl_deltas": True, "crl_urls": ["https://a/ca/x.crl"]},
            [f"authorities[0].crlDeltas: {NO_PLACE}"],
        ),
        (
            {"crl_lifetime": "2d", "crl_delta_lifetime": "3d"},
            ["authorities[0].crlDeltaLifetime: must be at most crlLifetime"],
        ),
        (
            {"crl_delta_lifetime": "90s"},
            [
                "authorities[0].crlDeltaLifetime: a duration is a number and one of h, d, m (30 days), y (365 days), such as 90d"
            ],
        ),
    ],
)
def test_what_a_declaration_may_say_of_lists(given_: dict[str, object], found: list[str]):
    declared = AuthorityDeclaration(name="x", **given_)  # type: ignore[arg-type]
    assert nouns.problems(Declaration(authorities=[declared])) == found


def test_what_is_left_out_stays_and_a_short_lifetime_shortens_the_refresh():
    old, at = ListSettings(DAY * 30, DAY * 3, 8, True, DAY / 4), nouns.Problems([], "")
    assert nouns.lists_of(AuthorityDeclaration(name="x"), old, at) == old
    off = AuthorityDeclaration(name="x", crl_deltas=False, crl_delta_lifetime="2h")
    assert nouns.lists_of(off, old, at) == ListSettings(DAY * 30, DAY * 3, 8, False, DAY / 12)
    short = AuthorityDeclaration(name="x", crl_lifetime="8h")
    assert nouns.lists_of(short, ListSettings(), at) == ListSettings(DAY / 3, DAY / 6, 0)
