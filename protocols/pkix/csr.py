"""PKCS#10 certification requests (RFC 2986): parse, verify the signature, and read what is asked.

Cheap checks come before the signature, and the size before everything. What is asked is not judged here.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple, cast

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID

from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix import der as _der
from protocols.pkix import keys, names, usual
from protocols.pkix.extensions import extended_key_usages, key_usages
from protocols.pkix.names import AlternativeName, Attribute

LIMIT: Final = 16 * 1024
"""Octets of DER (A83). An ML-DSA-87 request with a hundred names fits."""

_CHALLENGE_PASSWORD: Final = bytes.fromhex("2a864886f70d010907")
_EXTENSION_REQUESTS: Final = frozenset(
    {
        bytes.fromhex("2a864886f70d01090e"),  # RFC 2985, 5.4.2
        bytes.fromhex("2b06010401823702010e"),  # Microsoft's own, from before
    }
)

_ECDSA: Final = {
    "1.2.840.10045.4.3.2": ec.ECDSA(hashes.SHA256()),
    "1.2.840.10045.4.3.3": ec.ECDSA(hashes.SHA384()),
    "1.2.840.10045.4.3.4": ec.ECDSA(hashes.SHA512()),
}
_RSA: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.11": hashes.SHA256(),
    "1.2.840.113549.1.1.12": hashes.SHA384(),
    "1.2.840.113549.1.1.13": hashes.SHA512(),
}
_ALGORITHMS: Final = {
    bytes.fromhex("300a06082a8648ce3d040302"): "1.2.840.10045.4.3.2",
    bytes.fromhex("300a06082a8648ce3d040303"): "1.2.840.10045.4.3.3",
    bytes.fromhex("300a06082a8648ce3d040304"): "1.2.840.10045.4.3.4",
    bytes.fromhex("300d06092a864886f70d01010b0500"): "1.2.840.113549.1.1.11",
    bytes.fromhex("300d06092a864886f70d01010c0500"): "1.2.840.113549.1.1.12",
    bytes.fromhex("300d06092a864886f70d01010d0500"): "1.2.840.113549.1.1.13",
}
"""By their AlgorithmIdentifiers: those that nearly all requests are signed with, and whose parameters say nothing."""

_VERSION: Final = 3  # octets: INTEGER 0, the only one that there is (RFC 2986, 4.1)

_PKCS1V15: Final = padding.PKCS1v15()
_PSS: Final = "1.2.840.113549.1.1.10"
_PSS_DIGESTS: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_SIGNATURES: Final = frozenset(
    {
        "1.2.840.113549.1.1.11",  # sha256WithRSAEncryption
        "1.2.840.113549.1.1.12",
        "1.2.840.113549.1.1.13",
        _PSS,
        "1.2.840.10045.4.3.2",  # ecdsa-with-SHA256
        "1.2.840.10045.4.3.3",
        "1.2.840.10045.4.3.4",
        "1.3.101.112",  # Ed25519
        "1.3.101.113",  # Ed448
        "2.16.840.1.101.3.4.3.17",  # ML-DSA-44
        "2.16.840.1.101.3.4.3.18",
        "2.16.840.1.101.3.4.3.19",
    }
)


class CertificationRequest(msgspec.Struct, frozen=True):
    """A certification request whose signature has been verified: its sender holds the private key.

    `sha256` is over `der`. `sans` is None where no SAN extension was asked for. `extensions` lists the dotted OIDs of
    all extensions asked for; `extended_key_usages` are dotted OIDs too, `key_usages` RFC 5280's names. `challenge` is
    the challengePassword (RFC 2985, 5.4.1), whatever its string type. `spki` is DER; `key_algorithm` is spelled as in
    the REST API (`RSA_2048`, `EC_prime256v1`, ...), `RSA_OTHER` for other RSA sizes.
    `signature_algorithm` is a dotted OID.
    """

    der: bytes
    sha256: bytes
    spki: bytes
    spki_sha256: bytes
    key_algorithm: str
    key_bits: int
    signature_algorithm: str
    subject: tuple[Attribute, ...]
    sans: tuple[AlternativeName, ...] | None
    key_usages: tuple[str, ...] | None
    extended_key_usages: tuple[str, ...] | None
    ca: bool
    challenge: str | None
    extensions: tuple[str, ...]


def parse(der: bytes, held: tuple[bytes, CertificatePublicKeyTypes] | None = None) -> CertificationRequest:
    """Read a certification request and verify that its sender holds the private key. About 100 microseconds (P-256).

    `held` is a SubjectPublicKeyInfo and the key that was loaded from it: a request with the same is verified with that,
    since an RSA key's first use takes a third longer than those that follow.

    Raises:
        Malformed: field `csr`; over `LIMIT`, not DER, trailing bytes, an extension or attribute that cannot be read.
        Refused: BAD_CSR for a wrong signature, one with an unknown or broken algorithm, or a subject that cannot be
            judged; BAD_KEY for a key that may never be certified (D7).
    """
    if len(der) > LIMIT:
        raise Malformed(f"The certification request has {len(der)} octets; at most {LIMIT} are accepted.", field="csr")
    try:
        request, in_order = x509.load_der_x509_csr(der), der
    except (ValueError, x509.InvalidVersion):
        request, in_order = _load_sorted(der)
    start, subject, key_at, attributes_at, attributes, stop, end = _places(in_order)
    # What has been signed is the CertificationRequestInfo as it came; behind it is with which algorithm.
    signature = _ALGORITHMS.get(der[stop:end]) or _signature_algorithm(request)
    spki = der[key_at:attributes_at]
    key = held[1] if held is not None and held[0] == spki else _key(request)
    kind = keys.kind_of(spki)
    if kind is None:
        kind, spki = keys.judge(key), key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not _verifies(request, key, kind, signature, der[start:stop]):
        raise Refused(Reason.BAD_CSR, "The certification request's signature does not verify with its own public key.")
    try:
        asked = _asked(request, in_order[attributes:stop])
        plain = usual.subject(in_order, subject, key_at)
        return CertificationRequest(
            der=der,
            sha256=hashlib.sha256(der).digest(),
            spki=spki,
            spki_sha256=hashlib.sha256(spki).digest(),
            key_algorithm=kind.algorithm,
            key_bits=kind.bits,
            signature_algorithm=signature,
            subject=names.attributes(request.subject) if plain is None else plain,
            sans=asked.sans,
            key_usages=asked.usages,
            extended_key_usages=asked.purposes,
            ca=asked.ca,
            challenge=asked.challenge,
            extensions=asked.extensions,
        )
    except Malformed as fault:
        raise Malformed(fault.detail, field="csr") from None
    except x509.UnsupportedGeneralNameType:
        raise Refused(
            Reason.BAD_CSR, "The certification request asks for a name of a kind that nobody can validate."
        ) from None
    except (ValueError, x509.DuplicateExtension):
        raise Malformed(
            "The certification request has a subject or an extension that cannot be read.", field="csr"
        ) from None


def _load_sorted(der: bytes) -> tuple[x509.CertificateSigningRequest, bytes]:
    """A request that the library has refused as it came, and in as many octets what the library has read of it.

    The attributes are a SET OF, which DER sorts. strongSwan writes them unsorted (seen in 5.9.8), and the library
    refuses that: so they are sorted for reading, and the signature is checked over the bytes that came.
    """
    try:
        in_order = _in_order(der)
        return x509.load_der_x509_csr(in_order), in_order
    except (Malformed, ValueError, x509.InvalidVersion):
        raise Malformed(
            "The certification request is not one DER-encoded PKCS#10 of version 1 (RFC 2986).", field="csr"
        ) from None


def _in_order(der: bytes) -> bytes:
    """The request with its attributes sorted."""
    outer, _ = _der.expect(der, 0, len(der), _der.SEQUENCE)
    start, stop = _der.expect(der, outer, len(der), _der.SEQUENCE)
    *_, (_, first, last) = _der.elements(der, start, stop)
    attributes = []
    at = first
    for _, _, end in _der.elements(der, first, last):
        attributes.append(der[at:end])
        at = end
    return der[:first] + b"".join(sorted(attributes)) + der[last:]


# From one element to the next: into the request, into its CertificationRequestInfo and over the version, then over the
# subject, the key, the attributes and the signature's algorithm.
_STEPS: Final = (0, _VERSION, None, None, None, None)


def _places(der: bytes) -> tuple[int, int, int, int, int, int, int]:
    """Where these begin: CertificationRequestInfo, the subject's contents, key, attributes and the contents of these.

    At last where the CertificationRequestInfo and the algorithm behind it end. The library has found them all in `der`,
    so that nothing is left to be refused. In one loop: as a call for each element it took twice as long.
    """
    at, found = 0, []
    for step in _STEPS:
        length, inside = der[at + 1], at + 2
        if length & 0x80:
            inside += length & 0x7F
            length = int.from_bytes(der[at + 2 : inside], "big")
        found.append((at, inside))
        at = inside + length if step is None else inside + step
    _, (start, _), (_, subject), (key, _), (outside, attributes), (stop, _) = found
    return start, subject, key, outside, attributes, stop, at


def _verifies(
    request: x509.CertificateSigningRequest,
    key: CertificatePublicKeyTypes,
    kind: keys.Kind,
    algorithm: str,
    signed: bytes,
) -> bool:
    """Whether the request's signature is over `signed`, by its own key and algorithm, which have been checked.

    `is_signature_valid` would load the key once more, which takes a fifth of the time that verifying takes.
    """
    try:
        # The two that nearly all are signed with, their schemes made once.
        if kind.elliptic and (ecdsa := _ECDSA.get(algorithm)) is not None:
            cast("ec.EllipticCurvePublicKey", key).verify(request.signature, signed, ecdsa)
            return True
        if kind.rsa and (known := _RSA.get(algorithm)) is not None:
            cast("rsa.RSAPublicKey", key).verify(request.signature, signed, _PKCS1V15, known)
            return True
        scheme = request.signature_algorithm_parameters
        match key:
            case rsa.RSAPublicKey() if isinstance(scheme, padding.PSS):
                digest = request.signature_hash_algorithm
                assert digest is not None
                key.verify(request.signature, signed, scheme, digest)
            case ed25519.Ed25519PublicKey() if request.signature_algorithm_oid == SignatureAlgorithmOID.ED25519:
                key.verify(request.signature, signed)
            case _:
                # Nobody who writes other keys forgets to sort; an algorithm for another kind of key is refused here.
                return signed == request.tbs_certrequest_bytes and request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False  # the last two of parameters that make no sense, such as another mask's digest
    return True


def _signature_algorithm(request: x509.CertificateSigningRequest) -> str:
    oid = request.signature_algorithm_oid.dotted_string
    if oid not in _SIGNATURES or (oid == _PSS and not _is_strong_pss(request)):
        raise Refused(
            Reason.BAD_CSR,
            f"The certification request is signed with algorithm {oid}, or with a digest, that is not accepted; use "
            "SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519, Ed448 or ML-DSA.",
        )
    return oid


def _is_strong_pss(request: x509.CertificateSigningRequest) -> bool:
    """PSS alone names its digest in parameters, not in the algorithm's OID."""
    try:
        return isinstance(request.signature_hash_algorithm, _PSS_DIGESTS)
    except (UnsupportedAlgorithm, ValueError):
        return False


def _key(request: x509.CertificateSigningRequest) -> CertificatePublicKeyTypes:
    try:
        # A point of P-256 would be loaded at a third of this, and the first verification would take the rest.
        return request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        # A point off its curve, a curve given by its parameters, an algorithm that nobody here knows.
        raise Refused(
            Reason.BAD_KEY, "The certification request's public key cannot be read, or is not on its curve."
        ) from None


def _attributes(attributes: bytes) -> tuple[str | None, tuple[int, int] | None]:
    """The challengePassword, decoded by its string type, which cryptography does not tell, and where extensions are.

    Raises:
        Malformed: two of them, or two extension requests: readers would disagree about which one is meant.
    """
    found: str | None = None
    extensions: tuple[int, int] | None = None
    for _, first, last in _der.elements(attributes, 0, len(attributes)):
        _, start, after = _der.read(attributes, first, last)
        kind = attributes[start:after]
        if kind in _EXTENSION_REQUESTS:
            if extensions is not None:
                raise Malformed("The certification request has more than one list of extensions.")
            extensions = _der.expect(attributes, after, last, _der.SET)
        elif kind == _CHALLENGE_PASSWORD:
            inner, end = _der.expect(attributes, after, last, _der.SET)
            string, value, value_end = _der.read(attributes, inner, end)
            if found is not None or value_end != end:
                raise Malformed("The certification request has more than one challengePassword.")
            found = _der.text(string, attributes[value:value_end])
    return found, extensions


class _Asked(NamedTuple):
    """What the attributes ask for."""

    challenge: str | None
    sans: tuple[AlternativeName, ...] | None
    extensions: tuple[str, ...]
    usages: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    ca: bool = False


def _asked(request: x509.CertificateSigningRequest, attributes: bytes) -> _Asked:
    challenge, where = None, usual.extension_request(attributes)
    if where is None:
        challenge, where = _attributes(attributes)
    sans = None if where is None else usual.alternative_names(attributes, *where)
    if sans is not None:
        return _Asked(challenge, sans, (usual.SUBJECT_ALTERNATIVE_NAME,))
    usages: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    ca = False
    extensions = []
    for extension in request.extensions:
        extensions.append(extension.oid.dotted_string)
        value = extension.value
        # By their very type: they have no subclasses, and to ask an abstract class for one takes a microsecond.
        if type(value) is x509.SubjectAlternativeName:
            sans = names.alternative_names(value)
        elif type(value) is x509.KeyUsage:
            usages = key_usages(value)
        elif type(value) is x509.ExtendedKeyUsage:
            purposes = extended_key_usages(value)
        elif type(value) is x509.BasicConstraints:
            ca = value.ca
    return _Asked(challenge, sans, tuple(extensions), usages, purposes, ca)
