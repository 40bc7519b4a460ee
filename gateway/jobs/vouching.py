"""Signs OCSP responses ahead that somebody asks for again and again, so that nobody waits for a signature (D19)."""

from __future__ import annotations

import logging
from typing import Final

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.actions.vouch import Statuses, refresh
from gateway.domain.refusal import Refusal

log = logging.getLogger(__name__)

# Answers are signed ahead by an hour; looking costs a walk over what is kept.
GLANCE: Final = 60.0  # seconds


async def keep_vouched(resources: Resources, statuses: Statuses, *, glance: float = GLANCE) -> None:
    """Refresh for ever; ends by cancellation only. What could not be signed is tried again at the next glance."""
    while True:
        await trio.sleep(glance)
        try:
            await refresh(resources, statuses)
        except (Refusal, *OUTAGES) as trouble:
            log.warning("OCSP responses not signed ahead: %s", trouble)
        except Exception:
            log.exception("OCSP responses not signed ahead")
