"""The nouns' own small rules."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import SERIAL_TRANSITIONS, Certificate, CertificateStatus, SerialStatus
from gateway.domain.duration import LONGEST, format_duration, parse_duration
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import REQUEST_TRANSITIONS, SUBJECT_OIDS, RequestStatus, SubjectType
from protocols.exchange import Reason
from tests.domain.made import DAY, NOW, SECOND, authority, pair

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "duration"),
    [("1h", HOUR), ("90d", 90 * DAY), ("3m", 90 * DAY), ("1y", 365 * DAY), ("100y", LONGEST), ("007d", 7 * DAY)],
)
def test_a_duration_counts_months_of_30_and_years_of_365_days(text, duration):
    """applications.md, Policy."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "d", "90", "90 d", "-1d", "1.5d", "90D", "1w", "0d", "101y", "999999999y", "1d\n", "٣d"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="a duration is"):
        parse_duration(text)


@given(st.integers(1, 800_000))
def test_a_duration_in_hours_survives_its_text(hours):
    assert parse_duration(format_duration(hours * HOUR)) == hours * HOUR


def test_odd_durations_are_printed_in_seconds():
    assert format_duration(timedelta(minutes=90)) == "5400s"


def certificate(**changes) -> Certificate:
    fields = {"id": "1", "serial": "1", "issuer_id": "a", "der": b"", "subject": "", "sans": (), "not_before": NOW, "not_after": NOW + DAY, "sha1": "", "sha256": "", "spki_sha256": "", "key_algorithm": "", "signature_algorithm": "", "source": "issued", "created_at": NOW}  # fmt: skip
    return Certificate(**fields | changes)


def test_a_certificate_is_active_to_its_last_second_and_revocation_outlives_expiry():
    assert certificate().status(NOW + DAY) is CertificateStatus.ACTIVE
    assert certificate().status(NOW + DAY + SECOND) is CertificateStatus.EXPIRED
    assert certificate(revoked_at=NOW).status(NOW + 2 * DAY) is CertificateStatus.REVOKED


def test_an_authority_hands_out_its_chain_without_the_root():
    made = authority(chain=(b"own", b"middle", b"root"))
    assert (made.certificate, made.issuers, made.root) == (b"own", (b"own", b"middle"), b"root")
    assert made.signature_algorithm == "ecdsa-with-SHA256"


def test_a_pair_is_named_by_both_its_ids():
    assert pair().id == "x:p"


def test_a_refusal_carries_everything_that_may_be_shown():
    refusal = Refusal(RefusalReason.BUSY, "later", violations=("a",), retry_after=3)
    assert (str(refusal), refusal.detail, refusal.violations, refusal.retry_after) == ("later", "later", ("a",), 3)


def test_reasons_are_those_of_the_exchange():
    assert [(each.name, each.value) for each in RefusalReason] == [(each.name, each.value) for each in Reason]


def test_every_status_has_a_row_and_every_row_leads_somewhere_known():
    assert set(SERIAL_TRANSITIONS) == set(SerialStatus)
    assert set(REQUEST_TRANSITIONS) == set(RequestStatus)
    assert set().union(*REQUEST_TRANSITIONS.values()) < set(RequestStatus)


def test_a_serial_that_may_have_been_signed_is_never_reserved_again():
    assert all(SerialStatus.RESERVED not in after for after in SERIAL_TRANSITIONS.values())


def test_every_subject_type_has_an_oid():
    assert set(SUBJECT_OIDS) == set(SubjectType)
    assert len(set(SUBJECT_OIDS.values())) == len(SubjectType)


def test_an_audit_event_says_who_did_what_to_which_and_cannot_be_changed():
    """D17."""
    event = AuditEvent(NOW, "token:admin", "certificate.issue", "c1", "success")
    assert (event.application_id, event.detail, event.source, event.request_id) == (None, "", "", "")
    with pytest.raises(AttributeError, match="immutable"):
        event.actor = "somebody else"
