"""Vouch for the status of certificates: OCSP responses, signed when asked or ahead (RFC 6960, RFC 5019; D19).

An answer about one certificate, without a nonce, is kept and handed out again for as long as the store says the same
and half of its life is left; it is signed once, however many ask at that moment. What relying parties are told is what
the store said within the last second. Must never happen here: a status that was not read, more signatures under way
than are bounded.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec
import trio

from gateway.actions.outage import outage
from gateway.actions.resources import Resources
from gateway.domain.authority import Authority
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.revocation import UNKNOWN, SerialKind, SerialState
from gateway.outbound.signer import SignerFailure, SignerRefused, Status
from gateway.store import certificates
from gateway.store.unit import Unit
from protocols.pkix.ocsp import CertId, StatusRequest, issuer_hashes

# A day: servers that staple live through a night without us, and a revoked certificate's last good answer not longer.
LIFETIME: Final = timedelta(days=1)
# What is not known may be, a moment later: a serial that is being signed just now.
UNKNOWN_LIFETIME: Final = timedelta(minutes=10)
# thisUpdate lies a little in the past, for relying parties whose clock is slow (as notBefore does, A122).
BACKDATE: Final = timedelta(minutes=5)
# How long before half of its life an answer that is asked for is signed again by itself.
AHEAD: Final = timedelta(hours=1)

# How long a status that was read is believed: to read it takes as long as the rest of an answer that is kept, and a
# round trip on PostgreSQL. A revocation waits as long; caches are told an hour.
MEMORY: Final = 1.0  # seconds

MOST: Final = 10_000  # answers that are kept; one takes about 1.3 KB
AT_ONCE: Final = 256  # signatures under way; who comes then is told to come back

Key: TypeAlias = tuple[str, CertId]


@dataclass(frozen=True, slots=True, eq=False)
class Vouched:
    """A signed response, which lasts if the same bytes may be handed to others, for `fresh` seconds each time.

    `tag` is the SHA-1 of the response in hex (RFC 5019, 6.2). `renew_at` is half of its life. `edition` is the same for
    all answers that tell the same of the same certificate, whichever worker signed them and when. What does not last
    has neither tag nor edition.
    """

    der: bytes
    this_update: datetime
    renew_at: datetime
    next_update: datetime
    tag: str = ""
    edition: str = ""

    @property
    def lasting(self) -> bool:
        """Whether others may have it."""
        return bool(self.edition)

    @property
    def fresh(self) -> int:
        """Seconds for which a cache may keep it: it is handed out before `renew_at` only."""
        return int((self.next_update - self.renew_at).total_seconds())


class _Held:
    """A kept answer, the status that it tells, and whether anybody asked since it was signed."""

    __slots__ = ("asked", "checked_at", "state", "vouched")

    def __init__(self, state: SerialState, vouched: Vouched, checked_at: float) -> None:
        self.state = state
        self.vouched = vouched
        self.checked_at = checked_at
        self.asked = False

    def in_force(self, now: datetime) -> bool:
        """Whether it may be handed out: half of its life is ahead, and it is not of a future that a wrong clock saw."""
        return self.vouched.this_update <= now < self.vouched.renew_at


class _Flight:
    """A signature under way, for which others wait."""

    __slots__ = ("ended", "refusal", "vouched")

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.vouched: Vouched | None = None
        self.refusal: Refusal | None = None


class Statuses:
    """The answers that are kept, the least recently asked given up first, and the signatures under way.

    `memory` is for how many seconds a status that was read is believed without reading it again.
    """

    def __init__(self, *, memory: float = MEMORY, most: int = MOST, at_once: int = AT_ONCE) -> None:
        self.memory = memory
        self._most = most
        self._at_once = at_once
        self._signing = 0
        self.held: OrderedDict[Key, _Held] = OrderedDict()
        self.flights: dict[tuple[Key, SerialState], _Flight] = {}

    def remembered(self, key: Key, now: datetime) -> Vouched | None:
        """The kept answer, if its status was read so lately that it need not be read again."""
        held = self.held.get(key)
        if held is None or trio.current_time() - held.checked_at >= self.memory or not held.in_force(now):
            return None
        return self._ask(key, held)

    def current(self, key: Key, state: SerialState, now: datetime, *, read_at: float) -> Vouched | None:
        """The kept answer, if it tells `state` and less than half of its life is over. `read_at` as in `keep`."""
        held = self.held.get(key)
        if held is None or held.state != state or not held.in_force(now):
            return None
        held.checked_at = max(held.checked_at, read_at)
        return self._ask(key, held)

    def keep(self, key: Key, state: SerialState, vouched: Vouched, *, read_at: float) -> None:
        """Hand out `vouched` from now on. What is unknown is not kept: strangers can make up any number of it.

        `read_at` is when `state` began to be read; what was read later, and signed sooner, stays.
        """
        held = self.held.get(key)
        if state.kind is SerialKind.UNKNOWN or (held is not None and held.checked_at > read_at):
            return
        self.held[key] = _Held(state, vouched, read_at)
        self.held.move_to_end(key)
        if len(self.held) > self._most:
            self.held.popitem(last=False)

    def newest(self) -> dict[str, datetime]:
        """When the kept answer that was signed last ends, by the authority's id."""
        found: dict[str, datetime] = {}
        for (authority_id, _), held in self.held.items():
            ends = held.vouched.next_update
            if authority_id not in found or ends > found[authority_id]:
                found[authority_id] = ends
        return found

    def begin(self) -> None:
        """Count a signature in. Raises `Refusal` (BUSY)."""
        if self._signing >= self._at_once:
            raise Refusal(RefusalReason.BUSY, "too many answers are being signed; nothing was done", retry_after=1)
        self._signing += 1

    def end(self) -> None:
        """Count a signature out."""
        self._signing -= 1

    def _ask(self, key: Key, held: _Held) -> Vouched:
        held.asked = True
        self.held.move_to_end(key)
        return held.vouched


async def vouch(resources: Resources, statuses: Statuses, authority: Authority, request: StatusRequest) -> Vouched:
    """What `authority` says of the certificates that `request` names; `unknown` of those of other issuers.

    Raises:
        Refusal: EXPIRED where the authority's own time is over; BUSY or UNAVAILABLE where nobody can sign now.
        StoreUnavailable, StoreBusy: the status cannot be read.
    """
    if len(request.ids) == 1 and not request.nonce and _is_ours(authority, request.ids[0]):
        return await _vouch_for_one(resources, statuses, authority, request.ids[0])
    asked = [each for each in request.ids if _is_ours(authority, each)]
    states = dict(zip(asked, await _states(resources, authority, asked), strict=True)) if asked else {}
    told = [Status(each, states.get(each)) for each in request.ids]
    return await _sign(resources, statuses, authority, told, request.nonce)


async def refresh(resources: Resources, statuses: Statuses) -> int:
    """Sign again what was asked for since it was signed and is near half of its life; how many that were.

    An authority whose key cannot sign just now is no obstacle to the others. Raises as `vouch`, when all was tried.
    """
    now = resources.now()
    # As they are now, renewed perhaps; one whose time is over must not be the others' obstacle.
    authorities = {each.id: each for each in resources.catalogue().authorities if now < each.not_after}
    due = [
        key
        for key, held in statuses.held.items()
        if held.asked and now + AHEAD >= held.vouched.renew_at and key[0] in authorities
    ]
    failed: dict[str, Refusal] = {}
    for key in due:
        if key[0] in failed:
            continue
        authority, read_at = authorities[key[0]], trio.current_time()
        [state] = await _states(resources, authority, [key[1]])
        try:
            vouched = await _sign_one(resources, statuses, authority, key[1], state)
        except Refusal as refusal:
            failed[key[0]] = refusal
            continue
        statuses.keep(key, state, vouched, read_at=read_at)
    if failed:
        raise next(iter(failed.values()))
    return len(due)


async def _vouch_for_one(resources: Resources, statuses: Statuses, authority: Authority, asked: CertId) -> Vouched:
    key = authority.id, asked
    known = statuses.remembered(key, resources.now())
    if known is not None:
        return known
    read_at = trio.current_time()
    [state] = await _states(resources, authority, [asked])
    turn = key, state
    while True:
        known = statuses.current(key, state, resources.now(), read_at=read_at)
        if known is not None:
            return known
        other = statuses.flights.get(turn)
        if other is None:
            break
        await other.ended.wait()
        if other.refusal is not None:
            raise Refusal(other.refusal.reason, other.refusal.detail, retry_after=other.refusal.retry_after)
        if other.vouched is not None:
            return other.vouched
        # Whoever signed went away before the end: the next in turn begins anew.
    flight = statuses.flights[turn] = _Flight()
    try:
        flight.vouched = await _sign_one(resources, statuses, authority, asked, state)
    except Refusal as refusal:
        flight.refusal = refusal
        raise
    finally:
        del statuses.flights[turn]
        flight.ended.set()
    statuses.keep(key, state, flight.vouched, read_at=read_at)
    return flight.vouched


async def _sign_one(
    resources: Resources, statuses: Statuses, authority: Authority, asked: CertId, state: SerialState
) -> Vouched:
    """An answer that lasts, unless nothing is known."""
    told = [Status(asked, state)]
    signed = await _sign(resources, statuses, authority, told, b"")
    if state.kind is SerialKind.UNKNOWN:
        return signed
    tag = hashlib.sha1(signed.der, usedforsecurity=False).hexdigest()
    edition = hashlib.sha256(repr((authority.certificate, told)).encode()).hexdigest()[:16]
    return replace(signed, tag=tag, edition=edition)


async def _sign(
    resources: Resources, statuses: Statuses, authority: Authority, told: Sequence[Status], nonce: bytes
) -> Vouched:
    now = resources.now().replace(microsecond=0)
    known = all(each.state is not None and each.state.kind is not SerialKind.UNKNOWN for each in told)
    # Nothing outlives the authority: the responder's certificate does not either.
    next_update = min(now + (LIFETIME if known else UNKNOWN_LIFETIME), authority.not_after)
    if next_update <= now:
        raise Refusal(RefusalReason.EXPIRED, "the authority's own validity is over")
    this_update = now - BACKDATE
    statuses.begin()
    try:
        der = await resources.signer.sign_ocsp(
            authority.key,
            [_past(each, now) for each in told],
            produced_at=int(now.timestamp()),
            this_update=int(this_update.timestamp()),
            next_update=int(next_update.timestamp()),
            nonce=nonce,
            # A share of its own: a storm of questions takes nothing from the authority's other work.
            share=f"ocsp:{authority.name}",
        )
    except SignerFailure as failure:
        if isinstance(failure, SignerRefused) and failure.about_the_request:
            raise Refusal(RefusalReason.EXPIRED, f"nothing is signed for it: {failure.detail}") from failure
        raise outage(failure) from failure
    finally:
        statuses.end()
    return Vouched(der, this_update, now + (next_update - now) / 2, next_update)


def _past(told: Status, now: datetime) -> Status:
    """The same, revoked no later than now: the clock may have been ahead, and no such answer would be signed."""
    state = told.state
    if state is None or state.revoked_at is None or state.revoked_at <= now:
        return told
    return msgspec.structs.replace(told, state=replace(state, revoked_at=now))


async def _states(resources: Resources, authority: Authority, asked: Sequence[CertId]) -> list[SerialState]:
    def read(unit: Unit) -> list[SerialState]:
        # What is not positive has no place in the inventory.
        return [
            certificates.status_of(unit, authority.id, each.hexadecimal) if each.hexadecimal else UNKNOWN
            for each in asked
        ]

    return await resources.store.read(read)


def _is_ours(authority: Authority, asked: CertId) -> bool:
    return issuer_hashes(authority.certificate, asked.digest) == (asked.name_hash, asked.key_hash)
