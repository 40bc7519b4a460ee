"""Keep an authority's lists in force: signed ahead of their end, and as soon as what is revoked has changed (D19).

Never here: two signatures for the same list. Who signs has claimed the number in the store before; all gateways of one
store hand out what was kept there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import trio

from gateway.actions.outage import outage
from gateway.actions.publish.held import Publications, RevocationList
from gateway.actions.publish.ledger import Ledger
from gateway.actions.resources import Resources
from gateway.domain.authority import PARTITION, Authority
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.outbound.signer import SignerFailure
from gateway.store import revocation_lists, revocations
from gateway.store.revocation_lists import WHOLE, ListState
from gateway.store.unit import EPOCH, Unit

# thisUpdate lies a little in the past, for relying parties whose clock is slow (as notBefore does, A122).
BACKDATE: Final = timedelta(minutes=5)
# Longer than a list's deadline at the signer: whoever claimed the number and is silent for so long is gone.
PATIENCE: Final = timedelta(seconds=45)
# While lists take long, they are signed for a fifth of the time at most; never later than this after a change.
SHARE: Final = 4.0
LONGEST_REST: Final = 10.0  # seconds
# How long someone who asks for a list waits for another gateway to sign it, and how often they look.
GLANCES: Final = 100
GLANCE: Final = 0.1  # seconds

States = Mapping[tuple[str, int], ListState]


async def revocation_list(
    resources: Resources, publications: Publications, authority: Authority, part: int = WHOLE
) -> RevocationList | None:
    """The list in force of the whole authority or of a partition, signed now if there is none; None: no such part.

    Raises:
        Refusal: BUSY or UNAVAILABLE where signer or store cannot help now.
    """
    held = publications.current(authority.id, resources.now(), part)
    if held is not None:
        return held
    for _ in range(GLANCES):
        states = await resources.store.read(revocation_lists.states)
        if part not in parts(authority, states):
            return None
        async with publications.turn(authority.id):
            await _adopt(resources, publications, authority, part, states)
            if publications.current(authority.id, resources.now(), part) is None:
                await _sign(resources, publications, authority, part)
            held = publications.current(authority.id, resources.now(), part)
        if held is not None:
            return held
        await trio.sleep(GLANCE)  # someone else signs
    raise Refusal(RefusalReason.UNAVAILABLE, "the list is being signed", retry_after=5)


def parts(authority: Authority, states: States) -> tuple[int, ...]:
    """The partitions that were ever published or are named from now on, and then the whole list.

    Certificates that name a partition live on when the number of partitions changes: its list goes on as well.
    """
    published = {part for issuer_id, part in states if issuer_id == authority.id and part >= 0}
    named = range(authority.lists.partitions if names(authority, 0, ()) else 0)
    return (*sorted(published.union(named)), WHOLE)


def names(authority: Authority, part: int, before: tuple[str, ...]) -> tuple[str, ...]:
    """What a partition's list says it is: every address that certificates ever had for it (RFC 5280, 6.3.3, b2i)."""
    if part == WHOLE:
        return ()
    now = (url.replace(PARTITION, str(part)) for url in authority.crl_urls if PARTITION in url)
    return tuple(dict.fromkeys((*now, *before)))


async def renew_revocation_lists(
    resources: Resources, publications: Publications, authority: Authority, states: States, revision: int
) -> int:
    """Adopt what others signed, and sign what is due; says how many lists were signed.

    `states` and `revision` are the store's, of a moment ago. The whole list comes last, so that its revision says that
    of all parts: a round that failed in between is made up for by the next.

    Raises:
        Refusal: BUSY or UNAVAILABLE where the signer cannot help now. StoreError.
    """
    signed = 0
    async with publications.turn(authority.id):
        for part in parts(authority, states):
            await _adopt(resources, publications, authority, part, states)
        ledger, whole = publications.ledger(authority.id), states.get((authority.id, WHOLE))
        if publications.resting(authority.id):
            return 0
        if whole is None or whole.revision < revision:
            await ledger.catch_up(resources, authority.id)
        began, complete = trio.current_time(), True
        for part in parts(authority, states):
            if not _due(resources, publications, authority, part, revision) or (part == WHOLE and not complete):
                continue
            done = await _sign(resources, publications, authority, part)
            complete = complete and done
            signed += done
        if signed:
            publications.rest(authority.id, min(LONGEST_REST, SHARE * (trio.current_time() - began)))
    return signed


def _due(resources: Resources, publications: Publications, authority: Authority, part: int, revision: int) -> bool:
    now = resources.now()
    held = publications.current(authority.id, now, part)
    # One of the future was signed while the clock was wrong: relying parties take it for not yet valid.
    if held is None or held.this_update > now:
        return True
    if now >= held.this_update + BACKDATE + min(authority.lists.refresh, authority.lists.lifetime / 2):
        return True
    changed = revision if part == WHOLE else publications.ledger(authority.id).changed(part)
    return held.revision < changed


async def _adopt(
    resources: Resources, publications: Publications, authority: Authority, part: int, states: States
) -> None:
    """Hand out what is in the store, where that is newer."""
    state = states.get((authority.id, part))
    if state is None or state.number <= publications.number(authority.id, part):
        return
    found = await resources.store.read(lambda unit: revocation_lists.find(unit, authority.id, part))
    if found is not None:
        publications.keep(authority.id, part, _held(*found))


async def _sign(resources: Resources, publications: Publications, authority: Authority, part: int) -> bool:
    """Claim the next number, sign, keep; false if somebody else is at it. The caller has the turn."""
    own = names(authority, part, ())

    last = publications.claimed.get((authority.id, part), 0)

    def claim(unit: Unit) -> tuple[int, ListState] | None:
        return revocation_lists.claim(
            unit, authority.id, part, urls=own, at=resources.now(), patience=PATIENCE, own=last
        )

    # Whoever asked for the list may go away: a claim that nobody knows of would be in everybody's way.
    with trio.CancelScope(shield=True):
        claimed = await resources.store.write(claim)
    if claimed is None:
        return False
    number, before = claimed
    publications.claimed[authority.id, part] = number
    try:
        signed, der = await _signed(resources, publications.ledger(authority.id), authority, before, number)
    except BaseException:
        with trio.CancelScope(shield=True):
            await resources.store.write(lambda unit: revocation_lists.give_back(unit, authority.id, part, number))
        raise
    with trio.CancelScope(shield=True):
        kept = await resources.store.write(lambda unit: revocation_lists.keep(unit, signed, der))
    if not kept:
        return False
    publications.keep(authority.id, part, _held(signed, der))
    return True


async def _signed(
    resources: Resources, ledger: Ledger, authority: Authority, before: ListState, number: int
) -> tuple[ListState, bytes]:
    now = resources.now().replace(microsecond=0)
    await ledger.catch_up(resources, authority.id)
    revision = ledger.revision
    # RFC 5280, 3.3: "on one regularly scheduled CRL issued beyond the validity period". Lists are signed in between as
    # well; one period more makes sure that a scheduled one was among them.
    # By a clock that went wrong, and right again, what lives may have been thought expired: the earlier time counts.
    expired_by = max(EPOCH, min(before.this_update, now) - authority.lists.refresh)
    entries = await ledger.entries(before.part, expired_by=expired_by, listed=before.revision, now=int(now.timestamp()))
    # Later than the last list's by a second at least, or caches that go by Last-Modified would take it for that one.
    this_update = max(now - BACKDATE, min(before.this_update + timedelta(seconds=1), now))
    next_update = now + authority.lists.lifetime
    urls = names(authority, before.part, before.urls)
    try:
        der = await resources.signer.sign_crl(
            authority.key,
            number=number,
            this_update=int(this_update.timestamp()),
            next_update=int(next_update.timestamp()),
            entries=entries,
            names=urls,
        )
    except SignerFailure as failure:
        raise outage(failure) from failure
    return ListState(authority.id, before.part, number, this_update, next_update, revision, urls), der


def _held(state: ListState, der: bytes) -> RevocationList:
    return RevocationList(der, state.number, state.this_update, state.next_update, state.revision)


async def outlook(resources: Resources) -> tuple[dict[str, int], States]:
    """Every issuer's revision and every list's state, of one moment: one cheap read, whatever is revoked."""
    return await resources.store.read(lambda unit: (revocations.revisions(unit), revocation_lists.states(unit)))
