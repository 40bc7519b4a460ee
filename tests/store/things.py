"""Nouns for the tests of the store: each with every field set to something of its own."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count

import msgspec

from gateway.domain.application import (
    AcmeSettings,
    ApiSettings,
    Application,
    EnrollmentSettings,
    EstSettings,
    ScepSettings,
)
from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus, ListSettings
from gateway.domain.certificate import Certificate
from gateway.domain.policy import (
    BasicConstraints,
    ExtendedKeyUsageRule,
    KeyUsageRule,
    Policy,
    SanRule,
    SubjectRule,
)
from gateway.domain.profile import Defaults, Profile
from gateway.domain.request import (
    CertificateRequest,
    KeyAlgorithm,
    KeyUsage,
    ProofKind,
    Protocol,
    RequestStatus,
    San,
    SanType,
    SubjectAttribute,
    SubjectType,
)
from protocols.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    ChallengeType,
    Identifier,
    IdentifierType,
    Order,
    OrderStatus,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
PAIR = "application:profile"
DEDUPLICATION = sha256(b"the same ask").digest()
_numbers = count(1)


def authority() -> Authority:
    return Authority(
        id="authority",
        name="issuing",
        kind=AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key="key",
        subject="CN=Issuing",
        chain=(b"\x30issuing\xff", b"\x30root\x00"),
        key_algorithm="EC_prime256v1",
        not_before=NOW,
        not_after=NOW + timedelta(days=3650),
        parent_id="root",
        ra_key="ra",
        ra_certificate=b"\x30ra",
        crl_urls=("http://ca.example/ca.crl",),
        issuer_urls=("http://ca.example/ca.crt",),
        ocsp_urls=("http://ca.example/ocsp",),
        successor_id="issuing-g2",
        links=(b"\x30old with new", b"\x30new with old"),
        predecessor_id="issuing-g0",
        lists=ListSettings(timedelta(days=3), timedelta(hours=7), 16, True, timedelta(hours=2)),
    )


def policy() -> Policy:
    return Policy(
        id="policy",
        name="everything",
        subject=(SubjectRule(SubjectType.COMMON_NAME, ("*",), ("a*",), ("b*",)),),
        sans=(SanRule(SanType.DNS_NAME, ("**.example",), (), ("bad.example",)), SanRule(SanType.IP_ADDRESS)),
        key_usages=KeyUsageRule(None, (KeyUsage.DIGITAL_SIGNATURE,), (KeyUsage.CRL_SIGN,)),
        extended_key_usages=ExtendedKeyUsageRule(("1.3.6.1.5.5.7.3.1",), (), ()),
        signature_algorithms=("1.2.840.10045.4.3.2",),
        key_algorithms=(KeyAlgorithm.EC_P256, KeyAlgorithm.ML_DSA_65),
        max_validity=timedelta(days=90),
        basic_constraints=BasicConstraints(ca=True, path_length=0),
    )


def profile() -> Profile:
    return Profile(
        id="profile",
        slug="tls-server",
        authority_id="authority",
        policy=policy(),
        defaults=Defaults(
            ttl=timedelta(days=30),
            subject=(SubjectAttribute(SubjectType.ORGANIZATION, "Örg"),),
            key_algorithm=KeyAlgorithm.EC_P384,
            key_usages=(KeyUsage.DIGITAL_SIGNATURE,),
            extended_key_usages=("1.3.6.1.5.5.7.3.2",),
        ),
        description="for servers",
        clip_validity=False,
        backdate=timedelta(seconds=90),
    )


def application() -> Application:
    return Application("application", "demo", NOW, "a demonstration")


def settings() -> EnrollmentSettings:
    return EnrollmentSettings(
        api=ApiSettings(),
        acme=AcmeSettings(
            skip_eab_binding=True, http01_port=5002, allowed_networks=("127.0.0.0/8",), website="https://x"
        ),
        est=EstSettings(passphrase_hash="$argon2id$1", wrap=64),
        scep=ScepSettings(challenge_hash="$argon2id$2", allow_renewal=False, include="chain"),
    )


def request(**changes: object) -> CertificateRequest:
    number = next(_numbers)
    made = CertificateRequest(
        id=f"request-{number:04}",
        application_id="application",
        profile_id="profile",
        protocol=Protocol.EST,
        status=RequestStatus.SIGNING,
        proof_kind=ProofKind.EST_PASSPHRASE,
        proof_subject="dev1",
        subject="CN=dev1,O=Örg",
        sans=(San(SanType.DNS_NAME, "dev1.example"), San(SanType.IP_ADDRESS, "192.0.2.1")),
        created_at=NOW,
        updated_at=NOW,
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def certificate(**changes: object) -> Certificate:
    number = next(_numbers)
    der = b"\x30\x00" + number.to_bytes(8, "big")
    made = Certificate(
        id=f"certificate-{number:04}",
        serial=f"{2**64 + number:x}",
        issuer_id="authority",
        der=der,
        subject="CN=dev1,O=Örg",
        sans=(San(SanType.DNS_NAME, "dev1.example"),),
        not_before=NOW - timedelta(minutes=5),
        not_after=NOW + timedelta(days=90),
        sha1=sha256(b"1" + der).hexdigest()[:40],
        sha256=sha256(der).hexdigest(),
        spki_sha256="ab" * 32,
        key_algorithm="EC_prime256v1",
        signature_algorithm="1.2.840.10045.4.3.2",
        source="issued",
        created_at=NOW,
        application_id="application",
        profile_id="profile",
        request_id="request",
        protocol="est",
        metadata=(("env", "production"),),
        managed_key=b"sealed\x00",
        crl_partition=3,
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def account(**changes: object) -> Account:
    number = next(_numbers)
    made = Account(
        id=f"account-{number:04}",
        pair_id=PAIR,
        jwk=b'{"kty":"EC"}',
        thumbprint=f"thumbprint-{number}",
        status=AccountStatus.VALID,
        contact=("mailto:a@example.com",),
        created_at=NOW,
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def authorization(account_id: str, name: str = "host.example", **changes: object) -> Authorization:
    number = next(_numbers)
    challenges = tuple(
        Challenge(f"challenge-{each}", ChallengeType.HTTP_01, f"token-{number}-{each}", ChallengeStatus.PENDING)
        for each in (1, 2)
    )
    made = Authorization(
        id=f"authorization-{number:04}",
        account_id=account_id,
        identifier=Identifier(IdentifierType.DNS, name),
        wildcard=False,
        status=AuthorizationStatus.PENDING,
        expires=NOW + timedelta(days=7),
        challenges=challenges,
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]


def order(account_id: str, authorizations: tuple[Authorization, ...], **changes: object) -> Order:
    number = next(_numbers)
    ready = all(each.status is AuthorizationStatus.VALID for each in authorizations)
    made = Order(
        id=f"order-{number:04}",
        account_id=account_id,
        status=OrderStatus.READY if ready else OrderStatus.PENDING,
        identifiers=tuple(each.identifier for each in authorizations),
        authorization_ids=tuple(each.id for each in authorizations),
        expires=NOW + timedelta(days=1),
        not_after=NOW + timedelta(days=30),
    )
    return msgspec.structs.replace(made, **changes)  # type: ignore[arg-type]
