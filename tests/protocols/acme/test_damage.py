"""Damaged payloads under true signatures: every one is answered in ACME's own form (A105, A120)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.acme.states import Identifier, IdentifierType
from tests.doubles.account_key import account_key, b64
from tests.doubles.acme_host import AcmeHost
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import request

PAYLOADS = {
    "new-account": ({"contact": ["mailto:a@example.com"], "termsOfServiceAgreed": True, "onlyReturnExisting": False},),
    "new-order": (
        {"identifiers": [{"type": "dns", "value": "a.example"}, {"type": "ip", "value": "192.0.2.1"}]},
        {"identifiers": [{"type": "dns", "value": "b.example"}], "notAfter": "2025-07-01T00:00:00Z"},
    ),
    "account": ({"contact": ["mailto:a@example.com"], "status": "deactivated"},),
    "authorization": ({"status": "deactivated"},),
    "challenge": ({},),
    "finalize": ({"csr": b64(request("a.example"))},),
}


@pytest.mark.parametrize("resource", PAYLOADS)
def test_any_payload_is_answered(resource):
    # ES256 signs thousands of requests in a moment; the damage is below the signature.
    statuses = set()
    corpus = [json.dumps(payload).encode() for payload in PAYLOADS[resource]]
    for damaged in mutations(resource.encode(), 250, corpus):
        host = AcmeHost()
        account = host.account(account_key("ES256", 1) if resource == "new-account" else None)
        name = Identifier(IdentifierType.DNS, "a.example")
        authorization = host.authorization(account, name)
        order = host.order(account, identifiers=(name,))
        path = {
            "account": f"account/{account.id}",
            "authorization": f"authorization/{authorization.id}",
            "challenge": f"challenge/{authorization.id}/{authorization.challenges[0].id}",
            "finalize": f"order/{order.id}/finalize",
        }.get(resource, resource)
        reply = host.post(path, damaged, account=None if resource == "new-account" else account)
        statuses.add(reply.status)
        json.loads(reply.body)
    assert statuses <= {200, 201, 400, 403}
    assert 400 in statuses


def test_any_body_is_answered():
    host = AcmeHost()
    account = host.account()
    sound = account_key().request(
        {"kid": host.site.account(account.id), "nonce": host.nonce(), "url": f"{host.site.url}/new-order"}, b"{}"
    )
    for damaged in mutations(b"body", 1500, (sound,)):
        assert host.send("new-order", damaged).status in (400, 403)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=12)  # halves of surrogate pairs and NUL among them
    | st.sampled_from(["deactivated", "valid", "dns", "ip", "*.a.example", "a.example", "mailto:a@b.c", "2025-07-01"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "value", "csr", "status", "jwk"]), inner, max_size=3)
    ),
    max_leaves=8,
)
MEMBERS = st.dictionaries(
    st.sampled_from(
        [
            "contact",
            "termsOfServiceAgreed",
            "onlyReturnExisting",
            "externalAccountBinding",
            "status",
            "csr",
            "identifiers",
            "notBefore",
            "notAfter",
            "resource",
            "profile",
            "replaces",
            "\0",
        ]
    ),
    VALUES,
    max_size=5,
)
HEADER = st.dictionaries(
    st.sampled_from(["alg", "kid", "jwk", "nonce", "url", "crit", "b64", "typ", "cty", "x5c", "\0"]),
    VALUES,
    min_size=1,
    max_size=3,
)


def well_answered(reply):
    """Whether an answer is ACME's own, in its whole form."""
    said = json.loads(reply.body)
    if reply.status in {200, 201}:
        return True
    return (
        reply.status in {400, 403}
        and said["type"].startswith("urn:ietf:params:acme:error:")
        and said["status"] == reply.status
    )


@settings(max_examples=60)
@given(MEMBERS)
def test_members_of_any_kind_are_answered_wherever_they_are_sent(members):
    # A26, A120: the members of all resources, of all types, at each of them.
    host = AcmeHost()
    account = host.account(account_key("ES256", 1))
    name = Identifier(IdentifierType.DNS, "a.example")
    authorization, order = host.authorization(account, name), host.order(account, identifiers=(name,))
    own = {"account": account, "key": account_key("ES256", 1)}
    assert well_answered(host.post("new-account", members))
    for path in (
        "new-order",
        f"account/{account.id}",
        f"authorization/{authorization.id}",
        f"challenge/{authorization.id}/{authorization.challenges[0].id}",
        f"order/{order.id}/finalize",
        f"order/{order.id}",
        "directory",
    ):
        assert well_answered(host.post(path, members, **own)), path


@settings(max_examples=150)
@given(HEADER, st.sampled_from(["new-account", "new-order", "directory"]))
def test_a_protected_header_of_any_kind_is_answered_and_changes_nothing(header, path):
    # A19 to A23, A120: truly signed, with members that are not what they should be.
    host = AcmeHost()
    account = None if path == "new-account" else host.account()
    reply = host.post(path, b"" if path == "directory" else {}, account=account, header=header)
    assert well_answered(reply)
    if reply.status < 400:
        # What has no meaning here is passed over (A23); `None` takes a member away, and none that is needed was.
        assert set(header) - {"typ", "cty", "x5c", "\0"} <= {name for name, value in header.items() if value is None}
