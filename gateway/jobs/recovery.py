"""Recovers enrollments left half done while the gateway runs: the store was away just when one had to be recorded.

What a stop leaves is recovered at the next start; this is for everything else. Nothing is signed here.
"""

from __future__ import annotations

import logging
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
