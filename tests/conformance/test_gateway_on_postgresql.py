"""A whole gateway whose store is PostgreSQL: first start, enrollments, a crash, a second start, the server's restart."""

import base64
import contextlib
import ssl
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import pkcs7

from bench.load.requests import csr, elliptic, name
from bench.load.wire import Connection
from tests.doubles.gateway import RunningGateway, running_gateway, start_gateway
from tests.doubles.postgresql import Cluster

pytestmark = [pytest.mark.conformance, pytest.mark.postgres]


def enroll(gateway: RunningGateway) -> x509.Certificate:
    est = gateway.quickstart["est"]
    credentials = base64.b64encode(f"{est['user']}:{est['passphrase']}".encode()).decode()
    connection = Connection(est["url"], ssl.create_default_context(cafile=gateway.quickstart["root"]))
    headers = ("Content-Type: application/pkcs10", f"Authorization: Basic {credentials}")
    path = "/" + est["url"].split("/", 3)[3] + "/simpleenroll"
    with contextlib.closing(connection):
        answer = connection.send("POST", path, base64.b64encode(csr(elliptic(), name())), headers)
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.body.decode()}")
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    return certificate


def test_what_clients_receive_is_in_postgresql_before_and_after_a_crash(postgresql: Cluster, tmp_path: Path):
    with postgresql.database() as url:
        variables = {"MUSTER_STORE_URL": url}
        gateway = start_gateway(tmp_path / "data", variables=variables)
        received = [enroll(gateway) for _ in range(3)]
        gateway.kill()
        assert gateway.process.stdout is not None
        gateway.process.stdout.close()
        with running_gateway(tmp_path / "data", variables=variables) as gateway:
            received.append(enroll(gateway))
            assert not (tmp_path / "data" / "store.sqlite").exists()
        with psycopg.connect(url) as database:
            inventory = {row[0] for row in database.execute("SELECT sha256 FROM certificates").fetchall()}
    assert {certificate.fingerprint(hashes.SHA256()).hex() for certificate in received} <= inventory


def test_a_database_that_restarts_costs_retryable_answers_only(postgresql: Cluster, tmp_path: Path):
    refusals: list[str] = []
    with (
        postgresql.database() as url,
        running_gateway(tmp_path / "data", variables={"MUSTER_STORE_URL": url}) as gateway,
    ):
        enroll(gateway)
        postgresql.disconnect_everyone()
        for _ in range(60):
            try:
                enroll(gateway)
            except RuntimeError as refusal:
                refusals.append(str(refusal))
            else:
                break
        else:
            pytest.fail(f"the store did not come back: {refusals[-1]}")
    assert [text for text in refusals if not text.startswith("503 ")] == []
