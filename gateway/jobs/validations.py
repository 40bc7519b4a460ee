"""The job that owns validations, and takes up again what a stop cut off. Decides nothing."""

from __future__ import annotations

import logging

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.actions.validate import Validations, resume

log = logging.getLogger(__name__)

_PAUSE = 5.0  # seconds until the store is asked again


async def validate_challenges(
    resources: Resources,
    validations: Validations,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled. Started as soon as validations can be asked for; the old ones follow."""
    async with trio.open_nursery() as nursery:
        await nursery.start(validations.run)
        task_status.started()
        while True:
            try:
                taken_up = await resume(resources, validations)
            except OUTAGES as error:
                log.warning("unfinished validations are not known yet: %s", error)
                await trio.sleep(_PAUSE)
            else:
                if taken_up:
                    log.info("%d unfinished validations taken up", taken_up)
                break
