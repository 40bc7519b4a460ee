"""D4 to D6 and D8: defaults, validity, what a leaf may be, and the proof behind every plan."""

from dataclasses import replace
from datetime import timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.application import AcmeSettings, ApiSettings, EnrollmentSettings, EstSettings, ScepSettings
from gateway.domain.authority import AuthorityStatus
from gateway.domain.issuance import plan
from gateway.domain.policy import (
    BasicConstraints,
    ExtendedKeyUsageRule,
    Judged,
    KeyUsageRule,
    Policy,
    SanRule,
    SubjectRule,
    judge,
)
from gateway.domain.profile import Defaults
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    PROOF_PROTOCOL,
    UNSET,
    KeyAlgorithm,
    KeyUsage,
    ProofKind,
    Protocol,
    PublicKey,
    San,
    SanType,
)
from tests.domain.made import (
    ALL_DOORS,
    CN,
    DAY,
    DNS,
    EC,
    NOW,
    OU,
    RSA,
    SECOND,
    SERIAL,
    C,
    O,
    attribute,
    authority,
    dns,
    pair,
    request,
)

SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
SIGN, ENCIPHER = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT
WHOLE = NOW.replace(microsecond=0)
CA = BasicConstraints(ca=True, path_length=0)


def planned(asked=None, of=None, *, now=NOW):
    return plan(asked or request(), of or pair(), serial=SERIAL, now=now)


def refused(asked=None, of=None):
    with pytest.raises(Refusal) as caught:
        planned(asked, of)
    return caught.value


# D8


@pytest.mark.parametrize("enabled", list(Protocol))
@pytest.mark.parametrize("kind", list(ProofKind))
@pytest.mark.parametrize("claimed", list(Protocol))
def test_one_protocols_credentials_never_serve_another(claimed, kind, enabled):
    """D8, A110: every protocol with every other's credentials, on a pair that enables one alone."""
    doors = {
        Protocol.API: ApiSettings(),
        Protocol.ACME: AcmeSettings(),
        Protocol.EST: EstSettings(),
        Protocol.SCEP: ScepSettings(),
    }
    settings = EnrollmentSettings(**{enabled.value: doors[enabled]})
    assert settings.enabled() == {enabled}
    asked = request()
    asked = msgspec.structs.replace(asked, proof=msgspec.structs.replace(asked.proof, protocol=claimed, kind=kind))
    if claimed is enabled and PROOF_PROTOCOL[kind] is claimed:
        assert planned(asked, pair(settings=settings)).proof == asked.proof
    else:
        assert refused(asked, pair(settings=settings)).reason is RefusalReason.FORBIDDEN


def test_the_proof_of_one_request_is_none_for_another():
    assert refused(msgspec.structs.replace(request(), csr=b"another csr")).reason is RefusalReason.FORBIDDEN
    assert refused(msgspec.structs.replace(request(csr=None), key=RSA)).reason is RefusalReason.FORBIDDEN
    assert planned(request(csr=None))


def test_an_authority_that_does_not_issue_refuses():
    assert refused(of=pair(issuer=authority(status=AuthorityStatus.DISABLED))).reason is RefusalReason.UNAVAILABLE


# D6


@pytest.mark.parametrize("serial", [0, -1, 1, 1 << 55, 1 << 159, -(1 << 100)])
def test_a_serial_that_no_certificate_may_have_is_a_bug(serial):
    with pytest.raises(ValueError, match="serial"):
        plan(request(), pair(), serial=serial, now=NOW)


def test_the_alternative_name_is_critical_exactly_where_the_subject_is_empty():
    assert planned().san_critical
    assert not planned(request(subject=(attribute(CN, "www"),))).san_critical


def test_a_leaf_that_names_nobody_is_refused():
    for sans in (UNSET, None, ()):
        refusal = refused(request(sans=sans, subject=()))
        assert refusal.reason is RefusalReason.POLICY
        assert (
            refusal.detail == "names: the certificate would name nobody; give a subject or a subject alternative name"
        )


def test_only_a_policy_makes_an_authority():
    made = planned(request(subject=(attribute(CN, "Sub"),), sans=UNSET), pair(Policy("q", "ca", basic_constraints=CA)))
    assert made.basic_constraints == CA
    assert made.key_usages == (KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN)
    assert planned().basic_constraints == BasicConstraints()
    assert "names" in refused(of=pair(Policy("q", "ca", basic_constraints=CA))).detail


@pytest.mark.parametrize("usage", [KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN])
def test_a_leaf_cannot_sign_certificates_or_lists(usage):
    assert "is for certificate authorities" in refused(request(key_usages=(usage,))).detail


def test_a_profile_cannot_let_a_leaf_sign_certificates_either():
    assert (
        "is for certificate authorities"
        in refused(of=pair(defaults=Defaults(key_usages=(KeyUsage.KEY_CERT_SIGN,)))).detail
    )


# D5


SUBJECT_DEFAULTS = Defaults(subject=(attribute(O, "Example"), attribute(C, "DE")))


def test_defaults_add_the_attributes_that_a_request_does_not_have():
    made = planned(request(subject=(attribute(CN, "www"), attribute(O, "Asked"))), pair(defaults=SUBJECT_DEFAULTS))
    assert made.subject == (attribute(CN, "www"), attribute(O, "Asked"), attribute(C, "DE"))


def test_a_silent_request_gets_the_whole_default_subject():
    assert planned(of=pair(defaults=SUBJECT_DEFAULTS)).subject == SUBJECT_DEFAULTS.subject


def test_null_clears_the_defaults():
    """D5: an explicit null clears; None here."""
    defaults = replace(SUBJECT_DEFAULTS, key_usages=(SIGN,), extended_key_usages=(SERVER,), ttl=DAY)
    made = planned(request(subject=None, key_usages=None, extended_key_usages=None, ttl=None), pair(defaults=defaults))
    assert (made.subject, made.key_usages, made.extended_key_usages) == ((), (), ())
    assert made.not_after - made.not_before + SECOND == 90 * DAY


def test_an_empty_value_stands_for_none_and_keeps_its_default_away():
    made = planned(request(subject=(attribute(O, ""), attribute(CN, "www"))), pair(defaults=SUBJECT_DEFAULTS))
    assert made.subject == (attribute(CN, "www"), attribute(C, "DE"))


def test_usages_that_were_asked_for_replace_the_defaults():
    defaults = Defaults(key_usages=(SIGN, ENCIPHER), extended_key_usages=(SERVER,))
    made = planned(request(RSA, key_usages=(SIGN, SIGN), extended_key_usages=(CLIENT, CLIENT)), pair(defaults=defaults))
    assert made.key_usages == (SIGN,)
    assert made.extended_key_usages == (CLIENT,)
    silent = planned(request(RSA), pair(defaults=defaults))
    assert silent.key_usages == (SIGN, ENCIPHER)
    assert silent.extended_key_usages == (SERVER,)


def test_defaults_are_judged_too():
    refusal = refused(of=pair(Policy("q", "p", subject=()), defaults=SUBJECT_DEFAULTS))
    assert len(refusal.violations) == 2


@pytest.mark.parametrize(
    ("key", "suitable"),
    [
        (RSA, (SIGN, ENCIPHER)),
        (EC, (SIGN,)),
        (PublicKey(KeyAlgorithm.ED25519, 256, b"e", ""), (SIGN,)),
        (PublicKey(KeyAlgorithm.ML_DSA_65, 0, b"m", ""), (SIGN,)),
    ],
)
def test_where_nobody_says_anything_the_usages_suit_the_key(key, suitable):
    assert planned(request(key)).key_usages == suitable


@pytest.mark.parametrize(
    ("rule", "usages"),
    [
        (KeyUsageRule(), (SIGN, ENCIPHER)),
        (KeyUsageRule(allowed=(SIGN,)), (SIGN,)),
        (KeyUsageRule(allowed=(), required=(KeyUsage.CONTENT_COMMITMENT,)), (KeyUsage.CONTENT_COMMITMENT,)),
        (KeyUsageRule(denied=(ENCIPHER,)), (SIGN,)),
    ],
)
def test_where_nobody_says_anything_the_usages_suit_the_policy(rule, usages):
    assert planned(request(RSA), pair(Policy("q", "p", key_usages=rule))).key_usages == usages


def test_where_nobody_says_anything_the_purposes_are_those_required():
    rule = ExtendedKeyUsageRule(allowed=(SERVER, CLIENT), required=(SERVER,))
    assert planned(of=pair(Policy("q", "p", extended_key_usages=rule))).extended_key_usages == (SERVER,)


@pytest.mark.parametrize("usages", [{}, {"key_usages": (SIGN,)}, {"extended_key_usages": None}])
@pytest.mark.parametrize(
    "wishes", [{}, {"ttl": 91 * DAY}, {"sans": dns("a.other")}, {"sans": dns("a.test", "b.other")}]
)
def test_what_is_known_of_usages_that_nobody_asks_for_changes_no_judgement(wishes, usages):
    """D1, D5: of a policy that has judged before, the same plan and the same sentences come as of one that has not."""
    rules = {"sans": (SanRule(DNS, ("*.test",)),), "key_usages": KeyUsageRule((SIGN,)), "max_validity": 90 * DAY}
    warm = pair(Policy("q", "p", **rules))
    planned(request(sans=dns("a.test")), warm)
    try:
        fresh = planned(request(**{"sans": dns("a.test"), **wishes, **usages}), pair(Policy("q", "p", **rules)))
    except Refusal as refusal:
        again = refused(request(**{"sans": dns("a.test"), **wishes, **usages}), warm)
        assert again.violations == refusal.violations  # noqa: PT017 - one of two outcomes
    else:
        assert not wishes
        assert planned(request(**{"sans": dns("a.test"), **usages}), warm) == fresh


def test_what_is_known_of_usages_is_known_for_this_key_this_signature_and_these_defaults_only():
    policy = Policy("q", "p", key_algorithms=(KeyAlgorithm.EC_P256,), signature_algorithms=("ecdsa-with-SHA256",))
    assert planned(request(), pair(policy)).key_usages == (SIGN,)
    assert planned(request(), pair(policy, defaults=Defaults(key_usages=()))).key_usages == ()
    assert planned(request(), pair(policy, defaults=Defaults(extended_key_usages=(CLIENT,)))).extended_key_usages == (
        CLIENT,
    )
    for _ in range(2):  # what was refused once is not thought to be right
        assert refused(request(RSA), pair(policy)).reason is RefusalReason.BAD_KEY
        assert refused(request(), pair(policy, issuer=authority(key_algorithm="RSA_2048"))).violations


IMPOSSIBLE = [
    (RSA, [KeyUsage.KEY_AGREEMENT]),
    (EC, [ENCIPHER, KeyUsage.DATA_ENCIPHERMENT]),
    (PublicKey(KeyAlgorithm.ED25519, 256, b"e", ""), [ENCIPHER, KeyUsage.KEY_AGREEMENT]),
    (PublicKey(KeyAlgorithm.ML_DSA_44, 0, b"m", ""), [ENCIPHER, KeyUsage.KEY_AGREEMENT]),
]


@pytest.mark.parametrize(("key", "usage"), [(key, usage) for key, usages in IMPOSSIBLE for usage in usages])
def test_a_usage_that_the_key_cannot_have_is_refused_when_asked_and_left_out_when_defaulted(key, usage):
    """RFC 4055, 1.2; RFC 8813, 3; RFC 9295, 3; RFC 9881, 5."""
    assert (
        f"keyUsage: {usage.value} is impossible for a key of {key.algorithm.value}"
        in refused(request(key, key_usages=(SIGN, usage))).violations
    )
    assert planned(request(key), pair(defaults=Defaults(key_usages=(SIGN, usage)))).key_usages == (SIGN,)


def test_the_directions_of_an_agreement_need_the_agreement():
    """RFC 5280, 4.2.1.3."""
    assert "without keyAgreement" in refused(request(key_usages=(KeyUsage.ENCIPHER_ONLY,))).detail
    assert planned(request(key_usages=(KeyUsage.KEY_AGREEMENT, KeyUsage.ENCIPHER_ONLY)))


# Names


def test_names_are_issued_in_their_canonical_form_and_once():
    asked = (San(DNS, "WWW.Example.com"), San(DNS, "www.example.com"), San(SanType.IP_ADDRESS, "2001:DB8::1"))
    assert planned(request(sans=asked)).sans == (*dns("www.example.com"), San(SanType.IP_ADDRESS, "2001:db8::1"))


@pytest.mark.parametrize(
    ("subject", "violation"),
    [
        ((attribute(CN, "x" * 65),), "longer than 64 octets"),
        ((attribute(CN, "ü" * 33),), "longer than 64 octets"),
        ((attribute(CN, "a\0b"),), "cannot be printed"),
        ((attribute(C, "D"),), "two letters"),
        ((attribute(C, "DEU"),), "two letters"),
        ((attribute(C, "1A"),), "two letters"),
        ((attribute(C, "ÄÖ"),), "two letters"),
    ],
)
def test_a_subject_that_no_certificate_can_carry_is_refused(subject, violation):
    assert violation in refused(request(subject=subject)).detail


def test_all_violations_come_together():
    """D1."""
    asked = request(
        RSA, subject=(attribute(C, "DEU"), attribute(OU, "x")), sans=dns("a..b", "evil.org"), ttl=timedelta(0)
    )
    policy = Policy(
        "q",
        "p",
        subject=(SubjectRule(C),),
        sans=(SanRule(DNS, allowed=("*.example.com",)),),
        key_algorithms=(KeyAlgorithm.EC_P256,),
    )
    refusal = refused(asked, pair(policy))
    assert refusal.reason is RefusalReason.POLICY
    assert [each.partition(":")[0] for each in refusal.violations] == [
        "key", "subject country", "subjectAltName dns_name", "ttl", "subject organizational_unit", "subjectAltName dns_name",
    ]  # fmt: skip
    assert refusal.detail.endswith("(and 5 more)")


def test_a_key_that_is_alone_at_fault_says_so():
    refusal = refused(request(RSA), pair(Policy("q", "p", key_algorithms=())))
    assert refusal.reason is RefusalReason.BAD_KEY
    assert refusal.violations == ("key: RSA_2048 is not allowed; allowed: none",)


# D4


def lifetime(made):
    return made.not_after - made.not_before + SECOND


@pytest.mark.parametrize(
    ("ttl", "default", "maximum", "days"),
    [
        (10 * DAY, 20 * DAY, 30 * DAY, 10),
        (UNSET, 20 * DAY, 30 * DAY, 20),
        (UNSET, None, 30 * DAY, 30),
        (UNSET, 40 * DAY, 30 * DAY, 30),
        (None, 20 * DAY, 30 * DAY, 30),
        (UNSET, None, None, 90),
        (UNSET, 400 * DAY, None, 400),
    ],
)
def test_validity_is_the_requests_else_the_default_else_the_maximum(ttl, default, maximum, days):
    made = planned(request(ttl=ttl), pair(Policy("q", "p", max_validity=maximum), defaults=Defaults(ttl=default)))
    assert lifetime(made) == days * DAY
    assert made.not_before == WHOLE - timedelta(minutes=5)
    assert made.judged_at == NOW


def test_more_than_the_maximum_is_refused():
    assert "maximum of 30d" in refused(request(ttl=31 * DAY), pair(Policy("q", "p", max_validity=30 * DAY))).detail
    assert (
        "maximum of 30d"
        in refused(request(not_after=NOW + 31 * DAY), pair(Policy("q", "p", max_validity=30 * DAY))).detail
    )


def test_now_plus_the_maximum_is_within_the_maximum():
    """A48: a client that asks for the longest end there is need not know of our backdating."""
    made = planned(request(not_after=NOW + 30 * DAY), pair(Policy("q", "p", max_validity=30 * DAY)))
    assert made.not_before == WHOLE
    assert lifetime(made) == 30 * DAY


def test_dates_that_were_asked_for_are_kept_to_the_second():
    first, last = (NOW + DAY).astimezone(timezone(timedelta(hours=2))), NOW + 3 * DAY
    made = planned(request(not_before=first, not_after=last))
    assert (made.not_before, made.not_after) == (WHOLE + DAY, WHOLE + 3 * DAY)
    assert planned(request(not_before=first, ttl=DAY)).not_after == WHOLE + 2 * DAY - SECOND
    assert planned(request(not_after=last)).not_before == WHOLE - timedelta(minutes=5)


def test_a_short_life_is_not_eaten_by_backdating():
    made = planned(request(ttl=timedelta(minutes=10)))
    assert made.not_before == WHOLE - timedelta(minutes=1)
    assert lifetime(made) == timedelta(minutes=10)


def test_a_young_issuer_signs_nothing_older_than_itself():
    """A chain whose leaf begins first is refused by some verifiers."""
    young = authority(not_before=WHOLE - SECOND)
    assert planned(of=pair(issuer=young)).not_before == WHOLE - SECOND
    assert "own beginning" in refused(request(not_before=NOW - timedelta(minutes=1)), pair(issuer=young)).detail


def test_the_issuers_end_clips_or_refuses():
    old = authority(not_after=WHOLE + 10 * DAY)
    assert planned(of=pair(issuer=old)).not_after == WHOLE + 10 * DAY
    assert (
        "outlast the certificate authority, which ends 2026-03-11"
        in refused(of=pair(issuer=old, clip_validity=False)).detail
    )
    assert planned(request(not_after=NOW + 20 * DAY), pair(issuer=old)).not_after == WHOLE + 10 * DAY
    assert "before it began" in refused(request(not_before=NOW + 11 * DAY), pair(issuer=old)).detail


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"ttl": DAY, "not_after": NOW + DAY}, "not both"),
        ({"ttl": timedelta(0)}, "ttl"),
        ({"ttl": -DAY}, "ttl"),
        ({"ttl": timedelta.max}, "ttl"),
        ({"not_after": NOW - DAY}, "notAfter"),
        ({"not_after": NOW}, "notAfter"),
        ({"not_before": NOW + DAY, "not_after": NOW + DAY}, "notAfter"),
        ({"not_before": NOW - DAY}, "notBefore"),
        ({"not_before": NOW.replace(year=9990)}, "notBefore"),
        ({"not_before": NOW - timedelta(minutes=3), "ttl": timedelta(minutes=2)}, "before it began"),
    ],
)
def test_wishes_that_cannot_be_are_refused(changes, violation):
    refusal = refused(request(**changes))
    assert refusal.reason is RefusalReason.POLICY
    assert violation in refusal.detail


def test_an_expired_issuer_issues_nothing():
    assert "has expired" in refused(of=pair(issuer=authority(not_after=WHOLE))).detail


DURATIONS = st.timedeltas(min_value=-DAY, max_value=4000 * DAY)


@given(
    ttl=st.one_of(st.none(), st.just(UNSET), DURATIONS),
    first=st.none() | st.datetimes().map(lambda at: at.replace(tzinfo=NOW.tzinfo)),
    last=st.none() | DURATIONS.map(lambda after: NOW + after),
    default=st.none() | st.timedeltas(min_value=SECOND, max_value=4000 * DAY),
    maximum=st.none() | st.timedeltas(min_value=SECOND, max_value=4000 * DAY),
    backdate=st.timedeltas(min_value=timedelta(0), max_value=DAY),
    issuers_end=st.timedeltas(min_value=-DAY, max_value=4000 * DAY),
    clip=st.booleans(),
)
def test_whatever_is_planned_lies_within_policy_and_issuer(
    ttl, first, last, default, maximum, backdate, issuers_end, clip
):
    """D4 whole: any wish, any profile, any issuer."""
    issuer = authority(not_after=(NOW + issuers_end).replace(microsecond=0))
    of = pair(
        Policy("q", "p", max_validity=maximum),
        issuer=issuer,
        defaults=Defaults(ttl=default),
        clip_validity=clip,
        backdate=backdate,
    )
    try:
        made = planned(request(ttl=ttl, not_before=first, not_after=last), of)
    except Refusal as refusal:
        assert refusal.reason is RefusalReason.POLICY  # noqa: PT017 - one of two outcomes
        return
    assert made.not_before < made.not_after <= issuer.not_after
    assert made.not_before >= issuer.not_before
    assert made.not_after > NOW - SECOND
    assert made.not_before.microsecond == made.not_after.microsecond == 0
    assert maximum is None or lifetime(made) <= maximum
    if first is None:
        assert WHOLE - backdate - SECOND <= made.not_before <= NOW


TEXT = st.text(alphabet="abAB.*-\0ü ", max_size=12)


@given(
    subject=st.one_of(
        st.none(),
        st.just(UNSET),
        st.lists(st.builds(attribute, st.sampled_from([CN, O, C]), TEXT), max_size=3).map(tuple),
    ),
    sans=st.one_of(
        st.none(), st.just(UNSET), st.lists(st.builds(San, st.sampled_from(list(SanType)), TEXT), max_size=3).map(tuple)
    ),
    usages=st.one_of(st.none(), st.just(UNSET), st.lists(st.sampled_from(list(KeyUsage)), max_size=3).map(tuple)),
    key=st.sampled_from([EC, RSA]),
    ruled=st.booleans(),
)
def test_what_is_planned_is_what_was_judged(subject, sans, usages, key, ruled):
    """D5: judged again as it will be issued, the plan has no violation; and it names somebody."""
    policy = Policy("q", "p", subject=(SubjectRule(CN, allowed=("a*",)),) if ruled else None, sans=(SanRule(DNS),) if ruled else None, max_validity=90 * DAY)  # fmt: skip
    of = pair(policy, defaults=Defaults(subject=(attribute(CN, "a default"),)))
    try:
        made = planned(request(key, subject=subject, sans=sans, key_usages=usages), of)
    except Refusal as refusal:
        assert refusal.violations  # noqa: PT017 - one of two outcomes
        return
    assert (
        judge(
            policy,
            Judged(
                made.subject,
                made.sans,
                made.key,
                made.key_usages,
                made.extended_key_usages,
                "ecdsa-with-SHA256",
                lifetime(made),
            ),
        )
        == ()
    )
    assert made.subject or made.sans
    assert made.san_critical == (not made.subject)
    assert all(each.value for each in made.subject)


def test_all_doors_are_four():
    assert ALL_DOORS.enabled() == set(Protocol)
