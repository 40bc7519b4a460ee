"""The snapshot of the catalogue follows the store within a second, whoever changed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from gateway.domain.application import Application
from gateway.serve.current import GLANCE, Current, warn_of_the_clock
from gateway.store import catalogue
from gateway.store.catalogue import Catalogue
from gateway.store.unit import Store, StoreUnavailable, open_store
from tests.doubles import issuer

NOW = datetime(2026, 5, 4, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(f"sqlite:///{tmp_path}/store.sqlite") as opened:
        yield opened


async def test_a_change_by_another_process_is_seen_within_a_second(store: Store, tmp_path: Path, nursery) -> None:
    current = Current(store, await store.read(catalogue.load))
    told: list[Catalogue] = []
    nursery.start_soon(current.watch, told.append)
    async with open_store(f"sqlite:///{tmp_path}/store.sqlite") as another:
        await another.write(lambda unit: catalogue.save_application(unit, Application("a1", "payments-api", NOW)))
    with trio.fail_after(60):
        while not told:
            await trio.sleep(0.01)
    assert [application.name for application in current().applications] == ["payments-api"]
    assert told == [current()]
    assert GLANCE < 0.5, "two looks within the second, of which the later sees what was done after the earlier"


async def test_a_store_that_is_away_for_a_moment_does_not_end_the_watch(store: Store, nursery, monkeypatch) -> None:
    current = Current(store, await store.read(catalogue.load))
    read, away, tried = store.read, True, 0

    async def sometimes(work):
        nonlocal tried
        tried += 1
        if away:
            raise StoreUnavailable("away")
        return await read(work)

    monkeypatch.setattr(type(store), "read", lambda self, work: sometimes(work), raising=False)
    nursery.start_soon(current.watch, lambda _: None)
    await store.write(lambda unit: catalogue.save_application(unit, Application("a1", "payments-api", NOW)))
    with trio.fail_after(60):
        while tried < 2:
            await trio.sleep(0.01)
        assert not list(current().applications)
        away = False
        while not list(current().applications):
            await trio.sleep(0.01)
    assert [application.name for application in current().applications] == ["payments-api"]


def test_a_clock_outside_an_authoritys_term_is_a_warning(caplog) -> None:
    authority = issuer.pair(issuer.Issuer()).authority
    snapshot = Catalogue(1, (authority,), (), (), (), ())
    second = timedelta(seconds=1)
    for at in (authority.not_before, authority.not_after):
        warn_of_the_clock(snapshot, at)
    assert not caplog.records
    for at in (authority.not_before - second, authority.not_after + second):
        caplog.clear()
        warn_of_the_clock(snapshot, at)
        (warning,) = caplog.records
        assert "is the clock right?" in warning.getMessage()
        assert vars(warning)["authority"] == authority.name
