"""The table from refusals to EST's answers."""

from __future__ import annotations

import pytest

from protocols.est import failures
from protocols.exchange import Reason, Refused


def test_the_table_is_total():
    assert set(failures.ROWS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_each_refusal_is_one_line_of_text(reason: Reason):
    """E49, E50: what a peer wrote cannot forge a second line."""
    reply = failures.refused(Refused(reason, "no:\n bad", violations=("one.", "two.")), "est")
    assert reply.status >= 400
    assert reply.media_type == "text/plain; charset=utf-8"
    assert reply.body == b"no: bad one. two.\n"
    names = [name for name, _ in reply.headers]
    assert ("Retry-After" in names) is (reply.status in (429, 503))
    assert ("WWW-Authenticate" in names) is (reply.status == 401)


def test_the_challenge_is_basic_and_first():
    """E90."""
    reply = failures.refused(Refused(Reason.UNAUTHENTICATED, "x"), 'a "b" \\c')
    assert reply.headers == (("WWW-Authenticate", 'Basic realm="a \\"b\\" \\\\c"'),)


def test_the_host_says_when_to_come_back():
    assert failures.refused(Refused(Reason.BUSY, "x", retry_after=9), "").headers == (("Retry-After", "9"),)
    assert failures.refused(Refused(Reason.BUSY, "x"), "").headers == (("Retry-After", "5"),)
