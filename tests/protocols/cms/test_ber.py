"""The BER reader and the DER writer, against each other and against asn1crypto."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from protocols.cms import ber, der
from protocols.cms.ber import ABSENT, Field
from protocols.exchange import Malformed
from tests.doubles.mutation import mutations


@given(st.integers(-(2**80), 2**80))
def test_an_integer_is_written_in_the_fewest_octets(value: int):
    """X.690, 8.3.2, as asn1crypto writes it."""
    assert der.integer(value) == core.Integer(value).dump()


@given(st.binary(max_size=70_000) | st.sampled_from([bytes(n) for n in (0, 127, 128, 255, 256, 65535, 65536)]))
def test_what_is_written_is_read_back(value: bytes):
    encoded = der.octet_string(value)
    assert encoded == core.OctetString(value).dump()
    element = ber.parse(encoded)
    assert (element.tag, element.contents, element.octets(), element.encoded()) == (4, value, value, encoded)


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.7.2", "2.16.840.1.113733.1.9.7", "0.9.2342.19200300.100.1.25"])
def test_an_object_identifier_is_written_as_asn1crypto_writes_it(dotted: str):
    assert der.object_identifier(dotted) == core.ObjectIdentifier(dotted).dump()


def test_a_set_is_sorted():
    """X.690, 11.6."""
    assert der.set_of(b"\x02\x01\x05", b"\x02\x01\x03") == bytes.fromhex("3106020103020105")
    assert ber.parse(bytes.fromhex("3106020105020103")).encoded() == bytes.fromhex("3106020103020105")


def test_indefinite_lengths_and_pieces_become_definite():
    """S39: Apple's clients send both. SEQUENCE { OCTET STRING in two pieces, one of them in pieces itself }."""
    pieces = bytes.fromhex("3080 2480 0402 4142 2404 0402 4344 0000 0000")
    element = ber.parse(pieces)
    assert element.children()[0].octets() == b"ABCD"
    assert ber.parse(der.sequence(bytes.fromhex("2480040141 0000"))).encoded() == bytes.fromhex("3005 2403 040141")


def test_a_long_form_of_a_short_length_is_read():
    """BER allows it (X.690, 8.1.3.5); some clients always write it."""
    assert ber.parse(bytes.fromhex("0482000141")).octets() == b"A"


def test_padding_may_follow_and_nothing_else():
    """S40."""
    assert ber.parse(b"\x05\x00\r\n\0", padding=b"\0\r\n").tag == 5
    with pytest.raises(Malformed):
        ber.parse(b"\x05\x00\r\n\0")
    with pytest.raises(Malformed):
        ber.parse(b"\x05\x00x", padding=b"\0\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "30",
        "3003 0201",  # the inside is cut
        "30 05 0201",  # the outside is cut
        "04 85 0000000001 41",  # a length of five octets
        "30 84 ffffffff",
        "04 82 01",  # a length that is cut
        "1f 8101 00",  # a tag above 30
        "0000",
        "0480 0000",  # a primitive of indefinite length
        "3080 0201 01",  # no end-of-contents
        "3080 0201 01 00",
    ],
)
def test_what_is_not_well_formed_is_refused(octets: str):
    with pytest.raises(Malformed):
        ber.parse(bytes.fromhex(octets)).encoded()


def test_an_end_of_contents_outside_does_not_count():
    """Whoever looks beyond what contains an element reads what somebody else meant."""
    outer = ber.parse(bytes.fromhex("3005 3080 020101 0000"), padding=b"\0")
    with pytest.raises(Malformed, match="truncated"):
        outer.children()


def test_a_message_is_limited_in_size_depth_and_count():
    """S52, before anything is copied."""
    with pytest.raises(Malformed, match="larger"):
        ber.parse(der.octet_string(bytes(ber.MAX_SIZE)))
    with pytest.raises(Malformed, match="deeper"):
        ber.parse(b"\x30\x80" * 17 + b"\0\0" * 17)
    deep = b"\x05\x00"
    for _ in range(16):
        deep = der.sequence(deep)
    with pytest.raises(Malformed, match="deeper"):
        ber.parse(deep).encoded()
    with pytest.raises(Malformed, match="4096"):
        ber.parse(b"\x30\x80" + b"\x05\0" * 4100 + b"\0\0")
    assert len(ber.parse(b"\x30\x80" + b"\x05\0" * 4000 + b"\0\0").children(4000)) == 4000


@pytest.mark.parametrize("wrapped", [b"\x30\x80" + b"\x05\0" * 9 + b"\0\0", der.sequence(b"\x05\0" * 9)])
def test_an_element_holds_no_more_than_its_reader_allows(wrapped: bytes):
    element = ber.parse(wrapped)
    assert len(element.children(9)) == 9
    with pytest.raises(Malformed, match="more than 8"):
        element.children(8)


def test_constructed_and_primitive_are_not_mistaken_for_each_other():
    with pytest.raises(Malformed, match="primitive"):
        _ = ber.parse(b"\x24\x03\x04\x01A").contents
    with pytest.raises(Malformed, match="constructed"):
        ber.parse(b"\x04\x01A").children()
    with pytest.raises(Malformed, match="pieces"):
        ber.parse(b"\x24\x03\x02\x01A").octets()
    with pytest.raises(Malformed, match="SEQUENCE"):
        ber.parse(b"\x31\x00").fields(())


LONG = der.octet_string(bytes(200))
SHAPES = [
    ((Field(der.INTEGER), Field(der.OCTET_STRING)), [der.integer(1), der.octet_string(b"x")]),
    ((Field(der.INTEGER, wanted=False), Field(None)), [der.integer(1), LONG]),
    ((Field(0xA0, needed=False), Field(der.SEQUENCE), Field(0xA1, needed=False, wanted=False)), [der.sequence(LONG)]),
    ((Field(der.INTEGER, needed=False), Field(None, needed=False)), []),
    ((Field(0xA0, needed=False), Field(der.NULL[0])), [der.tlv(0xA0, bytes(70_000)), der.NULL]),
]


@pytest.mark.parametrize(("shape", "parts"), SHAPES)
@pytest.mark.parametrize("wrap", [der.sequence, lambda *parts: b"\x30\x80" + b"".join(parts) + b"\0\0"])
def test_the_fields_of_a_sequence_are_taken_by_its_shape(
    shape: ber.Shape, parts: list[bytes], wrap: Callable[..., bytes]
):
    """Whether its length is definite or not (X.690, 8.1.3): what is there, and `ABSENT` for what may be left out."""
    left, expected = list(parts), []
    for field in shape:
        here = bool(left) and (field.tag is None or left[0][0] == field.tag)
        part = left.pop(0) if here else b""
        if field.wanted:
            expected.append(part)
    taken = ber.parse(wrap(*parts)).fields(shape)
    assert [b"" if each is ABSENT else each.received for each in taken] == expected
    with pytest.raises(Malformed, match="more fields"):
        ber.parse(wrap(*parts, der.sequence(), der.sequence())).fields(shape)
    if shape[-1].needed:
        with pytest.raises(Malformed, match="missing"):
            ber.parse(wrap(*parts[:-1])).fields(shape)


def test_fields_are_read_under_the_message_s_limits():
    """S52: depth and count hold for fields as for children, and nothing ends behind what contains it."""
    deep = der.sequence()
    for _ in range(16):
        deep = der.sequence(deep)
    nested, inner = ber.parse(deep), (Field(der.SEQUENCE),)
    for _ in range(ber.MAX_DEPTH - 1):
        [nested] = nested.fields(inner)
    with pytest.raises(Malformed, match="deeper"):
        nested.fields(inner)
    crowd = ber.parse(der.sequence(der.sequence(*[der.NULL] * 3000), der.sequence(*[der.NULL] * 3000)))
    first, second = crowd.fields((Field(der.SEQUENCE), Field(der.SEQUENCE)))
    assert len(first.fields((Field(der.NULL[0]),) * 3000)) == 3000
    with pytest.raises(Malformed, match="4096"):
        second.fields((Field(der.NULL[0]),) * 3000)
    for cut in ("3003 020201", "3003 028201", "3007 020101 04820001", "3006 04820003 4142", "3001 02"):
        with pytest.raises(Malformed, match="truncated"):
            ber.parse(bytes.fromhex(cut)).fields((Field(der.INTEGER, needed=False), Field(der.OCTET_STRING)))


ANY: ber.Shape = (Field(None), Field(der.OCTET_STRING, needed=False), Field(None, needed=False))


def _walk(element: ber.Element) -> None:
    element.encoded()
    element.octets()
    if element.tag == der.SEQUENCE:
        element.fields(ANY)


def test_damage_never_raises_anything_else():
    """S55."""
    corpus = [
        bytes.fromhex("3080 2480 0402 4142 2404 0402 4344 0000 0000"),
        der.sequence(der.integer(5), der.octet_string(bytes(200)), der.set_of(der.NULL, der.sequence(der.NULL))),
        b"\x30\x80" * 12 + b"\0\0" * 12,
    ]
    refused = 0
    for damaged in mutations(b"ber", 3000, corpus):
        try:
            _walk(ber.parse(damaged))
        except Malformed:
            refused += 1
    assert 0 < refused < 3000
