"""Certificates in the inventory."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Final

import msgspec

from gateway.domain.request import San


@unique
class CertificateStatus(StrEnum):
    """What the inventory says of a certificate. `expired` is derived from `not_after` and never stored."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@unique
class SerialStatus(StrEnum):
    """A serial number's life. It is reserved before any signature; one that may have been signed is never reused."""

    RESERVED = "reserved"
    ISSUED = "issued"
    BURNT = "burnt"


SERIAL_TRANSITIONS: Final[dict[SerialStatus, frozenset[SerialStatus]]] = {
    SerialStatus.RESERVED: frozenset({SerialStatus.ISSUED, SerialStatus.BURNT}),
    SerialStatus.ISSUED: frozenset(),
    SerialStatus.BURNT: frozenset(),
}


class Certificate(msgspec.Struct, frozen=True):
    """One certificate of the inventory.

    `serial` is lower-case hex without leading zeros; fingerprints are lower-case hex over `der`. `subject` is
    an RFC 4514 string. `application_id` and `profile_id` are None for the authorities' own certificates.
    `source` is `issued`, `imported` or `ceremony`; `managed_key` is sealed by the signer, never in the clear.
    `crl_partition` is the partition whose list its distribution point names, None where that is the whole list.
    """

    id: str
    serial: str
    issuer_id: str
    der: bytes
    subject: str
    sans: tuple[San, ...]
    not_before: datetime
    not_after: datetime
    sha1: str
    sha256: str
    spki_sha256: str
    key_algorithm: str
    signature_algorithm: str
    source: str
    created_at: datetime
    application_id: str | None = None
    profile_id: str | None = None
    request_id: str | None = None
    protocol: str | None = None
    renewed_from: str | None = None
    renewed_by: str | None = None
    revoked_at: datetime | None = None
    revocation_reason: int | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    managed_key: bytes | None = None
    crl_partition: int | None = None

    def status(self, now: datetime) -> CertificateStatus:
        """What the certificate is at `now`. Revocation outlives expiry."""
        if self.revoked_at is not None:
            return CertificateStatus.REVOKED
        if now > self.not_after:
            return CertificateStatus.EXPIRED
        return CertificateStatus.ACTIVE
