"""Applications, and the pairs (application, profile) that are the unit of enrollment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import assert_never

from gateway.domain.authority import Authority
from gateway.domain.profile import Profile
from gateway.domain.request import Protocol


@dataclass(frozen=True, slots=True)
class Application:
    """Where a team works. `name` is 1..64 characters of `[a-z0-9-]`, unique; `description` at most 256."""

    id: str
    name: str
    created_at: datetime
    description: str = ""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """REST enrollment for a pair."""


@dataclass(frozen=True, slots=True)
class AcmeSettings:
    """ACME for a pair.

    `skip_eab_binding` lets accounts be made without an external account binding; `skip_dns_ownership` makes
    orders `ready` at once; both together are refused (A128). `http01_port` and `allowed_networks` (CIDR) rule where
    validation may go (A73, A132): with no network listed, private and loopback addresses are never dialled.
    """

    skip_eab_binding: bool = False
    skip_dns_ownership: bool = False
    http01_port: int = 80
    allowed_networks: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    authorization_reuse: timedelta = timedelta(0)
    terms_of_service: str | None = None
    website: str | None = None


@dataclass(frozen=True, slots=True)
class EstSettings:
    """EST for a pair. `passphrase_hash` is argon2id; None means that only certificates authenticate.

    `label` is the segment in `/.well-known/est/{label}/`, by default `{application}.{profile}`. `wrap` is
    the base64 line length: 0 (off), 64 (LF) or 76 (CRLF) (E28).
    """

    passphrase_hash: str | None = None
    label: str | None = None
    wrap: int = 0


@dataclass(frozen=True, slots=True)
class ScepSettings:
    """SCEP for a pair. `challenge_hash` is argon2id. `include` is what a CertRep carries beside the leaf."""

    challenge_hash: str | None = None
    allow_renewal: bool = True
    include: str = "issuer"  # none | issuer | chain


@cache
def _enabled(api: bool, acme: bool, est: bool, scep: bool) -> frozenset[Protocol]:
    """One of sixteen sets: to put it together again for every enrollment costs more than to find it."""
    doors = ((Protocol.API, api), (Protocol.ACME, acme), (Protocol.EST, est), (Protocol.SCEP, scep))
    return frozenset([protocol for protocol, opened in doors if opened])


@dataclass(frozen=True, slots=True)
class EnrollmentSettings:
    """The four doors of a pair; None is a closed door."""

    api: ApiSettings | None = None
    acme: AcmeSettings | None = None
    est: EstSettings | None = None
    scep: ScepSettings | None = None

    def enables(self, protocol: Protocol) -> bool:
        """Whether this pair enrolls over `protocol`."""
        match protocol:
            case Protocol.API:
                return self.api is not None
            case Protocol.ACME:
                return self.acme is not None
            case Protocol.EST:
                return self.est is not None
            case Protocol.SCEP:
                return self.scep is not None
        assert_never(protocol)

    def enabled(self) -> frozenset[Protocol]:
        """The protocols that this pair enrolls over."""
        return _enabled(self.api is not None, self.acme is not None, self.est is not None, self.scep is not None)


@dataclass(frozen=True, slots=True)
class Pair:
    """An application with one of its profiles and all that an enrollment needs to know of them."""

    application: Application
    profile: Profile
    authority: Authority
    settings: EnrollmentSettings = field(default_factory=EnrollmentSettings)

    @property
    def id(self) -> str:
        """The pair's name in rows, URLs' scope and the signer's fair share: `{application id}:{profile id}`."""
        return f"{self.application.id}:{self.profile.id}"
