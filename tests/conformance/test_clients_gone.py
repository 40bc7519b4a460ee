"""Clients that go away while their certificates wait for a signer: none of them is signed, and the records say so."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.load import rest
from bench.load.requests import csr, elliptic
from gateway.actions.enroll import GIVEN_UP
from tests.conformance.test_signer_failures import some_workers
from tests.doubles.exposition import read
from tests.doubles.gateway import RunningGateway, muster, running_gateway

pytestmark = pytest.mark.conformance

CLIENTS = 50
PATIENCE = 30.0  # seconds, for what takes a fraction of one on a machine that does nothing else

RESERVED = "SELECT count(*) FROM serials WHERE status = 'reserved'"
WITHDRAWN = "SELECT count(*) FROM certificate_requests WHERE status = 'failed' AND failure = ?"
FOR_THE_GONE = "SELECT count(*) FROM certificates WHERE subject LIKE '%gone-%'"
ISSUED = "SELECT count(*) FROM certificates WHERE request_id IS NOT NULL"


def test_what_waits_for_a_signer_is_withdrawn_with_its_client(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        database = Database(tmp_path / "data" / "store.sqlite")
        stayers = [threading.Thread(target=enroll, args=(gateway,)) for _ in range(2)]
        with stopped(some_workers(gateway)):
            for number, stayer in enumerate(stayers, 1):  # one for each worker: both have their hands full
                stayer.start()
                database.wait(number, RESERVED)
                given(gateway, number)
            gone = [sent(gateway, f"gone-{number}.example") for number in range(CLIENTS)]
            database.wait(CLIENTS + 2, RESERVED)
            for each in gone:
                each.close()
            database.wait(CLIENTS, WITHDRAWN, GIVEN_UP)  # and no worker has moved yet
        for stayer in stayers:
            stayer.join(PATIENCE)
        enroll(gateway)
        assert database.number(FOR_THE_GONE) == 0
        assert database.number(RESERVED) == 0
        assert database.number(ISSUED) == 3
        done = muster("doctor", "--journal", "--data", str(tmp_path / "data"))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert "3 certificates in it" in done.stdout  # what was withdrawn was not signed, by any worker


class Database:
    """What the gateway has written down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def number(self, query: str, *parameters: str) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            (found,) = database.execute(query, parameters).fetchone()
        return int(found)

    def wait(self, expected: int, query: str, *parameters: str) -> None:
        until = time.monotonic() + PATIENCE
        while (found := self.number(query, *parameters)) != expected:
            assert time.monotonic() < until, f"{found} instead of {expected}: {query}"
            time.sleep(0.05)


def given(gateway: RunningGateway, number: int) -> None:
    """Wait until so many asks are with workers, or more: a gateway that has just started signs lists of its own."""
    until = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"{gateway.quickstart['http']}/metrics", timeout=PATIENCE) as answer:
            found = read(answer.read().decode()).value("muster_signer_in_flight")
        if found >= number:
            return
        assert time.monotonic() < until, f"{found} asks in flight, and not {number}"
        time.sleep(0.05)


@contextlib.contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """As tokens are that do not answer."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def enroll(gateway: RunningGateway) -> None:
    """As a client that waits for its answer."""
    facts = gateway.quickstart
    client = rest.by_csr(facts["rest"], facts["root"], facts["adminToken"], facts["application"], facts["profile"])
    try:
        client.enroll()
    finally:
        client.close()


def sent(gateway: RunningGateway, name: str) -> socket.socket:
    """A connection on which a request has been sent, and nothing is read."""
    facts = gateway.quickstart
    request = x509.load_der_x509_csr(csr(elliptic(), name)).public_bytes(Encoding.PEM).decode("ascii")
    body = {"applicationName": facts["application"], "profileName": facts["profile"], "csr": request}
    content = json.dumps(body).encode()
    parts = urlsplit(facts["rest"])
    assert parts.hostname is not None
    raw = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    connection = ssl.create_default_context(cafile=facts["root"]).wrap_socket(raw, server_hostname=parts.hostname)
    head = (
        f"POST {parts.path}/certificates HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {facts['adminToken']}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode("ascii") + content)
    return connection
