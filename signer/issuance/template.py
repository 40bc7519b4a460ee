"""From a structured ask to a certificate that could be signed: every certificate of Muster has the shape made here.

Nothing is decided here; `ceiling` and `lint` have spoken before. What recurs from one certificate to the next is kept.
Ceremonies sign what is built here; a worker signs what `leaf` writes, which is the same to the byte.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from signer.contract.messages import GeneralName, IssueCertificate
from signer.issuance.der import UTF8_STRING, tagged
from signer.issuance.issuer import Extensions, Issuer, encoded
from signer.issuance.lint import ATTRIBUTES
from signer.issuance.usage import KEY_USAGES, TIME_STAMPING
from signer.keystore.mechanism import PublicKey

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - cryptography keeps validities as UTC without a zone
_ATTRIBUTES: Final = {oid: x509.ObjectIdentifier(oid) for oid in ATTRIBUTES}
_UPN: Final = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_LEAF: Final = encoded(x509.BasicConstraints(ca=False, path_length=None), critical=True)


def build(issuer: Issuer, ask: IssueCertificate, public_key: PublicKey) -> x509.CertificateBuilder:
    """The certificate of `ask`, unsigned. `public_key` is `ask.spki`, loaded.

    Extensions: AKI, SKI, basic constraints (critical, in leaves too: some verifiers take their absence for a version 1
    authority), key usage (critical), extended key usage, alternative names, CRL distribution points, AIA; each of the
    last five only where the ask speaks of it.
    """
    extensions: Extensions = [issuer.identifier, _subject_key_identifier(public_key)]
    extensions.append(_authority(ask.path_length) if ask.ca else _LEAF)
    extensions.extend(_usages(tuple(ask.key_usages), tuple(ask.extended_key_usages)))
    if ask.sans:
        names = x509.SubjectAlternativeName([_general_name(each) for each in ask.sans])
        extensions.append(x509.Extension(names.oid, ask.san_critical, names))
    extensions.extend(addresses(tuple(ask.crl_urls), tuple(ask.issuer_urls), tuple(ask.ocsp_urls)))
    # Through the constructor: the builder's own methods copy all that was built before, and cost more than a signature.
    return x509.CertificateBuilder(
        issuer_name=issuer.name,
        subject_name=name_of(ask.subject),
        public_key=public_key,
        serial_number=int.from_bytes(ask.serial, "big"),
        not_valid_before=_EPOCH + timedelta(seconds=ask.not_before),
        not_valid_after=_EPOCH + timedelta(seconds=ask.not_after),
        extensions=extensions,
    )


def key_identifier(spki: bytes) -> bytes:
    """The identifier of a public key (RFC 7093, 2, method 1): no SHA-1, and as short as what old software expects."""
    return hashlib.sha256(key_bits(spki)).digest()[:20]


def name_of(subject: list[tuple[str, str]]) -> x509.Name:
    """A subject of single-valued attributes, in their order."""
    return x509.Name([x509.NameAttribute(_ATTRIBUTES[oid], value) for oid, value in subject])


def _general_name(name: GeneralName) -> x509.GeneralName:
    match name.type:
        case "dns_name":
            return x509.DNSName(name.value)
        case "ip_address":
            return x509.IPAddress(ip_address(name.value))
        case "email":
            return x509.RFC822Name(name.value)
        case "uri":
            return x509.UniformResourceIdentifier(name.value)
        case _:  # lint has let nothing else through but upn
            return x509.OtherName(_UPN, tagged(UTF8_STRING, name.value.encode()))


def _subject_key_identifier(public_key: PublicKey) -> x509.Extension[x509.ExtensionType]:
    spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    identifier = x509.SubjectKeyIdentifier(key_identifier(spki))
    return x509.Extension(identifier.oid, False, identifier)


def key_bits(spki: bytes) -> bytes:
    """The key in the BIT STRING of a SubjectPublicKeyInfo as cryptography writes it: its curve is named."""
    inside = 2 if spki[1] < 0x80 else 2 + (spki[1] & 0x7F)
    string = inside + 2 + spki[inside + 1]  # the algorithm's identifier takes fewer than 128 bytes
    length = spki[string + 1]
    return spki[string + (2 if length < 0x80 else 2 + (length & 0x7F)) + 1 :]


@lru_cache(maxsize=16)
def _authority(path_length: int | None) -> x509.Extension[x509.ExtensionType]:
    return encoded(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)


def leaf_usages(usages: tuple[str, ...], extended: tuple[str, ...]) -> Extensions:
    """What a leaf's key is good for, as extensions: basic constraints, key usage, extended key usage."""
    return [_LEAF, *_usages(usages, extended)]


@lru_cache(maxsize=256)
def _usages(usages: tuple[str, ...], extended: tuple[str, ...]) -> Extensions:
    extensions: Extensions = []
    if usages:
        extensions.append(encoded(x509.KeyUsage(*(each in usages for each in KEY_USAGES)), critical=True))
    if extended:
        purposes = x509.ExtendedKeyUsage([x509.ObjectIdentifier(each) for each in extended])
        # RFC 3161, 2.3: critical for time stamping. Elsewhere it is not, as nearly every certificate in use.
        extensions.append(encoded(purposes, critical=TIME_STAMPING in extended))
    return extensions


@lru_cache(maxsize=256)
def addresses(crl: tuple[str, ...], issuer: tuple[str, ...], ocsp: tuple[str, ...]) -> Extensions:
    """Where an issuer's list, certificate and OCSP are, as extensions (RFC 5280, 4.2.1.13, 4.2.2.1)."""
    extensions: Extensions = []
    if crl:
        # One point with all its URLs: they are ways to the same list (RFC 5280, 4.2.1.13).
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(each) for each in crl], None, None, None)
        extensions.append(encoded(x509.CRLDistributionPoints([point]), critical=False))
    if issuer or ocsp:
        methods = [(AuthorityInformationAccessOID.OCSP, each) for each in ocsp]
        methods += [(AuthorityInformationAccessOID.CA_ISSUERS, each) for each in issuer]
        access = x509.AuthorityInformationAccess(
            [x509.AccessDescription(oid, x509.UniformResourceIdentifier(each)) for oid, each in methods]
        )
        extensions.append(encoded(access, critical=False))
    return extensions
