"""The client's address in X-Forwarded-For and Forwarded (RFC 7239): the right-most hop that is no proxy of ours. Pure.

What stands further left was said by whoever that is, and is never looked at as an address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

IpAddress: TypeAlias = IPv4Address | IPv6Address

# No client is behind so many proxies of one operator.
MOST_HOPS: Final = 16
MOST_BYTES: Final = 4096

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE: Final = rf'(?:{_WORD}|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*")'
_PARAMETER: Final = rf"{_WORD}={_VALUE}"
_ELEMENT: Final = re.compile(rf"[\t ]*((?:{_PARAMETER})?(?:;(?:{_PARAMETER})?)*)[\t ]*(?:,|$)", re.ASCII)
_PAIR: Final = re.compile(rf"({_WORD})=({_VALUE})", re.ASCII)


class BadHop(ValueError):
    """A proxy of ours said something that is no address."""


def by_x_forwarded_for(values: Sequence[str], ours: Callable[[IpAddress], bool]) -> str | None:
    """The client by the header's lines, in their order; None where every hop is ours. Raises `BadHop`."""
    return _right_most([each for line in values for each in _bounded(line).split(",")], ours)


def by_forwarded(values: Sequence[str], ours: Callable[[IpAddress], bool]) -> str | None:
    """The same by the `for` parameters of Forwarded. Raises `BadHop`, for what is no such header too."""
    return _right_most([_parameter(each, "for") for line in values for each in _elements(line)], ours)


def protocols(values: Sequence[str]) -> set[str]:
    """The `proto` parameters of Forwarded, lower case. Raises `BadHop`."""
    return {_parameter(each, "proto").lower() for line in values for each in _elements(line)} - {""}


def _right_most(hops: list[str], ours: Callable[[IpAddress], bool]) -> str | None:
    last: str | None = None
    for hop in hops[: -MOST_HOPS - 1 : -1]:
        address = _address(hop.strip("\t "))
        if address is None:
            return last
        last = str(address)
        if not ours(address):
            return last
    return last


def _address(hop: str) -> IpAddress | None:
    """The address of a node, its port aside; None for one that does not say (RFC 7239, 6.2, 6.3)."""
    if hop.lower() == "unknown" or hop.startswith("_"):
        return None
    text = hop
    if hop.startswith("["):
        text, bracket, port = hop[1:].partition("]")
        if not bracket or (port and not _is_port(port[1:], port[:1])):
            raise BadHop("a proxy said an address that is none")
    elif hop.count(":") == 1:
        text, colon, port = hop.partition(":")
        if not _is_port(port, colon):
            raise BadHop("a proxy said an address that is none")
    try:
        found = ip_address(text)
    except ValueError:
        raise BadHop("a proxy said an address that is none") from None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            raise BadHop("a proxy said a scoped address")
        return found.ipv4_mapped or found
    return found


def _is_port(port: str, colon: str) -> bool:
    # RFC 7239, 6: a port may be obfuscated, too.
    return colon == ":" and bool(re.fullmatch(r"[0-9]{1,5}|_[A-Za-z0-9._-]+", port))


def _elements(line: str) -> list[str]:
    _bounded(line)
    found: list[str] = []
    at = 0
    while at < len(line):
        element = _ELEMENT.match(line, at)
        if element is None or element.end() == at:
            raise BadHop("a proxy said a Forwarded header that is none")
        if element[1]:
            found.append(element[1])
        at = element.end()
    return found


def _parameter(element: str, wanted: str) -> str:
    found = [value for name, value in _PAIR.findall(element) if name.lower() == wanted]
    if len(found) > 1:
        raise BadHop(f"a proxy said {wanted} twice of one hop")
    if not found:
        return "" if wanted != "for" else "unknown"
    value: str = found[0]
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _bounded(line: str) -> str:
    if len(line) > MOST_BYTES:
        raise BadHop(f"a list of hops of more than {MOST_BYTES} bytes")
    return line
