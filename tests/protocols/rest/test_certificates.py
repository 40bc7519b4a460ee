"""The API's addresses of issued certificates, played by hand (D14, D19)."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.revocation import RevocationReason
from protocols.exchange import Need, Reason, Refused, Reply
from protocols.rest import certificates, messages, needs
from tests.doubles.play import play, settle

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
CERTIFICATE = needs.CertificateState(
    id="certificate-1",
    serial="a1b",
    status="revoked",
    subject="CN=api.example.com",
    sans=(("dns_name", "api.example.com"),),
    not_before=NOW,
    not_after=NOW + dt.timedelta(days=90),
    sha1="11" * 20,
    sha256="22" * 32,
    key_algorithm="EC_prime256v1",
    signature_algorithm="ecdsa-with-SHA256",
    source="issued",
    application_id="a",
    profile_id="p",
    request_id="r",
    protocol="api",
    renewed_from=None,
    renewed_by=None,
    revoked_at=NOW,
    revocation_reason="superseded",
    metadata=(("env", "production"),),
)
REVOKED = needs.RevocationState("a1b", "keyCompromise", NOW, "certificate-1")
JSON = "application/json; charset=utf-8"


def asking(exchange, answer: object) -> tuple[Reply, list[Need[object]]]:
    asked: list[Need[object]] = []

    def host(need: Need[object]) -> object:
        asked.append(need)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return play(exchange, host), asked


def body(reason: object) -> bytes:
    return json.dumps({"revocationReason": reason}).encode()


def test_a_certificate_is_shown_as_the_inventory_knows_it():
    """D14."""
    reply, asked = asking(certificates.read("certificate-1"), CERTIFICATE)
    assert asked == [needs.FindCertificate("certificate-1")]
    assert reply.status == 200
    shown = json.loads(reply.body)["certificate"]
    assert shown["serialNumber"] == "a1b"
    assert shown["altNames"] == [{"type": "dns_name", "value": "api.example.com"}]
    assert (shown["status"], shown["revocationReason"]) == ("revoked", "superseded")
    assert shown["revokedAt"] == "2030-01-01T00:00:00Z"
    assert shown["metadata"] == [{"key": "env", "value": "production"}]
    assert ("Cache-Control", "no-store") in reply.headers


def test_a_certificate_that_may_not_be_read_is_not_there():
    reply, _ = asking(certificates.read("certificate-1"), None)
    assert reply.status == 404
    assert settle(certificates.read("no such/id")).status == 404


@pytest.mark.parametrize("reason", messages.REASONS)
def test_every_reason_of_rfc_5280_is_passed_on(reason: str):
    """RFC 5280, 5.3.1."""
    reply, asked = asking(certificates.revoke("certificate-1", JSON, body(reason)), REVOKED)
    assert asked == [needs.RevokeCertificate("certificate-1", reason)]
    assert reply.status == 200
    document = json.loads(reply.body)
    assert document["serialNumber"] == "a1b"
    assert document["certificateId"] == "certificate-1"
    assert document["revokedAt"] == "2030-01-01T00:00:00Z"
    assert "is revoked" in document["message"]


def test_the_reasons_are_those_of_the_product():
    assert list(messages.REASONS) == [each.value for each in RevocationReason]


def test_without_a_body_the_reason_is_unspecified():
    _, asked = asking(certificates.revoke("certificate-1", None, b""), REVOKED)
    assert asked == [needs.RevokeCertificate("certificate-1", "unspecified")]
    _, asked = asking(certificates.revoke("certificate-1", JSON, b"{}"), REVOKED)
    assert asked == [needs.RevokeCertificate("certificate-1", "unspecified")]


def test_a_release_says_that_the_certificate_is_good():
    reply, _ = asking(
        certificates.revoke("certificate-1", JSON, body("removeFromCRL")),
        needs.RevocationState("a1b", None, None, "certificate-1"),
    )
    document = json.loads(reply.body)
    assert (document["revocationReason"], document["revokedAt"]) == (None, None)
    assert "good again" in document["message"]


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        (body("keycompromised"), "revocationReason", "did you mean keyCompromise"),
        (body("lost it"), "revocationReason", "known are unspecified"),
        (body(1), "revocationReason", "Expected `str`"),
        (b'{"reasons": "superseded"}', "reasons", "known are revocationReason"),
        (b'{"revocationReason"', None, "not JSON"),
        (b"[]", None, "the body"),
    ],
)
def test_a_mistake_in_the_body_names_its_field(wrong: bytes, field: str | None, says: str):
    for exchange in (
        certificates.revoke("certificate-1", JSON, wrong),
        certificates.revoke_serial("issuing", "a1b", JSON, wrong),
    ):
        reply = settle(exchange)
        document = json.loads(reply.body)
        assert (reply.status, document.get("field")) == (400, field)
        assert says in document["detail"]


@pytest.mark.parametrize("media_type", [None, "text/plain"])
def test_a_body_of_another_media_type_is_refused(media_type: str | None):
    assert settle(certificates.revoke("certificate-1", media_type, body("superseded"))).status == 415


def test_an_impossible_id_is_not_asked_for():
    assert settle(certificates.revoke("../etc", JSON, body("superseded"))).status == 404
    assert settle(certificates.revoke_serial("No Authority", "a1", JSON, body("superseded"))).status == 404


@pytest.mark.parametrize("reason", list(Reason))
def test_every_refusal_is_a_problem_document(reason: Reason):
    for exchange in (certificates.read("c"), certificates.revoke("c", JSON, body("superseded"))):
        reply, _ = asking(exchange, Refused(reason, "No."))
        assert reply.status >= 400
        assert json.loads(reply.body)["detail"] == "No."


@pytest.mark.parametrize("serial", ["0A1b", "a1b", "000a1b", "0A:1B"])
def test_a_serial_is_read_as_openssl_prints_it(serial: str):
    _, asked = asking(certificates.revoke_serial("issuing", serial, JSON, body("keyCompromise")), REVOKED)
    assert asked == [needs.RevokeSerial("issuing", "a1b", "keyCompromise")]


@given(st.text(max_size=45) | st.binary(max_size=22).map(bytes.hex))
@example("0")
@example("80" + "00" * 19)
@example("7f" + "ff" * 19)
@example("1٣")
def test_a_serial_is_a_positive_number_of_20_bytes_or_refused(serial: str):
    """RFC 5280, 4.1.2.2."""
    reply, asked = asking(certificates.revoke_serial("issuing", serial, JSON, b""), REVOKED)
    if asked:
        (need,) = asked
        assert isinstance(need, needs.RevokeSerial)
        assert 0 < int(need.serial, 16) < 1 << 159
        assert int(need.serial, 16) == int(serial.replace(":", ""), 16)
        assert not need.serial.startswith("0")
    else:
        assert (reply.status, json.loads(reply.body)["field"]) == (400, "serial")
