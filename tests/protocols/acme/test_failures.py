"""Problem documents: one table, complete (RFC 8555, 6.7; A103, A104)."""

from __future__ import annotations

import pytest

from protocols.acme import failures
from protocols.exchange import Malformed, Reason, Refused
from tests.doubles.acme_host import SITE, body, headers, problem

# RFC 8555, 6.7
REGISTERED = {
    "accountDoesNotExist",
    "alreadyRevoked",
    "badCSR",
    "badNonce",
    "badPublicKey",
    "badRevocationReason",
    "badSignatureAlgorithm",
    "caa",
    "compound",
    "connection",
    "dns",
    "externalAccountRequired",
    "incorrectResponse",
    "invalidContact",
    "malformed",
    "orderNotReady",
    "rateLimited",
    "rejectedIdentifier",
    "serverInternal",
    "tls",
    "unauthorized",
    "unsupportedContact",
    "unsupportedIdentifier",
    "userActionRequired",
}


def test_only_registered_types_are_used():
    # A103
    assert set(failures.STATUS) <= REGISTERED


@pytest.mark.parametrize("reasons", [failures.REASONS, failures.FINALIZE_REASONS])
def test_every_reason_has_a_row(reasons):
    assert set(reasons) == set(Reason)
    assert {type_ for type_, _ in reasons.values()} <= set(failures.STATUS)


@pytest.mark.parametrize("reason", Reason)
def test_a_refusal_becomes_a_whole_document(reason):
    type_, status = failures.REASONS[reason]
    reply = failures.refused(SITE, Refused(reason, "because", violations=("because",)))
    assert problem(reply, type_, status) == "because"
    assert "subproblems" not in body(reply)
    assert headers(reply, "Retry-After") == []


def test_a_passing_fault_is_never_a_client_error():
    # A89: cert-manager makes a 4xx final
    for table in (failures.REASONS, failures.FINALIZE_REASONS):
        assert table[Reason.BUSY][1] == table[Reason.UNAVAILABLE][1] == 503


@pytest.mark.parametrize(("asked", "told"), [(-1, "1"), (0, "1"), (1, "1"), (600, "600"), (601, "600")])
def test_a_wait_is_one_that_every_client_bears(asked, told):
    # A55, A106: acme.sh gives up above ten minutes
    reply = failures.refused(SITE, Refused(Reason.BUSY, "later", retry_after=asked))
    assert headers(reply, "Retry-After") == [told]


def test_a_fault_without_a_type_is_malformed():
    assert problem(failures.reply(SITE, Malformed("what?")), "malformed", 400) == "what?"


def test_a_problem_is_made_where_no_site_is_known():
    reply = failures.problem("rateLimited", "slower", 503, headers=(("Retry-After", "1"),))
    assert problem(reply, "rateLimited", 503) == "slower"
    assert reply.headers == (("Retry-After", "1"),)
