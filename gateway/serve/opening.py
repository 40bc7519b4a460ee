"""Opens the store for whoever wires: the gateway itself, and commands beside it. Nothing else happens here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime

from gateway.serve.folder import Folder, store_url
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.store.duty import Duty, open_duty
from gateway.store.unit import Store, StoreUnavailable, open_store


def now() -> datetime:
    """The time, aware, in UTC. The one clock of the gateway's actions."""
    return datetime.now(UTC)


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    """The store that the settings name. Raises `CannotStart` where it is damaged, newer or out of reach."""
    async with AsyncExitStack() as stack:
        try:
            opening = open_store(store_url(settings), queue=settings.store_queue)
            store = await stack.enter_async_context(opening)
        except (StoreUnavailable, ValueError) as trouble:
            raise CannotStart(f"the store cannot be opened: {trouble}") from None
        with usable():
            yield store


@asynccontextmanager
async def opened_duty(settings: Settings) -> AsyncIterator[Duty]:
    """The turn of the store that the settings name. Raises `CannotStart` where it is out of reach."""
    async with AsyncExitStack() as stack:
        with usable():
            duty = await stack.enter_async_context(open_duty(store_url(settings), Folder(settings.data).duty))
        yield duty


@contextmanager
def usable() -> Iterator[None]:
    """What a store says when it cannot be read or written becomes a sentence of ours. Raises `CannotStart`.

    Damage deep in a file shows when the page is read, which may be long after the store was opened.
    """
    try:
        yield
    except StoreUnavailable as trouble:
        raise CannotStart(f"the store cannot be used: {trouble}") from None
