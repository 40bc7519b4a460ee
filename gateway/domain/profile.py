"""Profiles: how a certificate is made, shared by many applications."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from gateway.domain.policy import Policy
from gateway.domain.request import KeyAlgorithm, KeyUsage, SubjectAttribute


@dataclass(frozen=True, slots=True)
class Defaults:
    """What applies where a request is silent (D5). None means that the profile has no opinion either."""

    ttl: timedelta | None = None
    subject: tuple[SubjectAttribute, ...] = ()
    key_algorithm: KeyAlgorithm | None = None
    key_usages: tuple[KeyUsage, ...] | None = None
    extended_key_usages: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile. `slug` is 1..255 characters of `[a-z0-9-]`, unique.

    `clip_validity` shortens a certificate to its issuer's own end instead of refusing it (D4).
    `backdate` moves notBefore into the past, for clients whose clock is slow (A122).
    """

    id: str
    slug: str
    authority_id: str
    policy: Policy
    defaults: Defaults = field(default_factory=Defaults)
    description: str = ""
    clip_validity: bool = True
    backdate: timedelta = timedelta(minutes=5)
