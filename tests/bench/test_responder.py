"""The responder of http-01 (RFC 8555, 8.3): what was said before a server looks is there when it looks."""

from __future__ import annotations

import contextlib
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from bench.load.responder import Announcing, Responder


@pytest.fixture
def responder() -> Iterator[Responder]:
    with contextlib.closing(Responder()) as made:
        yield made


def looked(responder: Responder, token: str, at: str = "127.0.0.1") -> bytes:
    url = f"http://{at}:{responder.port}/.well-known/acme-challenge/{token}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


def test_what_was_said_is_found_at_once(responder: Responder):
    with contextlib.closing(Announcing(responder.address)) as announcing:
        for number in range(50):
            announcing.say(f"token{number}.thumbprint")
            assert looked(responder, f"token{number}") == b"token%d.thumbprint" % number


def test_a_token_that_nobody_named_is_not_found(responder: Responder):
    with pytest.raises(urllib.error.HTTPError) as refused:
        looked(responder, "unknown")
    assert refused.value.code == 404
    refused.value.close()


def test_it_is_found_at_both_addresses_of_localhost(responder: Responder):
    """A validator asks IPv6 first (RFC 6761, 6.3 gives it both)."""
    responder.answers["token"] = b"token.thumbprint"
    assert socket.has_dualstack_ipv6()
    assert [looked(responder, "token", at) for at in ("127.0.0.1", "[::1]")] == [b"token.thumbprint"] * 2


def test_answers_can_be_put_in_directly_by_who_holds_it(responder: Responder):
    responder.answers["token"] = b"token.thumbprint"
    assert looked(responder, "token") == b"token.thumbprint"
