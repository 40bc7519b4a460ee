"""Identifiers: the ids of our own things, and the canonical forms of names (D2).

No name is looked up here, and none is repaired beyond what its RFC calls equal: what is not valid is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias, assert_never
from urllib.parse import urlsplit

from gateway.domain.request import SanType

Dice: TypeAlias = Callable[[int], bytes]

_MAX_DNS_NAME: Final = 253  # RFC 1035, 2.3.4, as text
_MAX_LOCAL_PART: Final = 64  # RFC 5321, 4.5.3.1.1
_MAX_MAILBOX: Final = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
_MAX_URI: Final = 2048

# Every repetition is bounded and labels cannot be split in two ways, so matching is linear in the name.
_DNS_NAME: Final = re.compile(
    r"(?:\*\.)?[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
)
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_URI_CHARACTERS: Final = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
_AUTHORITY: Final = re.compile(r"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]*)?")  # SPIFFE trust domains have underscores
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


class InvalidName(ValueError):
    """A name that is not valid for its kind. The text is one sentence that may be shown to the peer."""


def new_id(now: datetime, dice: Dice) -> str:
    """A new id: a UUID of version 7 (RFC 9562, 5.7), so that ids sort by the millisecond they were made in.

    `dice(10)` gives the 74 random bits. Text form, lower case.
    """
    made = bytearray((int(now.timestamp() * 1000) & 0xFFFF_FFFF_FFFF).to_bytes(6) + dice(10))
    made[6] = made[6] & 0x0F | 0x70  # the version
    made[8] = made[8] & 0x3F | 0x80  # and the variant
    text = made.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_serial(now: datetime, dice: Dice) -> int:
    """A new serial number: positive and always of 16 bytes (RFC 5280, 4.1.2.2); it sorts by its millisecond.

    `dice(10)` gives its 80 random bits; D6 and the Baseline Requirements ask for 64. Wholly random ones would each
    change a page of the store's index of their own, and read it first where a million stand in it.
    """
    milliseconds = int(now.timestamp() * 1000) & 0x3FFF_FFFF_FFFF
    return 1 << 126 | milliseconds << 80 | int.from_bytes(dice(10))


def quoted(text: str) -> str:
    """A peer's text for a sentence: escaped, so that it cannot forge a log line, and at most 100 characters of it."""
    shown = text if len(text) <= 100 else text[:97] + "..."
    return '"' + shown.encode("unicode_escape").decode("ascii").replace('"', r"\"") + '"'


def dns_name(text: str) -> str:
    """A DNS name in canonical form: lower-case A-labels (RFC 1035, RFC 5890), a wildcard only as the whole left label.

    Raises InvalidName.
    """
    name = text.lower()
    # The Kelvin sign is not ASCII but its lower case is: what was asked for is looked at, not what it became.
    if not text.isascii() or len(name) > _MAX_DNS_NAME or _DNS_NAME.fullmatch(name) is None:
        raise InvalidName(_what_is_wrong_with_dns_name(text))
    # A name that ends in a number is read as an address by URL parsers; old clients put addresses here by mistake.
    if name.rpartition(".")[2].isdigit():
        raise InvalidName(f"{quoted(text)} is not a DNS name: its last label is a number; name an address as one")
    return name


def _what_is_wrong_with_dns_name(text: str) -> str:
    shown = quoted(text)
    if not text.isascii():
        return f"{shown} is not a DNS name: write internationalised labels as A-labels (xn--...)"
    if len(text) > _MAX_DNS_NAME:
        return f"{shown} is not a DNS name: it is longer than {_MAX_DNS_NAME} characters"
    if text.endswith("."):
        return f"{shown} is not a DNS name as certificates carry it: leave out the dot at its end"
    if "*" in text:
        return f"{shown} is not a DNS name: a wildcard stands alone, as the whole left label, before a name"
    return f"{shown} is not a DNS name: labels are 1 to 63 letters, digits and inner hyphens"


def ip_address(text: str) -> str:
    """An IP address as `ipaddress` prints it (RFC 5952 for version 6).

    An IPv4 address within IPv6 is refused: it would be the same host under a name that no rule for IPv4 matches.
    Raises InvalidName.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidName(f"{quoted(text)} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise InvalidName(f"{quoted(text)} carries a zone, which means nothing outside one host")
        if address.ipv4_mapped is not None:
            raise InvalidName(f"{quoted(text)} hides an IPv4 address; write {address.ipv4_mapped}")
    return str(address)


def email(text: str) -> str:
    """A mailbox (RFC 5321) with its domain in lower case; the local part is kept as it is. Raises InvalidName."""
    local, at, domain = text.rpartition("@")
    if not at or len(text) > _MAX_MAILBOX or len(local) > _MAX_LOCAL_PART or _LOCAL_PART.fullmatch(local) is None:
        raise InvalidName(f"{quoted(text)} is not an e-mail address: write local-part@domain, without quotes or spaces")
    canonical = _domain(domain)
    if canonical is None:
        raise InvalidName(f"{quoted(text)} is not an e-mail address: its domain is not a DNS name")
    return f"{local}@{canonical}"


def upn(text: str) -> str:
    """A user principal name, user@realm, with its realm in lower case. Raises InvalidName.

    The user may hold any printable character but `@` and the space.
    """
    user, at, realm = text.rpartition("@")
    canonical = _domain(realm)
    plain = user.isprintable() and not any(mark in user for mark in " @")
    if not at or not user or canonical is None or not plain or len(text) > _MAX_MAILBOX:
        raise InvalidName(f"{quoted(text)} is not a user principal name: write user@realm")
    return f"{user}@{canonical}"


def _domain(text: str) -> str | None:
    """The canonical DNS name, or None where it is none or a wildcard, which only host names may be."""
    try:
        name = dns_name(text)
    except InvalidName:
        return None
    return None if name.startswith("*") else name


def uri(text: str) -> str:
    """A URI, normalised as RFC 3986, 6.2.2 says: cases, escapes, dot segments; and the default port left out.

    Refused: no scheme, nothing after it, a user in the authority (it makes one host look like another), an empty host
    before a path. Raises InvalidName.
    """
    if len(text) > _MAX_URI or _SCHEME.match(text) is None or _URI_CHARACTERS.fullmatch(text) is None:
        raise InvalidName(
            f"{quoted(text)} is not a URI: write an absolute one, of ASCII, with other characters escaped"
        )
    try:
        parts = urlsplit(unescaped(text))
        port = parts.port
    except ValueError:
        raise InvalidName(f"{quoted(text)} is not a URI: its host or port does not parse") from None
    if not text.partition(":")[2].startswith("//"):
        if not parts.path:
            raise InvalidName(f"{quoted(text)} is not a URI: nothing follows its scheme")
        return parts.geturl()
    authority = _AUTHORITY.fullmatch(parts.netloc.lower())
    if authority is None:
        raise InvalidName(f"{quoted(text)} is not a URI as certificates carry it: name a host, and no user before it")
    host = authority[1]
    if port is not None and str(port) != DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    return parts._replace(netloc=host, path=_without_dot_segments(parts.path)).geturl()


def unescaped(text: str) -> str:
    """`text` with escapes of unreserved characters undone and the others in upper case (RFC 3986, 6.2.2.1 and .2)."""
    if "%" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        character = chr(int(found[0][1:], 16))
        return character if character in _UNRESERVED else found[0].upper()

    return _ESCAPE.sub(one, text)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4, for a path that is empty or begins with a slash."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def canonical(kind: SanType, text: str) -> str:
    """The canonical text of a subject alternative name. Raises InvalidName."""
    match kind:
        case SanType.DNS_NAME:
            return dns_name(text)
        case SanType.IP_ADDRESS:
            return ip_address(text)
        case SanType.EMAIL:
            return email(text)
        case SanType.URI:
            return uri(text)
        case SanType.UPN:
            return upn(text)
    assert_never(kind)
