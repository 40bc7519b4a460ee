"""Answers that leave together: what the tasks of one round of the loop have written is sent at the round's end.

To send is TLS and the kernel's network: code that has nothing in common with what comes before and after it. Between
the requests of a round it would find none of itself in the processor's caches, and push out what the next one needs:
with 16 clients all at once a signed read took a tenth more CPU, and an enrollment a twentieth.

No byte is looked at here.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio

# Bytes that a peer may not have taken yet, for an answer to wait for the others: below that a socket takes all of it.
TOGETHER: Final = 8 * 1024

logger = logging.getLogger("muster.http1")


class Written(Protocol):
    """A wire on which something was written that has not been sent."""

    def leave(self) -> bool:
        """Send it; False where the socket does not take all of it at once. Raises nothing of a peer's doing."""

    async def leave_slowly(self) -> None:
        """Send what is left. Raises nothing of a peer's doing."""


class Outgoing(trio.abc.Instrument):
    """What is to be sent at the end of this round, by all connections of a listening process."""

    def __init__(self) -> None:
        self._written: list[Written] = []
        self._token = trio.lowlevel.current_trio_token()
        # Whoever has something to send at the end of this round calls it once.
        self.add: Callable[[Written], None] = self._written.append

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """In this block it is sent."""
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002, an instrument's shape
        """The round is at its end."""
        for each in self._written:
            try:
                whole = each.leave()
            except Exception:
                # The loop would do without this instrument from now on, and nothing would be sent any more.
                logger.exception("an answer was not sent")
            else:
                if not whole:
                    # The loop has made up its mind how long it will wait: only its own queue wakes it.
                    self._token.run_sync_soon(trio.lowlevel.spawn_system_task, _slowly, each)
        self._written.clear()


async def _slowly(written: Written) -> None:
    try:
        await written.leave_slowly()
    except Exception:
        # Of a task of the loop's own: it would end the process.
        logger.exception("the rest of an answer was not sent")
