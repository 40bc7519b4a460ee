"""Who is asking: bearer tokens, passphrases, challenges, and certificates of our own inventory. Default deny.

Secrets come in, are compared in constant time, and go no further: not into a log, an audit event or an exception.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

import msgspec
import trio

from gateway.actions import passphrase
from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.actions.throttle import Throttle, guesser
from gateway.domain.access import Identity
from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate, CertificateStatus
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.store import access, certificates
from gateway.store.unit import Unit
from protocols.exchange import Malformed
from protocols.pkix.certificate import serial_of

log = logging.getLogger(__name__)

# Checks of passphrases that were never seen right take turns: a thousand guesses sent at once then meet the count of
# the first ten. Sixty-four turns, so that one guesser delays hardly anybody else.
STRIPES: Final = 64
# So many wait for one turn: more than may be wrong. The rest come again, and hold nothing meanwhile (P16).
MOST_IN_TURN: Final = 16
# Longer than any token of ours, shorter than anything that costs to hash.
TOKEN_LENGTH: Final = 256


Aside: TypeAlias = Callable[[Awaitable[bool]], Awaitable[bool]]


class Uses:
    """When each token's last use was written down. A busy token costs one write a minute, not one a request."""

    def __init__(self, *, interval: float = 60.0, capacity: int = 4096) -> None:
        self._interval = interval
        self._capacity = capacity
        self._noted: OrderedDict[bytes, float] = OrderedDict()

    def due(self, digest: bytes, now: float) -> bool:
        """Whether the use at `now` is to be written down; the caller does so."""
        noted = self._noted.get(digest)
        if noted is not None and now < noted + self._interval:
            return False
        self._noted.pop(digest, None)
        self._noted[digest] = now
        if len(self._noted) > self._capacity:
            self._noted.popitem(last=False)
        return True


@dataclass(frozen=True, slots=True)
class Guesses:
    """The counters of wrong credentials, and whose turn it is to have one checked.

    `audited` bounds what a flood of guesses from everywhere can write to the disk: a burst, then one event a second.
    `uses` does the same for the right ones.
    """

    wrong: Throttle = field(default_factory=Throttle)
    audited: Throttle = field(default_factory=lambda: Throttle(burst=100, interval=1.0, capacity=1))
    uses: Uses = field(default_factory=Uses)
    turns: tuple[trio.Lock, ...] = field(default_factory=lambda: tuple(trio.Lock() for _ in range(STRIPES)))


class Attempt(msgspec.Struct, frozen=True):
    """Someone who presents a secret: from which address, in which HTTP request, through which door.

    `door` is `est`, `scep` or `api`; wrong credentials are counted for each by itself.
    """

    address: str
    http_request_id: str
    door: str


async def bearer(resources: Resources, guesses: Guesses, attempt: Attempt, authorization: str | None) -> Identity:
    """The identity whose token stands in an Authorization header (RFC 6750, 2.1).

    Raises:
        Refusal: UNAUTHENTICATED without a token or with one that is unknown or expired; RATE_LIMITED after too many
            wrong ones.
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Refusal(RefusalReason.UNAUTHENTICATED, "send a bearer token in the Authorization header")
    key = (guesser(attempt.address), attempt.door)
    _wait_your_turn(guesses, key, resources)
    if len(token) <= TOKEN_LENGTH:
        # The token is looked up by its digest: how long the comparison takes tells nothing about the token.
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        at = resources.now()
        identity = await _whose(resources, digest, at)
        if identity is not None:
            if guesses.uses.due(digest, at.timestamp()):
                await _note_use(resources, digest, at)
            return identity
    await _wrong(resources, guesses, attempt, key, None)
    raise Refusal(RefusalReason.UNAUTHENTICATED, "the bearer token is unknown or has expired")


async def secret(
    resources: Resources,
    guesses: Guesses,
    attempt: Attempt,
    pair: Pair,
    *,
    given: str,
    expected: str | None,
    aside: Aside | None = None,
) -> bool:
    """Whether `given` is the secret whose argon2id hash is `expected`; None is never matched.

    What is known is told at once; all that may take long is awaited in `aside`.

    Raises:
        Refusal: RATE_LIMITED after too many wrong ones from this address for this pair, right or wrong now (E90, S107).
    """
    key = (guesser(attempt.address), f"{attempt.door}:{pair.id}")
    _wait_your_turn(guesses, key, resources)
    if expected is not None and passphrase.known(expected, given):
        return True

    async def check() -> bool:
        if expected is not None:
            turn = guesses.turns[hash(key) % STRIPES]
            if turn.statistics().tasks_waiting >= MOST_IN_TURN:
                raise Refusal(RefusalReason.BUSY, "too many passphrases to check at the moment", retry_after=1)
            async with turn:
                _wait_your_turn(guesses, key, resources)
                if await passphrase.verify_passphrase(expected, given):
                    return True
                await _wrong(resources, guesses, attempt, key, pair)
                return False
        await _wrong(resources, guesses, attempt, key, pair)
        return False

    return await (check() if aside is None else aside(check()))


async def certificate(resources: Resources, pair: Pair, der: bytes) -> Certificate:
    """The inventory's record of a certificate that its holder has proved to hold, if it may act for `pair`.

    Raises:
        Refusal: FORBIDDEN for one that this gateway did not issue for this pair (E60, E68, S67), REVOKED (E62),
            EXPIRED, or not yet valid (E61).
    """
    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        serial = f"{serial_of(der):x}"
    except Malformed:
        serial = ""  # nobody's
    found = await resources.store.read(lambda unit: certificates.find_by_sha256(unit, fingerprint, serial=serial))
    if (
        found is None
        or found.application_id != pair.application.id
        or found.profile_id != pair.profile.id
        or found.source != "issued"  # an imported one was not vouched for by us, whoever holds its key
    ):
        raise Refusal(
            RefusalReason.FORBIDDEN, "the certificate presented was not issued for this application and profile"
        )
    now = resources.now()
    match found.status(now):
        case CertificateStatus.REVOKED:
            raise Refusal(RefusalReason.REVOKED, "the certificate presented is revoked")
        case CertificateStatus.EXPIRED:
            raise Refusal(RefusalReason.EXPIRED, "the certificate presented has expired")
        case CertificateStatus.ACTIVE:
            if now < found.not_before:
                raise Refusal(RefusalReason.FORBIDDEN, "the certificate presented is not valid yet")
            return found


async def _whose(resources: Resources, digest: bytes, at: datetime) -> Identity | None:
    known = resources.bearers.get(digest, at)
    if known is not None and (known.expires is None or at < known.expires):
        return known
    found = await resources.store.read(lambda unit: access.find_token(unit, digest, at))
    if found is not None:
        resources.bearers.put(digest, found, at)
    return found


async def _note_use(resources: Resources, digest: bytes, at: datetime) -> None:
    try:
        await resources.store.write(lambda unit: access.touch_token(unit, digest, at))
    except OUTAGES as error:
        log.warning("a token's last use could not be recorded: %s", error)


def _wait_your_turn(guesses: Guesses, key: tuple[str, str], resources: Resources) -> None:
    if key not in guesses.wrong:
        return
    seconds = guesses.wrong.wait(key, resources.now().timestamp())
    if seconds:
        raise Refusal(
            RefusalReason.RATE_LIMITED,
            f"too many wrong credentials from this address; try again in {seconds} seconds",
            retry_after=seconds,
        )


async def _wrong(
    resources: Resources, guesses: Guesses, attempt: Attempt, key: tuple[str, str], pair: Pair | None
) -> None:
    """Count a wrong credential, and write it down unless a flood of them is being written already."""
    at = resources.now()
    guesses.wrong.fail(key, at.timestamp())
    everyone = ("", "")
    if guesses.audited.wait(everyone, at.timestamp()):
        return
    guesses.audited.fail(everyone, at.timestamp())
    event = AuditEvent(
        at=at,
        actor=f"address:{attempt.address}",
        action="credential.check",
        target=attempt.door if pair is None else f"{attempt.door} {pair.application.name}/{pair.profile.slug}",
        outcome="refused",
        application_id=None if pair is None else pair.application.id,
        detail="wrong credentials",
        source=attempt.address,
        request_id=attempt.http_request_id,
    )

    def unit(unit: Unit) -> None:
        unit.audit(event)

    try:
        await resources.store.write(unit)
    except OUTAGES as error:
        log.warning("request %s: wrong credentials could not be recorded: %s", attempt.http_request_id, error)
