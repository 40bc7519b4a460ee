"""What the store says of all lists, of one moment: a cheap read, whatever is revoked. No list's bytes here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.actions.resources import Resources
from gateway.store import revocation_deltas, revocation_lists, revocations
from gateway.store.revocation_deltas import DeltaState
from gateway.store.revocation_lists import ListState
from gateway.store.unit import Unit


@dataclass(frozen=True, slots=True)
class Outlook:
    """Every issuer's revision, and the state of every list and every delta, by issuer and part."""

    revisions: Mapping[str, int]
    lists: Mapping[tuple[str, int], ListState]
    deltas: Mapping[tuple[str, int], DeltaState]

    def revision(self, issuer_id: str) -> int:
        """The revision of an issuer; 0 if nothing of it was ever revoked."""
        return self.revisions.get(issuer_id, 0)

    def parts(self, issuer_id: str) -> set[int]:
        """The partitions of an issuer that were ever published."""
        return {part for each, part in self.lists if each == issuer_id and part >= 0}


async def outlook(resources: Resources) -> Outlook:
    """How things stand now. Raises as the store does."""

    def unit(unit: Unit) -> Outlook:
        return Outlook(revocations.revisions(unit), revocation_lists.states(unit), revocation_deltas.states(unit))

    return await resources.store.read(unit)


async def outlook_on(resources: Resources, issuer_id: str, part: int) -> Outlook:
    """The same of one part's list and delta alone, and of no revision: what a request may cost. Raises as the store."""
    place = issuer_id, part

    def unit(unit: Unit) -> Outlook:
        listed = revocation_lists.state(unit, issuer_id, part)
        delta = revocation_deltas.state(unit, issuer_id, part)
        return Outlook({}, {} if listed is None else {place: listed}, {} if delta is None else {place: delta})

    return await resources.store.read(unit)
