"""Sweeps away what nobody asks for any more: ACME orders and authorizations long past their end, stale events.

Never an account, a certificate, a request or an audit event: those are the record.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.store import acme, outbox

log = logging.getLogger(__name__)

# A client that was away for a month still finds its order, and learns from it what became of it.
KEPT = timedelta(days=30)
# An event that was not delivered for a week is no news. Each enrollment leaves one, whether or not anyone listens.
UNDELIVERED = timedelta(days=7)
PAUSE = 3600.0  # seconds
# Between two rounds of a long sweep, so that enrollments do not wait behind a queue of sweeps.
_BREATH = 0.1  # seconds


async def sweep(resources: Resources, *, pause: float = PAUSE) -> None:
    """Sweep for ever; ends by cancellation only. A store that is away is tried again next time."""
    swept = 0
    while True:
        await trio.sleep(_BREATH if swept else pause)
        try:
            swept = await resources.store.write(partial(acme.collect, before=resources.now() - KEPT))
            swept += await resources.store.write(partial(outbox.forget, before=resources.now() - UNDELIVERED))
        except OUTAGES as trouble:
            log.warning("nothing was swept: %s", trouble)
            swept = 0
