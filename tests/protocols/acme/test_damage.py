"""Damaged payloads under true signatures: every one is answered in ACME's own form (A105, A120)."""

from __future__ import annotations

import json

import pytest

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
