"""Where an outgoing connection may go: which addresses a server of ours may be made to dial by a stranger's name.

No name is resolved and nothing is dialled here. Whoever dials asks with the very address that it dials, never with
the name: between a check of a name and a second look-up the answer can change (DNS rebinding, A73).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

# IANA IPv4 Special-Purpose Address Registry, whatever is not globally reachable there, and multicast. 192.88.99.0/24
# is the deprecated 6to4 relay anycast (RFC 7526): it leads into tunnels, hence to addresses that this table never saw.
_CLOSED_IPV4: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

# IPv6 is read the other way round: only global unicast (RFC 4291, 2.4) is open. So loopback, unique local, link local,
# multicast, IPv4-mapped and NAT64 (64:ff9b::/96, which would reach 10.0.0.0/8 through a translator) need no row.
_OPEN_IPV6: Final = IPv6Network("2000::/3")
_CLOSED_IPV6: Final = tuple(
    IPv6Network(each)
    for each in (
        "2001::/23",  # IETF protocol assignments, Teredo among them: an IPv4 address inside
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",  # documentation
    )
)


@lru_cache(maxsize=4096)
def may_dial(address: Address, allowed_networks: tuple[str, ...]) -> bool:
    """Whether `address` is public, or inside one of `allowed_networks` (CIDR).

    Raises:
        ValueError: a network is not CIDR; settings are checked where they are made, so it is a bug here.
    """
    if any(address in network for network in _networks(allowed_networks)):
        return True
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_IPV4)
    return address in _OPEN_IPV6 and not any(address in network for network in _CLOSED_IPV6)


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


@lru_cache(maxsize=4096)
def spelled(address: Address) -> str:
    """The address as text; Python takes 8 microseconds to find where an IPv6 one is shortened."""
    return str(address)


def literal(host: str) -> Address | None:
    """The address that `host` spells, or None if it is a name. A zone (`fe80::1%eth0`) is nobody's public identity."""
    # An address has a colon, or ends with a digit; to find out by trying takes 8 microseconds, for each name.
    if ":" not in host and not host[-1:].isdecimal():
        return None
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return None
    return address
