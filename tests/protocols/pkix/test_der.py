"""Reading DER (X.690, 8.1 and 10.1)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Malformed
from protocols.pkix import der
from tests.doubles.pkcs10 import tlv


@given(st.binary(max_size=70_000), st.sampled_from([0x04, 0x0C, 0x30, 0xA0]))
def test_what_was_encoded_is_read(contents, tag):
    whole = tlv(tag, contents)
    found, start, stop = der.read(whole, 0, len(whole))
    assert (found, whole[start:stop], stop) == (tag, contents, len(whole))


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "30",
        "1f8101 00",  # a tag of two octets
        "3080 0000",  # indefinite: BER
        "308101 00",  # not the shortest form
        "3082 00ff" + "00" * 255,
        "3085 0000000001 00",
        "3082 01",
        "3002 00",
        "30ff",
    ],
)
def test_what_is_not_der_is_malformed(wrong):
    octets = bytes.fromhex(wrong.replace(" ", ""))
    with pytest.raises(Malformed):
        der.read(octets, 0, len(octets))


def test_another_tag_than_the_one_expected_is_malformed():
    with pytest.raises(Malformed, match="0x04 where 0x30"):
        der.expect(b"\x04\x00", 0, 2, der.SEQUENCE)


def test_elements_are_read_one_after_the_other_and_none_may_overrun():
    whole = tlv(4, b"a") + tlv(5) + tlv(6, b"bc")
    assert [(tag, whole[start:stop]) for tag, start, stop in der.elements(whole, 0, len(whole))] == [
        (4, b"a"),
        (5, b""),
        (6, b"bc"),
    ]
    with pytest.raises(Malformed):
        list(der.elements(whole, 0, len(whole) - 1))


def test_text_is_read_by_its_type():
    assert der.text(0x1E, b"\0a") == "a"
    for tag, octets in ((0x0C, b"\xff"), (0x13, b"\xe4"), (0x1E, b"a"), (0x02, b"1")):
        with pytest.raises(Malformed):
            der.text(tag, octets)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_malformed(octets):
    with contextlib.suppress(Malformed):
        list(der.elements(octets, 0, len(octets)))
