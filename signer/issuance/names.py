"""Name constraints (RFC 5280, 4.2.1.10): whether a name lies within a certificate's, and a subtree within a subtree.

A name is judged as strictly as any verifier might judge it: where a verifier could find it outside, it is outside.
Nothing is signed or parsed from DER here but the one extension of an authority's certificate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from cryptography import x509

from signer.keystore.key import NameRange

_COMMON_NAME: Final = "2.5.4.3"
_EMAIL: Final = "1.2.840.113549.1.9.1"
# What an old verifier would take for a host in a common name (RFC 9525, appendix B, tells of them).
LIKE_A_HOST: Final = re.compile(r"[^\s@]*(?:\.|:)[^\s@]*", re.ASCII)
_SPACES: Final = re.compile(r"\s+")

Folded: TypeAlias = list[list[tuple[str, str]]]  # a directory name, ready to be compared


@dataclass(frozen=True, slots=True)
class Bounds:
    """The name constraints of one certificate. A form of names without permitted subtrees is free."""

    permitted: tuple[NameRange, ...] = ()
    excluded: tuple[NameRange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.permitted or self.excluded)


FREE: Final = Bounds()


def bounds_of(certificate: x509.Certificate) -> Bounds:
    """The constraints in a certificate, empty if it has none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return FREE
    return Bounds(_ranges(found.permitted_subtrees or ()), _ranges(found.excluded_subtrees or ()))


def general_name(subtree: NameRange) -> x509.GeneralName:
    """A subtree as it stands in a certificate. Raises `ValueError` for one that cannot be written."""
    match subtree.type:
        case "dns_name":
            return x509.DNSName(subtree.value)
        case "ip_address":
            return x509.IPAddress(ip_network(subtree.value))
        case "email":
            return x509.RFC822Name(subtree.value)
        case "uri":
            return x509.UniformResourceIdentifier(subtree.value)
        case "directory":
            return x509.DirectoryName(x509.Name.from_rfc4514_string(subtree.value))
        case _:
            raise ValueError(f"names of the type {subtree.type} cannot be constrained")


def outside(bounds: Sequence[Bounds], kind: str, value: str) -> bool:
    """Whether one of the constraints keeps a name out; `kind` is an alternative name's type."""
    for each in bounds:
        permitted = [subtree for subtree in each.permitted if subtree.type == kind]
        if permitted and not any(_holds(subtree, value) for subtree in permitted):
            return True
        if any(_touches(subtree, value) for subtree in each.excluded if subtree.type == kind):
            return True
    return False


def subject_outside(bounds: Sequence[Bounds], subject: list[tuple[str, str]]) -> str | None:
    """What of a subject the constraints keep out, None if nothing.

    The whole of it is a directory name, its e-mail addresses are addresses, and a common name that looks like a host
    is one for old verifiers.
    """
    if subject and _directory_outside(bounds, [[(oid, _fold(value))] for oid, value in subject]):
        return ", ".join(value for _, value in subject)
    for oid, value in subject:
        kind = "email" if oid == _EMAIL else host_kind(value) if oid == _COMMON_NAME else None
        if kind is not None and outside(bounds, kind, value):
            return value
    return None


def host_kind(common_name: str) -> str | None:
    """The type of name that a common name would be taken for, None if for none."""
    if not LIKE_A_HOST.fullmatch(common_name):
        return None
    return "ip_address" if is_address(common_name) else "dns_name"


def inside(inner: NameRange, outer: NameRange) -> bool:
    """Whether every name of a subtree is in another of the same type."""
    if inner.type != outer.type:
        return False
    match inner.type:
        case "dns_name":
            # A subtree that begins with a dot is what a wildcard matches.
            return _holds(outer, f"*{inner.value}" if inner.value.startswith(".") else inner.value)
        case "ip_address":
            ours, theirs = _network(inner.value), _network(outer.value)
            return ours.network_address in theirs and ours.prefixlen >= theirs.prefixlen
        case "email":
            return _holds(outer, inner.value if "@" in inner.value else f"@{inner.value}")
        case "uri":
            return _host_holds(outer.value, inner.value)
        case "directory":
            return _is_below(_folded(inner.value), outer)
        case _:
            return False


def beyond(child: Bounds, parents: Sequence[Bounds]) -> str | None:
    """The first permitted subtree of a child that its parents' constraints do not hold, as `type:value`, or None."""
    for subtree in child.permitted:
        for parent in parents:
            permitted = [each for each in parent.permitted if each.type == subtree.type]
            if permitted and not any(inside(subtree, each) for each in permitted):
                return f"{subtree.type}:{subtree.value}"
            if any(inside(subtree, each) for each in parent.excluded):
                return f"{subtree.type}:{subtree.value}"
    return None


def is_address(value: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _ranges(names: Sequence[x509.GeneralName]) -> tuple[NameRange, ...]:
    return tuple(_range(each) for each in names)


def _range(name: x509.GeneralName) -> NameRange:
    match name:
        case x509.DNSName():
            return NameRange("dns_name", name.value)
        case x509.IPAddress():
            return NameRange("ip_address", str(name.value))
        case x509.RFC822Name():
            return NameRange("email", name.value)
        case x509.UniformResourceIdentifier():
            return NameRange("uri", name.value)
        case x509.DirectoryName():
            return NameRange("directory", name.value.rfc4514_string())
        case _:
            # Other names are not looked into: with such a constraint no name of that form is signed.
            return NameRange("upn", "")


def _holds(subtree: NameRange, value: str) -> bool:
    """Whether a name, and everything that it stands for, lies within a subtree of its type."""
    match subtree.type:
        case "dns_name":
            return _dns_holds(subtree.value.lower(), value.lower())
        case "ip_address":
            return is_address(value) and ip_address(value) in _network(subtree.value)
        case "email":
            return _email_holds(subtree.value, value)
        case "uri":
            host = _uri_host(value)
            return host is not None and _host_holds(subtree.value, host)
        case _:
            return False


def _touches(subtree: NameRange, value: str) -> bool:
    """Whether a name, or anything that it stands for, may lie within an excluded subtree of its type."""
    # Without a host or a mailbox: of all of them, as Go's verifier has it. A UPN's subtree is always of all.
    if not subtree.value:
        return True
    match subtree.type:
        case "dns_name":
            excluded, name = subtree.value.lower().removeprefix("."), value.lower()
            # A wildcard stands for whatever has one label more than it.
            below = name.startswith("*.") and excluded.partition(".")[2] == name[2:]
            return below or _dns_holds(excluded, name)
        case "uri":
            host = _uri_host(value)
            return host is None or _host_holds(subtree.value, host)
        case _:
            return _holds(subtree, value)


def _dns_holds(subtree: str, name: str) -> bool:
    if not subtree:
        return True
    wild = name.startswith("*.")
    bare = name[2:] if wild else name
    if subtree.startswith("."):  # what is below, without the host itself, as some authorities write it
        return bare.endswith(subtree) or (wild and bare == subtree[1:])
    return f".{bare}".endswith(f".{subtree}")


def _email_holds(subtree: str, value: str) -> bool:
    local, _, host = value.rpartition("@")
    if "@" in subtree:
        mailbox, _, at = subtree.rpartition("@")
        return bool(local) and (local, host.lower()) == (mailbox, at.lower())
    return _host_holds(subtree, host)


def _host_holds(subtree: str, host: str) -> bool:
    subtree, host = subtree.lower(), host.lower()
    return host.endswith(subtree) if subtree.startswith(".") else host == subtree


def _uri_host(value: str) -> str | None:
    """The host of a URI, None where it has none that can be compared: such a URI is outside (RFC 5280, 4.2.1.10)."""
    try:
        host = urlsplit(value).hostname
    except ValueError:
        return None
    return None if not host or is_address(host) else host


@lru_cache(maxsize=256)
def _network(value: str) -> IPv4Network | IPv6Network:
    return ip_network(value)


def _directory_outside(bounds: Sequence[Bounds], name: Folded) -> bool:
    for each in bounds:
        permitted = [subtree for subtree in each.permitted if subtree.type == "directory"]
        if permitted and not any(_is_below(name, subtree) for subtree in permitted):
            return True
        if any(_is_below(name, subtree) for subtree in each.excluded if subtree.type == "directory"):
            return True
    return False


def _is_below(name: Folded, subtree: NameRange) -> bool:
    top = _folded(subtree.value)
    return name[: len(top)] == top


@lru_cache(maxsize=256)
def _folded(name: str) -> Folded:
    return [
        sorted((each.oid.dotted_string, _fold(str(each.value))) for each in rdn)
        for rdn in x509.Name.from_rfc4514_string(name).rdns
    ]


def _fold(value: str) -> str:
    """A value as it is compared (RFC 5280, 7.1): without case, spaces as one."""
    return _SPACES.sub(" ", value).strip().casefold()
