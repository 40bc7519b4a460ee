"""Everything that the enrollment part of the REST API can make this server do. A closed list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest
from protocols.pkix.names import AlternativeName, Attribute


@dataclass(frozen=True, slots=True)
class PairReference:
    """Which pair: by ids or by names, as the request gave them."""

    application_id: str | None
    application_name: str | None
    profile_id: str | None
    profile_name: str | None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request asks for beside its key. A value that was left out is absent from `given`; null clears (D5).

    `given` holds the JSON names that were present, so that `None` can mean null.
    """

    given: frozenset[str]
    subject: tuple[Attribute, ...] = ()
    sans: tuple[AlternativeName, ...] = ()
    key_usages: tuple[str, ...] | None = None
    extended_key_usages: tuple[str, ...] | None = None
    ttl: timedelta | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    key_algorithm: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """An issued certificate, DER. `chain` is below the root; `private_key` PKCS#8 DER where the server made the key."""

    id: str
    serial: str
    certificate: bytes
    chain: tuple[bytes, ...]
    root: bytes
    private_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class RequestState:
    """A certificate request as its owner may see it. `status` as in the product; `message` says why, or what for."""

    id: str
    status: str
    protocol: str
    application_id: str
    profile_id: str
    common_name: str
    created_at: datetime
    updated_at: datetime
    message: str
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class EnrollWithCsr(Need[RequestState]):
    """Judge and issue for a CSR; only ttl, dates and metadata of `wishes` may be given (D12).

    Refused: FORBIDDEN, NOT_FOUND, POLICY, BAD_KEY, BUSY, UNAVAILABLE.
    """

    pair: PairReference
    csr: CertificationRequest
    wishes: Wishes


@dataclass(frozen=True, slots=True)
class EnrollWithManagedKey(Need[RequestState]):
    """Generate a key, judge and issue; the private key is in the answer, this once."""

    pair: PairReference
    wishes: Wishes


@dataclass(frozen=True, slots=True)
class FindRequest(Need[RequestState | None]):
    """One certificate request that the caller may read."""

    id: str


@dataclass(frozen=True, slots=True)
class SearchRequests(Need[tuple[tuple[RequestState, ...], int]]):
    """One page of certificate requests that the caller may read, newest first, and how many there are."""

    limit: int
    offset: int
    search: str | None
    status: str | None
    pair: PairReference


@dataclass(frozen=True, slots=True)
class CertificateState:
    """A certificate of the inventory. `status` as in the product; fingerprints and serial in lower-case hex."""

    id: str
    serial: str
    status: str
    subject: str
    sans: tuple[tuple[str, str], ...]
    not_before: datetime
    not_after: datetime
    sha1: str
    sha256: str
    key_algorithm: str
    signature_algorithm: str
    source: str
    application_id: str | None
    profile_id: str | None
    request_id: str | None
    protocol: str | None
    renewed_from: str | None
    renewed_by: str | None
    revoked_at: datetime | None
    revocation_reason: str | None
    metadata: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RevocationState:
    """How a serial stands after an ask; `reason` None: it was released from a hold, and is good."""

    serial: str
    reason: str | None
    revoked_at: datetime | None
    certificate_id: str | None


@dataclass(frozen=True, slots=True)
class FindCertificate(Need[CertificateState | None]):
    """One certificate that the caller may read."""

    id: str


@dataclass(frozen=True, slots=True)
class RevokeCertificate(Need[RevocationState]):
    """Revoke one certificate, or release it from a hold. Refused: NOT_FOUND, FORBIDDEN, CONFLICT, BUSY, UNAVAILABLE."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RevokeSerial(Need[RevocationState]):
    """Revoke whatever an authority signed under a serial; lower-case hex without leading zeros. Refused: as above."""

    authority: str
    serial: str
    reason: str


@dataclass(frozen=True, slots=True)
class CancelRequest(Need[RequestState]):
    """Cancel a request that still waits for approval. Refused: NOT_FOUND, FORBIDDEN, CONFLICT."""

    id: str
