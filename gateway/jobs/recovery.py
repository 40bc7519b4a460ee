"""Recovers enrollments left half done while the gateway runs: the store was away just when one had to be recorded.

What a stop leaves is recovered at the next start, what a process that died had under way as soon as somebody sees that;
the overdue rule is for everything else. Nothing is signed here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial
from typing import Final

import trio

from gateway.actions.enroll import ATTEMPTS
from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.outbound.signer import DEADLINE
from gateway.store import issuance

log = logging.getLogger(__name__)

# No enrollment is under way for as long: its attempts end by the signer's deadline, and a slow store by its own.
OVERDUE: Final = timedelta(seconds=ATTEMPTS * DEADLINE + 90)
PAUSE: Final = 30.0  # seconds
GLANCE: Final = 1.0  # seconds; a client whose worker died asks again in as many


async def recover_overdue(resources: Resources, *, pause: float = PAUSE) -> None:
    """Burn overdue serials, fail their requests, make their orders ready again (A87); ends by cancellation only.

    A client that asks again gets a new certificate, under a new serial.
    """
    while True:
        await trio.sleep(pause)
        now = resources.now()
        try:
            burnt = await resources.store.write(partial(issuance.recover, at=now, before=now - OVERDUE))
        except OUTAGES as trouble:
            log.warning("nothing was recovered: %s", trouble)
            continue
        if burnt:
            log.warning("enrollments that were left half done: serials %s are marked burnt", ", ".join(burnt))


async def recover_abandoned(
    resources: Resources,
    gone: Callable[[Collection[int]], Awaitable[set[int]]],
    *,
    patience: float = 0.0,
    glance: float = GLANCE,
) -> None:
    """The same for what processes had that are gone, without waiting; ends by cancellation only.

    `gone` tells which of some processes have ended. `patience` is for how many seconds it must have said so: where a
    server is asked, one that lost its connection for a moment lives.
    """
    missed: dict[int, float] = {}  # since when
    while True:
        await trio.sleep(glance)
        try:
            known = await resources.store.read(issuance.holders)
            ended = await gone(known) if known else set()
            now = trio.current_time()
            missed = {each: missed.get(each, now) for each in ended if each != resources.holder}
            due = {each for each, since in missed.items() if now - since >= patience}
            if due:
                burnt = await resources.store.write(partial(issuance.recover_from, holders=due, at=resources.now()))
                log.warning("enrollments of a process that ended: serials %s are marked burnt", ", ".join(burnt))
        except OUTAGES as trouble:
            log.warning("what is left half done is not known: %s", trouble)
