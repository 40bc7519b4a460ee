"""Generations of authorities: who took whose place, and what that means for trust. Pure; the certificates are not read.

A new key is a new authority with the same subject. The old one names its successor and never issues again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.domain.authority import Authority


def latest(authority: Authority, by_id: Mapping[str, Authority]) -> Authority:
    """The last of an authority's successors; itself, if it has none."""
    while authority.successor_id is not None:
        authority = by_id[authority.successor_id]
    return authority


def generations(authority: Authority, authorities: Iterable[Authority]) -> tuple[Authority, ...]:
    """All that this authority was and became, itself included."""
    by_id = {each.id: each for each in authorities}
    last = latest(by_id.get(authority.id, authority), by_id)
    return tuple(each for each in by_id.values() if latest(each, by_id).id == last.id)


def acceptable(authority: Authority, authorities: Iterable[Authority]) -> frozenset[bytes]:
    """The certificates, DER, under which this authority's line has issued: a device may hold an older one's."""
    return frozenset(each.certificate for each in generations(authority, authorities) if each.chain)


def published(authority: Authority, authorities: Iterable[Authority]) -> tuple[bytes, ...]:
    """What a client is given to trust this authority, DER: its chain, root included, first (RFC 7030, 4.1.3).

    While one generation follows another, both are there at each level of the chain, with the links between them, so
    that whoever trusts either of two roots comes to trust what was issued under the other.
    """
    known = tuple(authorities)
    found: dict[bytes, None] = dict.fromkeys(authority.chain)
    waiting = [authority]
    seen: set[str] = set()
    while waiting:
        one = waiting.pop(0)
        if one.id in seen:
            continue
        for each in (one, *generations(one, known)):
            seen.add(each.id)
            found |= dict.fromkeys((*each.chain, *each.links))
        waiting += [each for each in known if each.id not in seen and each.chain and each.certificate in found]
    return tuple(found)
