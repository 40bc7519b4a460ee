"""What stands in a store that has been in use: certificates as an issuance leaves them, the same again for each number.

Never here: a signature anyone could trust. The certificates are whole DER, with random points as keys and random
numbers as signatures, so that a million costs minutes; nothing in the store looks behind a certificate's shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate
from gateway.domain.identifier import new_id, new_serial
from gateway.domain.request import PROOF_PROTOCOL, CertificateRequest, ProofKind, RequestStatus, San, SanType
from gateway.domain.revocation import RevocationReason
from gateway.store import acme, certificates, issuance, revocations
from gateway.store.unit import Unit
from protocols.acme.states import (
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

LIFE: Final = timedelta(days=90)
ORDER_LIFE: Final = timedelta(days=7)
# Orders are swept thirty days after their end: of ninety days' ACME certificates the last thirty-seven still have one.
ORDERS_OF: Final = timedelta(days=37)
# Of twenty certificates: servers by ACME, devices by SCEP, users and printers by EST, pipelines by REST.
MIX: Final = (
    *(ProofKind.ACME_ORDER,) * 8,
    *(ProofKind.SCEP_CHALLENGE,) * 5,
    *(ProofKind.EST_PASSPHRASE,) * 4,
    *(ProofKind.API_TOKEN,) * 3,
)
# As long as the plan of an ordinary TLS certificate; it is gone when the certificate is in the inventory.
PLAN: Final = b"p" * 600
_POINT: Final = 65  # bytes of an uncompressed P-256 point
_HALF: Final = 32  # bytes of each half of its signature


@dataclass(frozen=True, slots=True)
class Mould:
    """A leaf certificate cut where certificates differ: what is between the parts is another's in each."""

    parts: tuple[bytes, ...]

    def cast(self, serial: bytes, host: bytes, key: bytes, signature: bytes) -> bytes:
        """A certificate: 16 bytes of serial, a host name of the mould's length, 64 of a point, 64 of a signature."""
        before, subject, point, names, end, half, last = self.parts
        return b"".join(
            (
                *(before, serial, subject, host, point, key, names, host, end),
                *(signature[:_HALF], half, signature[_HALF:], last),
            )
        )


def host_name(number: int) -> str:
    """The name that the certificate with this number is for; all are equally long."""
    return f"host-{number:09d}.fleet.example"


def mould(issuer: bytes) -> Mould:
    """A mould for leaves of the authority whose certificate (DER) this is: the extensions of a TLS certificate."""
    authority = x509.load_der_x509_certificate(issuer)
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    serial, host = b"\x40" + b"\x5a" * 15, host_name(0)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(
            authority.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]),
            key.public_key(),
            int.from_bytes(serial),
            now,
            now + LIFE,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(b"k" * 20, None, None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(b"s" * 20), critical=False)
        .add_extension(_distribution("http://pki.example.com/crl/issuing.crl"), critical=False)
        .add_extension(_access("http://pki.example.com/"), critical=False)
    )
    halves: list[bytes] = []
    der = b""
    # Until neither half begins with a zero or a high bit, since DER writes those in other lengths.
    while len(halves) != 2 or not all(0 < half[0] < 0x80 for half in halves):
        made = builder.sign(key, hashes.SHA256())
        der = made.public_bytes(Encoding.DER)
        halves = [number.to_bytes(_HALF) for number in decode_dss_signature(made.signature)]
    return Mould(_cut(der, (serial, host.encode(), point, host.encode(), *halves)))


def _cut(der: bytes, marks: Sequence[bytes]) -> tuple[bytes, ...]:
    parts = []
    for mark in marks:
        before, found, der = der.partition(mark)
        if not found:
            raise RuntimeError("the mould's certificate is not built as it should be")
        parts.append(before)
    return (*parts, der)


def _distribution(url: str) -> x509.CRLDistributionPoints:
    return x509.CRLDistributionPoints([x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)])


def _access(url: str) -> x509.AuthorityInformationAccess:
    ocsp, issuers = x509.oid.AuthorityInformationAccessOID.OCSP, x509.oid.AuthorityInformationAccessOID.CA_ISSUERS
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(ocsp, x509.UniformResourceIdentifier(f"{url}ocsp/issuing")),
            x509.AccessDescription(issuers, x509.UniformResourceIdentifier(f"{url}ca/issuing.crt")),
        ]
    )


@dataclass(frozen=True, slots=True)
class Population:
    """A store's inhabitants: `total` of them, evenly over the ninety days before `until`, every one of `pairs`' turn.

    Every `revoked_each`th is revoked; 0: none.
    """

    pairs: tuple[Pair, ...]
    moulds: tuple[Mould, ...]
    total: int
    until: datetime
    revoked_each: int

    def settle(self, unit: Unit, number: int) -> None:
        """Write everything that the issuance with this number leaves in the store."""
        dice = _Dice(number)
        at = self.until - LIFE + LIFE * number / self.total
        pair = self.pairs[number % len(self.pairs)]
        kind = MIX[dice(1)[0] % len(MIX)]
        request = self._request(pair, kind, number, at, dice)
        serial = new_serial(at, dice).to_bytes(16)
        issuance.reserve(
            unit,
            request=request,
            deduplication=None if kind in {ProofKind.API_TOKEN, ProofKind.EST_PASSPHRASE} else dice(32),
            serial=serial.hex(),
            issuer_id=pair.authority.id,
            plan=PLAN,
            at=at,
        )
        der = self.moulds[number % len(self.pairs)].cast(
            serial, host_name(number).encode(), dice(_POINT - 1), b"\x11" + dice(31) + b"\x11" + dice(31)
        )
        certificate = _certificate(pair, request, serial.hex(), der, at, dice)
        issuance.complete(unit, certificate, at=at)
        actor = f"{kind.value}:{request.proof_subject}"
        detail, source = f"serial {certificate.serial}", f"10.{dice(1)[0]}.{dice(1)[0]}.{dice(1)[0]}"
        for action, target in (("certificate.request", request.id), ("certificate.issue", certificate.id)):
            unit.audit(AuditEvent(at, actor, action, target, "success", pair.application.id, detail, source))
        if kind is ProofKind.ACME_ORDER and at > self.until - ORDERS_OF:
            _order(unit, pair, certificate.id, request.proof_subject, number, at, dice)
        if self.revoked_each and number % self.revoked_each == self.revoked_each - 1:
            self._revoke(unit, certificate)

    def _request(self, pair: Pair, kind: ProofKind, number: int, at: datetime, dice: _Dice) -> CertificateRequest:
        return CertificateRequest(
            id=new_id(at, dice),
            application_id=pair.application.id,
            profile_id=pair.profile.id,
            protocol=PROOF_PROTOCOL[kind],
            status=RequestStatus.SIGNING,
            proof_kind=kind,
            proof_subject=new_id(at, dice),
            subject=f"CN={host_name(number)}",
            sans=(San(SanType.DNS_NAME, host_name(number)),),
            created_at=at,
            updated_at=at,
        )

    def _revoke(self, unit: Unit, certificate: Certificate) -> None:
        certificates.change_revocation(
            unit,
            certificate,
            RevocationReason.SUPERSEDED,
            since=self.until,
            at=self.until,
            revision=revocations.begin(unit, certificate.issuer_id),
        )


class _Dice:
    """Random bytes, the same again for the same number: a filling that is taken up again goes on as it began."""

    __slots__ = ("_rest",)

    def __init__(self, number: int) -> None:
        self._rest = hashlib.shake_128(number.to_bytes(8)).digest(512)

    def __call__(self, length: int) -> bytes:
        taken, self._rest = self._rest[:length], self._rest[length:]
        if len(taken) != length:
            raise RuntimeError("an inhabitant needs more dice than it was given")
        return taken


def _certificate(
    pair: Pair, request: CertificateRequest, serial: str, der: bytes, at: datetime, dice: _Dice
) -> Certificate:
    return Certificate(
        id=new_id(at, dice),
        serial=serial,
        issuer_id=pair.authority.id,
        der=der,
        subject=request.subject,
        sans=request.sans,
        not_before=at,
        not_after=at + LIFE,
        sha1=hashlib.sha1(der, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(der).hexdigest(),
        spki_sha256=dice(32).hex(),
        key_algorithm="EC_prime256v1",
        signature_algorithm="1.2.840.10045.4.3.2",
        source="issued",
        created_at=at,
        application_id=pair.application.id,
        profile_id=pair.profile.id,
        request_id=request.id,
        protocol=request.protocol.value,
        crl_partition=pair.authority.partition(int(serial, 16)),
    )


def _order(unit: Unit, pair: Pair, certificate_id: str, account: str, number: int, at: datetime, dice: _Dice) -> None:
    """The order that led to a certificate, and the authorization that it rests on."""
    identifier = Identifier(IdentifierType.DNS, host_name(number))
    challenge = Challenge("http-01", ChallengeType.HTTP_01, dice(16).hex(), ChallengeStatus.VALID, validated=at)
    authorization = Authorization(
        new_id(at, dice), account, identifier, False, AuthorizationStatus.VALID, at + ORDER_LIFE, (challenge,)
    )
    order = Order(new_id(at, dice), account, OrderStatus.READY, (identifier,), (authorization.id,), at + ORDER_LIFE)
    acme.create_order(unit, order, [authorization], pair.id, at)
    acme.claim_order(unit, order.id, dice(32), at)
    acme.finish_order(unit, order.id, certificate_id=certificate_id)
