"""The catalogue: authorities, policies, profiles, applications and their pairs, as one snapshot kept in memory.

Never here: a right, a judgement, a secret in the clear (passphrases and challenges come as hashes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from gateway.domain.application import Application, EnrollmentSettings, Pair
from gateway.domain.authority import Authority
from gateway.domain.policy import Policy
from gateway.domain.profile import Profile
from gateway.store.unit import Unit

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_authority = msgspec.json.Decoder(Authority).decode
_policy = msgspec.json.Decoder(Policy).decode
_profile = msgspec.json.Decoder(Profile).decode
_application = msgspec.json.Decoder(Application).decode
_settings = msgspec.json.Decoder(EnrollmentSettings).decode


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that was declared, at one version. Looking something up costs a dictionary."""

    version: int
    authorities: tuple[Authority, ...]
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    applications: tuple[Application, ...]
    pairs: tuple[Pair, ...]
    _by_name: Mapping[tuple[str, str], Pair] = field(init=False, repr=False, compare=False)
    _by_id: Mapping[tuple[str, str], Pair] = field(init=False, repr=False, compare=False)
    _by_label: Mapping[str, Pair] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_label = {
            pair.settings.est.label: pair for pair in self.pairs if pair.settings.est and pair.settings.est.label
        }
        # The labels that everyone has come second: nobody can declare another pair's away.
        plain = [pair for pair in self.pairs if not (pair.settings.est and pair.settings.est.label)]
        by_label |= {f"{pair.application.name}.{pair.profile.slug}": pair for pair in plain}
        set_field = object.__setattr__
        set_field(self, "_by_name", {(pair.application.name, pair.profile.slug): pair for pair in self.pairs})
        set_field(self, "_by_id", {(pair.application.id, pair.profile.id): pair for pair in self.pairs})
        set_field(self, "_by_label", by_label)

    def pair(self, application_name: str, profile_slug: str) -> Pair | None:
        """The pair of these names, as they stand in URLs."""
        return self._by_name.get((application_name, profile_slug))

    def pair_by_id(self, application_id: str, profile_id: str) -> Pair | None:
        """The pair of these ids."""
        return self._by_id.get((application_id, profile_id))

    def pair_by_label(self, label: str) -> Pair | None:
        """The pair with this EST label, by default `{application}.{profile}`."""
        return self._by_label.get(label)


def load(unit: Unit) -> Catalogue:
    """The whole catalogue, of one moment."""
    authorities = _all(unit, "catalogue.authorities", _authority)
    policies = _all(unit, "catalogue.policies", _policy)
    applications = _all(unit, "catalogue.applications", _application)
    policy_by_id = {policy.id: policy for policy in policies}
    # A profile's document holds the policy as it was when the profile was saved; the policy's own row is what counts.
    profiles = tuple(
        replace(_profile(row.text("document")), policy=policy_by_id[row.text("policy_id")])
        for row in unit.all("catalogue.profiles")
    )
    authority_by_id = {authority.id: authority for authority in authorities}
    profile_by_id = {profile.id: profile for profile in profiles}
    application_by_id = {application.id: application for application in applications}
    pairs = []
    for row in unit.all("catalogue.pairs"):
        profile = profile_by_id[row.text("profile_id")]
        pairs.append(
            Pair(
                application=application_by_id[row.text("application_id")],
                profile=profile,
                authority=authority_by_id[profile.authority_id],
                settings=_settings(row.text("settings")),
            )
        )
    return Catalogue(version(unit), authorities, policies, profiles, applications, tuple(pairs))


def version(unit: Unit) -> int:
    """The number of the last change: a snapshot with this version is still good."""
    row = unit.one("catalogue.version")
    if row is None:
        raise TypeError("the catalogue has no version")
    return row.integer("version")


def save_authority(unit: Unit, authority: Authority) -> None:
    """Create or replace an authority. Raises Duplicate for another's name."""
    _save(unit, "catalogue.save_authority", authority.id, authority.name, authority)


def save_policy(unit: Unit, policy: Policy) -> None:
    """Create or replace a policy, for all profiles that use it. Raises Duplicate for another's name."""
    _save(unit, "catalogue.save_policy", policy.id, policy.name, policy)


def save_profile(unit: Unit, profile: Profile) -> None:
    """Create or replace a profile; its authority and its policy must be there. Raises Duplicate for another's slug."""
    unit.run(
        "catalogue.save_profile",
        id=profile.id,
        slug=profile.slug,
        authority_id=profile.authority_id,
        policy_id=profile.policy.id,
        document=_encode(profile).decode(),
    )
    unit.run("catalogue.bump")


def save_application(unit: Unit, application: Application) -> None:
    """Create or replace an application. Raises Duplicate for another's name."""
    _save(unit, "catalogue.save_application", application.id, application.name, application)


def attach(unit: Unit, application_id: str, profile_id: str) -> bool:
    """Attach a profile to an application, all doors closed; false, and nothing changed, if it was attached before."""
    settings = _encode(EnrollmentSettings()).decode()
    attached = unit.run("catalogue.attach", application_id=application_id, profile_id=profile_id, settings=settings)
    if attached:
        unit.run("catalogue.bump")
    return attached == 1


def save_settings(unit: Unit, application_id: str, profile_id: str, settings: EnrollmentSettings) -> None:
    """Attach a profile to an application if it was not, and set the doors of the pair.

    Raises:
        Duplicate: another pair has this EST label.
    """
    unit.run(
        "catalogue.save_settings",
        application_id=application_id,
        profile_id=profile_id,
        label=settings.est.label if settings.est is not None else None,
        settings=_encode(settings).decode(),
    )
    unit.run("catalogue.bump")


def detach(unit: Unit, application_id: str, profile_id: str) -> bool:
    """Detach a profile from an application; false if it was not attached."""
    detached = unit.run("catalogue.detach", application_id=application_id, profile_id=profile_id)
    if detached:
        unit.run("catalogue.bump")
    return detached == 1


def _save(unit: Unit, query: str, noun_id: str, name: str, noun: Authority | Policy | Application) -> None:
    unit.run(query, id=noun_id, name=name, document=_encode(noun).decode())
    unit.run("catalogue.bump")


def _all(unit: Unit, query: str, decode: Callable[[str], T]) -> tuple[T, ...]:
    return tuple(decode(row.text("document")) for row in unit.all(query))
