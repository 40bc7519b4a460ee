"""What tests of several rooms share: hypothesis without a stop-watch, and a PostgreSQL cluster made once a run."""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.doubles.postgresql import Cluster, PostgresqlIsMissing, cluster

# A slow machine is no fault of the code under test. In CI the examples are the same for the same code, so that a change
# is judged by what it changes; new examples are found on the desks of those who can look into them.
settings.register_profile("desk", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# A shell has SIGINT ignored by what it runs in the background (POSIX, Shell, 2.11), and so has every program that is
# started here: those that a test interrupts would not hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
