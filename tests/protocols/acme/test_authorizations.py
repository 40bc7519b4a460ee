"""Authorizations, challenges and downloads (RFC 8555, 7.4.2, 7.5; A52, A53, A55, A58 to A63, A91 to A94)."""

from __future__ import annotations

import datetime as dt

import msgspec
import pytest

from protocols.acme import needs
from protocols.acme.states import AuthorizationStatus, ChallengeStatus, Identifier, IdentifierType, Problem
from protocols.exchange import Reason, Refused
from protocols.pkix import pem
from tests.doubles.account_key import account_key
from tests.doubles.acme_host import NOW, SITE, AcmeHost, body, headers, problem

NAME = Identifier(IdentifierType.DNS, "a.example")


def prepared(**fields: object):
    host = AcmeHost()
    account = host.account()
    return host, account, host.authorization(account, NAME, **fields)


def test_an_authorization_shows_its_challenges():
    # A58
    host, account, authorization = prepared()
    reply = host.post(f"authorization/{authorization.id}", account=account)
    assert (reply.status, reply.media_type) == (200, "application/json")
    assert body(reply) == {
        "identifier": {"type": "dns", "value": "a.example"},
        "status": "pending",
        "expires": "2025-06-08T12:00:00Z",
        "challenges": [
            {
                "type": "http-01",
                "url": f"{SITE.url}/challenge/{authorization.id}/{each.id}",
                "token": "token",
                "status": "pending",
            }
            for each in authorization.challenges
        ],
    }
    # certbot takes a Location for the authorization's URL
    assert headers(reply, "Location") == headers(reply, "Retry-After") == []


def test_a_wildcard_is_marked():
    # A58
    host, account, authorization = prepared(wildcard=True)
    shown = body(host.post(f"authorization/{authorization.id}", account=account))
    assert (shown["wildcard"], shown["identifier"]) == (True, {"type": "dns", "value": "a.example"})


def test_an_authorization_in_validation_says_when_to_come_back():
    # A55
    host = AcmeHost()
    account = host.account()
    challenges = (host.challenge(status=ChallengeStatus.PROCESSING),)
    authorization = host.authorization(account, NAME, challenges=challenges)
    (wait,) = headers(host.post(f"authorization/{authorization.id}", account=account), "Retry-After")
    assert 1 <= int(wait) <= 600


@pytest.mark.parametrize("status", [AuthorizationStatus.PENDING, AuthorizationStatus.VALID])
def test_an_authorization_is_deactivated(status):
    # A59
    host, account, authorization = prepared(status=status)
    reply = host.post(f"authorization/{authorization.id}", {"status": "deactivated"}, account=account)
    assert (reply.status, body(reply)["status"]) == (200, "deactivated")
    assert host.kinds()[-1] == "DeactivateAuthorization"


@pytest.mark.parametrize(
    "status", [AuthorizationStatus.INVALID, AuthorizationStatus.EXPIRED, AuthorizationStatus.REVOKED]
)
def test_what_has_ended_is_not_deactivated(status):
    # A59; RFC 8555, 7.1.6
    host, account, authorization = prepared(status=status)
    reply = host.post(f"authorization/{authorization.id}", {"status": "deactivated"}, account=account)
    assert status in problem(reply, "malformed", 400)


def test_to_deactivate_twice_changes_nothing():
    host, account, authorization = prepared(status=AuthorizationStatus.DEACTIVATED)
    assert host.post(f"authorization/{authorization.id}", {"status": "deactivated"}, account=account).status == 200
    assert "DeactivateAuthorization" not in host.kinds()


@pytest.mark.parametrize("payload", [{}, {"status": "valid"}, {"status": None}, {"status": "pending"}])
def test_an_authorization_is_changed_in_no_other_way(payload):
    # A25, A59
    host, account, authorization = prepared()
    problem(host.post(f"authorization/{authorization.id}", payload, account=account), "malformed", 400)
    assert host.kinds()[-1] == "FindAuthorization"


def test_an_answered_challenge_is_validated_once():
    # A60, A61
    host, account, authorization = prepared()
    challenge = authorization.challenges[1]
    path = f"challenge/{authorization.id}/{challenge.id}"
    reply = host.post(path, {}, account=account)
    assert reply.status == 200
    assert body(reply) == {"type": "http-01", "url": f"{SITE.url}/{path}", "token": "token", "status": "processing"}
    assert f'<{SITE.url}/authorization/{authorization.id}>;rel="up"' in headers(reply, "Link")
    assert headers(reply, "Retry-After") == ["1"]
    assert isinstance(host.asked[-1], needs.BeginValidation)

    processing = msgspec.structs.replace(challenge, status=ChallengeStatus.PROCESSING)
    host.authorizations[authorization.id] = msgspec.structs.replace(
        authorization, challenges=(authorization.challenges[0], processing)
    )
    host.asked.clear()
    assert body(host.post(path, {"keyAuthorization": "old"}, account=account))["status"] == "processing"
    assert "BeginValidation" not in host.kinds()


def test_reading_a_challenge_never_starts_its_validation():
    # A61: win-acme and dehydrated poll the challenge
    host, account, authorization = prepared()
    path = f"challenge/{authorization.id}/{authorization.challenges[0].id}"
    assert body(host.post(path, account=account))["status"] == "pending"
    assert "BeginValidation" not in host.kinds()


@pytest.mark.parametrize(
    "status", [AuthorizationStatus.VALID, AuthorizationStatus.EXPIRED, AuthorizationStatus.DEACTIVATED]
)
def test_a_challenge_of_an_authorization_that_has_ended_is_not_validated(status):
    host, account, authorization = prepared(status=status)
    path = f"challenge/{authorization.id}/{authorization.challenges[0].id}"
    # A63: the sibling of the challenge that was proved stays as it is
    assert body(host.post(path, {}, account=account))["status"] == "pending"
    assert "BeginValidation" not in host.kinds()


def test_a_failed_challenge_shows_why():
    # A62
    host = AcmeHost()
    account = host.account()
    error = Problem("connection", "nobody listens on port 80", 400)
    validated = NOW + dt.timedelta(seconds=1)
    failed = host.challenge(status=ChallengeStatus.INVALID, error=error, validated=validated)
    authorization = host.authorization(account, NAME, challenges=(failed,), status=AuthorizationStatus.INVALID)
    shown = body(host.post(f"challenge/{authorization.id}/{failed.id}", account=account))
    assert list(shown) == ["type", "url", "token", "status", "validated", "error"]
    assert shown["validated"] == "2025-06-01T12:00:01Z"
    assert shown["error"] == {
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "nobody listens on port 80",
        "status": 400,
    }


def test_a_challenge_payload_is_an_object():
    # A26
    host, account, authorization = prepared()
    path = f"challenge/{authorization.id}/{authorization.challenges[0].id}"
    problem(host.post(path, b"[]", account=account), "malformed", 400)


def test_authorizations_and_challenges_are_their_account_s_alone():
    # A52, A53
    host, account, authorization = prepared()
    other = host.account(account_key("ES256", 1))
    challenge = authorization.challenges[0].id
    for path in (f"authorization/{authorization.id}", f"challenge/{authorization.id}/{challenge}"):
        problem(host.post(path, account=other, key=account_key("ES256", 1)), "unauthorized", 403)
    for path in ("authorization/x", f"challenge/x/{challenge}", f"challenge/{authorization.id}/x"):
        problem(host.post(path, account=account), "malformed", 404)


def test_a_host_that_is_busy_is_tried_again_later():
    # A89, A106
    host, account, authorization = prepared()
    host.refusals[needs.BeginValidation] = Refused(Reason.BUSY, "too many validations", retry_after=5000)
    reply = host.post(f"challenge/{authorization.id}/{authorization.challenges[0].id}", {}, account=account)
    problem(reply, "serverInternal", 503)
    assert headers(reply, "Retry-After") == ["600"]


def test_a_certificate_is_downloaded_with_its_chain():
    # A91
    host = AcmeHost()
    account = host.account()
    host.chains[(account.id, "c1")] = (b"leaf", b"issuer")
    reply = host.post("certificate/c1", account=account)
    assert (reply.status, reply.media_type) == (200, "application/pem-certificate-chain")
    assert pem.decode(reply.body, (pem.CERTIFICATE,), limit=1000, count=2) == (b"leaf", b"issuer")


def test_a_certificate_of_another_account_is_not_found():
    # A93, A94
    host = AcmeHost()
    account = host.account()
    host.chains[("another", "c1")] = (b"leaf",)
    for path in ("certificate/c1", "certificate/unknown"):
        problem(host.post(path, account=account), "malformed", 404)
    problem(host.post("certificate/c1", {}, account=account), "malformed", 400)
