"""What tests of several rooms share: a PostgreSQL cluster of their own, made once a run."""

import os
from collections.abc import Iterator

import pytest

from tests.doubles.postgresql import Cluster, PostgresqlIsMissing, cluster


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A running server. Skipped where its programs are missing, except in CI, where that is a failure."""
    try:
        with cluster() as running:
            yield running
    except PostgresqlIsMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
