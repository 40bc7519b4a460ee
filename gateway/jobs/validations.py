"""The jobs that own validations, and take up again what a stop or a worker's death cut off. Decide nothing."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from gateway.actions.outage import OUTAGES
from gateway.actions.resources import Resources
from gateway.actions.validate import Validations, resume, unfinished_ids

log = logging.getLogger(__name__)

_PAUSE: Final = 5.0  # seconds until the store is asked again
# Others' lists of what they validate are a second old: what two looks so far apart find with nobody is nobody's.
GLANCE: Final = 3.0  # seconds


async def validate_challenges(
    resources: Resources,
    validations: Validations,
    *,
    resuming: bool = True,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run until cancelled. Started as soon as validations can be asked for; with `resuming` the old ones follow.

    `resuming` is for the start of the first who serves from a store: whatever is under way there is nobody's.
    """
    async with trio.open_nursery() as nursery:
        await nursery.start(validations.run)
        task_status.started()
        while resuming:
            try:
                taken_up = await resume(resources, validations)
            except OUTAGES as error:
                log.warning("unfinished validations are not known yet: %s", error)
                await trio.sleep(_PAUSE)
            else:
                if taken_up:
                    log.info("%d unfinished validations taken up", taken_up)
                resuming = False


async def take_up_abandoned(
    resources: Resources,
    validations: Validations,
    elsewhere: Callable[[], Awaitable[Collection[str]]],
    *,
    patience: float = 0.0,
    glance: float = GLANCE,
) -> None:
    """Take up what nobody validates any more, for ever; ends by cancellation only. One process at a time does this.

    `elsewhere` gives the authorizations that the other workers of this machine validate. `patience` is for how many
    seconds a validation must have been nobody's: where other machines work on the same store, longer than any takes.
    """
    missed: dict[str, float] = {}  # since when
    while True:
        await trio.sleep(glance)
        try:
            unfinished = await unfinished_ids(resources)
            unfinished.difference_update(validations.under_way, await elsewhere() if unfinished else ())
            now = trio.current_time()
            due = {each for each in unfinished if each in missed and now - missed[each] >= patience}
            missed = {each: missed.get(each, now) for each in unfinished if each not in due}
            if due:
                await resume(resources, validations, due)
                log.info("%d validations taken up that a worker left", len(due))
        except OUTAGES as error:
            log.warning("abandoned validations are not known: %s", error)
