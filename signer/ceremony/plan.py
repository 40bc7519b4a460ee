"""What an authority shall be, before it is made: read from a command line's words, and held against its parent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Final, TypeAlias

from cryptography import x509

from signer.contract.messages import GeneralName
from signer.issuance.issuer import encoded, extension
from signer.issuance.lint import san_fault
from signer.issuance.names import FREE, Bounds, beyond, bounds_of, general_name
from signer.issuance.template import name_of
from signer.keystore.key import NameRange, StoredKey
from signer.keystore.mechanism import algorithm_of

DAY: Final = 86400  # seconds
ROOT_DAYS: Final = 20 * 365 + 5
AUTHORITY_DAYS: Final = 10 * 365 + 3
LEAF_DAYS: Final = 5 * 365 + 2  # the ceiling of an issuing authority, unless it is told otherwise

ANY_POLICY: Final = "2.5.29.32.0"
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,9})){1,15}", re.ASCII)
_TYPES: Final = ("dns_name", "ip_address", "email", "uri", "directory")

Extras: TypeAlias = list[x509.Extension[x509.ExtensionType]]


@dataclass(frozen=True, slots=True)
class Plan:
    """An authority that shall exist. `parent` is None for a root; `days` is cut to the parent's own end.

    `leaf_days` is how long what it issues may be good for, as long as its key lives. `bounds` become its name
    constraints; `policies` are dotted OIDs, and `cps` where they are written down. The URLs are its parent's.
    """

    name: str
    subject: list[tuple[str, str]]
    algorithm: str
    parent: StoredKey | None
    path_length: int | None
    days: int
    leaf_days: int = LEAF_DAYS
    bounds: Bounds = FREE
    policies: tuple[str, ...] = ()
    cps: str = ""
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()


def parse_subject(text: str) -> list[tuple[str, str]]:
    """A distinguished name in RFC 4514's form as (OID, value) in the certificate's order. Raises `ValueError`."""
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        why = f": {error}" if str(error) else ""
        raise ValueError(f"{text!r} is not a name such as 'CN=Devices CA,O=Example'{why}") from None
    if any(len(list(each)) != 1 for each in name.rdns):
        raise ValueError("each part of a subject has one attribute")
    return [(each.oid.dotted_string, str(each.value)) for each in name]


def parse_bounds(permitted: Sequence[str], excluded: Sequence[str]) -> Bounds:
    """Name constraints from words such as `dns_name:example.com`. Raises `ValueError` that names the word."""
    return Bounds(
        tuple(_parse_range("permitted", each) for each in permitted),
        tuple(_parse_range("excluded", each) for each in excluded),
    )


def check_policies(policies: Sequence[str], cps: str) -> tuple[str, ...]:
    """Certificate policies from the command line. Raises `ValueError`."""
    for each in policies:
        if not _OID.fullmatch(each):
            raise ValueError(f"the policy {each!r} is not an object identifier such as 1.3.6.1.4.1.99999.1")
    if len(set(policies)) != len(policies):
        raise ValueError("a policy is named twice")
    if cps and (not policies or not re.fullmatch(r"https?://[\x21-\x7e]{1,500}", cps)):
        raise ValueError("cps is an http(s) URL, and goes with a policy")
    return tuple(policies)


def within_parent(plan: Plan) -> Plan:
    """The plan, held against the constraints of its parent and of those above. Raises `ValueError` naming the field.

    Without policies of its own an authority has its parent's: none at all would be good for none of them.
    """
    parent = plan.parent
    if parent is None:
        if plan.crl_urls or plan.issuer_urls or plan.ocsp_urls:
            raise ValueError("a root has no parent whose URLs could stand in its certificate")
        return plan
    over = beyond(plan.bounds, [bounds_of(each) for each in parent.chain])
    if over is not None:
        raise ValueError(f"permitted {over} is not within the name constraints of {parent.name} or of those above it")
    policies = plan.policies
    for each in parent.chain:
        theirs = policies_of(each)
        if not theirs or ANY_POLICY in theirs:
            continue
        policies = policies or theirs
        for policy in policies:
            if policy not in theirs:
                raise ValueError(f"policy {policy} is none of those of {parent.name} or of those above it")
    return replace(plan, policies=policies)


def require_like(plan: Plan, key: StoredKey) -> None:
    """Raises `ValueError` where a key of the plan's name, of an earlier ceremony, is another authority than planned.

    Whoever asks for name constraints must not be given what was once made without.
    """
    certificate = key.certificate
    basic = extension(certificate, x509.BasicConstraints)
    above, found = (
        None if each is None else (each.subject, each.public_key())
        for each in (
            None if plan.parent is None else plan.parent.certificate,
            key.chain[1] if len(key.chain) > 1 else None,
        )
    )
    bounds = bounds_of(certificate)
    kept = (
        ("subject", certificate.subject == name_of(plan.subject)),
        ("algorithm", algorithm_of(certificate.public_key()) == plan.algorithm),
        ("parent", found == above),
        ("path length", basic is not None and basic.path_length == plan.path_length),
        ("permitted names", _subtrees(bounds.permitted) == _subtrees(plan.bounds.permitted)),
        ("excluded names", _subtrees(bounds.excluded) == _subtrees(plan.bounds.excluded)),
        ("policies", set(policies_of(certificate)) == set(within_parent(plan).policies)),
    )
    for what, like in kept:
        if not like:
            subject = certificate.subject.rfc4514_string()
            other = f"an earlier ceremony made {plan.name} ({subject}) with another {what}"
            raise ValueError(f"{other}: ask for that, or choose another name")


def _subtrees(side: Sequence[NameRange]) -> set[x509.GeneralName]:
    return {general_name(each) for each in side}


def extras(plan: Plan) -> Extras:
    """The extensions that only authorities have: name constraints (critical, RFC 5280, 4.2.1.10) and policies."""
    made: Extras = []
    if plan.bounds:
        subtrees = [
            [general_name(each) for each in side] or None for side in (plan.bounds.permitted, plan.bounds.excluded)
        ]
        made.append(encoded(x509.NameConstraints(*subtrees), critical=True))
    if plan.policies:
        qualifiers: list[str | x509.UserNotice] | None = [plan.cps] if plan.cps else None
        information = [x509.PolicyInformation(x509.ObjectIdentifier(each), qualifiers) for each in plan.policies]
        made.append(encoded(x509.CertificatePolicies(information), critical=False))
    return made


def policies_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The policies in a certificate, dotted; none if it does not speak of them."""
    found = extension(certificate, x509.CertificatePolicies)
    return () if found is None else tuple(each.policy_identifier.dotted_string for each in found)


def _parse_range(field: str, word: str) -> NameRange:
    kind, colon, value = word.partition(":")
    if not colon or kind not in _TYPES:
        raise ValueError(f"{field} {word!r} is not TYPE:VALUE with a type of {', '.join(_TYPES)}")
    fault = _range_fault(kind, value)
    if fault is not None:
        raise ValueError(f"{field} {word!r}: {fault}")
    if kind == "ip_address":
        return NameRange(kind, str(ip_network(value)))
    return NameRange(kind, value if kind in ("email", "directory") else value.lower())


def _range_fault(kind: str, value: str) -> str | None:
    """What is wrong with a subtree of names, as a sentence, or None."""
    match kind:
        case "ip_address":
            try:
                ip_network(value)
            except ValueError as error:
                return f"a network is written as 192.0.2.0/24: {error}"
            return None
        case "dns_name":
            return None if _is_host(value) else "a DNS name stands for itself and what is below it: example.com"
        case "email":
            if "@" in value:
                return None if san_fault(GeneralName("email", value)) is None else "that is not a mailbox"
            return None if _is_host(value.removeprefix(".")) else "an e-mail subtree is a mailbox, a host or .domain"
        case "uri":
            return None if _is_host(value.removeprefix(".")) else "a URI subtree is a host or .domain"
        case _:
            try:
                parse_subject(value)
            except ValueError as error:
                return str(error)
            return None


def _is_host(value: str) -> bool:
    return "*" not in value and san_fault(GeneralName("dns_name", value)) is None
