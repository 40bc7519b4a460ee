"""Admission: one and the same sentence for whatever is missing, so that nobody can map an installation from outside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.actions.admit import admitted
from gateway.domain.application import EnrollmentSettings
from gateway.domain.authority import AuthorityStatus
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol
from tests.doubles.issuer import Issuer, pair

PAIR = pair(Issuer())


def refusal(found, protocol: Protocol) -> Refusal:
    with pytest.raises(Refusal) as caught:
        admitted(found, protocol)
    return caught.value


@pytest.mark.parametrize("protocol", list(Protocol))
def test_an_open_door_admits(protocol: Protocol):
    assert admitted(PAIR, protocol) is PAIR


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_missing_pair_and_a_closed_door_sound_alike(protocol: Protocol):
    missing = refusal(None, protocol)
    closed = refusal(replace(PAIR, settings=EnrollmentSettings()), protocol)
    assert missing.reason is closed.reason is RefusalReason.NOT_FOUND
    assert missing.detail == closed.detail


@pytest.mark.parametrize("status", [AuthorityStatus.DISABLED, AuthorityStatus.PENDING_CERTIFICATE])
def test_an_authority_that_does_not_issue_is_a_passing_fault(status: AuthorityStatus):
    found = refusal(replace(PAIR, authority=replace(PAIR.authority, status=status)), Protocol.EST)
    assert found.reason is RefusalReason.UNAVAILABLE
    assert found.retry_after
