"""What a CSR asks for, in the product's nouns. What the product cannot name, it refuses: nothing is lost on the way."""

from __future__ import annotations

from datetime import datetime, timedelta

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    SUBJECT_OIDS,
    UNSET,
    EnrollmentRequest,
    KeyAlgorithm,
    KeyUsage,
    Proof,
    PublicKey,
    San,
    SanType,
    SubjectAttribute,
    Unset,
)
from protocols.pkix.csr import CertificationRequest
from protocols.pkix.names import AlternativeName, Attribute

_SUBJECT_TYPES = {oid: kind for kind, oid in SUBJECT_OIDS.items()}
_SAN_TYPES: dict[str, SanType] = {kind.value: kind for kind in SanType}
_KEY_USAGES: dict[str, KeyUsage] = {usage.value: usage for usage in KeyUsage}
_KEY_ALGORITHMS: dict[str, KeyAlgorithm] = {algorithm.value: algorithm for algorithm in KeyAlgorithm}


def from_csr(
    csr: CertificationRequest,
    proof: Proof,
    *,
    deduplication: bytes | None = None,
    renewed_from: str | None = None,
    metadata: tuple[tuple[str, str], ...] = (),
    ttl: timedelta | Unset | None = UNSET,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
    usages: bool = True,
) -> EnrollmentRequest:
    """The enrollment request that a verified CSR makes; the other arguments are what no CSR can say.

    `usages`: whether what the CSR says of key usages counts; where it does not, the profile's defaults apply.

    A subject or SAN that the CSR does not have is UNSET, so that the profile's defaults apply (D5).

    Raises:
        Refusal: POLICY, with a violation for every name, usage or constraint that no policy could judge.
    """
    violations: list[str] = []
    subject = subject_attributes(csr.subject, violations)
    sans = subject_alternative_names(csr.sans or (), violations)
    key_usages = _key_usages(csr.key_usages or (), violations) if usages else ()
    purposes = csr.extended_key_usages if usages else None
    if csr.ca:
        # E44, A86: whatever else a profile allows, nobody becomes an authority by asking for it.
        violations.append("basicConstraints: a request for CA:TRUE is never accepted")
    if violations:
        raise Refusal(RefusalReason.POLICY, violations[0], violations=tuple(violations))
    return EnrollmentRequest(
        proof=proof,
        key=public_key(csr),
        subject=subject or UNSET,
        sans=sans or UNSET,
        key_usages=key_usages or UNSET,
        extended_key_usages=purposes or UNSET,
        ttl=ttl,
        not_before=not_before,
        not_after=not_after,
        csr=csr.der,
        deduplication=deduplication,
        metadata=metadata,
        renewed_from=renewed_from,
    )


def public_key(csr: CertificationRequest) -> PublicKey:
    """The CSR's key."""
    return PublicKey(_KEY_ALGORITHMS[csr.key_algorithm], csr.key_bits, csr.spki, csr.spki_sha256.hex())


def subject_attributes(names: tuple[Attribute, ...], violations: list[str]) -> tuple[SubjectAttribute, ...]:
    """Attributes of a subject; one of a type that the product does not know is added to `violations`."""
    attributes = []
    for each in names:
        kind = _SUBJECT_TYPES.get(each.oid)
        if kind is None:
            violations.append(f"subject: attribute {each.oid} is not supported")
        else:
            attributes.append(SubjectAttribute(kind, each.value))
    return tuple(attributes)


def subject_alternative_names(names: tuple[AlternativeName, ...], violations: list[str]) -> tuple[San, ...]:
    """Alternative names, the first of equal ones; one of a kind that nobody could validate is added to `violations`."""
    sans: dict[San, None] = {}
    for each in names:
        kind = _SAN_TYPES.get(each.type)
        if kind is None:
            violations.append(f"subjectAltName: a name of type {each.type} is not supported")
        else:
            sans[San(kind, each.value)] = None
    return tuple(sans)


def _key_usages(names: tuple[str, ...], violations: list[str]) -> tuple[KeyUsage, ...]:
    usages = []
    for name in names:
        usage = _KEY_USAGES.get(name)
        if usage is None:
            violations.append(f"keyUsage: {name} is not supported")
        else:
            usages.append(usage)
    return tuple(usages)
