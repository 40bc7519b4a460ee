"""Accounts (RFC 8555, 7.3; A30 to A41)."""

from __future__ import annotations

import pytest

from protocols.acme import needs
from protocols.acme.messages import Site
from protocols.acme.states import AccountStatus
from protocols.exchange import Reason, Refused
from tests.doubles.account_key import account_key
from tests.doubles.acme_host import SITE, AcmeHost, body, headers, problem

TERMS = "https://muster.example/terms"
WITH_TERMS = Site(SITE.url, SITE.pair_id, terms_of_service=TERMS)
BOUND = Site(SITE.url, SITE.pair_id, external_account_required=True)


def test_a_new_key_gets_an_account():
    # A30
    host = AcmeHost()
    reply = host.post("new-account", {"contact": ["mailto:Admin@Example.com"], "termsOfServiceAgreed": True})
    assert (reply.status, reply.media_type) == (201, "application/json")
    (account,) = host.accounts.values()
    assert headers(reply, "Location") == [f"{SITE.url}/account/{account.id}"]
    assert body(reply) == {
        "status": "valid",
        "contact": ["mailto:Admin@Example.com"],
        "orders": f"{SITE.url}/account/{account.id}/orders",
    }


def test_a_known_key_gets_its_account_unchanged():
    # A30, A31: neither terms nor a binding are demanded again
    for site in (SITE, WITH_TERMS, BOUND):
        host = AcmeHost(site)
        account = host.account()
        for payload in ({}, {"onlyReturnExisting": True}, {"contact": ["mailto:new@example.com"]}):
            reply = host.post("new-account", payload)
            assert reply.status == 200
            assert headers(reply, "Location") == [f"{SITE.url}/account/{account.id}"]
            assert body(reply)["contact"] == []


def test_two_requests_with_one_key_at_once_get_one_account():
    # A32: the store found that another request was first
    host = AcmeHost()
    host.race = AcmeHost().account()
    reply = host.post("new-account", {})
    assert (reply.status, headers(reply, "Location")) == (200, [f"{SITE.url}/account/{host.race.id}"])


def test_who_only_looks_is_told_that_there_is_none():
    # A31: cert-manager looks before it has a binding
    for site in (SITE, WITH_TERMS, BOUND):
        host = AcmeHost(site)
        problem(host.post("new-account", {"onlyReturnExisting": True}), "accountDoesNotExist", 400)
        assert "CreateAccount" not in host.kinds()


def test_a_deactivated_account_is_not_found_again_by_its_key():
    # A36; RFC 8555, 7.3.6
    host = AcmeHost()
    host.account(status=AccountStatus.DEACTIVATED)
    for payload in ({}, {"onlyReturnExisting": True}):
        problem(host.post("new-account", payload), "unauthorized", 403)


def test_terms_must_be_agreed_to():
    # A35
    host = AcmeHost(WITH_TERMS)
    for payload in ({}, {"termsOfServiceAgreed": False}, {"termsOfServiceAgreed": None}):
        reply = host.post("new-account", payload)
        assert TERMS in problem(reply, "userActionRequired", 403)
        assert body(reply)["instance"] == TERMS
        assert f'<{TERMS}>;rel="terms-of-service"' in headers(reply, "Link")
    reply = host.post("new-account", {"termsOfServiceAgreed": True})
    assert reply.status == 201
    assert f'<{TERMS}>;rel="terms-of-service"' in headers(reply, "Link")


def test_a_binding_is_demanded_where_it_is_required_and_never_believed():
    # A38: no MAC is checked here yet, so none is accepted
    binding = {"protected": "e30", "payload": "e30", "signature": "AA"}
    for payload in ({}, {"externalAccountBinding": binding}):
        problem(AcmeHost(BOUND).post("new-account", payload), "externalAccountRequired", 403)
    assert "not offered" in problem(
        AcmeHost().post("new-account", {"externalAccountBinding": binding}), "malformed", 400
    )


def test_the_empty_members_of_old_clients_are_passed_over():
    # A26: acmez
    payload = {"contact": None, "externalAccountBinding": None, "status": "", "orders": "", "onlyReturnExisting": None}
    assert AcmeHost().post("new-account", payload).status == 201


@pytest.mark.parametrize(
    ("contact", "type_"),
    [
        ("tel:+123", "unsupportedContact"),
        ("admin@example.com", "unsupportedContact"),
        ("", "unsupportedContact"),
        ("https://example.com", "unsupportedContact"),
        ("mailto:", "invalidContact"),
        ("mailto:admin", "invalidContact"),
        ("mailto:@example.com", "invalidContact"),
        ("mailto:a@b@example.com", "invalidContact"),
        ("mailto:a@example.com,b@example.com", "invalidContact"),
        ("mailto:a@example.com?subject=x", "invalidContact"),
        ("mailto:a@example.com\n", "invalidContact"),
        ("mailto:a b@example.com", "invalidContact"),
        ("mailto:a%40b@example.com", "invalidContact"),
        ("mailto:ä@example.com", "invalidContact"),
        ("mailto:a@-example.com", "invalidContact"),
        ("mailto:a@192.0.2.1", "invalidContact"),
        ("mailto:a@" + "b" * 400, "invalidContact"),
    ],
)
def test_a_contact_is_one_mail_address(contact, type_):
    # A33
    host = AcmeHost()
    problem(host.post("new-account", {"contact": [contact]}), type_, 400)
    account = host.account()
    problem(host.post(f"account/{account.id}", {"contact": [contact]}, account=account), type_, 400)


def test_contacts_are_counted():
    # A33
    host = AcmeHost()
    many = ["mailto:a@example.com"] * 11
    assert "at most 10" in problem(host.post("new-account", {"contact": many}), "invalidContact", 400)
    assert host.post("new-account", {"contact": ["MAILTO:a+b@example.com", *many[2:]]}).status == 201


def test_an_update_changes_what_it_names():
    # A34
    host = AcmeHost()
    account = host.account()
    path = f"account/{account.id}"
    reply = host.post(path, {"contact": ["mailto:a@example.com"], "status": "valid"}, account=account)
    assert (reply.status, body(reply)["contact"]) == (200, ["mailto:a@example.com"])
    for nothing in ({}, {"status": "valid"}, {"status": "revoked"}, {"contact": None}, {"termsOfServiceAgreed": True}):
        host.asked.clear()
        assert body(host.post(path, nothing, account=account))["status"] == "valid"
        assert "UpdateAccount" not in host.kinds()
    assert host.accounts[account.id].contact == ("mailto:a@example.com",)
    assert body(host.post(path, {"contact": []}, account=account))["contact"] == []


def test_an_account_is_deactivated_and_then_refused():
    # A36
    host = AcmeHost()
    account = host.account()
    path = f"account/{account.id}"
    assert body(host.post(path, {"status": "deactivated"}, account=account))["status"] == "deactivated"
    problem(host.post(path, account=account), "unauthorized", 403)


def test_another_account_is_never_shown():
    # A41, A52: nor is it told whether there is one
    host = AcmeHost()
    mine, other = host.account(), host.account(account_key("ES256", 1))
    for path in (f"account/{other.id}", "account/unknown", f"account/{other.id}/orders"):
        problem(host.post(path, account=mine), "unauthorized", 403)
    problem(host.post(f"account/{other.id}", {"status": "deactivated"}, account=mine), "unauthorized", 403)
    assert host.accounts[other.id].status is AccountStatus.VALID


def test_orders_are_listed_in_pages():
    # A40
    host = AcmeHost()
    account = host.account()
    host.pages = {None: (("o1", "o2"), "next"), "next": (("o3",), None)}
    path = f"account/{account.id}/orders"
    first = host.post(path, account=account)
    assert body(first) == {"orders": [f"{SITE.url}/order/o1", f"{SITE.url}/order/o2"]}
    assert f'<{SITE.url}/{path}/next>;rel="next"' in headers(first, "Link")
    second = host.post(f"{path}/next", account=account)
    assert body(second) == {"orders": [f"{SITE.url}/order/o3"]}
    assert len(headers(second, "Link")) == 1
    problem(host.post(path, {}, account=account), "malformed", 400)


def test_a_refusal_of_the_host_is_passed_on():
    host = AcmeHost()
    host.refusals[needs.CreateAccount] = Refused(Reason.RATE_LIMITED, "too many accounts", retry_after=30)
    reply = host.post("new-account", {})
    assert problem(reply, "rateLimited", 429) == "too many accounts"
    assert headers(reply, "Retry-After") == ["30"]
