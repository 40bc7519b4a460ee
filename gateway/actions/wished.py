"""What a REST request wishes for, in the product's nouns: left out, given, or cleared by null (D5, D12)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeVar

from gateway.actions.asked import subject_alternative_names, subject_attributes
from gateway.domain.profile import Profile
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    UNSET,
    EnrollmentRequest,
    KeyAlgorithm,
    KeyUsage,
    Proof,
    PublicKey,
    SubjectAttribute,
    SubjectType,
    Unset,
)
from protocols.rest.needs import Wishes

T = TypeVar("T")

# The size that goes with each name, as `protocols.pkix.keys` counts it for keys that come in CSRs.
KEY_BITS: Final[dict[KeyAlgorithm, int]] = {
    KeyAlgorithm.RSA_2048: 2048,
    KeyAlgorithm.RSA_3072: 3072,
    KeyAlgorithm.RSA_4096: 4096,
    KeyAlgorithm.EC_P256: 256,
    KeyAlgorithm.EC_P384: 384,
    KeyAlgorithm.EC_P521: 521,
    KeyAlgorithm.ED25519: 256,
    KeyAlgorithm.ML_DSA_44: 1312 * 8,
    KeyAlgorithm.ML_DSA_65: 1952 * 8,
    KeyAlgorithm.ML_DSA_87: 2592 * 8,
}

# The names in `Wishes.given` that speak of the subject (D12).
_SUBJECT: Final[dict[str, SubjectType]] = {
    "commonName": SubjectType.COMMON_NAME,
    "organization": SubjectType.ORGANIZATION,
    "organizationalUnit": SubjectType.ORGANIZATIONAL_UNIT,
    "country": SubjectType.COUNTRY,
    "state": SubjectType.STATE,
    "locality": SubjectType.LOCALITY,
    "domainComponent": SubjectType.DOMAIN_COMPONENT,
    "serialNumber": SubjectType.SERIAL_NUMBER,
}
_KEY_USAGES: Final[dict[str, KeyUsage]] = {usage.value: usage for usage in KeyUsage}


def managed_key_algorithm(wishes: Wishes, profile: Profile) -> KeyAlgorithm:
    """Which key to generate: the wish, else the profile's default, else P-256.

    Raises:
        Refusal: POLICY, for a name that is none of `KEY_BITS`.
    """
    default = None if "keyAlgorithm" in wishes.given else profile.defaults.key_algorithm
    wanted = wishes.key_algorithm or default or KeyAlgorithm.EC_P256
    for algorithm in KEY_BITS:
        if algorithm == wanted:
            return algorithm
    sentence = f"keyAlgorithm: keys of type {wanted} are not generated here"
    raise Refusal(RefusalReason.POLICY, sentence, violations=(sentence,))


def from_wishes(wishes: Wishes, key: PublicKey, proof: Proof, *, managed_key: bytes) -> EnrollmentRequest:
    """The enrollment request of a wish for a managed key; `managed_key` is the private key as the signer sealed it.

    Raises:
        Refusal: POLICY, with a violation for every name or usage that no policy could judge.
    """
    violations: list[str] = []
    subject = _subject(wishes, violations)
    sans = subject_alternative_names(wishes.sans, violations)
    usages = []
    for name in wishes.key_usages or ():
        usage = _KEY_USAGES.get(name)
        if usage is None:
            violations.append(f"keyUsages: {name} is not supported")
        else:
            usages.append(usage)
    if violations:
        raise Refusal(RefusalReason.POLICY, violations[0], violations=tuple(violations))
    return EnrollmentRequest(
        proof=proof,
        key=key,
        subject=subject or UNSET,
        sans=_given(wishes, "altNames", sans or None),
        key_usages=_given(wishes, "keyUsages", None if wishes.key_usages is None else tuple(usages)),
        extended_key_usages=_given(wishes, "extendedKeyUsages", wishes.extended_key_usages),
        ttl=ttl(wishes),
        not_before=wishes.not_before,
        not_after=wishes.not_after,
        metadata=wishes.metadata,
        managed_key=managed_key,
    )


def _subject(wishes: Wishes, violations: list[str]) -> tuple[SubjectAttribute, ...]:
    """The attributes that were given; an empty one for each that null clears, which keeps the default away (D5)."""
    given = subject_attributes(wishes.subject, violations)
    present = {each.type for each in given}
    spoken_of = [kind for name, kind in _SUBJECT.items() if name in wishes.given]
    return (*given, *(SubjectAttribute(kind, "") for kind in spoken_of if kind not in present))


def ttl(wishes: Wishes) -> timedelta | Unset | None:
    """How long the certificate is to live."""
    return _given(wishes, "ttl", wishes.ttl)


def _given(wishes: Wishes, name: str, value: T) -> T | Unset:
    return value if name in wishes.given else UNSET
