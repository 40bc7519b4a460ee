"""Revocation lists (RFC 5280, section 5)."""

import datetime as dt
from dataclasses import replace

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.contract.messages import SignCrl
from signer.contract.refusal import SignerRefusal
from signer.issuance.crl import MAX_VALIDITY, sign_crl
from signer.issuance.issuer import issuer_of
from signer.issuance.refused import Refused
from tests.signer.kit import NOW, issuer, issuing, root

DAY = 86400


def ask(number: int = 7, until: int = NOW + DAY, revoked: list[tuple[bytes, int, int]] | None = None) -> SignCrl:
    return SignCrl("issuing", number, NOW, until, revoked or [])


def signed(question: SignCrl) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(sign_crl(issuer(), question))


def refuses(reason: SignerRefusal, question: SignCrl, by=None) -> None:
    with pytest.raises(Refused) as caught:
        sign_crl(by or issuer(), question)
    assert caught.value.reason is reason


def test_a_list_says_what_was_asked():
    made = signed(ask(revoked=[(b"\x00" * 7 + b"\x05", NOW - 10, 1), (b"\x7f" * 20, NOW - 5, 0)]))
    assert made.is_signature_valid(issuing().certificate.public_key())
    assert made.issuer == issuing().certificate.subject
    assert made.last_update_utc == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert made.next_update_utc == dt.datetime.fromtimestamp(NOW + DAY, dt.UTC)
    assert made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 7
    ski = issuing().certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert aki.key_identifier == ski.digest
    first, second = list(made)
    assert second.serial_number == int.from_bytes(b"\x7f" * 20, "big")
    assert first.serial_number == 5
    assert first.revocation_date_utc == dt.datetime.fromtimestamp(NOW - 10, dt.UTC)
    reason = first.extensions.get_extension_for_class(x509.CRLReason).value.reason
    assert reason is x509.ReasonFlags.key_compromise


def test_a_reason_that_is_unspecified_is_left_out():
    """RFC 5280, 5.3.1: absent instead of unspecified."""
    [entry] = list(signed(ask(revoked=[(b"\x01", NOW, 0)])))
    assert list(entry.extensions) == []


def test_an_empty_list_is_signed():
    """D19: also when nothing was revoked."""
    assert list(signed(ask())) == []


def test_a_root_signs_its_list():
    made = x509.load_der_x509_crl(sign_crl(issuer_of(root()), ask()))
    assert made.is_signature_valid(root().certificate.public_key())


@pytest.mark.parametrize("number", [-1, 1 << 159])
def test_a_number_fits_into_20_bytes(number):
    """RFC 5280, 5.2.3. A number that msgpack can carry is smaller; this is what the room says by itself."""
    refuses(SignerRefusal.LINT, ask(number=number))


@pytest.mark.parametrize("until", [NOW, NOW - 1, NOW + MAX_VALIDITY + 1])
def test_the_next_update_follows_in_time(until):
    refuses(SignerRefusal.LINT, ask(until=until))


@pytest.mark.parametrize(
    "revoked",
    [
        [(b"", NOW, 0)],
        [(bytes(16), NOW, 0)],
        [(b"\xff" * 20, NOW, 0)],
        [(b"\x05", NOW, 0), (b"\x00\x05", NOW, 1)],
        [(b"\x05", -1, 0)],
        [(b"\x05", NOW + 2 * DAY, 0)],
        [(b"\x05", NOW, 7)],
        [(b"\x05", NOW, 8)],
        [(b"\x05", NOW, 11)],
        [(b"\x05", NOW, -1)],
    ],
)
def test_entries_that_no_list_may_hold_are_refused(revoked):
    """RFC 5280, 5.3: 7 is not used, 8 belongs to delta lists."""
    refuses(SignerRefusal.LINT, ask(revoked=revoked))


def test_an_issuer_whose_certificate_does_not_let_it_signs_no_list():
    refuses(SignerRefusal.CEILING, ask(), by=replace(issuer(), signs_lists=False))


def test_a_long_list_is_built_in_one_go():
    """10,000 entries: a builder that copied its list for each would take minutes."""
    made = signed(ask(revoked=[((n + 1).to_bytes(16, "big"), NOW - n, n % 2) for n in range(10_000)]))
    assert len(made) == 10_000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=21), st.integers(-5, 2 * NOW), st.integers(-1, 12)), max_size=5))
def test_whatever_is_asked_is_refused_or_a_list_of_it(revoked):
    try:
        made = signed(ask(revoked=revoked))
    except Refused:
        return
    assert [each.serial_number for each in made] == [int.from_bytes(serial, "big") for serial, _, _ in revoked]
