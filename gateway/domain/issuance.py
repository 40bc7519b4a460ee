"""From a request to a plan: what exactly will be issued. Pure (D4, D5, D6, D8).

Nothing is judged that is not issued, and nothing issued that was not judged: defaults are applied first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from gateway.domain.application import Pair
from gateway.domain.identifier import InvalidName, canonical, quoted
from gateway.domain.policy import BasicConstraints, ExtendedKeyUsageRule, Judged, KeyUsageRule, Unasked, rules_of
from gateway.domain.profile import Profile
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    PROOF_PROTOCOL,
    EnrollmentRequest,
    KeyAlgorithm,
    KeyUsage,
    Proof,
    PublicKey,
    San,
    SubjectAttribute,
    SubjectType,
    Unset,
)
from gateway.domain.validity import SECOND, validity


class Plan(msgspec.Struct, frozen=True):
    """A certificate that has been judged and may be signed: what was judged is what is issued (D5).

    `serial` is positive with at least 64 random bits (D6), and reserved in the store before anything is signed.
    `san_critical` is true exactly where the subject is empty.
    """

    serial: int
    subject: tuple[SubjectAttribute, ...]
    sans: tuple[San, ...]
    san_critical: bool
    key: PublicKey
    key_usages: tuple[KeyUsage, ...]
    extended_key_usages: tuple[str, ...]
    basic_constraints: BasicConstraints
    not_before: datetime
    not_after: datetime
    proof: Proof
    judged_at: datetime


class Issued(msgspec.Struct, frozen=True):
    """The outcome of an enrollment. `chain` is DER, the issuing authority first, without the root; `root` is DER."""

    certificate_id: str
    request_id: str
    serial: str
    certificate: bytes
    chain: tuple[bytes, ...]
    root: bytes


class Pending(msgspec.Struct, frozen=True):
    """The request was judged and waits: for an approval, or for the signer. `retry_after` is in seconds."""

    request_id: str
    retry_after: int


# RFC 5280, appendix A.1, upper bounds; DC has none there and is a DNS label. The RFC counts characters, but many
# implementations, the signer's builder among them, count octets of UTF-8: what satisfies these satisfies all.
_LONGEST_VALUES: Final[dict[SubjectType, int]] = {
    SubjectType.COMMON_NAME: 64,
    SubjectType.ORGANIZATION: 64,
    SubjectType.ORGANIZATIONAL_UNIT: 64,
    SubjectType.COUNTRY: 2,
    SubjectType.STATE: 128,
    SubjectType.LOCALITY: 128,
    SubjectType.DOMAIN_COMPONENT: 63,
    SubjectType.SERIAL_NUMBER: 64,
}

_ENCIPHERMENT: Final = frozenset({KeyUsage.KEY_ENCIPHERMENT, KeyUsage.DATA_ENCIPHERMENT})
_AGREEMENT: Final = frozenset({KeyUsage.KEY_AGREEMENT, KeyUsage.ENCIPHER_ONLY, KeyUsage.DECIPHER_ONLY})
_AUTHORITY_USAGES: Final = (KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN)
_FOR_AUTHORITIES: Final = frozenset(_AUTHORITY_USAGES)
_RSA: Final = frozenset({KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096, KeyAlgorithm.RSA_OTHER})
_EC: Final = frozenset({KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.EC_P521})

# What a key cannot be used for: RSA RFC 4055, 1.2; EC RFC 8813, 3; EdDSA RFC 9295, 3; ML-DSA RFC 9881, 5.
_IMPOSSIBLE: Final[dict[KeyAlgorithm, frozenset[KeyUsage]]] = {
    algorithm: _AGREEMENT if algorithm in _RSA else _ENCIPHERMENT if algorithm in _EC else _ENCIPHERMENT | _AGREEMENT
    for algorithm in KeyAlgorithm
}


def plan(request: EnrollmentRequest, pair: Pair, *, serial: int, now: datetime) -> Plan:
    """What will be issued for `request`, judged by the pair's policy with the profile's defaults applied.

    `serial` is positive and has 8 to 20 bytes, at least 64 bits of them random (D6); `now` is aware.

    In `request.subject` an attribute with an empty value stands for none, and keeps the default of its type away (D5).

    Raises:
        Refusal: POLICY with every violation together (D1); BAD_KEY where the key alone is at fault; FORBIDDEN where
            the proof is of another request, or of a protocol that the pair does not enable (D8); UNAVAILABLE where
            the authority does not issue.
        ValueError: for a serial that D6 forbids, a bug.
    """
    if serial <= 0 or not 56 < serial.bit_length() < 160:
        raise ValueError("a serial is positive and has 8 to 20 bytes")
    _check_proof(request, pair)
    if not pair.authority.issues:
        raise Refusal(RefusalReason.UNAVAILABLE, "the certificate authority is not issuing", retry_after=300)
    profile = pair.profile
    constraints = profile.policy.basic_constraints or BasicConstraints()
    violations: list[str] = []
    subject = _subject(request, profile, violations)
    sans = _sans(request, violations)
    rules = rules_of(profile.policy)
    signature = pair.authority.signature_algorithm
    unasked = _unasked(request, profile, signature)
    known = None if unasked is None else rules.unasked.get(unasked)
    if known is None:
        key_usages = _key_usages(request, profile, constraints, violations)
        extended_key_usages = _extended_key_usages(request, profile)
    else:
        key_usages, extended_key_usages = known
    not_before, not_after = validity(request, pair, now, violations)
    if not subject and (constraints.ca or not sans):
        violations.append("names: the certificate would name nobody; give a subject or a subject alternative name")
    duration = not_after - not_before + SECOND  # RFC 5280, 4.1.2.5: both ends are included
    if known is None:
        judged = Judged(subject, sans, request.key, key_usages, extended_key_usages, signature, duration)
        violations.extend(rules.judge(judged))
        _refuse(violations, rules.judge_key(request.key))
        if unasked is not None:
            rules.unasked[unasked] = key_usages, extended_key_usages
    elif asked := violations + rules.judge_asked(subject, sans, duration):
        _refuse(asked, None)
    return Plan(
        serial=serial,
        subject=subject,
        sans=sans,
        san_critical=not subject,
        key=request.key,
        key_usages=key_usages,
        extended_key_usages=extended_key_usages,
        basic_constraints=constraints,
        not_before=not_before,
        not_after=not_after,
        proof=request.proof,
        judged_at=now,
    )


def _unasked(request: EnrollmentRequest, profile: Profile, signature: str) -> Unasked | None:
    """What decides the usages where the request is silent, as most are; None where it speaks of them.

    Found and judged once a policy, they and what they are judged with took a quarter of a plan's time.
    """
    if isinstance(request.key_usages, Unset) and isinstance(request.extended_key_usages, Unset):
        defaults = profile.defaults
        return request.key.algorithm, signature, defaults.key_usages, defaults.extended_key_usages
    return None


def _refuse(violations: Sequence[str], key: str | None) -> None:
    if violations:
        together = tuple(violations) if key is None else (key, *violations)
        detail = together[0] if len(together) == 1 else f"{together[0]} (and {len(together) - 1} more)"
        raise Refusal(RefusalReason.POLICY, detail, violations=together)
    if key is not None:
        raise Refusal(RefusalReason.BAD_KEY, key, violations=(key,))


def _check_proof(request: EnrollmentRequest, pair: Pair) -> None:
    """D8: one protocol's credentials never serve another's, nor one request's proof another request."""
    proof = request.proof
    if PROOF_PROTOCOL[proof.kind] is not proof.protocol or not pair.settings.enables(proof.protocol):
        raise Refusal(RefusalReason.FORBIDDEN, "this enrollment method is not enabled here")
    authorized = request.key.spki if request.csr is None else request.csr
    if proof.request_hash != hashlib.sha256(authorized).digest():
        raise Refusal(RefusalReason.FORBIDDEN, "the authorization is for another request")


def _subject(request: EnrollmentRequest, profile: Profile, violations: list[str]) -> tuple[SubjectAttribute, ...]:
    """What was asked for, then the defaults of the types that were not (D5)."""
    if request.subject is None:
        return ()
    asked = () if isinstance(request.subject, Unset) else request.subject
    defaults = profile.defaults.subject
    if defaults:
        spoken_of = {each.type for each in asked}
        subject = (*asked, *(each for each in defaults if each.type not in spoken_of))
    else:
        subject = asked
    for each in subject:
        value = each.value
        if not value:
            subject = tuple(kept for kept in subject if kept.value)
        elif not value.isprintable():
            violations.append(f"subject {each.type.value}: {quoted(value)} holds characters that cannot be printed")
        elif each.type is SubjectType.COUNTRY and not (len(value) == 2 and value.isascii() and value.isalpha()):
            violations.append(f"subject country: {quoted(value)} is not a country code of two letters")
        elif len(value.encode()) > _LONGEST_VALUES[each.type]:
            limit = _LONGEST_VALUES[each.type]
            violations.append(f"subject {each.type.value}: {quoted(value)} is longer than {limit} octets")
    return subject


def _sans(request: EnrollmentRequest, violations: list[str]) -> tuple[San, ...]:
    """The alternative names in canonical form, the first of equal ones. A profile has no default for them."""
    if request.sans is None or isinstance(request.sans, Unset):
        return ()
    names: dict[San, None] = {}
    for san in request.sans:
        try:
            value = canonical(san.type, san.value)
        except InvalidName as invalid:
            violations.append(f"subjectAltName {san.type.value}: {invalid}")
        else:
            names[san if value == san.value else San(san.type, value)] = None
    return tuple(names)


def _key_usages(
    request: EnrollmentRequest, profile: Profile, constraints: BasicConstraints, violations: list[str]
) -> tuple[KeyUsage, ...]:
    """What was asked for; else the profile's default; else what suits the key. Defaults bend to it, wishes do not."""
    impossible = _IMPOSSIBLE[request.key.algorithm]
    asked = request.key_usages
    if isinstance(asked, Unset):
        default = profile.defaults.key_usages
        if default is None:
            default = _suitable(request.key, profile.policy.key_usages, constraints)
        usages = tuple([usage for usage in default if usage not in impossible])
    else:
        usages = tuple(dict.fromkeys(asked or ()))
        violations.extend(
            f"keyUsage: {usage.value} is impossible for a key of {request.key.algorithm.value}"
            for usage in usages
            if usage in impossible
        )
    if not constraints.ca and not _FOR_AUTHORITIES.isdisjoint(usages):
        # RFC 5280, 4.2.1.9: keyCertSign stands only beside CA:TRUE. cRLSign on a leaf would let it revoke others.
        violations.extend(
            f"keyUsage: {usage.value} is for certificate authorities" for usage in usages if usage in _FOR_AUTHORITIES
        )
    if KeyUsage.KEY_AGREEMENT not in usages and not _AGREEMENT.isdisjoint(usages):
        violations.append("keyUsage: encipherOnly and decipherOnly mean nothing without keyAgreement")
    return usages


def _suitable(key: PublicKey, rule: KeyUsageRule | None, constraints: BasicConstraints) -> tuple[KeyUsage, ...]:
    """What suits the key and the policy where neither request nor profile says anything."""
    if constraints.ca:
        usages: tuple[KeyUsage, ...] = _AUTHORITY_USAGES
    elif key.algorithm in _RSA:
        usages = (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT)  # TLS 1.2 with RSA key exchange, SCEP
    else:
        usages = (KeyUsage.DIGITAL_SIGNATURE,)
    if rule is None:
        return usages
    permitted = [usage for usage in usages if rule.allowed is None or usage in rule.allowed]
    return tuple(usage for usage in dict.fromkeys((*permitted, *rule.required)) if usage not in rule.denied)


def _extended_key_usages(request: EnrollmentRequest, profile: Profile) -> tuple[str, ...]:
    """What was asked for; else the profile's default; else exactly what the policy requires."""
    asked = request.extended_key_usages
    if not isinstance(asked, Unset):
        return tuple(dict.fromkeys(asked or ()))
    default = profile.defaults.extended_key_usages
    if default is not None:
        return default
    rule: ExtendedKeyUsageRule | None = profile.policy.extended_key_usages
    return () if rule is None else rule.required
