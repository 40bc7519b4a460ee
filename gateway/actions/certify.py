"""Take what ceremonies make of authorities into the store: a first, a renewed certificate, a successor with a new key.

Each is one unit, with its certificates and its audit event: an authority that is in the catalogue is whole, and what
its profiles issue never has two meanings. Nothing is signed here, and no key is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from gateway.actions import adopt
from gateway.domain.audit import AuditEvent
from gateway.domain.authority import Authority, AuthorityManifest, AuthorityStatus
from gateway.domain.certificate import Certificate
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.store import catalogue as store
from gateway.store import certificates
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, Unit
from protocols.pkix import certificate as reader


@dataclass(frozen=True, slots=True)
class By:
    """Who does it and when, and where new ids come from."""

    actor: str
    now: datetime
    dice: Callable[[int], bytes]


async def record(to: Store, authority: Authority, verb: str, *, by: By) -> None:
    """Take a new authority into the catalogue, and its certificates into the inventory. `verb` is for the audit trail.

    Raises Refusal, CONFLICT, where its name is taken; StoreError as `Store.write` does.
    """
    rows = adopt.certificates(authority, now=by.now, dice=by.dice) if authority.chain else ()

    def unit(unit: Unit) -> None:
        _refuse_taken(store.load(unit), authority.name)
        store.save_authority(unit, authority)
        _note(unit, rows)
        unit.audit(AuditEvent(by.now, by.actor, f"authority.{verb}", authority.name, "success"))

    await to.write(unit)


async def renew(to: Store, name: str, manifest: AuthorityManifest, verb: str, *, parent_id: str | None, by: By) -> int:
    """Give an authority another certificate of the same key, and every chain below it too; gives how many those were.

    `parent_id` is who signed it. One that waited for its first certificate in order to succeed another does so now.

    Raises Refusal, NOT_FOUND, for an unknown name; protocols.exchange.Malformed; StoreError.
    """
    below = 0

    def unit(unit: Unit) -> None:
        nonlocal below
        catalogue = store.load(unit)
        before = named(catalogue, name)
        after = replace(adopt.renewed(before, manifest), parent_id=parent_id)
        store.save_authority(unit, after)
        _take_place(unit, catalogue, after)
        others = [] if not before.chain else [_below(each, before, after) for each in catalogue.authorities]
        moved = [new for new, old in zip(others, catalogue.authorities, strict=False) if new != old]
        for each in moved:
            store.save_authority(unit, each)
        below = len(moved)
        _note(unit, adopt.certificates(after, now=by.now, dice=by.dice))
        detail = f"until {after.not_after:%Y-%m-%d}" + (f", {below} chains below follow" if below else "")
        unit.audit(AuditEvent(by.now, by.actor, f"authority.{verb}", name, "success", detail=detail))

    await to.write(unit)
    return below


async def succeed(to: Store, name: str, successor: Authority, *, by: By) -> tuple[str, ...]:
    """Put `successor` (another key, the same subject) in an authority's place; gives the profiles that moved, by slug.

    The old one issues for no profile from then on; its lists and OCSP go on. Both keep the links.

    Raises Refusal: NOT_FOUND for an unknown name, CONFLICT where it has a successor or the name is taken; StoreError.
    """
    moved: tuple[str, ...] = ()
    rows = adopt.certificates(successor, now=by.now, dice=by.dice)

    def unit(unit: Unit) -> None:
        nonlocal moved
        catalogue = store.load(unit)
        before = named(catalogue, name)
        if before.successor_id is not None:
            raise Refusal(RefusalReason.CONFLICT, f"{name} has a successor already")
        _refuse_taken(catalogue, successor.name)
        store.save_authority(unit, successor)
        store.save_authority(unit, replace(before, successor_id=successor.id, links=before.links + successor.links))
        moved = _move_profiles(unit, catalogue, before.id, successor.id)
        _note(unit, (*rows, *_links(before, successor, by)))
        detail = f"succeeded by {successor.name}" + (f", profiles {', '.join(moved)}" if moved else "")
        unit.audit(AuditEvent(by.now, by.actor, "authority.rekey", name, "success", detail=detail))

    await to.write(unit)
    return moved


async def switch(to: Store, name: str, status: AuthorityStatus, *, by: By) -> None:
    """Let an authority issue, or stop it; lists and OCSP go on. Raises Refusal (NOT_FOUND, CONFLICT), StoreError."""

    def unit(unit: Unit) -> None:
        before = named(store.load(unit), name)
        if before.status is AuthorityStatus.PENDING_CERTIFICATE:
            raise Refusal(RefusalReason.CONFLICT, f"{name} waits for its certificate: muster authority install {name}")
        if before.status is status:
            return
        store.save_authority(unit, replace(before, status=status))
        verb = "enable" if status is AuthorityStatus.ACTIVE else "disable"
        unit.audit(AuditEvent(by.now, by.actor, f"authority.{verb}", name, "success"))

    await to.write(unit)


async def note(to: Store, name: str, verb: str, detail: str, *, by: By) -> None:
    """Record what was done to an authority's key and changes nothing in the store. Raises Refusal, StoreError."""

    def unit(unit: Unit) -> None:
        named(store.load(unit), name)
        unit.audit(AuditEvent(by.now, by.actor, f"authority.{verb}", name, "success", detail=detail))

    await to.write(unit)


def named(catalogue: Catalogue, name: str) -> Authority:
    """The authority of that name. Raises Refusal, NOT_FOUND."""
    for each in catalogue.authorities:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in catalogue.authorities)
    raise Refusal(RefusalReason.NOT_FOUND, f"there is no authority {name}; there are: {known}")


def _refuse_taken(catalogue: Catalogue, name: str) -> None:
    if any(each.name == name for each in catalogue.authorities):
        raise Refusal(RefusalReason.CONFLICT, f"there is an authority {name} already; choose another name")


def _below(authority: Authority, before: Authority, after: Authority) -> Authority:
    """The authority with the new certificates in its chain, if the renewed one stands above it."""
    if authority.id == after.id or before.certificate not in authority.chain:
        return authority
    level = authority.chain.index(before.certificate)
    return replace(authority, chain=(*authority.chain[:level], *after.chain))


def _take_place(unit: Unit, catalogue: Catalogue, new: Authority) -> None:
    for old in catalogue.authorities:
        if old.id == new.predecessor_id and old.successor_id is None:
            store.save_authority(unit, replace(old, successor_id=new.id))
            _move_profiles(unit, catalogue, old.id, new.id)


def _move_profiles(unit: Unit, catalogue: Catalogue, old_id: str, new_id: str) -> tuple[str, ...]:
    moved = [each for each in catalogue.profiles if each.authority_id == old_id]
    for each in moved:
        store.save_profile(unit, replace(each, authority_id=new_id))
    return tuple(each.slug for each in moved)


def _links(old: Authority, new: Authority, by: By) -> list[Certificate]:
    """Each link is in the inventory under the key that signed it: the old one certified the new, and the reverse."""
    ours = reader.read(new.certificate).spki
    return [
        adopt.row(link, old.id if reader.read(link).spki == ours else new.id, now=by.now, dice=by.dice)
        for link in new.links
    ]


def _note(unit: Unit, rows: tuple[Certificate, ...]) -> None:
    for row in rows:
        found = certificates.find_by_serial(unit, row.issuer_id, row.serial)
        if found is None or found.sha256 != row.sha256:
            certificates.record(unit, row)
