"""A store that is filled is one that issuances might have left: whole rows, a whole audit chain, certificates that read."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from bench.fill import IN_A_UNIT, duration, fill
from bench.population import host_name
from gateway.serve.folder import Folder, held
from gateway.serve.refusal import CannotStart
from tests.doubles.gateway import command


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was made and filled for it, a certificate in ten revoked."""
    data = tmp_path_factory.mktemp("filled") / "data"
    assert fill(data, 120, revoked_each=10) == 120
    return data


def rows(data: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(f"file:{data}/store.sqlite?mode=ro", uri=True)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def test_each_certificate_has_its_request_its_serial_and_its_events(filled: Path):
    issued = "SELECT count(*) FROM certificates WHERE source = 'issued'"
    assert rows(filled, issued) == [(120,)]
    for sql in (
        "SELECT count(*) FROM certificate_requests WHERE status = 'issued'",
        "SELECT count(*) FROM serials WHERE status = 'issued' AND request_id IS NOT NULL AND plan IS NULL",
        "SELECT count(*) FROM audit WHERE action = 'certificate.issue'",
        "SELECT count(*) FROM outbox WHERE kind = 'certificate.issued'",
    ):
        assert rows(filled, sql) == [(120,)], sql
    assert rows(filled, "SELECT count(*) FROM revocations") == [(12,)]
    assert {str(protocol) for (protocol,) in rows(filled, "SELECT DISTINCT protocol FROM certificate_requests")} == {
        "acme",
        "api",
        "est",
        "scep",
    }
    assert rows(filled, "SELECT count(*) FROM acme_orders WHERE status <> 'valid'") == [(0,)]


def test_its_certificates_read_as_what_the_rows_say(filled: Path):
    """RFC 5280: serial, subject and alternative name of the DER are those of the row; every name comes once."""
    found = rows(filled, "SELECT der, serial, subject FROM certificates WHERE source = 'issued'")
    names = set()
    for der, serial, subject in found:
        assert isinstance(der, bytes)
        certificate = x509.load_der_x509_certificate(der)
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = alternative.get_values_for_type(x509.DNSName)
        assert f"{certificate.serial_number:x}" == serial
        assert certificate.subject.rfc4514_string() == subject == f"CN={name}"
        names.add(name)
    assert names == {host_name(number) for number in range(120)}


def test_the_audit_chain_is_whole(filled: Path):
    """D17."""
    said = subprocess.run(
        command("doctor", "--audit", "--data", str(filled)), capture_output=True, text=True, timeout=60, check=True
    )
    assert "the chain is whole" in said.stdout


def test_filling_again_goes_on_where_it_was_and_ends_where_it_is_full(filled: Path):
    seen: list[tuple[int, int]] = []
    assert fill(filled, 120, progress=lambda *at: seen.append(at)) == 120
    assert seen == [(120, 120)]
    assert fill(filled, 130) == 130
    assert rows(filled, "SELECT count(*) FROM certificates WHERE source = 'issued'") == [(130,)]
    assert IN_A_UNIT > 130  # one unit was enough, so that a failure within one leaves nothing


def test_a_folder_that_a_gateway_uses_is_refused(filled: Path):
    with held(Folder(filled)), pytest.raises(CannotStart, match="in use"):
        fill(filled, 1000)
    assert rows(filled, "SELECT count(*) FROM certificates WHERE source = 'issued'")[0][0] in {120, 130}


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(CannotStart, match=r"muster\.json"):
        fill(tmp_path, 10)


def test_durations_read_as_people_say_them():
    assert [duration(each) for each in (0.4, 59.4, 60.0, 185.0)] == ["0 s", "59 s", "1 min 0 s", "3 min 5 s"]
