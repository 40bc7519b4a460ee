"""One real gateway for all clients that need nothing special of it."""

from collections.abc import Iterator

import pytest

from tests.doubles.gateway import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def muster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway as a newcomer has it, on free ports."""
    with running_gateway(tmp_path_factory.mktemp("muster") / "data", "--workers", "2") as running:
        yield running
