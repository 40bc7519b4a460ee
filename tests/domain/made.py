"""Nouns for the tests of the domain: a pair that enrolls over everything, and requests that it accepts."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from gateway.domain.application import (
    AcmeSettings,
    ApiSettings,
    Application,
    EnrollmentSettings,
    EstSettings,
    Pair,
    ScepSettings,
)
from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.domain.policy import Judged, Policy
from gateway.domain.profile import Defaults, Profile
from gateway.domain.request import (
    EnrollmentRequest,
    KeyAlgorithm,
    KeyUsage,
    Proof,
    ProofKind,
    Protocol,
    PublicKey,
    San,
    SanType,
    SubjectAttribute,
    SubjectType,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 654321, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
SERIAL = 1 << 126
EC = PublicKey(KeyAlgorithm.EC_P256, 256, b"spki of ec", "00")
RSA = PublicKey(KeyAlgorithm.RSA_2048, 2048, b"spki of rsa", "11")
CN, O, OU, C = SubjectType.COMMON_NAME, SubjectType.ORGANIZATION, SubjectType.ORGANIZATIONAL_UNIT, SubjectType.COUNTRY
DNS = SanType.DNS_NAME


def attribute(kind: SubjectType, value: str) -> SubjectAttribute:
    return SubjectAttribute(kind, value)


def dns(*names: str) -> tuple[San, ...]:
    return tuple(San(DNS, name) for name in names)


def authority(**changes) -> Authority:
    made = Authority(
        "a",
        "issuing",
        AuthorityKind.INTERMEDIATE,
        AuthorityStatus.ACTIVE,
        "issuing",
        "CN=Issuing",
        (b"own", b"root"),
        "EC_prime256v1",
        NOW - 30 * DAY,
        (NOW + 3650 * DAY).replace(microsecond=0),
    )
    return replace(made, **changes)


ALL_DOORS = EnrollmentSettings(ApiSettings(), AcmeSettings(), EstSettings(), ScepSettings())


def pair(
    policy: Policy | None = None,
    *,
    settings: EnrollmentSettings = ALL_DOORS,
    issuer: Authority | None = None,
    defaults: Defaults | None = None,
    **profile,
) -> Pair:
    made = Profile("p", "tls-server", "a", policy or Policy("q", "open"), defaults or Defaults(), **profile)
    return Pair(Application("x", "demo", NOW), made, issuer or authority(), settings)


def request(
    key: PublicKey = EC, *, csr: bytes | None = b"csr", proof: Proof | None = None, **changes
) -> EnrollmentRequest:
    digest = hashlib.sha256(key.spki if csr is None else csr).digest()
    proof = proof or Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", digest)
    changes.setdefault("sans", dns("www.example.com"))
    return EnrollmentRequest(proof=proof, key=key, csr=csr, **changes)


def judged(**changes) -> Judged:
    made = Judged((), dns("www.example.com"), EC, (KeyUsage.DIGITAL_SIGNATURE,), (), "ecdsa-with-SHA256", 90 * DAY)
    return msgspec.structs.replace(made, **changes)
