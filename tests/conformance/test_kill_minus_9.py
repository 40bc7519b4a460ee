"""What a crash leaves behind: a gateway killed at every step of an enrollment, over every protocol, and started again.

The promise: no certificate that a client received is missing from the inventory, no serial is used twice, and a serial
that was reserved and not issued is marked burnt.
"""

import base64
import contextlib
import shutil
import sqlite3
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from bench.load.acme import Account, Responder
from bench.load.requests import csr, elliptic, name
from bench.load.scep import Device
from bench.load.wire import Connection
from gateway.store import audit
from gateway.store.unit import open_store
from tests.doubles.faulty_gateway import POINTS
from tests.doubles.gateway import ROOT, RunningGateway, running_gateway, start_gateway

pytestmark = pytest.mark.conformance

Enroll = Callable[[RunningGateway], x509.Certificate]

# What is left of the enrollment that met its end there: the state of its serial, None where there is none.
LEFT_BEHIND = {
    "in-reserve": None,
    "before-sign": "burnt",
    "after-sign": "burnt",
    "in-complete": "burnt",
    "after-complete": "issued",
    "after-reply": "issued",
}


@pytest.fixture(scope="module")
def responder() -> Iterator[Responder]:
    responder = Responder()
    yield responder
    responder.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, responder: Responder) -> Path:
    """A data folder after its first start, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "data"
    with running_gateway(folder, "--acme-http01-port", str(responder.port)):
        pass
    return folder


def enroll_over_est(gateway: RunningGateway) -> x509.Certificate:
    est = gateway.quickstart["est"]
    credentials = base64.b64encode(f"{est['user']}:{est['passphrase']}".encode()).decode()
    connection = Connection(est["url"], tls(gateway))
    path = "/" + est["url"].split("/", 3)[3] + "/simpleenroll"
    headers = ("Content-Type: application/pkcs10", f"Authorization: Basic {credentials}", "Connection: close")
    with contextlib.closing(connection):
        answer = connection.send("POST", path, base64.b64encode(csr(elliptic(), name())), headers)
    assert answer.status == 200, answer
    from cryptography.hazmat.primitives.serialization import pkcs7

    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.body))
    return certificate


def enroll_over_rest(gateway: RunningGateway) -> x509.Certificate:
    import json

    facts = gateway.quickstart
    connection = Connection(facts["rest"], tls(gateway))
    path = "/" + facts["rest"].split("/", 3)[3] + "/certificates"
    host = name()
    body = {
        "applicationName": facts["application"],
        "profileName": facts["profile"],
        "attributes": {
            "commonName": host,
            "keyAlgorithm": "EC_prime256v1",
            "altNames": [{"type": "DNS", "value": host}],
        },
    }
    headers = ("Content-Type: application/json", f"Authorization: Bearer {facts['adminToken']}")
    with contextlib.closing(connection):
        answer = connection.send("POST", path, json.dumps(body).encode(), headers)
    assert answer.status in {200, 201}, answer
    return x509.load_pem_x509_certificate(json.loads(answer.body)["certificate"]["certificate"].encode())


def enroll_over_scep(gateway: RunningGateway) -> x509.Certificate:
    scep = gateway.quickstart["scep"]
    with contextlib.closing(Device(scep["url"], scep["challenge"])) as client:
        return client.enroll()


@pytest.fixture
def enroll_over_acme(responder: Responder) -> Enroll:
    def enroll(gateway: RunningGateway) -> x509.Certificate:
        facts = gateway.quickstart
        with contextlib.closing(Account(facts["acmeDirectory"], facts["root"])) as client:
            return x509.load_pem_x509_certificates(client.issue("localhost", responder))[0]

    return enroll


@pytest.fixture(params=["est", "rest", "scep", "acme"])
def enroll(request: pytest.FixtureRequest, enroll_over_acme: Enroll) -> Enroll:
    return {
        "est": enroll_over_est,
        "rest": enroll_over_rest,
        "scep": enroll_over_scep,
        "acme": enroll_over_acme,
    }[request.param]


async def test_whatever_step_a_crash_hits_nothing_received_is_missing_and_nothing_is_used_twice(
    made: Path, tmp_path: Path, enroll: Enroll
):
    folder, armed = tmp_path / "data", tmp_path / "armed"
    shutil.copytree(made, folder)
    received: list[x509.Certificate] = []
    known = statuses(folder)
    for point in POINTS:
        with faulty_gateway(folder, point, armed) as gateway:
            known = check_inventory(folder, received, known)
            received.append(enroll(gateway))
            known = statuses(folder)
            armed.touch()
            try:
                received.append(enroll(gateway))
            except (OSError, EOFError):
                pass
            else:
                assert point == "after-reply"
            assert gateway.process.wait(timeout=30) == -9
            armed.unlink()
        left = {serial: status for serial, status in statuses(folder).items() if serial not in known}
        if LEFT_BEHIND[point] is None:
            assert left == {}
        elif LEFT_BEHIND[point] == "burnt":
            assert list(left.values()) == ["reserved"], "durable before any signature, and not yet recovered"
        else:
            assert list(left.values()) == ["issued"], point
    with running_gateway(folder) as gateway:
        check_inventory(folder, received, known)
        received.append(enroll_over_est(gateway))
    check_inventory(folder, received, known)
    burnt = [status for status in statuses(folder).values() if status == "burnt"]
    assert len(burnt) == sum(left == "burnt" for left in LEFT_BEHIND.values())
    async with open_store(f"sqlite:///{folder}/store.sqlite") as store:
        assert await store.read(audit.verify) is None


def test_a_retransmission_after_a_crash_gets_the_certificate_that_was_made_before_it(made: Path, tmp_path: Path):
    """S83: crash between issue and reply; the client sends the same bytes again."""
    folder, armed = tmp_path / "data", tmp_path / "armed"
    shutil.copytree(made, folder)
    with faulty_gateway(folder, "after-complete", armed) as gateway:
        scep = gateway.quickstart["scep"]
        client = Device(scep["url"], scep["challenge"])
        message = client.message(csr(client.key, name(), scep["challenge"]))
        armed.touch()
        with pytest.raises((OSError, EOFError)):
            client.send(message)
        assert gateway.process.wait(timeout=30) == -9
        armed.unlink()
    before = statuses(folder)
    with running_gateway(folder) as gateway:
        client.move_to(gateway.quickstart["scep"]["url"])
        certificate = client.send(message)
        assert statuses(folder) == before
        assert f"{certificate.serial_number:x}" in before
        client.close()


@contextlib.contextmanager
def faulty_gateway(folder: Path, point: str, armed: Path) -> Iterator[RunningGateway]:
    """A gateway that dies at `point` once `armed` exists."""
    program = [sys.executable, "-P", str(ROOT / "tests/doubles/faulty_gateway.py"), point, str(armed)]
    gateway = start_gateway(folder, program=program)
    try:
        yield gateway
    finally:
        gateway.kill()
        assert gateway.process.stdout is not None
        gateway.process.stdout.close()


def tls(gateway: RunningGateway) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=gateway.quickstart["root"])


def statuses(folder: Path) -> dict[str, str]:
    """Every serial with its state, read beside the gateway."""
    with sqlite3.connect(f"file:{folder}/store.sqlite?mode=ro", uri=True) as database:
        return dict(database.execute("SELECT serial, status FROM serials"))


def check_inventory(folder: Path, received: list[x509.Certificate], known: dict[str, str]) -> dict[str, str]:
    """After a start: everything received is there, nothing is left reserved, no serial changed its fate."""
    with sqlite3.connect(f"file:{folder}/store.sqlite?mode=ro", uri=True) as database:
        inventory = {row[0] for row in database.execute("SELECT sha256 FROM certificates")}
        count, different = database.execute("SELECT count(*), count(DISTINCT serial) FROM certificates").fetchone()
    for certificate in received:
        assert certificate.fingerprint(hashes.SHA256()).hex() in inventory
    assert count == different
    serials = [certificate.serial_number for certificate in received]
    assert len(serials) == len(set(serials))
    now = statuses(folder)
    assert "reserved" not in now.values()
    for serial, status in known.items():
        if status != "reserved":
            assert now[serial] == status
    return now
