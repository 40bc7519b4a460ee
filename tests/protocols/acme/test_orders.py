"""Orders and their identifiers (RFC 8555, 7.4; RFC 8738; A42 to A56)."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from protocols.acme import needs
from protocols.acme.messages import Site
from protocols.acme.states import Identifier, IdentifierType, OrderStatus, Problem
from protocols.exchange import Reason, Refused
from tests.doubles.account_key import account_key
from tests.doubles.acme_host import SITE, AcmeHost, body, headers, problem


def dns(*names: str) -> list[dict[str, str]]:
    return [{"type": "dns", "value": name} for name in names]


def create(identifiers: object, site: Site = SITE, **more: object):
    host = AcmeHost(site)
    return host, host.post("new-order", {"identifiers": identifiers, **more}, account=host.account())


def test_an_order_is_created_with_an_authorization_a_name():
    # A42, A54
    host, reply = create(dns("WWW.Example", "a.example", "www.example"))
    (order,) = host.orders.values()
    assert (reply.status, reply.media_type) == (201, "application/json")
    assert headers(reply, "Location") == [f"{SITE.url}/order/{order.id}"]
    assert body(reply) == {
        "status": "pending",
        "expires": "2025-06-08T12:00:00Z",
        "identifiers": dns("www.example", "a.example"),  # A44: each once, in lower case
        "authorizations": [f"{SITE.url}/authorization/{each}" for each in order.authorization_ids],
        "finalize": f"{SITE.url}/order/{order.id}/finalize",
    }
    assert len(order.authorization_ids) == 2


def test_addresses_are_written_in_one_way():
    # A43; RFC 8738, 3
    _, reply = create([{"type": "ip", "value": "2001:DB8:0::1"}, {"type": "ip", "value": "2001:db8::1"}])
    assert body(reply)["identifiers"] == [{"type": "ip", "value": "2001:db8::1"}]


def test_the_members_that_acmez_sends_for_nothing_are_passed_over():
    # A26: acmez PR #21
    empty = {"status": "", "expires": "0001-01-01T00:00:00Z", "authorizations": None, "finalize": "", "error": None}
    host, reply = create(dns("a.example"), notBefore="0001-01-01T00:00:00Z", notAfter="", **empty)
    assert reply.status == 201
    (need,) = [need for need in host.asked if isinstance(need, needs.CreateOrder)]
    assert (need.not_before, need.not_after) == (None, None)


def test_times_that_are_asked_for_are_passed_on_and_shown():
    # A48
    host, reply = create(dns("a.example"), notBefore="2025-06-02T00:00:00Z", notAfter="2025-07-01T02:00:00.5+02:00")
    assert body(reply)["notBefore"] == "2025-06-02T00:00:00Z"
    (order,) = host.orders.values()
    assert order.not_after == dt.datetime(2025, 7, 1, 0, 0, 0, 500_000, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("times", "word"),
    [
        ({"notAfter": "tomorrow"}, "notAfter"),
        ({"notAfter": "2025-07-01"}, "notAfter"),
        ({"notAfter": "9999-12-31T23:59:59-23:59"}, "notAfter"),  # the year 10000, in UTC
        ({"notBefore": "0001-01-01T00:00:00+23:59"}, "notBefore"),
        ({"notBefore": "2025-07-01T00:00:00"}, "notBefore"),
        ({"notAfter": "2025-06-01T12:00:00Z"}, "past"),
        ({"notBefore": "2025-07-02T00:00:00Z", "notAfter": "2025-07-01T00:00:00Z"}, "notBefore"),
    ],
)
def test_times_that_cannot_be_are_malformed(times, word):
    # A48
    _, reply = create(dns("a.example"), **times)
    assert word in problem(reply, "malformed", 400)


def test_none_and_too_many_names_are_malformed():
    # A44
    for wrong in ([], None, "a.example", {}, [{"type": "dns"}], [{"type": "dns", "value": 1}], ["a.example"]):
        problem(create(wrong)[1], "malformed", 400)
    assert "at most 100" in problem(create(dns(*(f"{n}a.example" for n in range(101))))[1], "malformed", 400)
    assert create(dns(*(f"{n}a.example" for n in range(100))))[1].status == 201


def test_a_name_of_another_kind_is_told_with_what_is_offered():
    # A45; RFC 8555, 6.7.1: the identifier stands in a subproblem, never at the top
    _, reply = create([{"type": "email", "value": "a@example.com"}])
    assert "use dns or ip" in problem(reply, "unsupportedIdentifier", 400)
    (sub,) = body(reply)["subproblems"]
    assert sub["identifier"] == {"type": "email", "value": "a@example.com"}
    assert sub["type"] == "urn:ietf:params:acme:error:unsupportedIdentifier"


def test_every_wrong_name_is_told_at_once():
    # A44, A45
    _, reply = create([*dns("ok.example", "a..b", "under_score.example"), {"type": "ip", "value": "1.2.3"}])
    problem(reply, "rejectedIdentifier", 400)
    wrong = [sub["identifier"]["value"] for sub in body(reply)["subproblems"]]
    assert wrong == ["a..b", "under_score.example", "1.2.3"]
    _, both = create([*dns("a..b"), {"type": "tel", "value": "1"}])
    problem(both, "compound", 400)
    assert len(body(both)["subproblems"]) == 2


def test_what_is_echoed_is_cut():
    _, reply = create([{"type": "x" * 9000, "value": "y" * 9000}, *dns("z" * 9000)])
    assert len(reply.body) < 2000


def test_a_wildcard_needs_a_challenge_that_can_prove_it():
    # A43
    _, reply = create(dns("*.example.com"))
    assert "DNS challenge" in problem(reply, "rejectedIdentifier", 400)
    host, reply = create(dns("*.Example.com", "example.com"), Site(SITE.url, SITE.pair_id, wildcards=True))
    assert reply.status == 201
    # A51: the wildcard and its parent are two names; Posh-ACME wants them echoed as asked
    assert body(reply)["identifiers"] == dns("*.example.com", "example.com")
    assert len(next(iter(host.orders.values())).authorization_ids) == 2


def test_a_refusal_of_names_tells_all_reasons_together():
    # A45, D1
    host = AcmeHost()
    violations = ("sans: a.example is not allowed", "sans: b.example is not allowed")
    host.refusals[needs.CreateOrder] = Refused(Reason.POLICY, violations[0], violations=violations)
    reply = host.post("new-order", {"identifiers": dns("a.example", "b.example")}, account=host.account())
    assert problem(reply, "rejectedIdentifier", 400) == "; ".join(violations)
    assert [sub["detail"] for sub in body(reply)["subproblems"]] == list(violations)


def test_an_order_shows_what_it_is():
    # A54 to A56
    host = AcmeHost()
    account = host.account()
    name = Identifier(IdentifierType.DNS, "a.example")
    order = host.order(account, identifiers=(name,))
    path = f"order/{order.id}"
    ready = host.post(path, account=account)
    assert (ready.status, body(ready)["status"]) == (200, "ready")
    assert headers(ready, "Location") == [f"{SITE.url}/{path}"]
    assert headers(ready, "Retry-After") == []

    host.orders[order.id] = msgspec.structs.replace(order, status=OrderStatus.PROCESSING, certificate_id="c1")
    processing = host.post(path, account=account)
    (wait,) = headers(processing, "Retry-After")
    assert 1 <= int(wait) <= 600
    assert "certificate" not in body(processing)

    host.orders[order.id] = msgspec.structs.replace(order, status=OrderStatus.VALID, certificate_id="c1")
    assert body(host.post(path, account=account))["certificate"] == f"{SITE.url}/certificate/c1"

    error = Problem("rejectedIdentifier", "no", 403, name)
    host.orders[order.id] = msgspec.structs.replace(order, status=OrderStatus.INVALID, error=error)
    assert body(host.post(path, account=account))["error"] == {
        "type": "urn:ietf:params:acme:error:rejectedIdentifier",
        "detail": "no",
        "status": 403,
        "identifier": {"type": "dns", "value": "a.example"},
    }


def test_an_order_is_its_account_s_alone():
    # A52, A53
    host = AcmeHost()
    mine, other = host.account(), host.account(account_key("ES256", 1))
    order = host.order(other)
    for path in (f"order/{order.id}", f"order/{order.id}/finalize"):
        problem(host.post(path, {"csr": ""}, account=mine), "unauthorized", 403)
    for path in ("order/unknown", "order/unknown/finalize"):
        problem(host.post(path, {"csr": ""}, account=mine), "malformed", 404)


def test_an_empty_object_does_not_read_an_order():
    # A25
    host = AcmeHost()
    account = host.account()
    problem(host.post(f"order/{host.order(account).id}", {}, account=account), "malformed", 400)
