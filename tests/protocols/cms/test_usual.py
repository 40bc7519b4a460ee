"""What the quick readers of messages take, they read as the one that reads anything does; the rest they leave to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from asn1crypto import core

from protocols.cms import der, enveloped, signed, usual
from protocols.exchange import Malformed
from tests.doubles.client_keys import rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import ScepClient, self_signed

PATH = usual.into(
    der.SEQUENCE,
    usual.kept(der.INTEGER),
    usual.passed(der.OCTET_STRING),
    usual.into(0xA0, usual.kept(der.UTF8_STRING)),
)
INTEGER, TEXT = der.integer(5), der.tlv(der.UTF8_STRING, b"text")


def client(**how: object) -> ScepClient:
    return ScepClient(rsa_key("client"), self_signed(rsa_key("client")), **how)


def envelope(**how: object) -> bytes:
    return client(**how).envelope(b"content", self_signed(rsa_key("ra"), "RA"))


def message(**how: object) -> bytes:
    sender = client(**how)
    return sender.sign(b"content", sender.attributes(b"content"))


def variants(octets: bytes) -> Iterator[bytes]:
    """`octets` with each octet another, cut short everywhere, longer, and damaged in more ways."""
    yield octets
    for at in range(len(octets)):
        for change in (0x01, 0x20, 0x80, 0xFF):
            yield octets[:at] + bytes((octets[at] ^ change,)) + octets[at + 1 :]
        yield octets[:at]
    yield octets + b"\0"
    yield octets + b"x"
    yield from rewritten(octets)
    yield from mutations(b"usual", 1000, (octets,))


def rewritten(octets: bytes) -> Iterator[bytes]:
    """What is in `octets`, with one element written in another way, twice or not at all; lengths around it fit."""
    at = 0
    while at < len(octets):
        head, length = 2, octets[at + 1]
        if length > 0x80:
            head += length & 0x7F
            length = int.from_bytes(octets[at + 2 : at + head], "big")
        tag, inside, stop = octets[at], octets[at + head : at + head + length], at + head + length
        whole, pieces = octets[at:stop], der.octet_string(inside[:5]) + der.octet_string(inside[5:])
        others = [bytes((tag, 0x80 | n)) + length.to_bytes(n, "big") + inside for n in (2, 3, 4)]
        others += [bytes((tag, 0x80)) + inside + b"\0\0", bytes((tag | 0x20, 0x80)) + pieces + b"\0\0"]
        others += [
            b"",
            whole * 2,
            whole + der.NULL,
            der.tlv(tag, b""),
            der.tlv(tag, whole),
            der.tlv(tag | 0x20, pieces),
        ]
        if tag & 0x20:
            others += [der.tlv(tag, each) for each in rewritten(inside)]
        yield from (octets[:at] + other + octets[stop:] for other in others)
        at = stop


def told(read: Callable[[bytes], object], octets: bytes) -> object:
    """What a reader says of some octets."""
    try:
        found = read(octets)
    except Malformed as fault:
        return fault.detail
    if not isinstance(found, signed.SignedMessage):
        return found
    attributes = {kind: [(each.tag, each.received, each.depth) for each in of] for kind, of in found.attributes.items()}
    parameters = found.signature_parameters and found.signature_parameters.received
    return (
        attributes,
        found.signed_attributes.received,
        found.signed_attributes.inside,
        found.signed_attributes.depth,
        parameters,
        (found.content_type, found.content, found.signer, found.digest, found.signature_algorithm, found.signature),
    )


def test_a_signed_message_is_the_same_to_both_readers_however_it_is_damaged():
    octets = message()
    assert signed._parse_usual(octets) is not None
    for each in variants(octets):
        assert told(signed.parse, each) == told(signed._parse_any, each)


def test_an_envelope_is_the_same_to_both_readers_however_it_is_damaged():
    octets = envelope()
    assert enveloped._parse_usual(octets) is not None
    for each in variants(octets):
        assert told(enveloped.parse, each) == told(enveloped._parse_any, each)


@pytest.mark.parametrize("how", [{"signature": "pss"}, {"by_key_identifier": True}])
def test_a_signed_message_of_another_form_is_left_to_the_other_reader(how: dict[str, object]):
    """S41, S45."""
    octets = message(**how)
    assert signed._parse_usual(octets) is None
    assert signed.parse(octets).signer is not None


@pytest.mark.parametrize("how", [{"transport": "oaep-sha256"}, {"cipher": "tripledes_3key"}])
def test_an_envelope_of_another_form_is_left_to_the_other_reader(how: dict[str, object]):
    """S49, S50."""
    octets = envelope(**how)
    assert enveloped._parse_usual(octets) is None
    assert len(enveloped.parse(octets).recipients) == 1


def test_attributes_that_are_long_or_many_or_strange_are_left_to_the_other_reader():
    """S52, S53: beyond 127 octets, more than 32, a type twice, two values, a value that is cut short."""
    kind = core.ObjectIdentifier("1.2.3.4").dump()
    plain = der.sequence(kind, der.set_of(TEXT))

    def read(octets: bytes) -> object:
        return signed._by_type_usual(signed.ber.Source(octets + bytes(4), 100), 0, len(octets))

    assert read(plain) is not None
    assert read(der.sequence(kind, der.set_of(der.tlv(der.UTF8_STRING, bytes(120))))) is None
    assert read(der.sequence(kind, der.set_of(TEXT, TEXT))) is None
    assert read(der.sequence(kind, der.set_of())) is None
    assert read(der.sequence(kind, der.set_of(b"\x1f\x01a"))) is None
    assert read(plain * 2) is None
    assert read(plain[:-1]) is None
    numbers = [core.ObjectIdentifier(f"1.2.3.{number}").dump() for number in range(33)]
    many = [der.sequence(each, der.set_of(TEXT)) for each in numbers]
    assert read(b"".join(many[:32])) is not None
    assert read(b"".join(many)) is None


@pytest.mark.parametrize("length", [0, 0x7F, 0x80, 0xFF, 0x100, 0x8000])
def test_lengths_of_one_two_and_three_octets_are_read(length: int):
    """X.690, 8.1.3."""
    octets = der.sequence(INTEGER, der.octet_string(bytes(length)), der.tlv(0xA0, TEXT))
    found = usual.places(octets, PATH)
    assert found is not None
    assert [octets[start:end] for start, _, end in found] == [INTEGER, TEXT]
    assert [octets[inside:end] for _, inside, end in found] == [b"\5", b"text"]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        der.sequence(INTEGER),
        der.sequence(INTEGER, der.octet_string(b""), der.tlv(0xA0, TEXT)) + b"\0",
        der.sequence(INTEGER, der.octet_string(b""), der.tlv(0xA0, TEXT), INTEGER),
        der.sequence(INTEGER, der.octet_string(b""), der.tlv(0xA0, TEXT + TEXT)),
        der.sequence(INTEGER, der.octet_string(b""), der.tlv(0xA0, TEXT[:-1])) + b"t",
        der.sequence(INTEGER, der.octet_string(b""), der.tlv(0xA1, TEXT)),
        der.sequence(INTEGER, der.octet_string(bytes(0x10000)), der.tlv(0xA0, TEXT)),
        b"\x30\x80" + INTEGER + der.octet_string(b"") + der.tlv(0xA0, TEXT) + b"\0\0",
    ],
)
def test_anything_else_has_no_places(octets: bytes):
    """Cut short, something behind it or inside it, another tag, an indefinite length or a very long one (S39)."""
    assert usual.places(octets, PATH) is None
