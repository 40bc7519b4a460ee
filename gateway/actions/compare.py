"""What a declaration would change: the differences between it and the catalogue, as nouns ready to be saved (D28).

Changes nothing and asks nobody. What the declaration does not speak of is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

from cryptography import x509

from gateway.domain.application import (
    AcmeSettings,
    ApiSettings,
    Application,
    EnrollmentSettings,
    EstSettings,
    Pair,
    ScepSettings,
)
from gateway.domain.authority import Authority
from gateway.domain.declaration import nouns
from gateway.domain.declaration.nouns import Problems
from gateway.domain.declaration.reading import DeclarationError
from gateway.domain.declaration.shape import (
    ApplicationDeclaration,
    AuthorityDeclaration,
    Declaration,
    EnrollmentDeclaration,
    PolicyDeclaration,
    ProfileDeclaration,
)
from gateway.domain.policy import Policy
from gateway.domain.profile import Profile
from gateway.domain.succession import generations, latest
from gateway.store.catalogue import Catalogue

HashSecret: TypeAlias = Callable[[str], str]
VerifySecret: TypeAlias = Callable[[str, str], bool]

_N = TypeVar("_N", Policy, Profile, Authority, Application, AcmeSettings, EstSettings, ScepSettings, ApiSettings)

_DOORS: Final = ("api", "acme", "est", "scep")
_SPOKEN: Final = {"passphrase_hash": "passphrase", "challenge_hash": "challenge", "max_validity": "validity"}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. Printed as `+ profile tls-server`, or `~ enrollment demo/device: est enabled`."""

    new: bool
    noun: str
    target: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{'+' if self.new else '~'} {self.noun} {self.target}" + (f": {self.detail}" if self.detail else "")

    @property
    def verb(self) -> str:
        """For the audit trail, `noun.verb`."""
        return f"{self.noun}.{'create' if self.new else 'update'}"


@dataclass(frozen=True, slots=True)
class Missing:
    """An authority that a ceremony has to make, with the id that it will have."""

    id: str
    declared: AuthorityDeclaration


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A pair to attach, or to give other settings."""

    application_id: str
    profile_id: str
    settings: EnrollmentSettings
    attach: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """All that a declaration changes: sentences for people, nouns for the store. `missing` has parents first."""

    changes: tuple[Change, ...]
    missing: tuple[Missing, ...]
    authorities: tuple[Authority, ...]
    policies: tuple[Policy, ...]
    profiles: tuple[Profile, ...]
    applications: tuple[Application, ...]
    enrollments: tuple[Enrollment, ...]


def compare(
    declaration: Declaration,
    catalogue: Catalogue,
    *,
    now: datetime,
    fresh: Callable[[], str],
    hash_secret: HashSecret,
    verify_secret: VerifySecret,
) -> Difference:
    """The difference. `fresh` gives ids for what is new; a secret that the stored hash verifies is no change.

    Raises DeclarationError with every problem: of the declaration itself, of names that nothing has, and of changes
    that an authority cannot undergo.
    """
    found = nouns.problems(declaration)
    if found:
        raise DeclarationError(found)
    comparison = _Comparison(catalogue, now, fresh, hash_secret, verify_secret)
    return comparison.compare(declaration)


def changed(old: _N, new: _N) -> str:
    """The keys in which two nouns differ, as a declaration spells them; empty if they are equal."""
    names = [each.name for each in fields(new) if getattr(old, each.name) != getattr(new, each.name)]
    return ", ".join(_camel(_SPOKEN.get(name, name)) for name in names)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


class _Comparison:
    """Names found so far, and what was found different."""

    def __init__(
        self,
        catalogue: Catalogue,
        now: datetime,
        fresh: Callable[[], str],
        hash_secret: HashSecret,
        verify_secret: VerifySecret,
    ) -> None:
        self._now = now
        self._fresh = fresh
        self._hash = hash_secret
        self._verify = verify_secret
        self._problems: list[str] = []
        self._changes: list[Change] = []
        self._authorities = {each.name: each for each in catalogue.authorities}
        by_id = {each.id: each for each in catalogue.authorities}
        # Whoever names an authority means the one that took its place.
        self._authority_ids = {each.name: latest(each, by_id).id for each in catalogue.authorities}
        self._policies = {each.name: each for each in catalogue.policies}
        self._profiles = {each.slug: each for each in catalogue.profiles}
        self._applications = {each.name: each for each in catalogue.applications}
        self._pairs = {(each.application.name, each.profile.slug): each for each in catalogue.pairs}

    def compare(self, declaration: Declaration) -> Difference:
        at = Problems(self._problems, "")
        missing = self._missing_authorities(declaration.authorities, at)
        authorities = self._present_authorities(declaration.authorities, at)
        policies = [each for one in declaration.policies for each in self._policy(one, at)]
        profiles = [
            each
            for index, one in enumerate(declaration.profiles)
            for each in self._profile(one, at.below("profiles", index))
        ]
        applications = [each for one in declaration.applications for each in self._application(one)]
        enrollments = [
            each
            for index, one in enumerate(declaration.applications)
            for each in self._enrollments(one, at.below("applications", index))
        ]
        self._check_labels(declaration.applications, at)
        if self._problems:
            raise DeclarationError(self._problems)
        return Difference(
            tuple(self._changes),
            tuple(missing),
            tuple(authorities),
            tuple(policies),
            tuple(profiles),
            tuple(applications),
            tuple(enrollments),
        )

    def _missing_authorities(self, declared: list[AuthorityDeclaration], at: Problems) -> list[Missing]:
        ordered: list[Missing] = []
        waiting = [(index, each) for index, each in enumerate(declared) if each.name not in self._authorities]
        known = [*self._authorities, *(each.name for each in declared)]
        while waiting:
            ready = [each for each in waiting if each[1].parent is None or each[1].parent in self._authority_ids]
            if not ready:
                for index, each in waiting:
                    parent = each.parent or ""
                    where = at.below("authorities", index, "parent")
                    if parent in known:
                        where.add(f'"{parent}" cannot be made before what it signs')
                    else:
                        where.unknown(parent, known)
                break
            for index, each in ready:
                _subject(each.subject, at.below("authorities", index, "subject"))
                ordered.append(Missing(self._fresh(), each))
                self._authority_ids[each.name] = ordered[-1].id
                self._changes.append(Change(True, "authority", each.name))
            waiting = [each for each in waiting if each not in ready]
        return ordered

    def _present_authorities(self, declared: list[AuthorityDeclaration], at: Problems) -> Iterable[Authority]:
        saved = []
        for index, each in enumerate(declared):
            old = self._authorities.get(each.name)
            if old is None:
                continue
            where = at.below("authorities", index)
            self._check_unchangeable(each, old, where)
            new = replace(
                old,
                crl_urls=old.crl_urls if each.crl_urls is None else tuple(each.crl_urls),
                issuer_urls=old.issuer_urls if each.issuer_urls is None else tuple(each.issuer_urls),
                ocsp_urls=old.ocsp_urls if each.ocsp_urls is None else tuple(each.ocsp_urls),
                lists=nouns.lists_of(each, old.lists, where),
            )
            nouns.check_deltas(new.lists, new.crl_urls, where)
            if new != old:
                self._changes.append(Change(False, "authority", old.name, changed(old, new)))
                saved.append(new)
        return saved

    def _check_unchangeable(self, declared: AuthorityDeclaration, old: Authority, at: Problems) -> None:
        """What was certified stays: another subject or key is another authority."""
        line = generations(old, self._authorities.values())
        parents = {each.parent_id and self._latest_id(each.parent_id) for each in line}
        if (None if declared.parent is None else self._authority_ids.get(declared.parent, "")) not in parents:
            at.below("parent").add("an authority keeps its parent; declare another authority")
        if declared.key_algorithm not in {each.key_algorithm for each in line}:
            at.below("keyAlgorithm").add(f"this authority has a key of {old.key_algorithm}; declare another authority")
        wanted = _subject(declared.subject, at.below("subject"))
        if wanted is not None and wanted != _certified(old):
            at.below("subject").add(f"this authority is {old.subject}; declare another authority")
        if declared.scep and old.ra_key is None:
            at.below("scep").add("this authority was made without a key for SCEP; declare another authority")

    def _latest_id(self, authority_id: str) -> str:
        """The id of whoever took that authority's place."""
        by_id = {each.id: each for each in self._authorities.values()}
        return latest(by_id[authority_id], by_id).id

    def _policy(self, declared: PolicyDeclaration, at: Problems) -> Iterable[Policy]:
        old = self._policies.get(declared.name)
        new = nouns.policy_of(declared, self._fresh() if old is None else old.id, at)
        self._policies[declared.name] = new
        if old is None:
            self._changes.append(Change(True, "policy", declared.name))
        elif new != old:
            self._changes.append(Change(False, "policy", declared.name, changed(old, new)))
        else:
            return ()
        return (new,)

    def _profile(self, declared: ProfileDeclaration, at: Problems) -> Iterable[Profile]:
        authority_id = self._authority_ids.get(declared.authority)
        policy = self._policies.get(declared.policy)
        if authority_id is None:
            at.below("authority").unknown(declared.authority, list(self._authority_ids))
        if policy is None:
            at.below("policy").unknown(declared.policy, list(self._policies))
        if authority_id is None or policy is None:
            return ()
        old = self._profiles.get(declared.slug)
        new = nouns.profile_of(declared, self._fresh() if old is None else old.id, authority_id, policy, at)
        self._profiles[declared.slug] = new
        if old is None:
            self._changes.append(Change(True, "profile", declared.slug))
        else:
            # A policy that changed was said to have, above; the profile changed only if it has another one now.
            seen = replace(old, policy=policy) if old.policy.id == policy.id else old
            if seen == new:
                return ()
            self._changes.append(Change(False, "profile", declared.slug, changed(seen, new)))
        return (new,)

    def _application(self, declared: ApplicationDeclaration) -> Iterable[Application]:
        old = self._applications.get(declared.name)
        if old is None:
            new = Application(self._fresh(), declared.name, self._now, declared.description)
            self._changes.append(Change(True, "application", declared.name))
        else:
            new = replace(old, description=declared.description)
            if new == old:
                return ()
            self._changes.append(Change(False, "application", declared.name, changed(old, new)))
        self._applications[declared.name] = new
        return (new,)

    def _enrollments(self, declared: ApplicationDeclaration, at: Problems) -> Iterable[Enrollment]:
        application = self._applications[declared.name]
        saved = []
        for index, slug in enumerate(declared.profiles):
            profile = self._profiles.get(slug)
            if profile is None:
                at.below("profiles", index).unknown(slug, list(self._profiles))
                continue
            pair = self._pairs.get((declared.name, slug))
            old = EnrollmentSettings() if pair is None else pair.settings
            doors = declared.enrollment.get(slug)
            settings = old if doors is None else self._settings(doors, old, at.below("enrollment", slug))
            if pair is None or settings != old:
                detail = _doors(old, settings) or "no method enabled"
                self._changes.append(Change(pair is None, "enrollment", f"{declared.name}/{slug}", detail))
                saved.append(Enrollment(application.id, profile.id, settings, pair is None))
        return saved

    def _settings(self, declared: EnrollmentDeclaration, old: EnrollmentSettings, at: Problems) -> EnrollmentSettings:
        passphrase = None if declared.est is None else declared.est.passphrase
        challenge = None if declared.scep is None else declared.scep.challenge
        return nouns.settings_of(
            declared,
            self._hashed(passphrase, None if old.est is None else old.est.passphrase_hash),
            self._hashed(challenge, None if old.scep is None else old.scep.challenge_hash),
            at,
        )

    def _hashed(self, secret: str | None, stored: str | None) -> str | None:
        if secret is None:
            return None
        if stored is not None and self._verify(stored, secret):
            return stored
        return self._hash(secret)

    def _check_labels(self, declared: list[ApplicationDeclaration], at: Problems) -> None:
        """EST's labels are one namespace for the whole installation, those that nobody chose included (E2)."""
        owners: dict[str, tuple[str, str]] = {}
        speaking = {(each.name, slug) for each in declared for slug in each.enrollment}
        for key, pair in self._pairs.items():
            if key not in speaking and pair.settings.est is not None:
                owners[_label(pair)] = key
        for index, each in enumerate(declared):
            for slug, door in each.enrollment.items():
                if door.est is None:
                    continue
                label = door.est.label or f"{each.name}.{slug}"
                owner = owners.setdefault(label, (each.name, slug))
                if owner != (each.name, slug):
                    where = at.below("applications", index, "enrollment", slug, "est", "label")
                    where.add(f'"{label}" is the label of {owner[0]}/{owner[1]} already')


def _label(pair: Pair) -> str:
    chosen = pair.settings.est.label if pair.settings.est is not None else None
    return chosen or f"{pair.application.name}.{pair.profile.slug}"


def _subject(text: str, at: Problems) -> frozenset[tuple[str, str]] | None:
    """The attributes of a declared subject, whatever their order; None where the declaration leaves it out."""
    if not text:
        return None
    try:
        return _attributes(x509.Name.from_rfc4514_string(text))
    except ValueError:
        at.add(f'"{text}" is not a distinguished name such as CN=Example Issuing CA,O=Example')
        return None


def _certified(authority: Authority) -> frozenset[tuple[str, str]]:
    if authority.chain:
        return _attributes(x509.load_der_x509_certificate(authority.certificate).subject)
    return _attributes(x509.Name.from_rfc4514_string(authority.subject))


def _attributes(name: x509.Name) -> frozenset[tuple[str, str]]:
    return frozenset((each.oid.dotted_string, str(each.value)) for each in name)


def _doors(old: EnrollmentSettings, new: EnrollmentSettings) -> str:
    """Which doors were opened, closed or changed."""
    said = []
    for name in _DOORS:
        before, after = getattr(old, name), getattr(new, name)
        if before is None and after is not None:
            said.append(f"{name} enabled")
        elif before is not None and after is None:
            said.append(f"{name} disabled")
        elif before != after:
            said.append(f"{name} {changed(before, after)}")
    return ", ".join(said)
