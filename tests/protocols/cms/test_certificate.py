"""Lenient reading of signers' certificates (S51)."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.cms import certificate, der
from protocols.exchange import Malformed
from tests.doubles.client_keys import ec_key, rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import self_signed


def _der(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(Encoding.DER)


def test_the_names_and_the_key_are_read():
    encoded = _der(self_signed(rsa_key("a"), ski=True))
    read, reference = certificate.read(encoded), asn1_x509.Certificate.load(encoded)
    assert read.serial == reference["tbs_certificate"]["serial_number"].dump()
    assert read.issuer == read.subject == reference.subject.dump()
    assert read.spki == reference.public_key.dump()
    assert read.key_identifier == reference.key_identifier
    assert read.issuer_and_serial == der.sequence(read.issuer, read.serial)
    assert read.spki_sha256 == hashlib.sha256(read.spki).digest()
    assert read.self_issued


def test_a_key_identifier_that_is_not_written_down_is_computed():
    """RFC 5280, 4.2.1.2, method 1."""
    read = certificate.read(_der(self_signed(ec_key("a"))))
    assert read.key_identifier == x509.SubjectKeyIdentifier.from_public_key(ec_key("a").public_key()).digest


def _odd(change) -> bytes:
    parsed = asn1_x509.Certificate.load(_der(self_signed(rsa_key("a"), ski=True)))
    change(parsed["tbs_certificate"])
    return parsed.dump(force=True)


def _version_1(tbs) -> None:
    del tbs["version"], tbs["extensions"]


def _negative(tbs) -> None:
    tbs["serial_number"] = -5


def _zero(tbs) -> None:
    tbs["serial_number"] = 0


def _backwards(tbs) -> None:
    tbs["validity"]["not_after"] = asn1_x509.Time("utc_time", dt.datetime(1999, 1, 1, tzinfo=dt.UTC))


def _critical_identifier(tbs) -> None:
    tbs["extensions"] = [
        {"extn_id": "authority_key_identifier", "critical": True, "extn_value": {"key_identifier": b"12345"}}
    ]


def _unique_identifiers(tbs) -> None:
    tbs["issuer_unique_id"] = b"\x05"
    tbs["subject_unique_id"] = b"\x06"


@pytest.mark.parametrize(
    "change",
    [_version_1, _negative, _zero, _backwards, _critical_identifier, _unique_identifiers],
)
def test_what_strict_readers_refuse_is_read(change):
    read = certificate.read(_odd(change))
    assert read.key() is not None
    assert len(read.key_identifier) == 20


def test_a_key_identifier_that_cannot_be_read_is_computed():
    encoded = _der(self_signed(rsa_key("a"), ski=True))
    broken = encoded.replace(bytes.fromhex("04160414"), bytes.fromhex("04160415"))
    assert broken != encoded
    assert certificate.read(broken).key_identifier == certificate.read(encoded).key_identifier


def test_keys_of_other_kinds_and_sizes_are_none():
    """S45, S90: RSA of 2048 to 8192 bits, and EC."""
    assert isinstance(certificate.read(_der(self_signed(rsa_key("a")))).key(), rsa.RSAPublicKey)
    assert isinstance(certificate.read(_der(self_signed(ec_key("a")))).key(), ec.EllipticCurvePublicKey)
    assert certificate.read(_der(self_signed(rsa_key("short", 1024)))).key() is None
    name = x509.Name([])
    key = ed25519.Ed25519PrivateKey.generate()
    now = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now)
    assert certificate.read(_der(builder.sign(key, None))).key() is None
    spki = ec_key("a").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate._load(spki[:-1] + b"\0") is None  # a point that is not on the curve


def test_what_is_no_certificate_is_malformed():
    encoded = _der(self_signed(ec_key("a"), ski=True))
    read = 0
    for damaged in mutations(b"certificate", 1500, [encoded]):
        try:
            found = certificate.read(damaged)
            found.key()
            assert found.key_identifier
            read += 1
        except Malformed:
            pass
    assert 0 < read < 1500


def test_an_identifier_can_be_asked_for_as_often_as_there_are_messages():
    """The RA's certificate is read once and asked by every client that names it by its key; limits are per message."""
    read = certificate.read(_der(self_signed(ec_key("a"), ski=True)))
    assert len({read.key_identifier for _ in range(2000)}) == 1
