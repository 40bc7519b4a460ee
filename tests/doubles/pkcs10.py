"""Certification requests for tests: sound ones by cryptography's builder, odd ones from hand-made DER, truly signed."""

from __future__ import annotations

import functools
import ipaddress
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AttributeOID, NameOID

PrivateKey: TypeAlias = (
    ec.EllipticCurvePrivateKey
    | rsa.RSAPrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

SUBJECT = bytes.fromhex("3012 3110 300e 0603550403 0c07 6465766963 6531".replace(" ", ""))  # CN=device1
CHALLENGE_PASSWORD = bytes.fromhex("06092a864886f70d010907")
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")
MICROSOFT_EXTENSIONS = bytes.fromhex("060a2b060104018237 02010e".replace(" ", ""))


def tlv(tag: int, *contents: bytes) -> bytes:
    """One DER element."""
    body = b"".join(contents)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + len(body).to_bytes(size, "big") + body


@functools.cache
def p256(number: int = 0) -> ec.EllipticCurvePrivateKey:
    """The same P-256 key for the same number, in one run."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa2048(number: int = 0) -> rsa.RSAPrivateKey:
    """The same RSA-2048 key for the same number, in one run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def request(
    *dns: str,
    key: PrivateKey | None = None,
    common_name: str | None = None,
    organization: str | None = None,
    ips: tuple[str, ...] = (),
    others: tuple[x509.GeneralName, ...] = (),
    extensions: tuple[x509.ExtensionType, ...] = (),
    challenge: bytes | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A request by cryptography's builder, DER."""
    key = key or p256()
    names = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    sans: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
    sans += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    sans += others
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    if challenge is not None:
        builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, challenge)
    plain = isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return builder.sign(key, (digest or hashes.SHA256()) if plain else None).public_bytes(Encoding.DER)


def attribute(oid: bytes, *values: bytes) -> bytes:
    """One attribute of a request; `oid` is DER."""
    return tlv(0x30, oid, tlv(0x31, *values))


def extension(oid: str, value: bytes) -> bytes:
    """One extension, not critical; `oid` is dotted."""
    return tlv(0x30, _oid(oid), tlv(0x04, value))


def raw_request(*attributes: bytes, subject: bytes = SUBJECT, version: int = 0, spki: bytes | None = None) -> bytes:
    """A request of hand-made parts, signed with the first P-256 key, whatever `spki` says."""
    key = p256()
    spki = spki or key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = tlv(0x30, tlv(0x02, bytes((version,))), subject, spki, tlv(0xA0, *attributes))
    return _signed(tbs)


def request_without_attributes() -> bytes:
    """RFC 2986 wants the [0] even where it is empty; old clients leave it out."""
    key = p256().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _signed(tlv(0x30, tlv(0x02, b"\0"), SUBJECT, key))


def _signed(tbs: bytes) -> bytes:
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    return tlv(0x30, tbs, algorithm, tlv(0x03, b"\0", p256().sign(tbs, ec.ECDSA(hashes.SHA256()))))


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    octets = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        octets += bytes(reversed(septets))
    return tlv(0x06, bytes(octets))
