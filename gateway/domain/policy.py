"""Policies: which requests a profile accepts. Pure judgement, D1 to D4; what no rule allows is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

import msgspec

from gateway.domain.duration import format_duration
from gateway.domain.identifier import quoted
from gateway.domain.pattern import Matcher, denied_pattern, san_pattern, subject_pattern
from gateway.domain.request import KeyAlgorithm, KeyUsage, PublicKey, San, SanType, SubjectAttribute, SubjectType


@dataclass(frozen=True, slots=True)
class SubjectRule:
    """Patterns for one subject attribute type (D2, D3).

    A value must match a pattern of `allowed` or of `required`; where both are empty, any value will do. With
    `required`, the attribute is there and one of its values matches one of those. `denied` wins.
    """

    type: SubjectType
    allowed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SanRule:
    """Patterns for one kind of subject alternative name (D2, D3).

    As for a subject attribute, but each pattern of `required` is matched by some name.
    """

    type: SanType
    allowed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyUsageRule:
    """Key usages. `allowed` None: any that is not denied; what is required is allowed."""

    allowed: tuple[KeyUsage, ...] | None = None
    required: tuple[KeyUsage, ...] = ()
    denied: tuple[KeyUsage, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtendedKeyUsageRule:
    """Extended key usages, as dotted OIDs. `allowed` None: any that is not denied; what is required is allowed."""

    allowed: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


class BasicConstraints(msgspec.Struct, frozen=True):
    """What the policy requires of the basic constraints. Only a policy that says `ca` makes an authority (D6)."""

    ca: bool = False
    path_length: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy. Each section has three states (D1): None is anything, empty is nothing, rules are exactly that.

    `signature_algorithms` are names as `Authority.signature_algorithm` gives them: what certificates are signed with.
    """

    id: str
    name: str
    subject: tuple[SubjectRule, ...] | None = None
    sans: tuple[SanRule, ...] | None = None
    key_usages: KeyUsageRule | None = None
    extended_key_usages: ExtendedKeyUsageRule | None = None
    signature_algorithms: tuple[str, ...] | None = None
    key_algorithms: tuple[KeyAlgorithm, ...] | None = None
    max_validity: timedelta | None = None
    basic_constraints: BasicConstraints | None = None


class Judged(msgspec.Struct, frozen=True):
    """What is judged, and then issued as it is (D5). Names are canonical, `validity` counts both its ends."""

    subject: tuple[SubjectAttribute, ...]
    sans: tuple[San, ...]
    key: PublicKey
    key_usages: tuple[KeyUsage, ...]
    extended_key_usages: tuple[str, ...]
    signature_algorithm: str
    validity: timedelta


EXTENDED_KEY_USAGES: Final[dict[str, str]] = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
}
"""RFC 5280, 4.2.1.12, by the names that OpenSSL and most configurations use."""

_PURPOSES: Final = {oid: name for name, oid in EXTENDED_KEY_USAGES.items()}


def purpose(oid: str) -> str:
    """The name of an extended key usage, or its OID where it has none here."""
    return _PURPOSES.get(oid, oid)


class _Patterns:
    """All rules for one type of name, with their patterns ready to match."""

    __slots__ = ("_allowed", "_any", "_denied", "_required", "_texts", "label")

    def __init__(self, label: str, rules: Sequence[SubjectRule] | Sequence[SanRule]) -> None:
        def compiled(rule: SubjectRule | SanRule, pattern: str) -> Matcher:
            return subject_pattern(pattern) if isinstance(rule, SubjectRule) else san_pattern(rule.type, pattern)

        def denying(rule: SubjectRule | SanRule, pattern: str) -> Matcher:
            return subject_pattern(pattern) if isinstance(rule, SubjectRule) else denied_pattern(rule.type, pattern)

        self.label = label
        self._required = [(pattern, compiled(rule, pattern)) for rule in rules for pattern in rule.required]
        self._denied = [denying(rule, pattern) for rule in rules for pattern in rule.denied]
        self._texts = [pattern for rule in rules for pattern in (*rule.allowed, *rule.required)]
        self._allowed = [compiled(rule, pattern) for rule in rules for pattern in rule.allowed]
        self._allowed += [matcher for _, matcher in self._required]
        self._any = any(not rule.allowed and not rule.required for rule in rules)

    def judge(self, value: str) -> str | None:
        """The violation of one value, or None."""
        for matcher in self._denied:
            if matcher(value):
                return f"{self.label}: {quoted(value)} is denied"
        if self._any:
            return None
        for matcher in self._allowed:
            if matcher(value):
                return None
        return f"{self.label}: {quoted(value)} is not allowed; allowed: {_listed(self._texts)}"

    def some_required(self, values: Sequence[str]) -> Iterable[str]:
        """For subjects: one value matches one required pattern (D3)."""
        if self._required and not any(matcher(value) for value in values for _, matcher in self._required):
            yield f"{self.label}: is required, matching one of: {_listed([text for text, _ in self._required])}"

    def each_required(self, values: Sequence[str]) -> Iterable[str]:
        """For alternative names: each required pattern is matched by some value (D3)."""
        for text, matcher in self._required:
            if not any(matcher(value) for value in values):
                yield f"{self.label}: a name matching {text} is required"


class _Usages:
    """A rule for usages, ready to judge: two looks at sets, and sentences only where something is wrong."""

    __slots__ = ("_label", "_permitted", "_required", "_rule")

    def __init__(self, label: str, rule: KeyUsageRule | ExtendedKeyUsageRule) -> None:
        self._label = label
        self._rule = rule
        listed = None if rule.allowed is None else frozenset((*rule.allowed, *rule.required))
        self._permitted = None if listed is None else listed.difference(rule.denied)
        self._required = frozenset[str](rule.required)

    def judge(self, asked: Sequence[str]) -> Iterable[str]:
        """The violations of what is asked for."""
        rule = self._rule
        if self._required.issubset(asked) and (
            not any(usage in rule.denied for usage in asked)
            if self._permitted is None
            else self._permitted.issuperset(asked)
        ):
            return ()
        return _faults(self._label, asked, rule.allowed, rule.required, rule.denied)


Unasked: TypeAlias = tuple[KeyAlgorithm, str, tuple[KeyUsage, ...] | None, tuple[str, ...] | None]
"""All that decides usages which nobody asks for: key and signature algorithm, a profile's two defaults."""


class Rules:
    """A policy, ready to judge. Raises InvalidPattern for a policy with a pattern that cannot mean anything."""

    __slots__ = ("_extended_key_usages", "_key_usages", "_policy", "_sans", "_subject", "unasked")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        # The usages where nobody asks for any, which were judged and are right: kept here by whoever plans.
        self.unasked: dict[Unasked, tuple[tuple[KeyUsage, ...], tuple[str, ...]]] = {}
        self._subject: dict[SubjectType, _Patterns] = {}
        self._sans: dict[SanType, _Patterns] = {}
        usages, purposes = policy.key_usages, policy.extended_key_usages
        self._key_usages = None if usages is None else _Usages("keyUsage", usages)
        self._extended_key_usages = None if purposes is None else _Usages("extendedKeyUsage", purposes)
        for kind in dict.fromkeys(rule.type for rule in policy.subject or ()):
            rules = [rule for rule in policy.subject or () if rule.type is kind]
            self._subject[kind] = _Patterns(f"subject {kind.value}", rules)
        for name in dict.fromkeys(rule.type for rule in policy.sans or ()):
            named = [rule for rule in policy.sans or () if rule.type is name]
            self._sans[name] = _Patterns(f"subjectAltName {name.value}", named)

    def judge(self, judged: Judged) -> tuple[str, ...]:
        """All violations but that of the key, for which see `judge_key`. See `judge`."""
        policy = self._policy
        violations = self._judge_content(judged.subject, judged.sans)
        if self._key_usages is not None:
            violations.extend(self._key_usages.judge(judged.key_usages))
        if self._extended_key_usages is not None:
            violations.extend(self._extended_key_usages.judge(judged.extended_key_usages))
        signatures = policy.signature_algorithms
        if signatures is not None and judged.signature_algorithm not in signatures:
            violations.append(
                f"signatureAlgorithm: the authority signs with {judged.signature_algorithm}; "
                f"allowed: {_listed(signatures)}"
            )
        self._judge_validity(judged.validity, violations)
        return tuple(violations)

    def judge_asked(self, subject: Sequence[SubjectAttribute], sans: Sequence[San], validity: timedelta) -> list[str]:
        """All violations where usages, key and signature are known to have none."""
        violations = self._judge_content(subject, sans)
        self._judge_validity(validity, violations)
        return violations

    def judge_key(self, key: PublicKey) -> str | None:
        """The violation of the key's algorithm, or None."""
        algorithms = self._policy.key_algorithms
        if algorithms is None or key.algorithm in algorithms:
            return None
        shown = f"RSA of {key.bits} bits" if key.algorithm is KeyAlgorithm.RSA_OTHER else key.algorithm.value
        return f"key: {shown} is not allowed; allowed: {_listed(algorithms)}"

    def judge_names(self, sans: Sequence[San]) -> tuple[tuple[San, str], ...]:
        """Each name that this policy can never allow, with its violation: for an order's names, before any CSR."""
        if self._policy.sans is None:
            return ()
        found = [(san, self._judge_san(san)) for san in sans]
        return tuple([(san, violation) for san, violation in found if violation is not None])

    def _judge_content(self, subject: Sequence[SubjectAttribute], sans: Sequence[San]) -> list[str]:
        violations: list[str] = []
        if self._policy.subject is not None:
            self._judge_subject(subject, violations)
        if self._policy.sans is not None:
            self._judge_sans(sans, violations)
        return violations

    def _judge_validity(self, validity: timedelta, violations: list[str]) -> None:
        maximum = self._policy.max_validity
        if maximum is not None and validity > maximum:
            violations.append(f"validity: longer than the policy's maximum of {format_duration(maximum)}")

    def _judge_subject(self, subject: Sequence[SubjectAttribute], violations: list[str]) -> None:
        for attribute in subject:
            patterns = self._subject.get(attribute.type)
            if patterns is None:
                found: str | None = f"subject {attribute.type.value}: is not allowed; {_listed_types(self._subject)}"
            else:
                found = patterns.judge(attribute.value)
            if found is not None:
                violations.append(found)
        for kind, patterns in self._subject.items():
            violations.extend(patterns.some_required([each.value for each in subject if each.type is kind]))

    def _judge_sans(self, sans: Sequence[San], violations: list[str]) -> None:
        for san in sans:
            found = self._judge_san(san)
            if found is not None:
                violations.append(found)
        for kind, patterns in self._sans.items():
            violations.extend(patterns.each_required([each.value for each in sans if each.type is kind]))

    def _judge_san(self, san: San) -> str | None:
        patterns = self._sans.get(san.type)
        if patterns is None:
            return f"subjectAltName {san.type.value}: {quoted(san.value)} is not allowed; {_listed_types(self._sans)}"
        return patterns.judge(san.value)


def judge(policy: Policy, judged: Judged) -> tuple[str, ...]:
    """Every violation of `policy` together (D1): one sentence each, naming the field and what is allowed.

    Raises InvalidPattern for a policy that should never have been saved.
    """
    rules = rules_of(policy)
    key = rules.judge_key(judged.key)
    return rules.judge(judged) if key is None else (key, *rules.judge(judged))


# Policies are few and long-lived, requests are many. Hashing a policy would cost as much as judging by it, so the
# memo goes by identity; it holds the policy itself, so its id cannot pass to another while the entry lives.
_ready: dict[int, tuple[Policy, Rules]] = {}
_MOST_READY: Final = 4096


def rules_of(policy: Policy) -> Rules:
    """`policy`, ready to judge. Raises InvalidPattern."""
    found = _ready.get(id(policy))
    if found is not None:
        return found[1]
    rules = Rules(policy)
    if len(_ready) >= _MOST_READY:
        _ready.clear()
    _ready[id(policy)] = (policy, rules)
    return rules


def _faults(
    label: str,
    asked: Sequence[str],
    allowed: Sequence[str] | None,
    required: Sequence[str],
    denied: Sequence[str],
) -> Iterable[str]:
    for usage in asked:
        if usage in denied:
            yield f"{label}: {purpose(usage)} is denied"
        elif allowed is not None and usage not in allowed and usage not in required:
            yield f"{label}: {purpose(usage)} is not allowed; allowed: {_listed([*allowed, *required])}"
    for usage in required:
        if usage not in asked:
            yield f"{label}: {purpose(usage)} is required"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(purpose(value) for value in values)) or "none"


def _listed_types(types: Iterable[str]) -> str:
    return f"allowed types: {', '.join(types) or 'none'}"
