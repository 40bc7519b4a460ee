"""The table from refusals to SCEP's words."""

from __future__ import annotations

import pytest

from protocols.exchange import Reason, Refused
from protocols.scep import failures
from protocols.scep.failures import FailInfo


def test_the_table_is_total():
    assert set(failures.ROWS) == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_certrep_or_a_status(reason: Reason):
    told = failures.failure(Refused(reason, "the detail"))
    reply = failures.refused(Refused(reason, "the detail"))
    assert reply.media_type == "text/plain; charset=utf-8"
    if told is None:
        assert reply.status in (429, 503)
        assert reply.headers == (("Retry-After", "5"),)
    else:
        assert isinstance(told.fail_info, FailInfo)
        assert reply.status == 403
    assert b"the detail" not in reply.body


@pytest.mark.parametrize(
    ("reason", "fail_info"),
    [
        (Reason.UNAUTHENTICATED, FailInfo.BAD_REQUEST),  # S57
        (Reason.BAD_KEY, FailInfo.BAD_ALG),
        (Reason.REVOKED, FailInfo.BAD_REQUEST),  # S67
        (Reason.EXPIRED, FailInfo.BAD_REQUEST),
        (Reason.NAME_MISMATCH, FailInfo.BAD_REQUEST),
        (Reason.NOT_FOUND, FailInfo.BAD_CERT_ID),
    ],
)
def test_the_fail_info_is_the_rfcs(reason: Reason, fail_info: FailInfo):
    """RFC 8894, 3.2.1.4.2."""
    told = failures.failure(Refused(reason, "x"))
    assert told is not None
    assert told.fail_info is fail_info


def test_what_is_wrong_with_a_credential_is_not_told():
    """S57, S91: one sentence for all of them."""
    reasons = (Reason.UNAUTHENTICATED, Reason.FORBIDDEN, Reason.REVOKED, Reason.EXPIRED, Reason.NOT_FOUND)
    texts = {told.text for reason in reasons if (told := failures.failure(Refused(reason, f"is {reason.value}")))}
    assert len(texts) == 1


def test_what_is_wrong_with_a_request_is_told_all_together():
    """D1."""
    told = failures.failure(Refused(Reason.POLICY, "no", violations=("CN is missing.", "The key is short.")))
    assert told is not None
    assert told.text == "CN is missing. The key is short."


def test_the_host_says_when_to_come_back():
    assert failures.refused(Refused(Reason.BUSY, "x", retry_after=0)).headers == (("Retry-After", "0"),)
    assert failures.refused(Refused(Reason.RATE_LIMITED, "x", retry_after=60)).headers == (("Retry-After", "60"),)
