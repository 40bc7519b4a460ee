"""The catalogue as it is now: one frozen snapshot, exchanged whole when the store's version moves.

Nobody waits for a reload: an action takes the snapshot that stands. Nothing is changed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

import trio

from gateway.store import catalogue
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, StoreBusy, StoreUnavailable

logger = logging.getLogger("muster.catalogue")

# `muster apply` promises that a running gateway agrees within a second; a look costs one read by key.
GLANCE: Final = 0.4  # seconds


class Current:
    """Holds the snapshot. Call it for the catalogue of this moment."""

    def __init__(self, store: Store, first: Catalogue) -> None:
        self._store = store
        self._catalogue = first

    def __call__(self) -> Catalogue:
        """The snapshot that stands."""
        return self._catalogue

    async def watch(self, changed: Callable[[Catalogue], None]) -> None:
        """Exchange the snapshot for ever, telling `changed`; ends by cancellation only."""
        while True:
            await trio.sleep(GLANCE)
            try:
                if await self._store.read(catalogue.version) != self._catalogue.version:
                    self._catalogue = await self._store.read(catalogue.load)
                    logger.info("the catalogue changed", extra={"version": self._catalogue.version})
                    changed(self._catalogue)
            except (StoreBusy, StoreUnavailable) as trouble:
                logger.warning("the catalogue cannot be looked at", extra={"cause": str(trouble)})


def warn_of_the_clock(snapshot: Catalogue, at: datetime) -> None:
    """Say so where an authority is not valid now, for what it issues then serves nobody; the clock may be the cause."""
    for each in snapshot.authorities:
        if each.chain and not each.not_before <= at <= each.not_after:
            term = f"{each.not_before:%Y-%m-%d} to {each.not_after:%Y-%m-%d}"
            logger.warning(
                "an authority is not valid at this time; is the clock right?",
                extra={"authority": each.name, "term": term},
            )
