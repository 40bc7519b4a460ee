"""The API's addresses, played by hand."""

from __future__ import annotations

import base64
import datetime as dt
import json

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.domain.request import RequestStatus
from protocols.exchange import Exchange, Malformed, Need, Reason, Refused, Reply
from protocols.rest import failures, needs, operations
from tests.doubles.client_keys import ec_key
from tests.doubles.mutation import mutations
from tests.doubles.play import play, settle
from tests.doubles.scep_client import certification_request, self_signed

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
LEAF, ISSUING, ROOT = (
    self_signed(ec_key(name), name).public_bytes(Encoding.DER) for name in ("leaf", "issuing", "root")
)
KEY = ec_key("leaf").private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
ISSUED = needs.Certificate("certificate-1", "0a1b", LEAF, (ISSUING,), ROOT)
STATE = needs.RequestState(
    "request-1", "issued", "api", "a", "p", "api.example.com", NOW, NOW, "the certificate is issued", ISSUED
)
DOCUMENTED = {
    "profileId": "p",
    "applicationId": "a",
    "attributes": {
        "commonName": "api.example.com",
        "ttl": "90d",
        "keyAlgorithm": "RSA_2048",
        "altNames": [{"type": "DNS", "value": "api.example.com"}],
    },
    "metadata": [{"key": "env", "value": "production"}],
}
CSR = base64.b64encode(certification_request(ec_key("leaf"))).decode()


class Host:
    """Answers every need with `answer`, or raises it."""

    def __init__(self, answer: object = STATE) -> None:
        self.given = answer
        self.asked: list[Need[object]] = []

    def answer(self, need: Need[object]) -> object:
        self.asked.append(need)
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def document(reply: Reply, status: int = 200) -> dict[str, object]:
    assert reply.status == status, reply.body
    assert reply.media_type == ("application/json" if status == 200 else "application/problem+json")
    assert ("Cache-Control", "no-store") in reply.headers
    return json.loads(reply.body)


def create(host: Host, body: object, media_type: str | None = "application/json") -> Reply:
    return play(operations.create(media_type, json.dumps(body).encode()), host.answer)


def pems(*certificates: bytes) -> str:
    return "".join(x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM).decode() for each in certificates)


def test_a_managed_key_comes_out_this_once():
    """D12, to the letter."""
    host = Host(msgspec.structs.replace(STATE, certificate=msgspec.structs.replace(ISSUED, private_key=KEY)))
    answer = document(create(host, DOCUMENTED, "Application/JSON; charset=utf-8"))
    certificate = answer["certificate"]
    assert set(answer) == {"certificate", "certificateRequestId", "status", "message"}
    assert isinstance(certificate, dict)
    key = load_pem_private_key(certificate.pop("privateKey").encode(), None)
    assert key.public_key() == ec_key("leaf").public_key()
    assert certificate == {
        "certificate": pems(LEAF),
        "certificateChain": pems(ISSUING, ROOT),
        "issuingCaCertificate": pems(ISSUING),
        "serialNumber": "0a1b",
        "certificateId": "certificate-1",
    }
    assert (answer["certificateRequestId"], answer["status"]) == ("request-1", "issued")
    (asked,) = host.asked
    assert isinstance(asked, needs.EnrollWithManagedKey)
    assert asked.pair == needs.PairReference("a", None, "p", None)
    assert asked.wishes.given == {"commonName", "ttl", "keyAlgorithm", "altNames", "metadata"}


def test_with_a_csr_there_is_no_private_key():
    """D12."""
    host = Host()
    answer = document(create(host, {"profileName": "p", "applicationName": "a", "csr": CSR}))
    assert isinstance(answer["certificate"], dict)
    assert "privateKey" not in answer["certificate"]
    (asked,) = host.asked
    assert isinstance(asked, needs.EnrollWithCsr)
    assert asked.pair == needs.PairReference(None, "a", None, "p")


def test_a_leaf_of_the_root_has_the_root_for_its_issuer():
    host = Host(msgspec.structs.replace(STATE, certificate=msgspec.structs.replace(ISSUED, chain=())))
    certificate = document(create(host, DOCUMENTED))["certificate"]
    assert isinstance(certificate, dict)
    assert certificate["issuingCaCertificate"] == certificate["certificateChain"] == pems(ROOT)


def test_while_approval_is_pending_the_certificate_is_null():
    """D12, D22."""
    host = Host(msgspec.structs.replace(STATE, status="pending_approval", certificate=None))
    answer = document(create(host, DOCUMENTED))
    assert (answer["certificate"], answer["status"]) == (None, "pending_approval")


@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_another_media_type_is_unsupported(media_type: str | None):
    host = Host()
    document(create(host, DOCUMENTED, media_type), 415)
    assert host.asked == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"profileId": "p"}, "applicationId"),
        (DOCUMENTED | {"csr": CSR}, "attributes.altNames"),
        (DOCUMENTED | {"profileId": 5}, "profileId"),
        ({"profileId": "p", "applicationId": "a", "csr": "!"}, "csr"),
        ([], None),
    ],
)
def test_a_mistake_is_a_problem_that_names_its_field(body: object, field: str | None):
    host = Host()
    told = document(create(host, body), 400)
    assert told.get("field") == field
    assert host.asked == []


def test_a_csr_that_does_not_verify_is_unprocessable():
    damaged = bytearray(base64.b64decode(CSR))
    damaged[-1] ^= 1
    body = {"profileId": "p", "applicationId": "a", "csr": base64.b64encode(damaged).decode()}
    document(create(Host(), body), 422)


def exchanges() -> list[tuple[str, Exchange[Reply]]]:
    return [
        ("create", operations.create("application/json", json.dumps(DOCUMENTED).encode())),
        ("read", operations.read("request-1")),
        ("search", operations.search("")),
        ("cancel", operations.cancel("request-1")),
    ]


def test_the_table_is_total():
    assert set(failures.ROWS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_each_refusal_is_a_problem_with_all_violations(reason: Reason):
    """D1; RFC 9457."""
    for name, exchange in exchanges():
        reply = play(exchange, Host(Refused(reason, "no", violations=("one", "two"), retry_after=5)).answer)
        told = json.loads(reply.body)
        assert reply.media_type == "application/problem+json", name
        assert told["status"] == reply.status
        assert (told["detail"], told["violations"]) == ("no", ["one", "two"])
        assert ("Retry-After", "5") in reply.headers
        assert (("WWW-Authenticate", "Bearer") in reply.headers) is (reply.status == 401)


def test_a_refusal_without_a_time_has_no_retry_after():
    reply = play(operations.read("x"), Host(Refused(Reason.POLICY, "no")).answer)
    assert (reply.status, reply.headers) == (422, (("Cache-Control", "no-store"),))
    assert "violations" not in json.loads(reply.body)


def test_the_hosts_own_mistakes_are_not_hidden():
    for _, exchange in exchanges():
        with pytest.raises(RuntimeError):
            play(exchange, Host(RuntimeError("a bug")).answer)


def test_a_problem_may_name_a_field():
    assert json.loads(failures.problem(400, "t", "d", field="x").body)["field"] == "x"
    assert json.loads(failures.malformed(Malformed("d")).body) == {
        "title": "Malformed request",
        "status": 400,
        "detail": "d",
    }


# Certificate requests


def test_a_request_is_read_with_its_certificate():
    """D13."""
    host = Host()
    (view,) = document(play(operations.read("request-1"), host.answer)).values()
    assert isinstance(view, dict)
    assert view.pop("certificate")["certificateId"] == "certificate-1"
    assert view == {
        "id": "request-1",
        "status": "issued",
        "protocol": "api",
        "applicationId": "a",
        "profileId": "p",
        "commonName": "api.example.com",
        "createdAt": "2030-01-01T00:00:00Z",
        "updatedAt": "2030-01-01T00:00:00Z",
        "message": "the certificate is issued",
    }
    assert host.asked == [needs.FindRequest("request-1")]


def test_a_request_that_is_not_there_is_not_found():
    document(play(operations.read("request-2"), Host(None).answer), 404)


@pytest.mark.parametrize("identifier", ["", "x" * 65, "a/b", "a\0", "ä", "a b", "a\n"])
def test_an_id_that_cannot_be_is_not_found_without_asking(identifier: str):
    document(settle(operations.read(identifier)), 404)
    document(settle(operations.cancel(identifier)), 404)


def test_a_request_is_cancelled():
    """D13."""
    host = Host(msgspec.structs.replace(STATE, status="cancelled", certificate=None))
    view = document(play(operations.cancel("request-1"), host.answer))["certificateRequest"]
    assert isinstance(view, dict)
    assert (view["status"], view["certificate"]) == ("cancelled", None)
    assert host.asked == [needs.CancelRequest("request-1")]


def test_a_page_has_twenty_unless_it_is_said():
    host = Host(((STATE, STATE), 42))
    answer = document(play(operations.search(""), host.answer))
    assert (answer["totalCount"], answer["limit"], answer["offset"]) == (42, 20, 0)
    assert isinstance(answer["certificateRequests"], list)
    assert len(answer["certificateRequests"]) == 2
    nobody = needs.PairReference(None, None, None, None)
    assert host.asked == [needs.SearchRequests(20, 0, None, None, nobody)]


def test_a_search_may_say_everything():
    host = Host(((), 0))
    query = "limit=100&offset=7&search=a%20b%2Bc&status=failed&applicationId=a&profileName=p"
    document(play(operations.search(query), host.answer))
    pair = needs.PairReference("a", None, None, "p")
    assert host.asked == [needs.SearchRequests(100, 7, "a b+c", "failed", pair)]


def test_an_empty_search_is_none():
    host = Host(((), 0))
    play(operations.search("search="), host.answer)
    assert isinstance(host.asked[0], needs.SearchRequests)
    assert host.asked[0].search is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=", "limit"),
        ("limit=-1", "limit"),
        ("limit=٣", "limit"),
        ("limit=99999999999", "limit"),
        ("offset=-1", "offset"),
        ("offset=2147483648", "offset"),
        ("status=done", "status"),
        ("limt=5", "limt"),
        ("limit=5&limit=6", "limit"),
        ("search=%00", "search"),
        (f"search={'x' * 257}", "search"),
        ("search=%ff", None),
        ("&".join(["limit=1"] * 9), None),
    ],
)
def test_a_query_that_means_nothing_names_its_parameter(query: str, field: str | None):
    assert document(settle(operations.search(query)), 400).get("field") == field


def test_the_statuses_are_the_products():
    assert set(operations.STATUSES) == {status.value for status in RequestStatus}


def test_damage_never_gets_an_exception_out():
    host = Host()
    bodies = [
        json.dumps(DOCUMENTED).encode(),
        json.dumps({"profileId": "p", "applicationId": "a", "csr": CSR}).encode(),
    ]
    statuses = {
        play(operations.create("application/json", damaged), host.answer).status
        for damaged in mutations(b"create", 1500, bodies)
    }
    assert {200, 400} <= statuses <= {200, 400, 422}
    host = Host(((), 0))
    for damaged in mutations(b"search", 800, [b"limit=100&offset=7&search=a%20b&status=failed&applicationId=a"]):
        assert play(operations.search(damaged.decode("latin-1")), host.answer).status in (200, 400)
