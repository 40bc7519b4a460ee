"""Who may read the figures: a rule on the peer's own address, as the transport knows it.

No header ever gives the right. Those of a proxy take it away, and so does its word before the connection: behind one,
everybody has its address, or whichever it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

MEANT: Final = "off, loopback, on, or addresses and networks with commas between them"

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

_MAPPED_BITS: Final = 96  # RFC 4291, 2.5.5.2
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Readers:
    """Peers within `networks`, who come by themselves; or everybody."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    everybody: bool = False

    def admit(self, address: str, *, forwarded: bool) -> bool:
        """Whether the peer at that address may read. `forwarded`: it came through a proxy, as it says itself."""
        if self.everybody:
            return True
        if forwarded or not self.networks:
            return False
        try:
            peer = ip_address(address)
        except ValueError:
            return False
        if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in each for each in self.networks)


NOBODY: Final = Readers()


def readers(setting: str) -> Readers:
    """The rule that a setting says. Raises `ValueError`."""
    match setting:
        case "off":
            return NOBODY
        case "on":
            return Readers(everybody=True)
        case "loopback":
            return Readers(_LOOPBACK)
        case _:
            return Readers(networks(setting))


def networks(setting: str) -> Networks:
    """One address or network, or several with commas between them. Raises `ValueError`.

    IPv4 in IPv6's clothes (`::ffff:192.0.2.1`) is IPv4, as the addresses are that it is compared with.
    """
    return tuple(_unmapped(ip_network(each.strip())) for each in setting.split(","))


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network
