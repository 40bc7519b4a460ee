"""A certificate's facts, read leniently: whose it is and what it says, not whether it may be trusted.

Peers present certificates of their own making (a SCEP client signs with a throw-away one), so what is odd but readable
is read. Trust, revocation and the clock are the caller's affair; nothing is verified here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.exchange import Malformed, Refused
from protocols.pkix import der as der_reader
from protocols.pkix import keys, names
from protocols.pkix.extensions import extended_key_usages, key_usages
from protocols.pkix.names import AlternativeName, Attribute

LIMIT: Final = 16 * 1024
"""Octets of DER: an ML-DSA-87 certificate with a hundred names fits."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Times are aware, in UTC; fingerprints are over `der`; `issuer` and `subject_der` are DER, as encoded. `subject` is
    None where it cannot be written as a list of attributes. `sans` is None where there is no SAN extension; where the
    extensions cannot be read at all it holds one name of type `other:unreadable`, which equals no name that anybody
    may ask for. `key_algorithm` is None for a key that could not be certified here.
    """

    der: bytes
    serial: int
    issuer: bytes
    subject_der: bytes
    subject: tuple[Attribute, ...] | None
    sans: tuple[AlternativeName, ...] | None
    spki: bytes
    spki_sha256: bytes
    key_algorithm: str | None
    signature_algorithm: str
    not_before: datetime
    not_after: datetime
    sha1: bytes
    sha256: bytes
    ca: bool
    key_usages: tuple[str, ...] | None
    extended_key_usages: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Extensions:
    sans: tuple[AlternativeName, ...] | None = None
    ca: bool = False
    key_usages: tuple[str, ...] | None = None
    extended_key_usages: tuple[str, ...] | None = None


def read(der: bytes) -> Certificate:
    """The facts of one DER certificate. About 50 microseconds.

    Raises:
        Malformed: field `certificate`; over `LIMIT`, or no certificate.
    """
    if len(der) > LIMIT:
        raise Malformed(f"The certificate has {len(der)} octets; at most {LIMIT} are read.", field="certificate")
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer, subject_der, encoded_key = _names_and_key(certificate.tbs_certificate_bytes)
        subject = certificate.subject
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, x509.InvalidVersion, Malformed):
        raise Malformed("The certificate is not one DER-encoded X.509 certificate.", field="certificate") from None
    extensions = _extensions(certificate)
    spki, key_algorithm = _public_key(certificate, encoded_key)
    return Certificate(
        der=der,
        serial=certificate.serial_number,
        issuer=issuer,
        subject_der=subject_der,
        subject=_attributes(subject),
        sans=extensions.sans,
        spki=spki,
        spki_sha256=hashlib.sha256(spki).digest(),
        key_algorithm=key_algorithm,
        signature_algorithm=certificate.signature_algorithm_oid.dotted_string,
        not_before=not_before,
        not_after=not_after,
        sha1=hashlib.sha1(der, usedforsecurity=False).digest(),
        sha256=hashlib.sha256(der).digest(),
        ca=extensions.ca,
        key_usages=extensions.key_usages,
        extended_key_usages=extensions.extended_key_usages,
    )


def serial_of(der: bytes) -> int:
    """The serial number alone. About 3 microseconds, where `read` takes 50.

    Raises:
        Malformed: field `certificate`; no certificate as far as its serial number.
    """
    try:
        start, stop = der_reader.expect(der, 0, len(der), der_reader.SEQUENCE)
        start, stop = der_reader.expect(der, start, stop, der_reader.SEQUENCE)
        tag, _, last = der_reader.read(der, start, stop)
        first, last = der_reader.expect(der, last if tag == _VERSION else start, stop, _INTEGER)
    except Malformed as malformed:
        raise Malformed(malformed.detail, field="certificate") from None
    return int.from_bytes(der[first:last], "big", signed=True)


def _names_and_key(tbs: bytes) -> tuple[bytes, bytes, bytes]:
    """Issuer, subject and SubjectPublicKeyInfo exactly as they are encoded: CMS compares names by their bytes."""
    at, stop = der_reader.expect(tbs, 0, len(tbs), der_reader.SEQUENCE)
    parts: list[bytes] = []
    for tag, _, last in der_reader.elements(tbs, at, stop):
        if not (tag == _VERSION and not parts):
            parts.append(tbs[at:last])
        at = last
    return parts[_ISSUER], parts[_SUBJECT], parts[_KEY]


# Positions in TBSCertificate once the version, which may be absent, is left out: serialNumber, signature, issuer, ...
_VERSION: Final = 0xA0
_INTEGER: Final = 0x02
_ISSUER: Final = 2
_SUBJECT: Final = 4
_KEY: Final = 5


def _public_key(certificate: x509.Certificate, encoded: bytes) -> tuple[bytes, str | None]:
    """The SPKI in the encoding that `csr.parse` gives, so that the two can be compared, and the algorithm's name."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return encoded, None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        return spki, keys.judge(key).algorithm
    except Refused:
        return spki, None


def _attributes(name: x509.Name) -> tuple[Attribute, ...] | None:
    try:
        return names.attributes(name)
    except Refused:
        return None


def _extensions(certificate: x509.Certificate) -> _Extensions:
    sans: tuple[AlternativeName, ...] | None = None
    usages: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    ca = False
    try:
        for extension in certificate.extensions:
            match extension.value:
                case x509.SubjectAlternativeName() as value:
                    sans = names.alternative_names(value)
                case x509.BasicConstraints() as value:
                    ca = value.ca
                case x509.KeyUsage() as value:
                    usages = key_usages(value)
                case x509.ExtendedKeyUsage() as value:
                    purposes = extended_key_usages(value)
                case _:
                    pass
    except (ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension, Malformed):
        return _Extensions(sans=_UNREADABLE)
    return _Extensions(sans, ca, usages, purposes)


_UNREADABLE: Final = (AlternativeName("other:unreadable", ""),)
