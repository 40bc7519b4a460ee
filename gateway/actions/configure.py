"""Make the store agree with a declaration (D28): in one unit, audited, and nothing the second time.

Nothing is ever deleted. Keys are made by the ceremony that the caller passes; this process never sees one. Secrets are
stored as hashes only and appear in no change, event or error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from gateway.actions import adopt
from gateway.actions.compare import Change, Difference, HashSecret, VerifySecret, compare
from gateway.actions.passphrase import check_passphrase, hash_passphrase
from gateway.domain.audit import AuditEvent
from gateway.domain.authority import Authority, AuthorityManifest
from gateway.domain.declaration.shape import AuthorityDeclaration, Declaration
from gateway.domain.identifier import Dice, new_id
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.succession import latest
from gateway.store import catalogue as store
from gateway.store import certificates
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, Unit

Ceremony: TypeAlias = Callable[[AuthorityDeclaration, Authority | None], Awaitable[AuthorityManifest]]
"""Makes an authority's keys and certificates, below its parent or as a root; may be asked again for one it made."""


def differences(
    declaration: Declaration, catalogue: Catalogue, verify_secret: VerifySecret = check_passphrase
) -> list[Change]:
    """What `configure` would change, for people to read. Raises DeclarationError as it does."""
    return list(
        compare(
            declaration,
            catalogue,
            now=datetime(1970, 1, 1, tzinfo=UTC),
            fresh=lambda: "new",
            hash_secret=lambda _: "new",
            verify_secret=verify_secret,
        ).changes
    )


async def configure(
    to: Store,
    declaration: Declaration,
    *,
    ceremony: Ceremony,
    actor: str,
    now: datetime,
    dice: Dice,
    hash_secret: HashSecret = hash_passphrase,
    verify_secret: VerifySecret = check_passphrase,
) -> list[Change]:
    """Apply a declaration; gives what was changed.

    Missing authorities are made first, parents before children; everything else, their rows included, is one unit with
    an audit event for each change. Hashing costs tens of milliseconds for each secret that is new, and blocks.

    Raises:
        DeclarationError: the declaration contradicts itself or what is there; nothing was done.
        Refusal: CONFLICT, if somebody else changed the catalogue meanwhile; nothing but keys was made.
        StoreError: see `Store.write`.
    """
    before = await to.read(store.load)
    difference = compare(
        declaration,
        before,
        now=now,
        fresh=lambda: new_id(now, dice),
        hash_secret=hash_secret,
        verify_secret=verify_secret,
    )
    if not difference.changes:
        return []
    made = await _make(difference, before, ceremony)
    rows = [row for authority in made for row in adopt.certificates(authority, now=now, dice=dice)]

    def unit(unit: Unit) -> None:
        if store.version(unit) != before.version:
            raise Refusal(RefusalReason.CONFLICT, "the configuration was changed by somebody else; apply it again")
        for authority in made:
            store.save_authority(unit, authority)
        for row in rows:
            certificates.record(unit, row)
        _save(unit, difference)
        for change in difference.changes:
            unit.audit(AuditEvent(now, actor, change.verb, change.target, "success", detail=change.detail))

    await to.write(unit)
    return list(difference.changes)


async def _make(difference: Difference, catalogue: Catalogue, ceremony: Ceremony) -> list[Authority]:
    by_name = {each.name: each for each in catalogue.authorities}
    made = []
    for missing in difference.missing:
        declared = missing.declared
        by_id = {each.id: each for each in by_name.values()}
        parent = None if declared.parent is None else latest(by_name[declared.parent], by_id)
        manifest = await ceremony(declared, parent)
        by_name[declared.name] = adopt.authority(missing.id, declared, manifest, parent)
        made.append(by_name[declared.name])
    return made


def _save(unit: Unit, difference: Difference) -> None:
    for authority in difference.authorities:
        store.save_authority(unit, authority)
    for policy in difference.policies:
        store.save_policy(unit, policy)
    for profile in difference.profiles:
        store.save_profile(unit, profile)
    for application in difference.applications:
        store.save_application(unit, application)
    for enrollment in difference.enrollments:
        if enrollment.attach:
            store.attach(unit, enrollment.application_id, enrollment.profile_id)
        store.save_settings(unit, enrollment.application_id, enrollment.profile_id, enrollment.settings)
