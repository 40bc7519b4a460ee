"""Everything that EST can make this server do. A closed list."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is enrolling. `kind` is `passphrase` or `certificate`; `name` the user, or the certificate's subject.

    For a certificate, `certificate` is its DER and `certificate_id` its id in the inventory.
    """

    kind: str
    name: str
    certificate: bytes | None = None
    certificate_id: str | None = None


@dataclass(frozen=True, slots=True)
class AuthenticateUser(Need[Identity | None]):
    """Check a user name and passphrase against the pair's settings. None: wrong, or none configured."""

    user: str
    passphrase: str


@dataclass(frozen=True, slots=True)
class AuthenticateCertificate(Need[Identity]):
    """Accept the TLS peer's certificate: issued for this pair, in force, not revoked.

    Refused: FORBIDDEN (another CA or another pair, E60, E68), REVOKED (E62), EXPIRED (E61).
    """

    certificate: bytes


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The outcome of an enrollment: DER of the certificate and of the chain below the root."""

    certificate: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """The request was accepted and waits; ask again with the same CSR in `retry_after` seconds (E51)."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class Enroll(Need[Enrolled | Waiting]):
    """Judge and issue. `renewal` marks simplereenroll: the certificate presented is the one being replaced."""

    csr: CertificationRequest
    identity: Identity
    renewal: bool


@dataclass(frozen=True, slots=True)
class CaCertificates(Need[tuple[bytes, ...]]):
    """DER of the issuing authority and all above it, the root included (E24)."""
