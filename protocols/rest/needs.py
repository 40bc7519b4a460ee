"""Everything that the enrollment part of the REST API can make this server do. A closed list."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest
from protocols.pkix.names import AlternativeName, Attribute


class PairReference(msgspec.Struct, frozen=True):
    """Which pair: by ids or by names, as the request gave them."""

    application_id: str | None
    application_name: str | None
    profile_id: str | None
    profile_name: str | None


class Wishes(msgspec.Struct, frozen=True):
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


class Certificate(msgspec.Struct, frozen=True):
    """An issued certificate, DER. `chain` is below the root; `private_key` PKCS#8 DER where the server made the key."""

    id: str
    serial: str
    certificate: bytes
    chain: tuple[bytes, ...]
    root: bytes
    private_key: bytes | None = None


class RequestState(msgspec.Struct, frozen=True):
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


class EnrollWithCsr(Need[RequestState], msgspec.Struct, frozen=True):
    """Judge and issue for a CSR; only ttl, dates and metadata of `wishes` may be given (D12).

    Refused: FORBIDDEN, NOT_FOUND, POLICY, BAD_KEY, BUSY, UNAVAILABLE.
    """

    pair: PairReference
    csr: CertificationRequest
    wishes: Wishes


class EnrollWithManagedKey(Need[RequestState], msgspec.Struct, frozen=True):
    """Generate a key, judge and issue; the private key is in the answer, this once."""

    pair: PairReference
    wishes: Wishes


class FindRequest(Need[RequestState | None], msgspec.Struct, frozen=True):
    """One certificate request that the caller may read."""

    id: str


class SearchRequests(Need[tuple[tuple[RequestState, ...], int]], msgspec.Struct, frozen=True):
    """One page of certificate requests that the caller may read, newest first, and how many there are."""

    limit: int
    offset: int
    search: str | None
    status: str | None
    pair: PairReference


class CertificateState(msgspec.Struct, frozen=True):
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


class RevocationState(msgspec.Struct, frozen=True):
    """How a serial stands after an ask; `reason` None: it was released from a hold, and is good."""

    serial: str
    reason: str | None
    revoked_at: datetime | None
    certificate_id: str | None


class FindCertificate(Need[CertificateState | None], msgspec.Struct, frozen=True):
    """One certificate that the caller may read."""

    id: str


class RevokeCertificate(Need[RevocationState], msgspec.Struct, frozen=True):
    """Revoke one certificate, or release it from a hold. Refused: NOT_FOUND, FORBIDDEN, CONFLICT, BUSY, UNAVAILABLE."""

    id: str
    reason: str


class RevokeSerial(Need[RevocationState], msgspec.Struct, frozen=True):
    """Revoke whatever an authority signed under a serial; lower-case hex without leading zeros. Refused: as above."""

    authority: str
    serial: str
    reason: str


class CancelRequest(Need[RequestState], msgspec.Struct, frozen=True):
    """Cancel a request that still waits for approval. Refused: NOT_FOUND, FORBIDDEN, CONFLICT."""

    id: str
