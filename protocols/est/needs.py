"""Everything that EST can make this server do. A closed list."""

from __future__ import annotations

import msgspec

from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest


class Identity(msgspec.Struct, frozen=True):
    """Who is enrolling. `kind` is `passphrase` or `certificate`; `name` the user, or the certificate's subject.

    For a certificate, `certificate` is its DER and `certificate_id` its id in the inventory.
    """

    kind: str
    name: str
    certificate: bytes | None = None
    certificate_id: str | None = None


class AuthenticateUser(Need[Identity | None], msgspec.Struct, frozen=True):
    """Check a user name and passphrase against the pair's settings. None: wrong, or none configured."""

    user: str
    passphrase: str


class AuthenticateCertificate(Need[Identity], msgspec.Struct, frozen=True):
    """Accept the TLS peer's certificate: issued for this pair, in force, not revoked.

    Refused: FORBIDDEN (another CA or another pair, E60, E68), REVOKED (E62), EXPIRED (E61).
    """

    certificate: bytes


class Enrolled(msgspec.Struct, frozen=True):
    """The outcome of an enrollment: DER of the certificate and of the chain below the root."""

    certificate: bytes
    chain: tuple[bytes, ...]


class Waiting(msgspec.Struct, frozen=True):
    """The request was accepted and waits; ask again with the same CSR in `retry_after` seconds (E51)."""

    retry_after: int


class Enroll(Need[Enrolled | Waiting], msgspec.Struct, frozen=True):
    """Judge and issue. `renewal` marks simplereenroll: the certificate presented is the one being replaced."""

    csr: CertificationRequest
    identity: Identity
    renewal: bool


class CaCertificates(Need[tuple[bytes, ...]], msgspec.Struct, frozen=True):
    """DER of the issuing authority and all above it, the root included (E24)."""
