"""Admission of signed requests, and the order of its checks (RFC 8555, 6.2 to 6.5; A15 to A27)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import pytest

from protocols.acme import needs
from protocols.acme.operations.signed import LIMIT
from protocols.acme.states import AccountStatus
from tests.doubles.account_key import account_key, b64
from tests.doubles.acme_host import JOSE, SITE, AcmeHost, body, headers, problem


@pytest.mark.parametrize("alg", ["ES256", "RS256", "ES384", "ES512", "EdDSA", "PS256"])
def test_an_account_of_each_kind_of_key_reads_itself(alg):
    # A18
    host, key = AcmeHost(), account_key(alg)
    account = host.account(key)
    reply = host.post(f"account/{account.id}", account=account, key=key)
    assert reply.status == 200
    assert body(reply)["status"] == "valid"
    assert host.kinds() == ["FindAccount"]
    assert len(host.tried) == 1


def test_an_account_that_the_host_knows_is_not_asked_for_and_must_sign_all_the_same():
    host = AcmeHost()
    account = host.account()
    host.known[account.id] = account
    assert host.post(f"account/{account.id}", account=account).status == 200
    reply = host.post(f"account/{account.id}", account=account, key=account_key("ES256", 1))
    assert "does not verify" in problem(reply, "malformed", 400)
    assert host.asked == []
    assert len(host.tried) == 1


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256"])
def test_requests_that_another_implementation_signs_are_admitted(alg):
    # certbot's own library
    import josepy
    from acme import jws

    host, key = AcmeHost(), account_key(alg)
    kind = josepy.JWKRSA if alg == "RS256" else josepy.JWKEC
    theirs, algorithm, new_account = kind(key=key.key), getattr(josepy, alg), f"{SITE.url}/new-account"
    first = jws.JWS.sign(b"{}", theirs, algorithm, urlsafe_b64decode(host.nonce()), url=new_account)
    created = host.send("new-account", first.json_dumps().encode())
    assert created.status == 201
    (url,) = headers(created, "Location")
    second = jws.JWS.sign(b"", theirs, algorithm, urlsafe_b64decode(host.nonce()), url=url, kid=url)
    assert host.send(url.removeprefix(f"{SITE.url}/"), second.json_dumps().encode()).status == 200


@pytest.mark.parametrize(
    "media_type", [None, "", "application/json", "text/plain", "application/jose", "application/jose+jsonx"]
)
def test_another_media_type_is_415(media_type):
    # A16
    host = AcmeHost()
    account = host.account()
    request = account_key().request({"kid": SITE.account(account.id)}, b"")
    assert "application/jose+json" in problem(host.send(f"account/{account.id}", request, media_type), "malformed", 415)
    assert host.asked == []


@pytest.mark.parametrize(
    "media_type", ["application/jose+json; charset=utf-8", "Application/JOSE+JSON", " application/jose+json ;"]
)
def test_parameters_and_case_of_the_media_type_do_not_matter(media_type):
    # A16
    host = AcmeHost()
    account = host.account()
    path = f"account/{account.id}"
    header = {"kid": SITE.account(account.id), "nonce": host.nonce(), "url": f"{SITE.url}/{path}"}
    assert host.send(path, account_key().request(header, b""), media_type).status == 200


def test_a_body_over_the_limit_is_413_before_it_is_read():
    # A17
    host = AcmeHost()
    assert str(LIMIT) in problem(host.send("new-account", b"\xff" * (LIMIT + 1)), "malformed", 413)
    problem(host.send("new-account", b"\xff" * LIMIT), "malformed", 400)


def test_an_algorithm_that_is_not_offered_is_answered_with_those_that_are():
    # A18; RFC 8555, 6.2
    host = AcmeHost()
    header = b64(json.dumps({"alg": "HS256", "jwk": account_key().jwk}).encode())
    reply = host.send("new-account", json.dumps({"protected": header, "payload": "e30", "signature": "AA"}).encode())
    problem(reply, "badSignatureAlgorithm", 400)
    assert body(reply)["algorithms"] == ["ES256", "RS256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512"]


def test_a_key_that_is_not_accepted_is_a_bad_public_key():
    # A24
    host = AcmeHost()
    problem(host.post("new-account", {}, header={"jwk": {**account_key().jwk, "d": "AQ"}}), "badPublicKey", 400)
    assert host.asked == []


def test_jwk_is_for_new_accounts_only_and_kid_for_all_else():
    # A20
    host = AcmeHost()
    account = host.account()
    assert "kid of an account" in problem(host.post("new-order", {}), "malformed", 400)
    assert "jwk of a key" in problem(host.post("new-account", {}, account=account), "malformed", 400)


@pytest.mark.parametrize(
    "kid",
    [
        "1",
        "https://muster.example/acme/demo/tls-server/account/unknown",
        "https://muster.example/acme/demo/tls-server/account/",
        "https://muster.example/acme/demo/tls-server/account/a-1/orders",
        "https://muster.example/acme/demo/other/account/a-1",
        "https://other.example/acme/demo/tls-server/account/a-1",
        "http://muster.example/acme/demo/tls-server/account/a-1",
        "a-1",
        "",
    ],
)
def test_a_key_id_is_the_url_of_an_account_of_this_directory(kid):
    # A22
    host = AcmeHost()
    account = host.account()
    assert account.id == "a-1"
    problem(host.post("new-order", {}, account=account, header={"kid": kid}), "accountDoesNotExist", 400)
    assert host.tried == []


def test_a_signature_by_another_key_spends_no_nonce():
    # A10, A27
    host = AcmeHost()
    account = host.account()
    reply = host.post(f"account/{account.id}", account=account, key=account_key("ES256", 1))
    assert "does not verify" in problem(reply, "malformed", 400)
    assert host.kinds() == ["FindAccount"]
    assert host.tried == []


def test_an_account_that_is_no_longer_valid_may_do_nothing():
    # A22, A36
    host = AcmeHost()
    for status in (AccountStatus.DEACTIVATED, AccountStatus.REVOKED):
        account = host.account(status=status)
        assert status in problem(host.post(f"account/{account.id}", account=account), "unauthorized", 403)
    # Who cannot sign for it learns no more than that it exists.
    problem(host.post("new-order", account=account, key=account_key("ES256", 1)), "malformed", 400)


def test_a_nonce_is_spent_once_and_the_refusal_has_the_words_that_clients_look_for():
    # A9: acme.sh
    host = AcmeHost()
    account = host.account()
    header = {"nonce": host.nonce()}
    assert host.post(f"account/{account.id}", account=account, header=header).status == 200
    for wrong in (header, {"nonce": "unknown0"}, {"nonce": None}):
        detail = problem(host.post(f"account/{account.id}", account=account, header=wrong), "badNonce", 400)
        assert "JWS has an invalid anti-replay nonce" in detail


def test_a_nonce_that_is_not_base64url_is_malformed():
    # RFC 8555, 6.5.2
    host = AcmeHost()
    account = host.account()
    for wrong in ("a/+=", "abcde", "\u00e9"):
        problem(host.post("new-order", account=account, header={"nonce": wrong}), "malformed", 400)


@pytest.mark.parametrize(
    "url",
    [
        None,
        "",
        f"{SITE.url}/new-order/",
        f"{SITE.url}/new-order?a",
        f"{SITE.url}/new-account",
        f"{SITE.url}:443/new-order",
        "https://MUSTER.example/acme/demo/tls-server/new-order",
        "https://muster.example/acme/demo/other/new-order",
        "/new-order",
    ],
)
def test_the_signed_url_is_exactly_the_one_that_was_asked(url):
    # A21: a request for one resource must not serve for another
    host = AcmeHost()
    problem(host.post("new-order", {}, account=host.account(), header={"url": url}), "unauthorized", 403)


def test_the_checks_come_in_their_order():
    # A27: what is wrong in several ways is told by the first of them
    host = AcmeHost()
    account = host.account()
    wrong = {"nonce": "unknown0", "url": "x"}
    problem(host.post("new-order", b"x", account=account, header=wrong), "badNonce", 400)
    problem(host.post("new-order", b"x", account=account, header={"url": "x"}), "unauthorized", 403)
    problem(host.post("new-order", b"x", account=account), "malformed", 400)
    other = account_key("ES256", 1)
    problem(host.post("new-order", b"x", account=account, key=other, header=wrong), "malformed", 400)


@pytest.mark.parametrize("payload", [b"[]", b'"a"', b"null", b"{", b'{"a":1,"a":2}', b"\xff"])
def test_a_payload_is_a_json_object(payload):
    # A26
    host = AcmeHost()
    problem(host.post("new-order", payload, account=host.account()), "malformed", 400)


def test_every_answer_leads_back_to_the_directory():
    # A11: one Link a line, with quotes
    host = AcmeHost()
    account = host.account()
    expected = f'<{SITE.url}/directory>;rel="index"'
    for reply in (
        host.post(f"account/{account.id}", account=account),
        host.post("nothing", account=account),
        host.post("new-order", account=account, header={"nonce": "unknown0"}),
        host.send("new-order", b"", JOSE),
    ):
        assert expected in headers(reply, "Link")


def test_the_needs_are_all_that_acme_can_ask_for():
    listed = {name for name, each in vars(needs).items() if isinstance(each, type) and issubclass(each, needs.Need)}
    assert listed - {"Need"} == {
        "FindAccount",
        "FindAccountByKey",
        "CreateAccount",
        "UpdateAccount",
        "CreateOrder",
        "FindOrder",
        "ListOrders",
        "FindAuthorization",
        "DeactivateAuthorization",
        "BeginValidation",
        "Finalize",
        "ReadChain",
    }
