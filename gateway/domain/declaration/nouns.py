"""From the shape of a declaration to the product's nouns. Every problem is collected; nothing is guessed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Final, TypeVar

from gateway.domain.application import (
    AcmeSettings,
    ApiSettings,
    EnrollmentSettings,
    EstSettings,
    ScepSettings,
)
from gateway.domain.authority import PARTITION, SIGNATURE_ALGORITHMS, ListSettings, delta_addresses
from gateway.domain.declaration.reading import nearest
from gateway.domain.declaration.shape import (
    AcmeDeclaration,
    AuthorityDeclaration,
    Declaration,
    DefaultsDeclaration,
    EnrollmentDeclaration,
    PolicyDeclaration,
    ProfileDeclaration,
    UsageDeclaration,
)
from gateway.domain.duration import parse_duration
from gateway.domain.identifier import InvalidName, uri
from gateway.domain.pattern import InvalidPattern
from gateway.domain.policy import (
    EXTENDED_KEY_USAGES,
    BasicConstraints,
    ExtendedKeyUsageRule,
    KeyUsageRule,
    Policy,
    Rules,
    SanRule,
    SubjectRule,
)
from gateway.domain.presets import PRESETS
from gateway.domain.profile import Defaults, Profile
from gateway.domain.request import KeyAlgorithm, KeyUsage, SanType, SubjectAttribute, SubjectType

_E = TypeVar("_E", bound=StrEnum)

_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")
_SLUG: Final = re.compile(r"[a-z0-9-]{1,255}")
_LABEL: Final = re.compile(r"[A-Za-z0-9._~-]{1,255}")
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,30})){1,30}")

# E4: `/.well-known/est/{label}` and `/.well-known/est/{operation}` are one path.
EST_OPERATIONS: Final = frozenset(
    {"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs", "renewal-info"}
)

# What the signer signs at most (an offline root publishes once a year), and what a browser's operator may still list.
MAX_LIST_LIFETIME: Final = timedelta(days=400)
MAX_PARTITIONS: Final = 1000

# An authority's key; a root of RSA-2048 would be too weak for the years it lives.
AUTHORITY_KEYS: Final = tuple(name for name in SIGNATURE_ALGORITHMS if name != "RSA_2048")


class Problems:
    """Where a key stands, and all that was found wrong so far."""

    def __init__(self, found: list[str], at: str) -> None:
        self._found = found
        self._at = at

    def below(self, *keys: str | int) -> Problems:
        """The same list, for a key further down."""
        at = self._at
        for key in keys:
            at += f"[{key}]" if isinstance(key, int) else f".{key}" if at else key
        return Problems(self._found, at)

    def add(self, sentence: str) -> None:
        """Note a problem of this key."""
        self._found.append(f"{self._at}: {sentence}")

    def member(self, kind: type[_E], text: str) -> _E | None:
        """The member of an enumeration that `text` names, or a problem and None."""
        try:
            return kind(text)
        except ValueError:
            self.unknown(text, [each.value for each in kind])
            return None

    def members(self, kind: type[_E], texts: Sequence[str]) -> tuple[_E, ...]:
        """The members that are there; a problem for each that is not."""
        found = (self.below(index).member(kind, text) for index, text in enumerate(texts))
        return tuple(each for each in found if each is not None)

    def unknown(self, text: str, known: list[str]) -> None:
        """Note a value that is none of those that are known."""
        self.add(f'"{text}" is not known; {nearest(text, known)}')

    def duration(self, text: str | None) -> timedelta | None:
        """A duration, or a problem and None."""
        try:
            return None if text is None else parse_duration(text)
        except ValueError as error:
            self.add(str(error))
            return None

    def purposes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Extended key usages as dotted OIDs."""
        oids = []
        for index, text in enumerate(texts):
            if text in EXTENDED_KEY_USAGES:
                oids.append(EXTENDED_KEY_USAGES[text])
            elif _OID.fullmatch(text):
                oids.append(text)
            else:
                self.below(index).unknown(text, [*EXTENDED_KEY_USAGES, "a dotted OID"])
        return tuple(oids)


def problems(declaration: Declaration) -> list[str]:
    """Everything that is wrong with a declaration by itself; references to things outside it are not looked up."""
    found: list[str] = []
    top = Problems(found, "")
    for authority_at, authority in enumerate(declaration.authorities):
        where = top.below("authorities", authority_at)
        if authority.key_algorithm not in AUTHORITY_KEYS:
            where.below("keyAlgorithm").unknown(authority.key_algorithm, list(AUTHORITY_KEYS))
        if not 1 <= authority.days <= 36500:
            where.below("days").add("must be from 1 to 36500")
        if authority.path_length is not None and not 0 <= authority.path_length <= 10:
            where.below("pathLength").add("must be from 0 to 10")
        for key, urls in (
            ("crlUrls", authority.crl_urls),
            ("issuerUrls", authority.issuer_urls),
            ("ocspUrls", authority.ocsp_urls),
        ):
            for url_at, url in enumerate(urls or ()):
                _check_url(url.replace(PARTITION, "0") if key == "crlUrls" else url, where.below(key, url_at))
        lists = lists_of(authority, ListSettings(), where)
        _check_partitions(authority, where)
        if authority.crl_urls is not None:
            check_deltas(lists, tuple(authority.crl_urls), where)
        if authority.name.endswith("-delta"):
            where.below("name").add("an address that ends so is that of delta lists")
    for policy_at, policy in enumerate(declaration.policies):
        policy_of(policy, "", top.below("policies", policy_at))
    for profile_at, profile in enumerate(declaration.profiles):
        profile_of(profile, "", "", Policy("", ""), top.below("profiles", profile_at))
    for application_at, application in enumerate(declaration.applications):
        where = top.below("applications", application_at)
        if len(application.description) > 256:
            where.below("description").add("has more than 256 characters")
        for slug, door in application.enrollment.items():
            settings_of(door, None, None, where.below("enrollment", slug))
            if slug not in application.profiles:
                where.below("enrollment", slug).add("is not among this application's profiles")
    _check_names(top, "authorities", "name", [each.name for each in declaration.authorities], _NAME)
    _check_names(top, "policies", "name", [each.name for each in declaration.policies], _SLUG)
    _check_names(top, "profiles", "slug", [each.slug for each in declaration.profiles], _SLUG)
    _check_names(top, "applications", "name", [each.name for each in declaration.applications], _NAME)
    return found


def _check_names(top: Problems, section: str, key: str, names: list[str], form: re.Pattern[str]) -> None:
    for index, name in enumerate(names):
        where = top.below(section, index, key)
        if form.fullmatch(name) is None:
            where.add(f'"{name}" is not a name here: use lower-case letters, digits and hyphens')
        if name in names[:index]:
            where.add(f'"{name}" stands here twice')


def policy_of(declared: PolicyDeclaration, id: str, at: Problems) -> Policy:  # noqa: A002 - the noun's own word
    """The policy: the preset's sections, each replaced where the declaration has one."""
    policy = Policy(id, declared.name)
    if declared.preset is not None:
        if declared.preset in PRESETS:
            policy = replace(PRESETS[declared.preset], id=id, name=declared.name)
        else:
            at.below("preset").unknown(declared.preset, list(PRESETS))
    if declared.subject is not None:
        policy = replace(policy, subject=_subject_rules(declared, at.below("subject")))
    if declared.sans is not None:
        policy = replace(policy, sans=_san_rules(declared, at.below("sans")))
    if declared.key_usages is not None:
        policy = replace(policy, key_usages=_key_usage_rule(declared.key_usages, at.below("keyUsages")))
    if declared.extended_key_usages is not None:
        rule = _purpose_rule(declared.extended_key_usages, at.below("extendedKeyUsages"))
        policy = replace(policy, extended_key_usages=rule)
    if declared.algorithms is not None:
        policy = _with_algorithms(policy, declared, at.below("algorithms"))
    if declared.validity is not None:
        policy = replace(policy, max_validity=at.below("validity", "max").duration(declared.validity.max))
    if declared.basic_constraints is not None:
        constraints = declared.basic_constraints
        if constraints.path_length is not None and (constraints.path_length < 0 or not constraints.ca):
            at.below("basicConstraints", "pathLength").add("is a number from 0, and stands beside ca = true only")
        policy = replace(policy, basic_constraints=BasicConstraints(constraints.ca, constraints.path_length))
    try:
        Rules(policy)
    except InvalidPattern as invalid:
        at.add(str(invalid))
    return policy


def _subject_rules(declared: PolicyDeclaration, at: Problems) -> tuple[SubjectRule, ...]:
    rules = []
    for index, each in enumerate(declared.subject or ()):
        kind = at.below(index, "type").member(SubjectType, each.type)
        if kind is not None:
            rules.append(SubjectRule(kind, tuple(each.allowed), tuple(each.required), tuple(each.denied)))
    return tuple(rules)


def _san_rules(declared: PolicyDeclaration, at: Problems) -> tuple[SanRule, ...]:
    rules = []
    for index, each in enumerate(declared.sans or ()):
        kind = at.below(index, "type").member(SanType, each.type)
        if kind is not None:
            rules.append(SanRule(kind, tuple(each.allowed), tuple(each.required), tuple(each.denied)))
    return tuple(rules)


def _is_empty(declared: UsageDeclaration) -> bool:
    """D1: a section that is there and empty forbids everything."""
    return declared.allowed is None and not declared.required and not declared.denied


def _key_usage_rule(declared: UsageDeclaration, at: Problems) -> KeyUsageRule:
    allowed = None if declared.allowed is None else at.below("allowed").members(KeyUsage, declared.allowed)
    return KeyUsageRule(
        allowed=() if _is_empty(declared) else allowed,
        required=at.below("required").members(KeyUsage, declared.required),
        denied=at.below("denied").members(KeyUsage, declared.denied),
    )


def _purpose_rule(declared: UsageDeclaration, at: Problems) -> ExtendedKeyUsageRule:
    allowed = None if declared.allowed is None else at.below("allowed").purposes(declared.allowed)
    return ExtendedKeyUsageRule(
        allowed=() if _is_empty(declared) else allowed,
        required=at.below("required").purposes(declared.required),
        denied=at.below("denied").purposes(declared.denied),
    )


def _with_algorithms(policy: Policy, declared: PolicyDeclaration, at: Problems) -> Policy:
    algorithms = declared.algorithms
    assert algorithms is not None
    signatures = None
    if algorithms.signature is not None:
        known = list(dict.fromkeys(SIGNATURE_ALGORITHMS.values()))
        for index, name in enumerate(algorithms.signature):
            if name not in known:
                at.below("signature", index).unknown(name, known)
        signatures = tuple(algorithms.signature)
    keys = None
    if algorithms.key_algorithm is not None:
        keys = at.below("keyAlgorithm").members(KeyAlgorithm, algorithms.key_algorithm)
    return replace(policy, signature_algorithms=signatures, key_algorithms=keys)


def profile_of(declared: ProfileDeclaration, id: str, authority_id: str, policy: Policy, at: Problems) -> Profile:  # noqa: A002
    """The profile, of this authority and policy."""
    if not 0 <= declared.backdate_seconds <= 86400:
        at.below("backdateSeconds").add("must be from 0 to 86400")
    return Profile(
        id=id,
        slug=declared.slug,
        authority_id=authority_id,
        policy=policy,
        defaults=_defaults(declared.defaults, at.below("defaults")),
        description=declared.description,
        clip_validity=declared.clip_validity,
        backdate=timedelta(seconds=declared.backdate_seconds),
    )


def _defaults(declared: DefaultsDeclaration, at: Problems) -> Defaults:
    subject = []
    for index, text in enumerate(declared.subject):
        name, equals, value = text.partition("=")
        kind = at.below("subject", index).member(SubjectType, name.strip())
        if not equals or not value.strip():
            at.below("subject", index).add("write type=value, such as organization=Example")
        elif kind is not None:
            subject.append(SubjectAttribute(kind, value.strip()))
    usages, purposes, algorithm = declared.key_usages, declared.extended_key_usages, declared.key_algorithm
    return Defaults(
        ttl=at.below("ttl").duration(declared.ttl),
        subject=tuple(subject),
        key_algorithm=None if algorithm is None else at.below("keyAlgorithm").member(KeyAlgorithm, algorithm),
        key_usages=None if usages is None else at.below("keyUsages").members(KeyUsage, usages),
        extended_key_usages=None if purposes is None else at.below("extendedKeyUsages").purposes(purposes),
    )


def settings_of(
    declared: EnrollmentDeclaration, passphrase_hash: str | None, challenge_hash: str | None, at: Problems
) -> EnrollmentSettings:
    """The doors of a pair, with the hashes of the secrets that the declaration gave."""
    est, scep = declared.est, declared.scep
    if est is not None and est.label is not None and (est.label in EST_OPERATIONS or not _LABEL.fullmatch(est.label)):
        at.below("est", "label").add(
            f'"{est.label}" cannot be a label: it is an operation of EST, or not a path segment'
        )
    return EnrollmentSettings(
        api=None if declared.api is None else ApiSettings(),
        acme=None if declared.acme is None else _acme(declared.acme, at.below("acme")),
        est=None if est is None else EstSettings(passphrase_hash=passphrase_hash, label=est.label, wrap=est.wrap),
        scep=None
        if scep is None
        else ScepSettings(challenge_hash=challenge_hash, allow_renewal=scep.allow_renewal, include=scep.include),
    )


def _acme(declared: AcmeDeclaration, at: Problems) -> AcmeSettings:
    if declared.skip_dns_ownership_verification and declared.skip_eab_binding:
        # A128: nobody would be asked for anything, and anyone could have any name.
        at.add("skipDnsOwnershipVerification and skipEabBinding cannot both be true")
    if not 1 <= declared.http01_port <= 65535:
        at.below("http01Port").add("must be from 1 to 65535")
    for index, network in enumerate(declared.allowed_networks):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            at.below("allowedNetworks", index).add(f'"{network}" is not a network such as 10.0.0.0/8')
    for index, resolver in enumerate(declared.resolvers):
        try:
            ipaddress.ip_address(resolver)
        except ValueError:
            at.below("resolvers", index).add(f'"{resolver}" is not an address')
    for key, url in (("termsOfService", declared.terms_of_service), ("website", declared.website)):
        if url is not None:
            _check_url(url, at.below(key))
    return AcmeSettings(
        skip_eab_binding=declared.skip_eab_binding,
        skip_dns_ownership=declared.skip_dns_ownership_verification,
        http01_port=declared.http01_port,
        allowed_networks=tuple(declared.allowed_networks),
        resolvers=tuple(declared.resolvers),
        authorization_reuse=at.below("authorizationReuse").duration(declared.authorization_reuse) or timedelta(0),
        terms_of_service=declared.terms_of_service,
        website=declared.website,
    )


def lists_of(declared: AuthorityDeclaration, old: ListSettings, at: Problems) -> ListSettings:
    """How the authority's revocation lists are made from now on; what is left out stays as it is in `old`."""
    lifetime = at.below("crlLifetime").duration(declared.crl_lifetime) or old.lifetime
    refresh = at.below("crlRefresh").duration(declared.crl_refresh) or old.refresh
    if lifetime > MAX_LIST_LIFETIME:
        at.below("crlLifetime").add(f"must be at most {MAX_LIST_LIFETIME.days}d")
    if declared.crl_refresh is None and declared.crl_lifetime is not None:
        refresh = min(refresh, lifetime / 2)
    elif refresh * 2 > lifetime:
        # The second half is the time that a signer has to come back (RFC 5280, 5.1.2.5).
        at.below("crlRefresh").add("must be at most half of crlLifetime")
    partitions = old.partitions if declared.crl_partitions is None else declared.crl_partitions
    if not 0 <= partitions <= MAX_PARTITIONS:
        at.below("crlPartitions").add(f"must be from 0 to {MAX_PARTITIONS}")
    deltas = old.deltas if declared.crl_deltas is None else declared.crl_deltas
    delta_lifetime = at.below("crlDeltaLifetime").duration(declared.crl_delta_lifetime) or old.delta_lifetime
    if delta_lifetime > lifetime:
        at.below("crlDeltaLifetime").add("must be at most crlLifetime")
    return ListSettings(lifetime, refresh, partitions, deltas, delta_lifetime)


def check_deltas(lists: ListSettings, crl_urls: tuple[str, ...], at: Problems) -> None:
    """Deltas need an address, that stands in the lists themselves (RFC 5280, 5.2.6)."""
    if lists.deltas and not delta_addresses(crl_urls, 0 if lists.partitions else None):
        at.below("crlDeltas").add("crlUrls needs an address of plain HTTP that ends in .crl: deltas stand beside it")


def _check_partitions(declared: AuthorityDeclaration, at: Problems) -> None:
    """`crlPartitions` and the addresses that it needs come together: neither works alone."""
    placed = any(PARTITION in url for url in declared.crl_urls or ())
    if declared.crl_partitions is not None and declared.crl_urls is None:
        at.below("crlPartitions").add("crlUrls must stand beside it")
    elif bool(declared.crl_partitions) != placed:
        at.below("crlUrls").add(
            f"crlPartitions is {declared.crl_partitions or 0}: "
            + (f"no address may have {PARTITION} in it" if placed else f"an address needs {PARTITION} in it")
        )


def _check_url(url: str, at: Problems) -> None:
    try:
        fine = uri(url).startswith(("http://", "https://"))
    except InvalidName:
        fine = False
    if not fine:
        at.add(f'"{url}" is not an http or https address')
