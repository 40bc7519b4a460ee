"""A certificate's facts, read leniently and without losing a name."""

from __future__ import annotations

import datetime as dt
import hashlib
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.exchange import Malformed
from protocols.pkix import certificate, csr
from protocols.pkix import der as reader
from protocols.pkix.names import AlternativeName, Attribute
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import p256, request, rsa2048, tlv

FROM = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
UNTIL = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def issue(*extensions: x509.ExtensionType, key=None, subject=None) -> bytes:
    key = key or p256()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device1")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name if subject is None else subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An Authority")]))
        .serial_number(0x1234)
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .public_key(key.public_key())
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(p256(), hashes.SHA256()).public_bytes(Encoding.DER)


def test_everything_is_read():
    der = issue(
        x509.SubjectAlternativeName([x509.DNSName("Device1.Example")]),
        x509.BasicConstraints(ca=True, path_length=0),
        x509.KeyUsage(True, False, False, False, False, True, False, False, False),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
        x509.OCSPNoCheck(),
    )
    read = certificate.read(der)
    spki = p256().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    loaded = x509.load_der_x509_certificate(der)
    assert read == certificate.Certificate(
        der=der,
        serial=0x1234,
        issuer=loaded.issuer.public_bytes(),
        subject_der=loaded.subject.public_bytes(),
        subject=(Attribute("2.5.4.3", "device1"),),
        sans=(AlternativeName("dns_name", "device1.example"),),
        spki=spki,
        spki_sha256=hashlib.sha256(spki).digest(),
        key_algorithm="EC_prime256v1",
        signature_algorithm="1.2.840.10045.4.3.2",
        not_before=FROM,
        not_after=UNTIL,
        sha1=hashlib.sha1(der).digest(),
        sha256=hashlib.sha256(der).digest(),
        ca=True,
        key_usages=("digitalSignature", "keyCertSign"),
        extended_key_usages=("1.3.6.1.5.5.7.3.2",),
    )


def test_its_key_compares_with_that_of_a_request():
    assert certificate.read(issue(key=rsa2048())).spki == csr.parse(request(key=rsa2048())).spki


def test_without_extensions_there_are_no_names_and_no_rights():
    read = certificate.read(issue())
    assert (read.sans, read.ca, read.key_usages, read.extended_key_usages) == (None, False, None, None)


@pytest.mark.parametrize("der", [b"", tlv(0x30, b""), tlv(0x30, tlv(0x30, b"")), tlv(0x30, tlv(0x30, tlv(0x04, b"1")))])
def test_what_has_no_serial_is_no_certificate(der: bytes):
    with pytest.raises(Malformed) as caught:
        certificate.serial_of(der)
    assert caught.value.field == "certificate"


def test_a_certificate_of_version_1_is_read():
    # A throw-away one of a SCEP client; the version is left out of its encoding.
    der = issue()
    _, start, end = reader.read(der, 0, len(der))
    _, first, last = reader.read(der, start, end)
    version = bytes.fromhex("a003020102")
    assert der[first:].startswith(version)
    read = certificate.read(tlv(0x30, tlv(0x30, der[first + len(version) : last]), der[last:end]))
    assert read.subject == (Attribute("2.5.4.3", "device1"),)
    assert certificate.serial_of(read.der) == read.serial == 0x1234


def test_names_that_cannot_be_read_equal_no_name_that_anybody_asks_for():
    der = issue(x509.SubjectAlternativeName([x509.DNSName("device1.example")]))
    broken = certificate.read(der.replace(b"device1.example", b"device1\xff\xff\xff\xff\xff\xff\xff\xff"))
    assert broken.sans == (AlternativeName("other:unreadable", ""),)


def test_a_key_that_could_not_be_certified_is_still_read():
    weak = certificate.read(issue(key=rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    assert weak.key_algorithm is None
    odd = certificate.read(issue(key=ec.generate_private_key(ec.SECP256K1())))
    assert odd.key_algorithm is None
    der = bytearray(issue())
    point = p256().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    der[bytes(der).index(point) + 64] ^= 1
    off = certificate.read(bytes(der))
    assert off.key_algorithm is None
    assert off.spki.endswith(point[1:64] + bytes([point[64] ^ 1]))


def test_a_subject_that_is_no_list_of_attributes_is_not_written_as_one():
    two = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "b")]
    )
    read = certificate.read(issue(subject=x509.Name([two])))
    assert read.subject is None
    assert read.subject_der == x509.Name([two]).public_bytes()


def test_what_is_no_certificate_is_malformed():
    version = issue().replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020109"))
    for wrong in (b"", version, issue()[:-1], issue() + b"\0", request("a.example"), b"\0" * (certificate.LIMIT + 1)):
        with pytest.raises(Malformed) as caught:
            certificate.read(wrong)
        assert caught.value.field == "certificate"


def test_damaged_certificates_are_read_or_malformed():
    corpus = (issue(x509.SubjectAlternativeName([x509.DNSName("a.example")]), x509.OCSPNoCheck()), issue(key=rsa2048()))
    seen = 0
    for damaged in mutations(b"certificate", 2000, corpus):
        with suppress(Malformed):
            certificate.serial_of(damaged)
        try:
            assert certificate.read(damaged).serial == certificate.serial_of(damaged)
            seen += 1
        except Malformed:
            pass
    assert seen > 0
