"""Certificate authorities: shared infrastructure, administered at product level."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final


@unique
class AuthorityKind(StrEnum):
    """A root signs authorities only; an intermediate signs what profiles ask for; an RA serves SCEP."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


SIGNATURE_ALGORITHMS: Final[dict[str, str]] = {
    "RSA_2048": "sha256WithRSAEncryption",
    "RSA_3072": "sha256WithRSAEncryption",
    "RSA_4096": "sha256WithRSAEncryption",
    "EC_prime256v1": "ecdsa-with-SHA256",
    "EC_secp384r1": "ecdsa-with-SHA384",
    "EC_secp521r1": "ecdsa-with-SHA512",
    "ED25519": "Ed25519",
    "ML-DSA-44": "id-ml-dsa-44",
    "ML-DSA-65": "id-ml-dsa-65",
    "ML-DSA-87": "id-ml-dsa-87",
}
"""What an authority signs with, by its key's algorithm: the signer chooses the same."""


@unique
class AuthorityStatus(StrEnum):
    """Whether an authority issues."""

    ACTIVE = "active"
    DISABLED = "disabled"
    PENDING_CERTIFICATE = "pending-certificate"


@dataclass(frozen=True, slots=True)
class Authority:
    """One certificate authority, and where its key is known to the signer.

    `key` is the name by which the signer knows the key; `ra_key` the name of the RSA key that serves SCEP for
    it, with `ra_certificate` (DER). `chain` is DER, from this authority's own certificate up to the root, the
    root included. The three URL lists go into what it issues: CRL distribution points, CA issuers, OCSP.
    """

    id: str
    name: str
    kind: AuthorityKind
    status: AuthorityStatus
    key: str
    subject: str
    chain: tuple[bytes, ...]
    key_algorithm: str
    not_before: datetime
    not_after: datetime
    parent_id: str | None = None
    ra_key: str | None = None
    ra_certificate: bytes | None = None
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()

    @property
    def signature_algorithm(self) -> str:
        """The algorithm of the signatures that this authority makes."""
        return SIGNATURE_ALGORITHMS[self.key_algorithm]

    @property
    def issuers(self) -> tuple[bytes, ...]:
        """What clients are given beside a leaf: the chain without its root."""
        return self.chain[:-1]

    @property
    def root(self) -> bytes:
        """The trust anchor above this authority, DER."""
        return self.chain[-1]

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, DER."""
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class AuthorityManifest:
    """What a key ceremony hands over: certificates in DER and the names by which the signer knows the keys.

    `chain` runs from the authority's own certificate up to the root, both included.
    """

    key: str
    chain: tuple[bytes, ...]
    ra_key: str | None = None
    ra_certificate: bytes | None = None
