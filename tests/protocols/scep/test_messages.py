"""Reading SCEP's queries and pkiMessages."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from asn1crypto import cms, core
from hypothesis import given
from hypothesis import strategies as st

from protocols.cms import der
from protocols.exchange import Malformed
from protocols.scep import messages
from tests.doubles.client_keys import rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import ScepClient, self_signed


def client(**how: object) -> ScepClient:
    return ScepClient(rsa_key("client"), self_signed(rsa_key("client")), **how)


def message(sender: ScepClient, content: bytes = b"x", **how: object) -> bytes:
    return sender.sign(content, sender.attributes(content, **how))


@pytest.mark.parametrize("string", [core.PrintableString, core.UTF8String, core.IA5String, core.TeletexString])
def test_text_attributes_may_have_any_string_type(string: type[core.Primitive]):
    """S54. The id is echoed as it came, type and octets (S84)."""
    read = messages.read(message(client(transaction_id=b"0A1B2C"), string=string))
    assert (read.type, read.transaction_id) == (19, b"0A1B2C")
    assert read.transaction_element == string("0A1B2C").dump()


@pytest.mark.parametrize("identifier", [b"x", b"+/=aA0", b" " * 255, b"a_b@c*d"])
def test_a_transaction_id_is_up_to_255_printable_characters(identifier: bytes):
    read = messages.read(message(client(transaction_id=identifier), string=core.UTF8String))
    assert read.transaction_id == identifier


@pytest.mark.parametrize("identifier", [b"", b"x" * 256, b"a\0b", b"a\nb", b"a\xe4b"])
def test_other_transaction_ids_are_refused(identifier: bytes):
    """S54."""
    with pytest.raises(Malformed, match="transactionID") as raised:
        messages.read(message(client(transaction_id=identifier), string=core.UTF8String))
    assert raised.value.field == "transactionID"


@pytest.mark.parametrize("length", [1, 16, 64])
def test_a_nonce_may_have_any_reasonable_length(length: int):
    """S54: RFC 8894 says 16, drafts said nothing."""
    assert len(messages.read(message(client(sender_nonce=bytes(length)))).sender_nonce) == length


@pytest.mark.parametrize("length", [0, 65])
def test_other_nonces_are_refused(length: int):
    with pytest.raises(Malformed, match="senderNonce"):
        messages.read(message(client(sender_nonce=bytes(length))))


def test_a_nonce_is_an_octet_string():
    text = cms.CMSAttribute({"type": "1.2.3", "values": [core.Any(core.PrintableString("nonce"))]})
    octets = message(client(), drop=("scep_sender_nonce",), extra=(text,))
    wrong = octets.replace(core.ObjectIdentifier("1.2.3").dump(), messages.SENDER_NONCE)
    assert wrong != octets
    with pytest.raises(Malformed):
        messages.read(wrong)


@pytest.mark.parametrize("kind", ["scep_transaction_id", "scep_message_type", "scep_sender_nonce"])
def test_each_attribute_is_required_with_one_value(kind: str):
    """S42, S53."""
    with pytest.raises(Malformed, match="one value"):
        messages.read(message(client(), drop=(kind,)))
    value = b"12345678" if kind == "scep_sender_nonce" else core.PrintableString("19")
    for values in ([], [value, value]):
        other = cms.CMSAttribute({"type": kind, "values": values})
        with pytest.raises(Malformed, match="one value"):
            messages.read(message(client(), drop=(kind,), extra=(other,)))


def test_a_text_attribute_of_another_type_is_refused():
    number = cms.CMSAttribute({"type": "scep_message_type", "values": [core.Any(core.Integer(19))]})
    with pytest.raises(Malformed, match="messageType"):
        messages.read(message(client(), drop=("scep_message_type",), extra=(number,)))


@pytest.mark.parametrize(
    ("written", "read"), [("3", 3), ("019", 19), ("0019", None), ("-1", None), ("", None), ("x", None)]
)
def test_a_message_type_is_a_small_number_or_none(written: str, read: int | None):
    assert messages.read(message(client(), message_type=written)).type == read


def test_damage_never_raises_anything_else():
    """S55."""
    corpus = [message(client()), message(client(by_key_identifier=True), string=core.UTF8String)]
    read = 0
    for damaged in mutations(b"scep", 1500, corpus):
        try:
            messages.read(damaged)
            read += 1
        except Malformed:
            pass
    assert 0 < read < 1500


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("operation=PKIOperation&message=AA==", ("pkioperation", "AA==")),
        ("message=AA==&operation=pkioperation", ("pkioperation", "AA==")),
        ("OPERATION=GetCACaps&message=", ("getcacaps", "")),
        ("x=1&operation=GetCACert&message=0&y", ("getcacert", "0")),
        ("operation=PKI%4fperation", ("pkioperation", None)),
        ("operation=GetCACaps&operation=PKIOperation", ("getcacaps", None)),
        ("", ("", None)),
        ("&&=", ("", None)),
    ],
)
def test_the_query_is_read_in_any_order_and_case(query: str, expected: tuple[str, str | None]):
    """S4, S23."""
    assert messages.parameters(query) == expected


# Every octet value, so that base64 holds each of its characters; an ASN.1 element, since a space is resolved by framing.
OCTETS = der.octet_string(bytes(range(256)) * 3 + b"\xfb\xff\xfe" * 40)
TEXT = base64.b64encode(OCTETS).decode()
WRAPPED = base64.encodebytes(OCTETS).decode()


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(quote(TEXT, safe=""), id="S94 percent-encoded"),
        pytest.param(TEXT, id="S95 raw + and /"),
        pytest.param(TEXT.replace("=", "%3D"), id="S99 only = escaped"),
        pytest.param(quote(WRAPPED, safe=""), id="S96 %0A"),
        pytest.param(quote(WRAPPED.replace("\n", "\r\n"), safe=""), id="S96 %0D%0A"),
        pytest.param(quote(WRAPPED.replace("\n", " "), safe="+/="), id="S96 spaces as white space"),
        pytest.param(TEXT.replace("+", " "), id="S96 a + taken for a space"),
        pytest.param(quote(TEXT.replace("+", " "), safe=""), id="S96 the same, escaped"),
        pytest.param(TEXT.replace("+", "-").replace("/", "_").rstrip("="), id="S97 base64url without padding"),
        pytest.param(quote(quote(WRAPPED, safe=""), safe=""), id="S98 escaped twice"),
    ],
)
def test_every_way_of_writing_base64_is_read(written: str):
    assert messages.decode(written) == OCTETS


@given(st.binary(min_size=1, max_size=300))
def test_any_octets_survive_any_padding(octets: bytes):
    """S97."""
    text = base64.b64encode(octets).decode()
    assert messages.decode(text) == messages.decode(text.rstrip("=")) == messages.decode(quote(text, safe="")) == octets


@pytest.mark.parametrize("written", ["", "=", "%", "A", "AA$A", "AAAA%ff", "A A A", "%25%25%25", "é", "AAAA AAAA"])
def test_what_is_not_base64_is_malformed(written: str):
    """S101."""
    with pytest.raises(Malformed) as raised:
        messages.decode(written)
    assert raised.value.field == "message"
