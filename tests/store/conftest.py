"""Every test of the store runs on both engines: SQLite in a file, PostgreSQL in a cluster of the tests' own."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.store.unit import Store, open_store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a place where no store is yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
    else:
        with request.getfixturevalue("postgresql").database() as found:
            yield found


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as opened:
        yield opened
