"""Signer workers killed with SIGKILL while clients enroll: a retryable answer or another worker, and nothing twice."""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from bench.load import est
from bench.load.process_tree import descendants
from tests.doubles.gateway import RunningGateway, running_gateway

pytestmark = pytest.mark.conformance

# The authorities' own certificates have no request.
ISSUED = "SELECT count(*) FROM serials WHERE status = 'issued' AND request_id IS NOT NULL"
INVENTORY = "SELECT count(*), count(DISTINCT request_id) FROM certificates WHERE request_id IS NOT NULL"
RESERVED = "SELECT count(*) FROM serials WHERE status = 'reserved'"

CLIENTS = 8
KILLS = 6


def test_workers_killed_under_load_come_back_and_nothing_is_issued_twice(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        outcomes = Outcomes()
        ending = threading.Event()
        threads = [threading.Thread(target=enroll_until, args=(gateway, ending, outcomes)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        killed = set()
        for _ in range(KILLS):
            time.sleep(0.4)
            victim = some_workers(gateway)[0]
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        until = time.monotonic() + 60
        while outcomes.certificates <= KILLS and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.5)
        ending.set()
        for thread in threads:
            thread.join(timeout=60)
        assert len(killed) == KILLS
        assert not killed & set(some_workers(gateway))
        with contextlib.closing(sqlite3.connect(f"file:{tmp_path}/data/store.sqlite?mode=ro", uri=True)) as database:
            (issued,) = database.execute(ISSUED).fetchone()
            inventory, requests = database.execute(INVENTORY).fetchone()
            (reserved,) = database.execute(RESERVED).fetchone()
    assert outcomes.certificates > KILLS
    # What a client was refused was refused in words that make it come back.
    assert [text for text in outcomes.refusals if not text.startswith("503 ")] == []
    assert issued == inventory == requests == outcomes.certificates
    assert reserved == 0


def test_with_no_worker_left_a_client_is_told_to_come_back_and_then_served(tmp_path: Path):
    refusals: list[str] = []
    with running_gateway(tmp_path / "data") as gateway, client(gateway) as enroll:
        enroll()
        for victim in some_workers(gateway):
            os.kill(victim, signal.SIGKILL)
        for _ in range(300):
            try:
                enroll()
            except RuntimeError as refusal:
                refusals.append(str(refusal))
                time.sleep(0.2)
            else:
                break
        else:
            pytest.fail("the workers did not come back")
    assert [text for text in refusals if not text.startswith("503 ")] == []


class Outcomes:
    """What the clients saw, together."""

    def __init__(self) -> None:
        self.certificates = 0
        self.refusals: list[str] = []
        self._lock = threading.Lock()

    def issued(self) -> None:
        with self._lock:
            self.certificates += 1

    def refused(self, text: str) -> None:
        with self._lock:
            self.refusals.append(text)


def enroll_until(gateway: RunningGateway, ending: threading.Event, outcomes: Outcomes) -> None:
    with client(gateway) as enroll:
        while not ending.is_set():
            try:
                enroll()
            except RuntimeError as refusal:
                outcomes.refused(str(refusal))
            else:
                outcomes.issued()


@contextlib.contextmanager
def client(gateway: RunningGateway):
    facts = gateway.quickstart
    driver = est.by_passphrase(facts["est"]["url"], facts["root"], facts["est"]["user"], facts["est"]["passphrase"])
    with contextlib.closing(driver):
        yield driver.enroll


def some_workers(gateway: RunningGateway) -> list[int]:
    """The signer's workers, once there are any: a new one takes half a second to come up."""
    for _ in range(200):
        if found := workers(gateway):
            return found
        time.sleep(0.05)
    pytest.fail("no worker came back")


def workers(gateway: RunningGateway) -> list[int]:
    """The signer's workers, below the gateway and its supervisor."""
    found = []
    for pid in descendants(gateway.process.pid):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"signer" in words and b"worker" in words:
                found.append(pid)
    return found
