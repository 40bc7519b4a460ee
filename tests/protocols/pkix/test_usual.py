"""What is read of usual requests without the library's objects means what the library says (RFC 2986; A85, A120)."""

from __future__ import annotations

import pytest
from cryptography import x509

from protocols.pkix import names, usual
from protocols.pkix.names import AlternativeName, Attribute
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import EXTENSION_REQUEST, MICROSOFT_EXTENSIONS, attribute, extension, raw_request, tlv

COMMON_NAME = bytes.fromhex("0603550403")
OF_NAMES = bytes.fromhex("0603551d11")


def rdn(value: bytes, *, kind: bytes = COMMON_NAME, tag: int = 0x0C) -> bytes:
    return tlv(0x31, tlv(0x30, kind, tlv(tag, value)))


def asked(*parts: bytes, oid: bytes = OF_NAMES) -> bytes:
    """Extensions with one extension in it, of these parts behind its OID."""
    return tlv(0x30, tlv(0x30, oid, *parts))


def hosts(*values: bytes, tag: int = 0x82) -> bytes:
    return tlv(0x04, tlv(0x30, *(tlv(tag, each) for each in values)))


def subject(content: bytes) -> tuple[Attribute, ...] | None:
    return usual.subject(content, 0, len(content))


def alternative_names(content: bytes) -> tuple[AlternativeName, ...] | None:
    return usual.alternative_names(content, 0, len(content))


def by_library(content: bytes, extensions: bytes) -> x509.CertificateSigningRequest:
    request = raw_request(attribute(EXTENSION_REQUEST, extensions), subject=tlv(0x30, content))
    return x509.load_der_x509_csr(request)


def test_common_attributes_in_plain_letters_are_read_in_order():
    content = rdn(b"Example, Inc.", kind=bytes.fromhex("060355040a"), tag=0x13) + rdn(b"a.example")
    assert subject(content) == (Attribute("2.5.4.10", "Example, Inc."), Attribute("2.5.4.3", "a.example"))
    assert subject(b"") == ()


def test_dns_names_are_read_in_order_and_in_lower_case():
    content = asked(hosts(b"A.example", b"*.b.example"))
    assert alternative_names(content) == (
        AlternativeName("dns_name", "a.example"),
        AlternativeName("dns_name", "*.b.example"),
    )


@pytest.mark.parametrize("count", [1, 2, 6, 7, 12, 13, 14, 40])
def test_names_are_read_whatever_octets_their_lengths_take(count: int):
    wanted = tuple(AlternativeName("dns_name", f"h{at:02}.names.example") for at in range(count))
    content = asked(hosts(*(each.value.encode() for each in wanted)))
    assert alternative_names(content) == wanted
    request = attribute(EXTENSION_REQUEST, content)
    where = usual.extension_request(request)
    assert where is not None
    assert usual.alternative_names(request, *where) == wanted


def test_more_names_than_fit_on_a_page_are_left_to_the_library():
    assert alternative_names(asked(hosts(*[b"h.names.example"] * 100))) is None


def test_other_attributes_beside_the_extensions_are_left_to_the_library():
    extensions = attribute(EXTENSION_REQUEST, asked(hosts(b"a")))
    assert (
        usual.extension_request(extensions + attribute(bytes.fromhex("06092a864886f70d010907"), tlv(0x13, b"a")))
        is None
    )
    assert usual.extension_request(attribute(MICROSOFT_EXTENSIONS, asked(hosts(b"a")))) is None
    assert usual.extension_request(extensions[:-1] + b"\0\0") is None
    assert usual.extension_request(b"") is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x31",
        tlv(0x30, tlv(0x30, COMMON_NAME, tlv(0x0C, b"a"))),
        tlv(0x31, tlv(0x31, COMMON_NAME, tlv(0x0C, b"a"))),
        tlv(0x31, *[tlv(0x30, COMMON_NAME, tlv(0x0C, b"a"))] * 2),
        tlv(0x31, tlv(0x30, COMMON_NAME, tlv(0x0C, b"a"), b"\5\0")),
        rdn(b"a", kind=bytes.fromhex("0403550403")),
        rdn(b"a", kind=bytes.fromhex("06092a864886f70d010901")),
        rdn(b"a", tag=0x16),
        rdn(b""),
        rdn(b"a*b"),
        rdn(b"a" * 119),
        rdn(b"a")[:-1],
        rdn("ä".encode()),
        rdn(b"a\0b"),
        rdn(b"a\n"),
    ],
)
def test_any_other_subject_is_left_to_the_library(content: bytes):
    assert subject(content) is None


@pytest.mark.parametrize(
    "content",
    [
        b"\x30",
        tlv(0x31, tlv(0x30, OF_NAMES, hosts(b"a"))),
        tlv(0x30, tlv(0x31, OF_NAMES, hosts(b"a"))),
        tlv(0x30, *[tlv(0x30, OF_NAMES, hosts(b"a"))] * 2),
        asked(hosts(b"a")) + b"\5\0",
        asked(hosts(b"a"), oid=bytes.fromhex("0603551d0f")),
        asked(hosts(b"a"), oid=bytes.fromhex("0403551d11")),
        asked(b"\x01\x01\xff", hosts(b"a")),
        asked(hosts(b"a"), b"\5\0"),
        asked(tlv(0x04, tlv(0x30, tlv(0x82, b"a")), b"\5\0")),
        asked(tlv(0x04, tlv(0x31, tlv(0x82, b"a")))),
        asked(hosts()),
        asked(hosts(b"a", b"")),
        asked(hosts(b"a" * 128)),
        asked(tlv(0x04, tlv(0x30, tlv(0x82, b"a"), b"\x82"))),
        asked(tlv(0x04, tlv(0x30, b"\x82\x02a"))),
        asked(hosts(b"\x7f\0\0\1", tag=0x87)),
        asked(hosts("ä".encode())),
        asked(hosts(b"a\0.example")),
    ],
)
def test_any_other_extension_is_left_to_the_library(content: bytes):
    assert alternative_names(content) is None


def test_what_is_taken_of_damaged_subjects_the_library_reads_the_same():
    corpus = (
        rdn(b"a.example"),
        rdn(b"Example", kind=bytes.fromhex("060355040a"), tag=0x13) + rdn(b"b.example"),
        rdn(b"DE", kind=bytes.fromhex("0603550406"), tag=0x13),
    )
    none = asked(hosts(b"a"))
    taken = 0
    for damaged in mutations(b"subjects", 3000, corpus):
        found = subject(damaged)
        if found is not None:
            taken += 1
            assert found == names.attributes(by_library(damaged, none).subject)
    assert taken > 30


def test_what_is_taken_of_damaged_extensions_the_library_reads_the_same():
    corpus = (
        asked(hosts(b"a.example")),
        asked(hosts(b"a.example", b"*.B.example", b"c_d.example")),
        asked(hosts(*[b"long.names.example"] * 7)),
        tlv(0x30, extension("2.5.29.15", bytes.fromhex("03020780"))),
    )
    taken = 0
    for damaged in mutations(b"extensions", 3000, corpus):
        found = alternative_names(damaged)
        if found is not None:
            taken += 1
            [read] = by_library(b"", damaged).extensions
            assert isinstance(read.value, x509.SubjectAlternativeName)
            assert not read.critical
            assert found == names.alternative_names(read.value)
    assert taken > 30
