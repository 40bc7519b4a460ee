"""Policies: which requests a profile accepts. Pure judgement, D1 to D4."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gateway.domain.request import KeyAlgorithm, KeyUsage, SanType, SubjectType


@dataclass(frozen=True, slots=True)
class SubjectRule:
    """Patterns for one subject attribute type (D2, D3)."""

    type: SubjectType
    allowed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SanRule:
    """Patterns for one kind of subject alternative name (D2, D3)."""

    type: SanType
    allowed: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyUsageRule:
    """Key usages. `allowed` None: any that is not denied."""

    allowed: tuple[KeyUsage, ...] | None = None
    required: tuple[KeyUsage, ...] = ()
    denied: tuple[KeyUsage, ...] = ()


@dataclass(frozen=True, slots=True)
class ExtendedKeyUsageRule:
    """Extended key usages, as dotted OIDs. `allowed` None: any that is not denied."""

    allowed: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BasicConstraints:
    """What the policy requires of the basic constraints. Only a policy that says `ca` makes an authority (D6)."""

    ca: bool = False
    path_length: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy. Each section has three states (D1): None is anything, empty is nothing, rules are exactly that."""

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
