"""Paths and methods (A1, A5, A12, A14, A53)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acme.messages import Site
from protocols.acme.operations import get
from tests.doubles.acme_host import SITE, AcmeHost, body, headers, problem

RESOURCES = (
    "new-account",
    "new-order",
    "account/1",
    "account/1/orders",
    "account/1/orders/2",
    "order/1",
    "order/1/finalize",
    "authorization/1",
    "challenge/1/2",
    "certificate/1",
)


def test_the_directory_lists_what_works_and_nothing_else():
    # A1, A2
    reply = get(SITE, "directory", "GET")
    assert (reply.status, reply.media_type) == (200, "application/json")
    assert body(reply) == {
        "newNonce": f"{SITE.url}/new-nonce",
        "newAccount": f"{SITE.url}/new-account",
        "newOrder": f"{SITE.url}/new-order",
        "meta": {},
    }
    # A11: on all resources but the directory
    assert headers(reply, "Link") == []
    assert get(SITE, "directory", "HEAD").status == 200


def test_the_directory_says_what_clients_must_agree_to():
    site = Site(
        SITE.url, "1", "https://muster.example/terms", "https://muster.example/", external_account_required=True
    )
    assert body(get(site, "directory", "GET"))["meta"] == {
        "termsOfService": "https://muster.example/terms",
        "website": "https://muster.example/",
        "externalAccountRequired": True,
    }


def test_new_nonce_is_200_for_head_and_204_for_get():
    # A5; uacme and old firewalls use GET
    assert (get(SITE, "new-nonce", "HEAD").status, get(SITE, "new-nonce", "GET").status) == (200, 204)
    assert get(SITE, "new-nonce", "GET").body == b""


def test_directory_and_new_nonce_are_read_by_post_as_get_too():
    # A12; RFC 8555, 6.3
    host = AcmeHost()
    account = host.account()
    assert body(host.post("directory", account=account))["newOrder"] == f"{SITE.url}/new-order"
    assert host.post("new-nonce", account=account).status == 204
    for path in ("directory", "new-nonce"):
        problem(host.post(path, {}, account=account), "malformed", 400)


@pytest.mark.parametrize("path", RESOURCES)
def test_what_is_signed_is_not_read_by_get(path):
    # A12, A25
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "x" * 1000):
        reply = get(SITE, path, method)
        assert len(problem(reply, "malformed", 405)) < 200
        assert headers(reply, "Allow") == ["POST"]


def test_options_and_wrong_methods_are_told_what_is_allowed():
    # A12
    for path, allowed in (("directory", "GET, HEAD, POST"), ("new-nonce", "GET, HEAD, POST"), ("order/1", "POST")):
        assert get(SITE, path, "OPTIONS").status == 204
        assert headers(get(SITE, path, "OPTIONS"), "Allow") == [allowed]
        # A11: on all resources but the directory
        index = [] if path == "directory" else [f'<{SITE.url}/directory>;rel="index"']
        assert headers(get(SITE, path, "OPTIONS"), "Link") == index
        assert headers(get(SITE, path, "DELETE"), "Allow") == [allowed]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "directory/",
        "/directory",
        "new-order/",
        "order",
        "order/",
        "order//finalize",
        "order/1/finalize/",
        "order/1/other",
        "order/1%2f",
        "order/..",
        "order/1?x=1",
        "order/" + "1" * 65,
        "challenge/1",
        "challenge/1/2/3",
        "account/1/orders/2/3",
        "key-change",
        "revoke-cert",
        "new-authz",
        "Directory",
        "order/é",
        "renewal-info/x",
    ],
)
def test_what_is_not_listed_is_not_found_and_never_redirected(path):
    # A14, A53
    host = AcmeHost()
    problem(get(SITE, path, "GET"), "malformed", 404)
    problem(host.post(path, account=host.account()), "malformed", 404)
    assert host.asked == []


@given(st.text(max_size=40), st.text(max_size=8))
def test_any_path_and_method_are_answered(path, method):
    assert get(SITE, path, method).status in (200, 204, 404, 405)
