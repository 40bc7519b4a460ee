"""Revocation lists (RFC 5280, section 5)."""

import datetime as dt
from dataclasses import replace

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.contract.entries import ENTRY
from signer.contract.messages import SignCrl
from signer.contract.refusal import SignerRefusal
from signer.issuance import der, signature
from signer.issuance.crl import MAX_VALIDITY, SLICE, check_present, sign_crl, sign_in_slices
from signer.issuance.issue import prepare, sign
from signer.issuance.issuer import issuer_of
from signer.issuance.refused import Refused
from signer.keystore.mechanism import GENERATORS
from tests.signer.kit import NOW, good_ask, issuer, issuing, root

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


serials = st.integers(1, (1 << 159) - 1) | st.integers(1, 300)
REASON_NAMES = {
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
URLS = st.lists(st.from_regex(r"http://[a-z]{1,10}/ca/[a-z0-9-]{1,20}\.crl", fullmatch=True), max_size=3, unique=True)


def packed(entries: list[tuple[int, int, int]]) -> bytes:
    return b"".join(ENTRY.pack(serial.to_bytes(20, "big"), when, reason) for serial, when, reason in entries)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(serials, st.integers(0, NOW + DAY), st.sampled_from((0, *REASON_NAMES))),
        max_size=8,
        unique_by=lambda each: each[0],
    ),
    st.integers(1, 2**62),
    URLS,
    st.booleans(),
)
def test_what_is_written_by_hand_is_what_cryptography_reads(entries, number, points, delta):
    """RFC 5280, 5: every field, against another reader."""
    base = number - 1 if delta else None
    question = SignCrl("issuing", number, NOW, NOW + DAY, [], points, base, [] if delta else points, packed(entries))
    if not delta and any(reason == 8 for _, _, reason in entries):
        refuses(SignerRefusal.LINT, question)
        return
    made = signed(question)
    assert made.is_signature_valid(issuing().certificate.public_key())
    assert made.signature_algorithm_oid == issuing().certificate.signature_algorithm_oid
    assert [(each.serial_number, int(each.revocation_date_utc.timestamp()), reason_in(each)) for each in made] == [
        (serial, when, REASON_NAMES.get(reason)) for serial, when, reason in entries
    ]
    found = {each.oid: each for each in made.extensions}
    assert found[x509.CRLNumber.oid].value.crl_number == number
    assert [each.critical for each in found.values()] == [
        each.oid in (x509.DeltaCRLIndicator.oid, x509.IssuingDistributionPoint.oid) for each in found.values()
    ]
    assert (x509.DeltaCRLIndicator.oid in found) == delta
    if delta:
        assert found[x509.DeltaCRLIndicator.oid].value.crl_number == base
    if points:
        assert [each.value for each in found[x509.IssuingDistributionPoint.oid].value.full_name] == points
        assert delta or [each.value for each in found[x509.FreshestCRL.oid].value[0].full_name] == points
    else:
        assert x509.IssuingDistributionPoint.oid not in found


def reason_in(entry: x509.RevokedCertificate) -> str | None:
    for each in entry.extensions:
        assert not each.critical
        return each.value.reason.value
    return None


@pytest.mark.parametrize("algorithm", GENERATORS)
def test_every_kind_of_key_signs_a_list_that_says_with_what(algorithm: str):
    """RFC 5280, 5.1.1.2: the algorithm outside is that inside, and the one of the issuer's certificates."""
    made = x509.load_der_x509_crl(sign_crl(issuer(algorithm), ask(revoked=[(b"\x05", NOW, 1)])))
    public_key = issuing(algorithm).certificate.public_key()
    if algorithm.startswith("ML-DSA"):
        public_key.verify(made.signature, made.tbs_certlist_bytes)
    else:
        assert made.is_signature_valid(public_key)
    own = x509.load_der_x509_certificate(sign_leaf(algorithm))
    assert made.signature_algorithm_oid == own.signature_algorithm_oid


def sign_leaf(algorithm: str) -> bytes:
    by = issuer(algorithm)
    return sign(by, prepare(by, good_ask()))


@pytest.mark.parametrize(
    "changes",
    [
        {"base_number": 7},
        {"base_number": -1},
        {"base_number": 3, "freshest": ["http://a/d.crl"]},
        {"distribution_points": ["ldap://a/b"]},
        {"distribution_points": ["http://a/ b"]},
        {"distribution_points": [""]},
        {"distribution_points": ["http://a/b"] * 33},
        {"freshest": ["ftp://a/b"]},
        {"packed": b"\x01" * 24},
        {"packed": b"\x01" * 25, "revoked": [(b"\x05", NOW, 1)]},
    ],
)
def test_a_list_that_no_rfc_knows_is_refused(changes):
    """RFC 5280, 5.2.4 to 5.2.6."""
    refuses(SignerRefusal.LINT, msgspec.structs.replace(ask(), **changes))


def test_times_from_2050_on_are_written_in_full():
    """RFC 5280, 5.1.2.4 to 5.1.2.6."""
    border = 2_524_608_000
    made = x509.load_der_x509_crl(
        sign_crl(issuer(), SignCrl("issuing", 1, border - 1, border, [(b"\x05", border - 1, 0), (b"\x06", border, 0)]))
    )
    assert int(made.last_update_utc.timestamp()) == border - 1
    assert int(made.next_update_utc.timestamp()) == border
    assert [int(each.revocation_date_utc.timestamp()) for each in made] == [border - 1, border]
    written = made.public_bytes(Encoding.DER)
    assert b"\x17\x0d491231235959Z" in written
    assert b"\x18\x0f20500101000000Z" in written


@pytest.mark.parametrize("ahead", [-86401, 61])
def test_a_list_for_another_time_than_the_present_is_refused(ahead):
    """A gateway that is somebody else's collects no lists in which what is revoked later is missing."""
    ask = SignCrl("issuing", 1, NOW + ahead, NOW + ahead + 3600, [])
    with pytest.raises(Refused, match="the list's time is not the present"):
        check_present(ask, NOW)
    check_present(msgspec.structs.replace(ask, this_update=NOW), NOW)


def test_a_long_list_is_made_a_slice_at_a_time():
    many = SLICE * 4
    steps = sign_in_slices(
        issuer(), SignCrl("issuing", 1, NOW, NOW + DAY, [], packed=packed([(n + 1, NOW, n % 2) for n in range(many)]))
    )
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made = x509.load_der_x509_crl(end.value)
            break
        count += 1
    assert count == 5
    assert [each.serial_number for each in made] == list(range(1, many + 1))


def test_ed448_has_its_identifier():
    """RFC 8410, 3. No authority of ours has such a key; one that is imported may."""
    key = ed448.Ed448PrivateKey.generate()
    algorithm = signature.algorithm_identifier(key, None)
    made = signature.signed(signature.signing(key, None), algorithm, der.sequence(der.integer(5)))
    assert bytes.fromhex("300506032b6571") in made
    key.public_key().verify(made[-114:], der.sequence(der.integer(5)))
