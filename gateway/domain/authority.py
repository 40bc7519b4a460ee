"""Certificate authorities: shared infrastructure, administered at product level."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique


@unique
class AuthorityKind(StrEnum):
    """A root signs authorities only; an intermediate signs what profiles ask for; an RA serves SCEP."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"


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
    def certificate(self) -> bytes:
        """The authority's own certificate, DER."""
        return self.chain[0]
