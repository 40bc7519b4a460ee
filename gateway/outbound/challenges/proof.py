"""What every challenge has in common: what to prove, what was seen, and how it fails. No I/O."""

from __future__ import annotations

from enum import Enum, unique
from typing import Final, Protocol

import msgspec

from gateway.outbound.reach import Address, may_dial


@unique
class Fault(Enum):
    """Why a proof failed, by ACME's names for it (RFC 8555, 6.7)."""

    DNS = "dns"
    CONNECTION = "connection"
    UNAUTHORIZED = "unauthorized"
    INCORRECT_RESPONSE = "incorrectResponse"


class Target(msgspec.Struct, frozen=True):
    """What is to be proved, and under which of the pair's settings.

    `host` is an A-label name or an address without brackets. `key_authorization` is RFC 8555, 8.1.
    """

    host: str
    token: str
    key_authorization: str
    port: int
    allowed_networks: tuple[str, ...]
    resolvers: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True):
    """What a proof stood on, for the audit: each hop as `URL at address` (A112)."""

    hops: tuple[str, ...]


NOTHING_SEEN: Final = Evidence(())


class Unproven(Exception):
    """The proof failed.

    `detail` is one sentence for the peer, without anything that a server sent. `passing` says that trying again soon
    may help. `evidence` is what was seen up to there.
    """

    def __init__(self, fault: Fault, detail: str, *, passing: bool = False, evidence: Evidence = NOTHING_SEEN) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
        self.passing = passing
        self.evidence = evidence


class Prover(Protocol):
    """One kind of challenge: a single attempt; repeating and deadlines are the caller's."""

    async def prove(self, target: Target) -> Evidence:
        """Look for the proof.

        Raises:
            Unproven: it is not there, or nothing could be seen.
        """
        ...


def chosen(addresses: tuple[Address, ...], allowed_networks: tuple[str, ...]) -> tuple[Address, ...]:
    """The one or two of `addresses` to dial: the first IPv6, then one IPv4 to fall back to (A66, as Boulder does).

    Only what `may_dial` (A73), which is asked about each before it counts.
    """
    # Not remembered by answer: whoever owns a name chooses how many addresses it has, and a few thousand answers of
    # 64 KiB each (RFC 7766) would be gigabytes.
    found: dict[int, Address] = {}
    for address in addresses:
        if address.version not in found and may_dial(address, allowed_networks):
            found[address.version] = address
    return tuple(found[version] for version in (6, 4) if version in found)
