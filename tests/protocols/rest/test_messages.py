"""The bodies of the REST API: what is accepted, and how a mistake is named."""

from __future__ import annotations

import json

import pytest
from msgspec import UNSET

from protocols.exchange import Malformed
from protocols.rest import messages
from tests.doubles.mutation import mutations

PAIR = {"profileId": "p", "applicationId": "a"}
DOCUMENTED = {
    "profileId": "…",
    "applicationId": "…",
    "attributes": {
        "commonName": "api.example.com",
        "ttl": "90d",
        "keyAlgorithm": "RSA_2048",
        "altNames": [{"type": "DNS", "value": "api.example.com"}],
    },
    "metadata": [{"key": "env", "value": "production"}],
}


def decode(**changes: object) -> messages.Creation:
    return messages.creation(json.dumps(PAIR | changes).encode())


def fault(**changes: object) -> Malformed:
    with pytest.raises(Malformed) as raised:
        decode(**changes)
    return raised.value


def test_the_documented_body_is_read_as_written():
    """D12."""
    body = messages.creation(json.dumps(DOCUMENTED).encode())
    assert body.attributes.common_name == "api.example.com"
    assert body.attributes.alt_names == [messages.AltName(type="DNS", value="api.example.com")]
    assert body.metadata == [messages.Metadatum(key="env", value="production")]


def test_left_out_is_not_null():
    """D5."""
    assert decode().attributes.common_name is UNSET
    assert decode(attributes={"commonName": None}).attributes.common_name is None


@pytest.mark.parametrize(
    ("changes", "field", "word"),
    [
        ({"profileID": "x"}, "profileID", "did you mean profileId"),
        ({"zzz": 1}, "zzz", "known are profileId, profileName"),
        ({"attributes": {"comonName": "x"}}, "attributes.comonName", "did you mean commonName"),
        ({"attributes": {"altNames": [{"type": "DNS", "valeu": "x"}]}}, "attributes.altNames[0].valeu", "value"),
        ({"attributes": {"altNames": [{"type": "DNS"}]}}, "attributes.altNames[0].value", "required"),
        ({"metadata": [{"key": "a", "value": "b"}, {"key": "a"}]}, "metadata[1].value", "required"),
        ({"metadata": [{"key": "a", "value": "b", "x": 1}]}, "metadata[0].x", "known are"),
        ({"metadata": None}, "metadata", "array"),
        ({"profileId": 5}, "profileId", "str"),
        ({"profileId": None}, "profileId", "str"),
        ({"attributes": []}, "attributes", "object"),
        ({"attributes": {"commonName": ["x"]}}, "attributes.commonName", "str"),
        ({"attributes": {"commonName": ""}}, "attributes.commonName", "length"),
        ({"attributes": {"commonName": "x" * 257}}, "attributes.commonName", "length"),
        ({"attributes": {"commonName": "a\0b"}}, "attributes.commonName", "regex"),
        ({"attributes": {"commonName": "a\n"}}, "attributes.commonName", "regex"),
        ({"attributes": {"notAfter": "2030-01-01T00:00:00"}}, "attributes.notAfter", "timezone"),
        ({"attributes": {"notAfter": "tomorrow"}}, "attributes.notAfter", "RFC3339"),
        ({"attributes": {"keyUsages": "x"}}, "attributes.keyUsages", "array"),
        ({"attributes": {"altNames": [{"type": "DNS", "value": "x"}] * 101}}, "attributes.altNames", "length"),
        ({"attributes": {"keyUsages": ["x", 5]}}, "attributes.keyUsages[1]", "str"),
        ({"csr": ""}, "csr", "length"),
    ],
)
def test_every_mistake_names_its_field(changes: dict[str, object], field: str, word: str):
    raised = fault(**changes)
    assert raised.field == field
    assert raised.detail.startswith(f"{field}: ")
    assert word in raised.detail


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"profileId": "\xff"}', b"nul", b'{"profileId":"p"} x'])
def test_what_is_not_json_is_said_to_be_so(body: bytes):
    with pytest.raises(Malformed, match="not JSON"):
        messages.creation(body)


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"5"])
def test_a_body_is_an_object(body: bytes):
    with pytest.raises(Malformed) as raised:
        messages.creation(body)
    assert raised.value.field is None


def test_damage_never_raises_anything_else():
    everything = DOCUMENTED | {
        "csr": "x",
        "attributes": {
            name: {"altNames": [{"type": "IP", "value": "::1"}], "keyUsages": ["a"], "extendedKeyUsages": ["b"]}.get(
                name, "2030-01-01T00:00:00Z"
            )
            for name in messages.Attributes.__struct_encode_fields__
        },
    }
    read = 0
    for damaged in mutations(b"rest", 3000, [json.dumps(DOCUMENTED).encode(), json.dumps(everything).encode()]):
        try:
            messages.creation(damaged)
            read += 1
        except Malformed:
            pass
    assert 0 < read < 3000
