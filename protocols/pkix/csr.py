"""PKCS#10 certification requests (RFC 2986): parse, verify the signature, and read what is asked."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.pkix.names import AlternativeName, Attribute


@dataclass(frozen=True, slots=True)
class CertificationRequest:
    """A certification request whose signature has been verified: its sender holds the private key.

    `sha256` is over `der`. `sans` is None where no SAN extension was asked for. `extensions` lists the dotted OIDs of
    all extensions asked for. `challenge` is the challengePassword (RFC 2985, 5.4.1), whatever its string type. `key` holds the SPKI
    (DER); `key_algorithm` is spelled as in the REST API (`RSA_2048`, `EC_prime256v1`, ...), `RSA_OTHER` for other RSA sizes.
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
