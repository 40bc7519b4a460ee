"""What CMS has to know of a certificate, read as leniently as can be (S51).

Real clients sign with certificates that strict readers refuse: a critical authorityKeyIdentifier (Windows), negative
serial numbers, version 1, odd validity. Whether a certificate is to be trusted is never decided here.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from protocols.cms import algorithms, ber, der
from protocols.cms.ber import ABSENT, Field
from protocols.exchange import Malformed

# Below, a key is not worth encrypting to (S90); above, one verification costs milliseconds.
_RSA_BITS = range(2048, 8193)

_CERTIFICATE: Final = (Field(der.SEQUENCE), Field(der.SEQUENCE, wanted=False), Field(der.BIT_STRING, wanted=False))
_TBS: Final = (
    Field(0xA0, needed=False, wanted=False),  # version
    Field(der.INTEGER),
    Field(der.SEQUENCE, wanted=False),  # signature
    Field(der.SEQUENCE),
    Field(der.SEQUENCE, wanted=False),  # validity
    Field(der.SEQUENCE),
    Field(der.SEQUENCE),
    Field(0x81, needed=False, wanted=False),  # the unique identifiers of version 2
    Field(0x82, needed=False, wanted=False),
    Field(0xA3, needed=False),
)
_SPKI: Final = (Field(der.SEQUENCE, wanted=False), Field(der.BIT_STRING))


class Certificate(msgspec.Struct, frozen=True):
    """A certificate's names and key, each as the whole element; `extensions` is None where it has none."""

    encoded: bytes
    serial: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    extensions: bytes | None

    @property
    def key_identifier(self) -> bytes:
        """The subject key identifier, computed where it has none that can be read. Raises Malformed for a strange key.

        Read when it is asked for, since few messages name anybody by it.
        """
        written = None if self.extensions is None else _key_identifier(self.extensions)
        if written is not None:
            return written
        [key] = ber.parse(self.spki).fields(_SPKI)
        # RFC 5280, 4.2.1.2, method 1, which is how everyone computes an identifier that is not written down.
        return hashlib.sha1(key.contents[1:], usedforsecurity=False).digest()

    @property
    def issuer_and_serial(self) -> bytes:
        """IssuerAndSerialNumber (RFC 5652, 10.2.4), DER."""
        return der.sequence(self.issuer, self.serial)

    @property
    def spki_sha256(self) -> bytes:
        """The SHA-256 of the public key as the certificate holds it."""
        return hashlib.sha256(self.spki).digest()

    @property
    def self_issued(self) -> bool:
        """Whether it names itself as its issuer (RFC 5280, 3.2)."""
        return self.issuer == self.subject

    def key(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
        """The public key, or None if it is of a kind or size that is not supported."""
        return _load(self.spki)


@lru_cache(maxsize=256)
def _load(spki: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    # Kept for a moment, since each message needs the key three times: to verify, to compare and to encrypt.
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        return key if key.key_size in _RSA_BITS else None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def read(encoded: bytes) -> Certificate:
    """Read the fields of a certificate (RFC 5280, 4.1), DER. Raises Malformed."""
    [tbs] = ber.parse(encoded).fields(_CERTIFICATE)
    serial, issuer, subject, spki, extensions = tbs.fields(_TBS)
    return Certificate(
        encoded,
        serial.received,
        issuer.received,
        subject.received,
        spki.received,
        None if extensions is ABSENT else extensions.received,
    )


def _key_identifier(extensions: bytes) -> bytes | None:
    try:
        for wrapped in ber.parse(extensions).children(1):
            for extension in wrapped.children():
                parts = extension.children(3)
                if parts and parts[0].received == algorithms.SUBJECT_KEY_IDENTIFIER:
                    return ber.parse(parts[-1].octets()).octets()
    except Malformed:
        return None  # an identifier that cannot be read is as good as none
    return None
