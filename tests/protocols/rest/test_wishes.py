"""From words to meanings: names, usages, times, keys."""

from __future__ import annotations

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.exchange import Malformed, Refused
from protocols.pkix.names import AlternativeName, Attribute
from protocols.rest import messages, wishes
from protocols.rest.needs import PairReference, Wishes
from tests.doubles.client_keys import ec_key
from tests.doubles.scep_client import certification_request

CSR = certification_request(ec_key("rest"))


def body(attributes: dict[str, object] | None = None, **others: object) -> messages.Creation:
    return messages.creation(json.dumps({"attributes": attributes or {}, **others}).encode())


def meant(attributes: dict[str, object], **others: object) -> Wishes:
    return wishes.wishes(body(attributes, **others))


def fault(attributes: dict[str, object], *, with_csr: bool = False) -> Malformed:
    with pytest.raises(Malformed) as raised:
        (wishes.beside_csr if with_csr else wishes.wishes)(body(attributes))
    assert raised.value.field is not None
    assert raised.value.detail.startswith(raised.value.field)
    return raised.value


def test_nothing_asked_is_nothing_given():
    assert meant({}) == Wishes(frozenset())


def test_nothing_beside_a_csr_is_nothing_given_however_it_is_written():
    for text in (b"{}", b'{"attributes": {}}'):
        assert wishes.beside_csr(messages.creation(text)) == Wishes(given=frozenset())


def test_null_is_given_and_has_no_value():
    """D5: each of the members that a default may fill."""
    members = messages.Attributes.__struct_encode_fields__
    assert meant(dict.fromkeys(members)) == Wishes(frozenset(members))


def test_metadata_is_given_where_it_is_there():
    wished = meant({}, metadata=[{"key": "env", "value": "production"}, {"key": "x", "value": ""}])
    assert wished.given == {"metadata"}
    assert wished.metadata == (("env", "production"), ("x", ""))
    assert meant({}, metadata=[]).given == {"metadata"}


def test_the_subject_is_written_from_the_widest_to_the_narrowest():
    members = ("commonName", "organization", "organizationalUnit", "country", "state", "locality", "domainComponent", "serialNumber")  # fmt: skip
    wished = meant({member: member[:2] for member in members})
    assert wished.subject == (
        Attribute("2.5.4.6", "co"),
        Attribute("2.5.4.8", "st"),
        Attribute("2.5.4.7", "lo"),
        Attribute("0.9.2342.19200300.100.1.25", "do"),
        Attribute("2.5.4.10", "or"),
        Attribute("2.5.4.11", "or"),
        Attribute("2.5.4.5", "se"),
        Attribute("2.5.4.3", "co"),
    )
    assert wished.given == set(members)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("DNS", "API.Example.com", AlternativeName("dns_name", "api.example.com")),
        ("dns_name", "*.example.com", AlternativeName("dns_name", "*.example.com")),
        ("IP", "2001:DB8:0::1", AlternativeName("ip_address", "2001:db8::1")),
        ("ip_address", "192.0.2.1", AlternativeName("ip_address", "192.0.2.1")),
        ("EMAIL", "Ops@Example.COM", AlternativeName("email", "Ops@example.com")),
        ("email", "a@b", AlternativeName("email", "a@b")),
        ("URI", "SPIFFE://Example.com/x", AlternativeName("uri", "spiffe://example.com/x")),
        ("uri", "urn:x:y", AlternativeName("uri", "urn:x:y")),
    ],
)
def test_alternative_names_have_two_spellings_and_one_form(kind: str, value: str, expected: AlternativeName):
    """D12, D2."""
    assert meant({"altNames": [{"type": kind, "value": value}]}).sans == (expected,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DNS", "a b"),
        ("DNS", "1.2.3.4"),
        ("DNS", "exämple.com"),
        ("IP", "1.2.3"),
        ("IP", "1.2.3.0/24"),
        ("IP", "fe80::1%eth0"),
        ("EMAIL", "nobody"),
        ("EMAIL", "@example.com"),
        ("EMAIL", "a@"),
        ("EMAIL", "a b@example.com"),
        ("EMAIL", "ä@example.com"),
        ("URI", "nothing"),
        ("URI", ":x"),
        ("URI", "x:"),
        ("URI", "http://a b"),
        ("URI", "http://ä"),
    ],
)
def test_a_name_that_is_none_names_its_place(kind: str, value: str):
    good = {"type": "DNS", "value": "a.example"}
    assert fault({"altNames": [good, {"type": kind, "value": value}]}).field == "attributes.altNames[1].value"


def test_a_kind_of_name_that_nobody_validates_is_refused():
    raised = fault({"altNames": [{"type": "Dns", "value": "a.example"}]})
    assert raised.field == "attributes.altNames[0].type"
    assert "did you mean DNS" in raised.detail
    assert "dns_name" in fault({"altNames": [{"type": "upn", "value": "a@b"}]}).detail


@pytest.mark.parametrize("algorithm", wishes.KEY_ALGORITHMS)
def test_every_documented_key_algorithm_is_known(algorithm: str):
    """D12."""
    assert meant({"keyAlgorithm": algorithm}).key_algorithm == algorithm


@pytest.mark.parametrize(
    ("algorithm", "near"), [("RSA_1024", "RSA_"), ("rsa", "known are RSA_2048"), ("EC_prime256", "EC_prime256v1")]
)
def test_another_key_algorithm_is_not(algorithm: str, near: str):
    raised = fault({"keyAlgorithm": algorithm})
    assert raised.field == "attributes.keyAlgorithm"
    assert near in raised.detail


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1h", dt.timedelta(hours=1)),
        ("90d", dt.timedelta(days=90)),
        ("3m", dt.timedelta(days=90)),
        ("2y", dt.timedelta(days=730)),
        ("99999y", dt.timedelta(days=36_499_635)),
    ],
)
def test_a_lifetime_has_a_unit(written: str, expected: dt.timedelta):
    """m is 30 days, y is 365 days."""
    assert meant({"ttl": written}).ttl == expected


@pytest.mark.parametrize(
    "written", ["0d", "000h", "90", "d", "-1d", "1.5h", "90D", "90 d", "90days", "100000d", "٣d", "1w"]
)
def test_another_lifetime_is_refused(written: str):
    assert fault({"ttl": written}).field == "attributes.ttl"


@given(st.integers(1, 99999), st.sampled_from("hdmy"))
def test_every_lifetime_of_five_digits_is_a_time(number: int, unit: str):
    assert meant({"ttl": f"{number}{unit}"}).ttl == number * wishes._UNITS[unit]


def test_dates_have_an_offset_and_an_order():
    wished = meant({"notBefore": "2030-01-01T00:00:00Z", "notAfter": "2030-01-01T02:00:00+01:00"})
    assert wished.not_before == dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert wished.not_after == dt.datetime(2030, 1, 1, 1, tzinfo=dt.UTC)
    backwards = {"notBefore": "2030-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"}
    assert fault(backwards).field == "attributes.notAfter"
    assert fault({"notAfter": "9999-12-31T23:59:59-23:59"}).field == "attributes.notAfter"  # the year 10000, in UTC
    assert fault({"notBefore": "0001-01-01T00:00:00+23:59"}).field == "attributes.notBefore"
    assert fault({"ttl": "1d", "notAfter": "2030-01-01T00:00:00Z"}).field == "attributes.ttl"
    assert meant({"ttl": "1d", "notAfter": None}).ttl == dt.timedelta(days=1)


def test_usages_have_the_rfcs_names_or_underscores():
    wished = meant(
        {
            "keyUsages": ["digitalSignature", "key_encipherment", "contentCommitment".replace("C", "_c"), "crl_sign", "digital_signature"],
            "extendedKeyUsages": ["serverAuth", "client_auth", "1.3.6.1.4.1.311.20.2.2", "OCSPSigning", "server_auth"],
        }
    )  # fmt: skip
    assert wished.key_usages == ("digitalSignature", "keyEncipherment", "nonRepudiation", "cRLSign")
    assert wished.extended_key_usages == (
        "1.3.6.1.5.5.7.3.1",
        "1.3.6.1.5.5.7.3.2",
        "1.3.6.1.4.1.311.20.2.2",
        "1.3.6.1.5.5.7.3.9",
    )
    empty = meant({"keyUsages": [], "extendedKeyUsages": []})
    assert (empty.key_usages, empty.extended_key_usages) == ((), ())


def test_usages_that_nobody_knows_are_refused():
    raised = fault({"keyUsages": ["digitalSignature", "digitalSignatur"]})
    assert raised.field == "attributes.keyUsages[1]"
    assert "did you mean digitalSignature" in raised.detail
    for written in ("servrAuth", "1", "3.1.2", "1.02", "1." + "2." * 20 + "3"):
        assert fault({"extendedKeyUsages": [written]}).field == "attributes.extendedKeyUsages[0]"


@pytest.mark.parametrize(
    "member", sorted(set(messages.Attributes.__struct_encode_fields__) - {"ttl", "notBefore", "notAfter"})
)
def test_with_a_csr_everything_else_comes_from_it(member: str):
    """D12: not even a null."""
    assert fault({member: None}, with_csr=True).field == f"attributes.{member}"


def test_with_a_csr_times_and_metadata_may_be_given():
    asked = body({"ttl": "1d", "notBefore": "2030-01-01T00:00:00Z"}, metadata=[{"key": "a", "value": "b"}])
    wished = wishes.beside_csr(asked)
    assert wished.given == {"ttl", "notBefore", "metadata"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"applicationId": "a", "profileId": "p"}, PairReference("a", None, "p", None)),
        ({"applicationName": "a", "profileName": "p"}, PairReference(None, "a", None, "p")),
        ({"applicationId": "a", "profileName": "p"}, PairReference("a", None, None, "p")),
    ],
)
def test_a_pair_is_named_by_ids_or_by_names(members: dict[str, object], expected: PairReference):
    """D12."""
    assert wishes.pair(body({}, **members)) == expected


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"profileId": "p"}, "applicationId"),
        ({"applicationId": "a"}, "profileId"),
        ({"applicationId": "a", "applicationName": "a", "profileId": "p"}, "applicationId"),
    ],
)
def test_a_pair_is_named_once(members: dict[str, object], field: str):
    with pytest.raises(Malformed) as raised:
        wishes.pair(body({}, **members))
    assert raised.value.field == field


def test_a_csr_is_pem_or_base64_of_der():
    armoured = "\n-----BEGIN CERTIFICATE REQUEST-----\n{}-----END CERTIFICATE REQUEST-----\n"
    for text in (
        base64.b64encode(CSR).decode(),
        base64.encodebytes(CSR).decode(),
        armoured.format(base64.encodebytes(CSR).decode()),
    ):
        assert wishes.request(text).der == CSR


@pytest.mark.parametrize(
    "text",
    [
        "!",
        "ä",
        "-----BEGIN",
        base64.b64encode(CSR[:-1]).decode(),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_csr_names_its_field(text: str):
    with pytest.raises(Malformed) as raised:
        wishes.request(text)
    assert raised.value.field == "csr"
    assert raised.value.detail.startswith("csr: ")


def test_a_csr_that_does_not_verify_is_refused():
    damaged = bytearray(CSR)
    damaged[-1] ^= 1
    with pytest.raises(Refused):
        wishes.request(base64.b64encode(damaged).decode())
