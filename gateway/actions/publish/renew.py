"""Keep an authority's lists in force: signed ahead of their end, and as soon as what is revoked has changed (D19).

Never here: two signatures for the same list. Who signs has claimed the number in the store before; all gateways of one
store hand out what was kept there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

import trio

from gateway.actions.publish.held import Publications, RevocationList
from gateway.actions.publish.outlook import Outlook, outlook_on
from gateway.actions.publish.sign import BACKDATE, Signing, freshest, held_delta, held_list, names
from gateway.actions.resources import Resources
from gateway.domain.authority import Authority
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.outbound.signer import SignerRefused
from gateway.store import revocation_deltas, revocation_lists
from gateway.store.revocation_deltas import DeltaState
from gateway.store.revocation_lists import WHOLE, ListState
from gateway.store.unit import Unit

# While lists take long, they are signed for a fifth of the time at most; never later than this after a change.
SHARE: Final = 4.0
LONGEST_REST: Final = 10.0  # seconds
# Each delta is a second later than the one before (thisUpdate): more of them would run ahead of the clock.
DELTA_REST: Final = 1.0  # seconds
# So many are signed ahead of their end in one round: a thousand partitions' at once would keep a revocation waiting.
AHEAD: Final = 32
# How long someone who asks for a list waits for another gateway to sign it, and how often they look.
GLANCES: Final = 100
GLANCE: Final = 0.1  # seconds

Held = Callable[[str, datetime, int], RevocationList | None]


async def revocation_list(
    resources: Resources, publications: Publications, authority: Authority, part: int = WHOLE
) -> RevocationList | None:
    """The list in force of the whole authority or of a partition, signed now if there is none; None: no such part.

    Raises:
        Refusal: BUSY or UNAVAILABLE where signer or store cannot help now.
    """

    def there(seen: Outlook) -> bool:
        return part in parts(authority, seen)

    signing = Signing(resources, publications, authority, part)
    return await _asked_for(signing, publications.current, there, signing.sign_list)


async def delta_list(
    resources: Resources, publications: Publications, authority: Authority, part: int = WHOLE
) -> RevocationList | None:
    """The delta in force, signed now if there is none; None where no complete list in force names one.

    So it goes on for those that hold such a list when the authority is to have no deltas any more. Raises as
    `revocation_list`.
    """

    def there(seen: Outlook) -> bool:
        delta = seen.deltas.get((authority.id, part))
        return delta is not None and resources.now() < delta.named_until

    signing = Signing(resources, publications, authority, part)
    return await _asked_for(signing, publications.delta, there, signing.sign_delta)


async def _asked_for(
    signing: Signing, held: Held, there: Callable[[Outlook], bool], sign: Callable[[], Awaitable[bool]]
) -> RevocationList | None:
    resources, publications = signing.resources, signing.publications
    authority, part = signing.authority, signing.part
    found = held(authority.id, resources.now(), part)
    if found is not None:
        return found
    for _ in range(GLANCES):
        seen = await outlook_on(resources, authority.id, part)
        if not there(seen):
            return None
        async with publications.turn(authority.id):
            await _adopt(resources, publications, authority, part, seen)
            if held(authority.id, resources.now(), part) is None:
                await sign()
            found = held(authority.id, resources.now(), part)
        if found is not None:
            return found
        await trio.sleep(GLANCE)  # someone else signs
    raise Refusal(RefusalReason.UNAVAILABLE, "the list is being signed", retry_after=5)


def parts(authority: Authority, seen: Outlook) -> tuple[int, ...]:
    """The partitions that were ever published or are named from now on, and then the whole list.

    Certificates that name a partition live on when the number of partitions changes: its list goes on as well.
    """
    named = range(authority.lists.partitions if names(authority, 0, ()) else 0)
    return (*sorted(seen.parts(authority.id).union(named)), WHOLE)


async def renew_revocation_lists(
    resources: Resources, publications: Publications, authority: Authority, seen: Outlook
) -> int:
    """Adopt what others signed, and sign what is due; says how many lists and deltas were signed.

    `seen` is of a moment ago. The whole list comes last, so that its revision says that of all parts: a round that
    failed in between is made up for by the next. A list that names a delta is followed by one.

    Raises:
        Refusal: BUSY or UNAVAILABLE where the signer cannot help now, or, with all else signed, will not. StoreError.
    """
    lists, deltas, ahead = 0, 0, AHEAD
    async with publications.turn(authority.id):
        every = parts(authority, seen)
        for part in every:
            await _adopt(resources, publications, authority, part, seen)
        if publications.resting(authority.id):
            return 0
        await _catch_up(resources, publications, authority, every, seen)
        began, complete, refused = trio.current_time(), True, None
        for part in every:
            signing = Signing(resources, publications, authority, part)
            due = _due(resources, publications, authority, part, seen)
            ages = ahead and _ages(resources, publications, authority, part)
            try:
                if (due or ages) and (part != WHOLE or complete):
                    ahead -= not due
                    done = await signing.sign_list()
                    complete = complete and done
                    lists += done
                if not _named_by_one(resources, publications, authority, part, seen):
                    continue
                due = _delta_due(resources, publications, authority, part, seen)
                if due or (ahead and _delta_ages(resources, publications, authority, part)):
                    ahead -= not due
                    deltas += await signing.sign_delta()
            except Refusal as refusal:
                # What the signer will not sign however often it is asked must not leave the others to run out.
                if not _decided(refusal):
                    raise
                refused = refusal
        if lists or deltas:
            rest = min(LONGEST_REST, SHARE * (trio.current_time() - began))
            publications.rest(authority.id, max(rest, DELTA_REST) if deltas else rest)
    if refused is not None:
        raise refused
    return lists + deltas


def _decided(refusal: Refusal) -> bool:
    cause = refusal.__cause__
    return isinstance(cause, SignerRefused) and cause.about_the_list


async def _catch_up(
    resources: Resources, publications: Publications, authority: Authority, every: tuple[int, ...], seen: Outlook
) -> None:
    """Read what changed, as far as it decides what is due: for lists that follow each change, and for deltas."""
    revision, whole = seen.revision(authority.id), seen.lists.get((authority.id, WHOLE))
    ledger = publications.ledger(authority.id)
    behind = whole is None or whole.revision < revision
    if behind and ledger.revision < revision and not all(freshest(authority, part) for part in every):
        await ledger.catch_up(resources, authority.id)
    deltas = _named(resources, authority, seen)
    if not deltas:
        return
    since = min(each.base_revision for each in deltas)
    publications.forget_changes(authority.id, since)
    if any(each.revision < revision for each in deltas):
        changes = publications.changes(authority.id, since)
        if changes.revision < revision:
            await changes.catch_up(resources, authority.id)


def _named(resources: Resources, authority: Authority, seen: Outlook) -> list[DeltaState]:
    """The deltas that some complete list in force names."""
    now = resources.now()
    return [
        each for (issuer_id, _), each in seen.deltas.items() if issuer_id == authority.id and now < each.named_until
    ]


def _due(resources: Resources, publications: Publications, authority: Authority, part: int, seen: Outlook) -> bool:
    """Whether a complete list is to be signed now."""
    now, says = resources.now(), freshest(authority, part)
    held = publications.current(authority.id, now, part)
    # One of the future was signed while the clock was wrong: relying parties take it for not yet valid.
    if held is None or held.this_update > now:
        return True
    # Deltas begin with a list that names them. Without them lists follow each change again, and say so no more.
    if held.freshest != says:
        return True
    if says:
        return False
    changed = seen.revision(authority.id) if part == WHOLE else publications.ledger(authority.id).changed(part)
    return held.revision < changed


def _ages(resources: Resources, publications: Publications, authority: Authority, part: int) -> bool:
    """Whether its turn to be signed ahead of its end has come."""
    now = resources.now()
    held = publications.current(authority.id, now, part)
    turn = BACKDATE + min(authority.lists.refresh, authority.lists.lifetime / 2)
    return held is not None and now >= held.this_update + turn


def _named_by_one(
    resources: Resources, publications: Publications, authority: Authority, part: int, seen: Outlook
) -> bool:
    """Whether a complete list in force names this part's delta; the newest, or one that somebody may still hold."""
    now, state = resources.now(), seen.deltas.get((authority.id, part))
    complete = publications.current(authority.id, now, part)
    return (complete is not None and bool(complete.freshest)) or (state is not None and now < state.named_until)


def _delta_due(
    resources: Resources, publications: Publications, authority: Authority, part: int, seen: Outlook
) -> bool:
    """Whether a delta is to be signed now."""
    now = resources.now()
    held, complete = publications.delta(authority.id, now, part), publications.current(authority.id, now, part)
    if held is None or held.this_update > now:
        return True
    # A new list is followed by a delta, though it be empty: one that is older fits the lists before it alone.
    if complete is not None and complete.freshest and held.number < complete.number:
        return True
    state = seen.deltas.get((authority.id, part))
    if state is None:  # it was signed a moment ago
        return False
    return held.revision < publications.changes(authority.id, state.base_revision).changed(part)


def _delta_ages(resources: Resources, publications: Publications, authority: Authority, part: int) -> bool:
    """Whether it is to be signed ahead of its end; there is as long again for that."""
    now = resources.now()
    held = publications.delta(authority.id, now, part)
    return held is not None and now >= held.this_update + BACKDATE + authority.lists.delta_lifetime / 2


async def _adopt(
    resources: Resources, publications: Publications, authority: Authority, part: int, seen: Outlook
) -> None:
    """Hand out what is in the store, where that is newer."""
    listed, delta = seen.lists.get((authority.id, part)), seen.deltas.get((authority.id, part))
    if listed is not None and listed.number > publications.number(authority.id, part):

        def unit(unit: Unit) -> tuple[tuple[ListState, bytes] | None, DeltaState | None]:
            return revocation_lists.find(unit, authority.id, part), revocation_deltas.state(unit, authority.id, part)

        found, named = await resources.store.read(unit)
        if found is not None:
            says = named.freshest if named is not None and named.named_by == found[0].number else ()
            publications.keep(authority.id, part, held_list(*found, says))
    if delta is not None and delta.number > publications.delta_number(authority.id, part):
        signed = await resources.store.read(lambda unit: revocation_deltas.find(unit, authority.id, part))
        if signed is not None:
            publications.keep_delta(authority.id, part, held_delta(*signed))
