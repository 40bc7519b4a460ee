"""Counting wrong credentials in a bounded memory. No clock of its own, no network, no opinion on who is right."""

from __future__ import annotations

import socket
from collections import OrderedDict
from typing import Final

# RFC 4291, 2.5.5.2: an IPv4 address as IPv6 sockets tell it.
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Throttle:
    """Counts wrong credentials and says who must wait (E90, S107): a burst, then one guess every `interval` seconds.

    The generic cell rate algorithm: one number a key. At most `capacity` keys are remembered; past that the one that
    failed longest ago is forgotten, so that no flood of addresses can fill the memory.
    """

    def __init__(self, *, burst: int = 10, interval: float = 6.0, capacity: int = 16_384) -> None:
        self._tolerance = (burst - 1) * interval
        self._interval = interval
        self._capacity = capacity
        self._free_at: OrderedDict[tuple[str, str], float] = OrderedDict()

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether anything is counted of `key`, which is rare."""
        return key in self._free_at

    def wait(self, key: tuple[str, str], now: float) -> int:
        """Whole seconds until `key` may try again; 0 means now. `now` is in seconds."""
        free_at = self._free_at.get(key)
        if free_at is None:
            return 0
        ahead = free_at - now - self._tolerance
        return 0 if ahead <= 0 else int(ahead) + 1

    def fail(self, key: tuple[str, str], now: float) -> None:
        """Count one wrong credential of `key`."""
        free_at = max(self._free_at.pop(key, now), now)
        self._free_at[key] = free_at + self._interval
        if len(self._free_at) > self._capacity:
            self._free_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._free_at)


def guesser(address: str, prefix: int = 64) -> str:
    """Whose doings are counted together: an IPv4 address, or the /64 that an IPv6 host can roam in freely.

    Told of a flood's every connection, so without `ipaddress`, which takes ten times as long.
    """
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):  # ValueError: a NUL
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    spare = 128 - prefix
    network = (int.from_bytes(packed) >> spare << spare).to_bytes(16)
    return f"{socket.inet_ntop(socket.AF_INET6, network)}/{prefix}"
