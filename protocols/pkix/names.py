"""Distinguished names and alternative names, as the protocols read them (RFC 5280, 4.1.2.4 and 4.2.1.6).

Nothing is judged here and nothing is lost: what has no name of its own is kept as `other:...` for the policy to refuse.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography import x509

from protocols.exchange import Reason, Refused
from protocols.pkix import der

DNS_NAME: Final = "dns_name"
IP_ADDRESS: Final = "ip_address"
EMAIL: Final = "email"
URI: Final = "uri"
UPN: Final = "upn"

COMMON_NAME: Final = "2.5.4.3"

# Microsoft's user principal name, an otherName that holds a UTF8String ([MS-WCCE], 2.2.2.7.7.1).
_UPN_OID: Final = "1.3.6.1.4.1.311.20.2.3"

# RFC 4514, 3: the short names that every reader must know, and the four that every administrator expects.
_SHORT_NAMES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
    "2.5.4.5": "serialNumber",
    "2.5.4.4": "SN",
    "2.5.4.42": "GN",
    "1.2.840.113549.1.9.1": "emailAddress",
}

_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED: Final = re.compile(r'[,+"\\<>;=]')


class Attribute(msgspec.Struct, frozen=True):
    """One attribute of a distinguished name: dotted OID and text."""

    oid: str
    value: str


class AlternativeName(msgspec.Struct, frozen=True):
    """A subject alternative name. `type` is dns_name, ip_address, email, uri, upn, or `other:` and what it is.

    `value` is text, in canonical form where `type` has one; a name of another kind keeps its DER, in hex, so that the
    policy can refuse it by name instead of losing it (a kind that nobody validated must never pass through).
    """

    type: str
    value: str


def attributes(name: x509.Name) -> tuple[Attribute, ...]:
    """The attributes of a distinguished name, in order.

    Raises:
        Refused: BAD_CSR for an RDN of several attributes, a value that is no text, or a control character in one (a
            NUL has made readers see two different names).
    """
    found = []
    for rdn in name.rdns:
        if len(rdn) != 1:
            raise Refused(
                Reason.BAD_CSR,
                "The subject has a relative distinguished name of several attributes; give each attribute its own.",
            )
        for each in rdn:
            if not isinstance(each.value, str) or _CONTROL.search(each.value):
                raise Refused(
                    Reason.BAD_CSR,
                    f"The subject's attribute {each.oid.dotted_string} is not text without control characters.",
                )
            found.append(Attribute(each.oid.dotted_string, each.value))
    return tuple(found)


def alternative_names(names: Iterable[x509.GeneralName]) -> tuple[AlternativeName, ...]:
    """General names, in order and in canonical form; none is dropped.

    Raises:
        Malformed: a user principal name that is not a UTF8String.
    """
    return tuple(_alternative_name(name) for name in names)


def _alternative_name(name: x509.GeneralName) -> AlternativeName:
    match name:
        case x509.DNSName(value=value):
            return AlternativeName(DNS_NAME, value.lower())
        case x509.IPAddress(value=(ipaddress.IPv4Address() | ipaddress.IPv6Address()) as address):
            return AlternativeName(IP_ADDRESS, str(address))
        case x509.RFC822Name(value=value):
            return AlternativeName(EMAIL, canonical_email(value))
        case x509.UniformResourceIdentifier(value=value):
            return AlternativeName(URI, canonical_uri(value))
        case x509.OtherName(type_id=kind, value=value) if kind.dotted_string == _UPN_OID:
            start, stop = der.expect(value, 0, len(value), der.UTF8_STRING)
            return AlternativeName(UPN, der.text(der.UTF8_STRING, value[start:stop]))
        case x509.OtherName(type_id=kind):
            return AlternativeName(f"other:{kind.dotted_string}", _encoded(name))
        case _:
            return AlternativeName(f"other:{_KINDS.get(type(name), 'unknown')}", _encoded(name))


_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DirectoryName: "directory_name",
    x509.RegisteredID: "registered_id",
    x509.IPAddress: "ip_network",  # an address of 8 or 32 octets is an address with a mask, which no SAN may hold
}


def _encoded(name: x509.GeneralName) -> str:
    whole = x509.SubjectAlternativeName([name]).public_bytes()
    start, _ = der.expect(whole, 0, len(whole), der.SEQUENCE)
    return whole[start:].hex()


def canonical_dns(value: str) -> str:
    """A DNS name as lower-case A-labels (A43); a leading `*.` is allowed and kept.

    Raises:
        ValueError: with a sentence; not LDH, an empty or overlong label, over 253 octets, a wildcard elsewhere, a
            last label of digits only (that is how addresses are written).
    """
    name = value.lower()
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253:
        raise ValueError("is longer than 253 octets")
    if not value.isascii():  # before its lower case: the Kelvin sign's is an ASCII k
        raise ValueError("is not ASCII; write it as A-labels (xn--…)")
    if name.endswith("."):
        raise ValueError("ends with a dot; leave it out")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"has a label, {label[:64]!r}, that is not 1 to 63 letters, digits and inner hyphens")
    if labels[-1].isdigit():
        raise ValueError("is no DNS name: its last label is a number")
    return name


def canonical_ip(value: str) -> str:
    """An address as RFC 5952 and RFC 8738, 3 write it.

    Raises:
        ValueError: with a sentence; no address, one with a zone, or an IPv4 address in IPv6's form.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("is not an IP address") from None
    if "%" in value:
        raise ValueError("has a zone, which means nothing elsewhere")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise ValueError("is an IPv4 address written as IPv6; write it as IPv4")
    return str(address)


def canonical_email(value: str) -> str:
    """A mailbox with its domain in lower case; the local part is the recipient's own affair (RFC 5321, 2.4)."""
    local, at, domain = value.rpartition("@")
    return local + at + domain.lower()


def canonical_uri(value: str) -> str:
    """A URI with scheme and host in lower case (RFC 3986, 6.2.2.1)."""
    scheme, colon, rest = value.partition(":")
    if rest.startswith("//"):
        end = next((at for at, letter in enumerate(rest[2:], 2) if letter in "/?#"), len(rest))
        user, at, host = rest[:end].rpartition("@")
        rest = user + at + host.lower() + rest[end:]
    return scheme.lower() + colon + rest


def rfc4514(subject: Iterable[Attribute]) -> str:
    """A distinguished name as text, the last attribute first (RFC 4514, 2)."""
    return ",".join(
        f"{_SHORT_NAMES.get(each.oid, each.oid)}={_escape(each.value)}" for each in reversed(tuple(subject))
    )


def _escape(value: str) -> str:
    """RFC 4514, 2.4."""
    escaped = _CONTROL.sub(lambda found: f"\\{ord(found[0]):02x}", _ESCAPED.sub(r"\\\g<0>", value))
    if escaped.startswith((" ", "#")):
        escaped = "\\" + escaped
    if escaped.endswith(" ") and len(value) > 1:
        escaped = escaped[:-1] + "\\ "
    return escaped
