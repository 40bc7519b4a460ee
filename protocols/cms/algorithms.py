"""The algorithms of CMS that Muster speaks: tables from identifiers to what they mean. What is not here is unsupported.

MD5, DES and 3DES are absent on purpose (RFC 8894, 3.5.2; S44, S50): an absent row refuses.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from protocols.cms import der
from protocols.cms.ber import ABSENT, Element, Field
from protocols.exchange import Malformed

DATA: Final = der.object_identifier("1.2.840.113549.1.7.1")
SIGNED_DATA: Final = der.object_identifier("1.2.840.113549.1.7.2")
ENVELOPED_DATA: Final = der.object_identifier("1.2.840.113549.1.7.3")
CONTENT_TYPE: Final = der.object_identifier("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = der.object_identifier("1.2.840.113549.1.9.4")
SIGNING_TIME: Final = der.object_identifier("1.2.840.113549.1.9.5")
SUBJECT_KEY_IDENTIFIER: Final = der.object_identifier("2.5.29.14")

# PKCS #1's rsaEncryption, as key transport and (with the digest named beside it) as signature.
RSA: Final = der.object_identifier("1.2.840.113549.1.1.1")
RSA_IDENTIFIER: Final = der.sequence(RSA, der.NULL)
_OAEP: Final = der.object_identifier("1.2.840.113549.1.1.7")
_MGF1: Final = der.object_identifier("1.2.840.113549.1.1.8")
_SPECIFIED: Final = der.object_identifier("1.2.840.113549.1.1.9")
PSS: Final = der.object_identifier("1.2.840.113549.1.1.10")


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest by the name that hashlib and the signer use; `identifier` is its AlgorithmIdentifier, DER."""

    name: str
    hash: hashes.HashAlgorithm
    oid: bytes
    identifier: bytes

    def of(self, octets: bytes) -> bytes:
        """The digest of some octets. To have hashlib find it by its name takes longer than most of them."""
        return _HASHED[self.name](octets, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class ContentCipher:
    """AES in CBC mode. `key_length` in octets."""

    name: str
    key_length: int
    oid: bytes


@dataclass(frozen=True, slots=True)
class KeyTransport:
    """How a content key is wrapped: `name` as the signer knows it, and its AlgorithmIdentifier, DER."""

    name: str
    padding: padding.AsymmetricPadding
    identifier: bytes


_HASHED: Final = {
    "sha1": hashlib.sha1,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
}


def _digest(name: str, algorithm: hashes.HashAlgorithm, dotted: str) -> Digest:
    oid = der.object_identifier(dotted)
    # With NULL parameters: RFC 5754 prefers them absent, but old readers compare whole identifiers with NULL in them.
    return Digest(name, algorithm, oid, der.sequence(oid, der.NULL))


SHA1: Final = _digest("sha1", hashes.SHA1(), "1.3.14.3.2.26")  # noqa: S303 - S44: RFC 8894 clients sign with it
SHA256: Final = _digest("sha256", hashes.SHA256(), "2.16.840.1.101.3.4.2.1")
SHA384: Final = _digest("sha384", hashes.SHA384(), "2.16.840.1.101.3.4.2.2")
SHA512: Final = _digest("sha512", hashes.SHA512(), "2.16.840.1.101.3.4.2.3")

DIGESTS: Final = {digest.oid: digest for digest in (SHA1, SHA256, SHA384, SHA512)}

RSA_SIGNATURES: Final = {
    der.object_identifier("1.2.840.113549.1.1.5"): SHA1,
    der.object_identifier("1.2.840.113549.1.1.11"): SHA256,
    der.object_identifier("1.2.840.113549.1.1.12"): SHA384,
    der.object_identifier("1.2.840.113549.1.1.13"): SHA512,
}
ECDSA_SIGNATURES: Final = {
    der.object_identifier("1.2.840.10045.4.1"): SHA1,
    der.object_identifier("1.2.840.10045.4.3.2"): SHA256,
    der.object_identifier("1.2.840.10045.4.3.3"): SHA384,
    der.object_identifier("1.2.840.10045.4.3.4"): SHA512,
}

CIPHERS: Final = {
    cipher.oid: cipher
    for cipher in (
        ContentCipher("aes-128-cbc", 16, der.object_identifier("2.16.840.1.101.3.4.1.2")),
        ContentCipher("aes-192-cbc", 24, der.object_identifier("2.16.840.1.101.3.4.1.22")),
        ContentCipher("aes-256-cbc", 32, der.object_identifier("2.16.840.1.101.3.4.1.42")),
    )
}

PKCS1V15: Final = KeyTransport("pkcs1v15", padding.PKCS1v15(), RSA_IDENTIFIER)


def _oaep(digest: Digest, parameters: bytes) -> KeyTransport:
    scheme = padding.OAEP(padding.MGF1(digest.hash), digest.hash, None)
    return KeyTransport(f"oaep-{digest.name}", scheme, der.sequence(_OAEP, parameters))


# SHA-1 throughout is the default of every parameter, so DER leaves them all out (RFC 8017, A.2.1).
OAEP_SHA1: Final = _oaep(SHA1, der.sequence())
OAEP_SHA256: Final = _oaep(
    SHA256,
    der.sequence(
        der.tlv(0xA0, SHA256.identifier),
        der.tlv(0xA1, der.sequence(_MGF1, SHA256.identifier)),
    ),
)
_OAEP_BY_DIGEST: Final = {SHA1.name: OAEP_SHA1, SHA256.name: OAEP_SHA256}


_IDENTIFIER: Final = (Field(der.OBJECT_IDENTIFIER), Field(None, needed=False))
# Those without parameters as nearly everybody writes them, so that they are looked up instead of read: `identifier`'s
# answers.
USUAL: Final[dict[bytes, tuple[bytes, None]]] = {
    der.sequence(oid, parameters): (oid, None)
    for oid in (RSA, *DIGESTS, *RSA_SIGNATURES, *ECDSA_SIGNATURES)
    for parameters in (der.NULL, b"")
}


def identifier(element: Element) -> tuple[bytes, Element | None]:
    """An AlgorithmIdentifier's OID (the whole element) and its parameters, None where absent or NULL."""
    usual = USUAL.get(element.received)
    if usual is not None:
        return usual
    oid, parameters = element.fields(_IDENTIFIER)
    return oid.received, None if parameters.tag in (ABSENT.tag, 0x05) else parameters


_OAEP_PARAMETERS: Final = tuple(Field(tag, needed=False) for tag in (0xA0, 0xA1, 0xA2))
_PSS_PARAMETERS: Final = (*_OAEP_PARAMETERS, Field(0xA3, needed=False))


def key_transport(element: Element) -> KeyTransport | None:
    """The key transport that an AlgorithmIdentifier names; None if it is not supported (S49). Raises Malformed."""
    oid, parameters = identifier(element)
    if oid == RSA:
        return PKCS1V15
    if oid != _OAEP:
        return None
    if parameters is None:
        return OAEP_SHA1
    hashing, masking, source = parameters.fields(_OAEP_PARAMETERS)
    digest, mask = _hash_and_mask(hashing, masking)
    if source is not ABSENT:
        kind, label = identifier(_only(source))
        # A label would have to reach the signer; nobody uses one, and the default is the empty label (RFC 8017, A.2.1).
        if kind != _SPECIFIED or label is None or label.octets():
            return None
    return _OAEP_BY_DIGEST.get(digest.name) if digest is not None and digest is mask else None


def pss(parameters: Element | None) -> tuple[Digest, padding.PSS] | None:
    """Digest and padding of RSASSA-PSS-params (RFC 8017, A.2.3); None if not supported. Raises Malformed."""
    if parameters is None:
        return SHA1, padding.PSS(padding.MGF1(SHA1.hash), 20)
    hashing, masking, salt, trailer = parameters.fields(_PSS_PARAMETERS)
    digest, mask = _hash_and_mask(hashing, masking)
    length = 20 if salt is ABSENT else int.from_bytes(_only(salt).contents, "big", signed=True)
    # 1 is the only trailer that exists. The bound keeps a made-up length from reaching the library.
    if (trailer is not ABSENT and _only(trailer).contents != b"\x01") or not 0 <= length <= 512:
        return None
    if digest is None or mask is None:
        return None
    return digest, padding.PSS(padding.MGF1(mask.hash), length)


def _hash_and_mask(hashing: Element, masking: Element) -> tuple[Digest | None, Digest | None]:
    """The hash and MGF1's hash, each SHA-1 where it is left out and None where it is not supported."""
    digest: Digest | None = SHA1
    if hashing is not ABSENT:
        digest = DIGESTS.get(identifier(_only(hashing))[0])
    mask: Digest | None = SHA1
    if masking is not ABSENT:
        function, parameters = identifier(_only(masking))
        mask = DIGESTS.get(identifier(parameters)[0]) if function == _MGF1 and parameters is not None else None
    return digest, mask


def _only(element: Element) -> Element:
    """What an explicit tag wraps."""
    children = element.children(1)
    if not children:
        raise Malformed("An ASN.1 tag wraps nothing.")
    return children[0]
