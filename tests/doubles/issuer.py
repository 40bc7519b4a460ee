"""A small real authority in memory, a pair with all doors open, and a signer that signs there and then.

The signer can be told to fail: it takes one failure for each ask from `failures`, until none is left.
"""

import datetime as dt
import secrets

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import NameOID

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
from gateway.domain.issuance import Plan
from gateway.domain.policy import Policy
from gateway.domain.profile import Profile
from gateway.domain.request import SUBJECT_OIDS, KeyAlgorithm, PublicKey, SanType
from gateway.outbound.signer import Signer, SignerFailure

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def public_key() -> PublicKey:
    """A new P-256 key's public half, as a CSR would bring it."""
    spki = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = spki.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(der)
    return PublicKey(KeyAlgorithm.EC_P256, 256, der, digest.finalize().hex())


class Issuer:
    """A root that issues leaves: key, certificate, and the domain's `Authority` for it."""

    def __init__(self, name: str = "Test Root") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            self.name, self.name, self.key.public_key(), 1, NOW - dt.timedelta(days=1), NOW + dt.timedelta(days=3650)
        )
        certificate = builder.add_extension(x509.BasicConstraints(True, None), True).sign(self.key, hashes.SHA256())
        self.certificate = certificate.public_bytes(Encoding.DER)
        self.authority = Authority(
            id="authority",
            name="test-root",
            kind=AuthorityKind.ROOT,
            status=AuthorityStatus.ACTIVE,
            key="test-root",
            subject=f"CN={name}",
            chain=(self.certificate,),
            key_algorithm="EC_prime256v1",
            not_before=NOW - dt.timedelta(days=1),
            not_after=NOW + dt.timedelta(days=3650),
        )

    def sign(self, plan: Plan) -> bytes:
        """The plan's certificate, with its names and nothing else."""
        names = [
            x509.NameAttribute(x509.ObjectIdentifier(SUBJECT_OIDS[each.type]), each.value) for each in plan.subject
        ]
        builder = x509.CertificateBuilder(
            self.name,
            x509.Name(names),
            load_der_public_key(plan.key.spki),  # type: ignore[arg-type]
            plan.serial,
            plan.not_before,
            plan.not_after,
        )
        dns = [x509.DNSName(each.value) for each in plan.sans if each.type is SanType.DNS_NAME]
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName(dns), plan.san_critical)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


def pair(issuer: Issuer, policy: Policy | None = None) -> Pair:
    """Application `demo` with profile `device`: any names, any key, every door open."""
    return Pair(
        application=Application("application", "demo", NOW),
        profile=Profile("profile", "device", issuer.authority.id, policy or Policy("policy", "anything")),
        authority=issuer.authority,
        settings=EnrollmentSettings(ApiSettings(), AcmeSettings(), EstSettings(), ScepSettings()),
    )


class SignerDouble(Signer):
    """Signs at once with the issuer's key; remembers every plan that it signed."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.failures: list[SignerFailure] = []
        self.signed: list[Plan] = []
        self.tickets: list[bytes] = []
        self.swap_key = False

    def require_room(self, share: str) -> None:
        """There always is."""

    async def issue(self, plan: Plan, pair: Pair, *, ticket: bytes) -> bytes:
        self.tickets.append(ticket)
        if self.failures:
            raise self.failures.pop(0)
        self.signed.append(plan)
        return self.issuer.sign(msgspec.structs.replace(plan, key=public_key()) if self.swap_key else plan)


def dice(count: int) -> bytes:
    """Real dice."""
    return secrets.token_bytes(count)
