"""D1 and D3: sections in three states, required and denied, every violation together."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import policy as policies
from gateway.domain.pattern import InvalidPattern, san_pattern
from gateway.domain.policy import (
    BasicConstraints,
    ExtendedKeyUsageRule,
    KeyUsageRule,
    Policy,
    SanRule,
    SubjectRule,
    judge,
    purpose,
    rules_of,
)
from gateway.domain.request import KeyAlgorithm, KeyUsage, PublicKey, San, SanType, SubjectType
from tests.domain.made import CN, DNS, EC, O, attribute, dns, judged

SERVER, CLIENT = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
FULL = judged(
    subject=(attribute(CN, "www"),),
    key_usages=(KeyUsage.DIGITAL_SIGNATURE,),
    extended_key_usages=(SERVER,),
)


def test_an_absent_section_allows_anything():
    assert judge(Policy("1", "open"), FULL) == ()


def test_an_empty_section_forbids_everything_and_all_violations_come_together():
    """D1."""
    nothing = Policy(
        "1", "closed", (), (), KeyUsageRule(allowed=()), ExtendedKeyUsageRule(allowed=()), (), (), timedelta(0)
    )
    assert judge(nothing, FULL) == (
        "key: EC_prime256v1 is not allowed; allowed: none",
        "subject common_name: is not allowed; allowed types: none",
        'subjectAltName dns_name: "www.example.com" is not allowed; allowed types: none',
        "keyUsage: digitalSignature is not allowed; allowed: none",
        "extendedKeyUsage: serverAuth is not allowed; allowed: none",
        "signatureAlgorithm: the authority signs with ecdsa-with-SHA256; allowed: none",
        "validity: longer than the policy's maximum of 0y",
    )


def test_an_empty_section_accepts_a_request_that_has_nothing_of_it():
    nothing = Policy("1", "closed", subject=(), sans=(), key_usages=KeyUsageRule(allowed=()))
    assert judge(nothing, judged(sans=(), key_usages=())) == ()


@pytest.mark.parametrize(
    ("rule", "values", "violation"),
    [
        (SubjectRule(CN), ["anything"], None),
        (SubjectRule(CN, allowed=("web*",)), ["web1"], None),
        (SubjectRule(CN, allowed=("web*",)), [], None),
        (SubjectRule(CN, allowed=("web*",)), ["db1"], 'subject common_name: "db1" is not allowed; allowed: web*'),
        (SubjectRule(CN, allowed=("web*",), denied=("*9",)), ["web9"], 'subject common_name: "web9" is denied'),
        (SubjectRule(CN, denied=("*9",)), ["web1"], None),
        (SubjectRule(CN, required=("a*", "b*")), [], "subject common_name: is required, matching one of: a*, b*"),
        (SubjectRule(CN, required=("a*", "b*")), ["b1"], None),
        (SubjectRule(CN, required=("a*",), allowed=("c*",)), ["a1", "c1"], None),
        (
            SubjectRule(CN, required=("a*",), allowed=("c*",)),
            ["c1"],
            "subject common_name: is required, matching one of: a*",
        ),
    ],
)
def test_subject_rules(rule, values, violation):
    """D3: for a subject attribute, it is present and matches one pattern."""
    found = judge(Policy("1", "p", subject=(rule,)), judged(subject=tuple(attribute(CN, each) for each in values)))
    assert found == (() if violation is None else (violation,))


def test_an_attribute_without_a_rule_is_not_allowed_beside_others():
    found = judge(Policy("1", "p", subject=(SubjectRule(CN),)), judged(subject=(attribute(O, "Example"),)))
    assert found == ("subject organization: is not allowed; allowed types: common_name",)


@pytest.mark.parametrize(
    ("rule", "names", "violations"),
    [
        (SanRule(DNS), ["a.b"], []),
        (SanRule(DNS, allowed=("*.example.com",)), ["www.example.com"], []),
        (SanRule(DNS, allowed=("*.example.com",)), ["www.example.org"], ['subjectAltName dns_name: "www.example.org" is not allowed; allowed: *.example.com']),
        (SanRule(DNS, required=("a.*", "b.*")), ["a.x"], ["subjectAltName dns_name: a name matching b.* is required"]),
        (SanRule(DNS, required=("a.*", "b.*")), ["a.x", "b.x"], []),
        (SanRule(DNS, allowed=("**",), denied=("admin.example.com",)), ["admin.example.com", "*.example.com"],
         ['subjectAltName dns_name: "admin.example.com" is denied', 'subjectAltName dns_name: "*.example.com" is denied']),
    ],
)  # fmt: skip
def test_alternative_name_rules(rule, names, violations):
    """D3: each required pattern is matched by some name; denied wins over everything."""
    assert judge(Policy("1", "p", sans=(rule,)), judged(sans=dns(*names))) == tuple(violations)


def test_rules_for_one_type_add_up():
    both = Policy("1", "p", sans=(SanRule(DNS, allowed=("a.x",)), SanRule(DNS, allowed=("b.x",), denied=("a.x",))))
    assert judge(both, judged(sans=dns("b.x"))) == ()
    assert judge(both, judged(sans=dns("a.x"))) == ('subjectAltName dns_name: "a.x" is denied',)


@pytest.mark.parametrize(
    ("rule", "usages", "violations"),
    [
        (KeyUsageRule(), ["keyCertSign"], []),
        (KeyUsageRule(allowed=(KeyUsage.KEY_AGREEMENT,), required=(KeyUsage.DIGITAL_SIGNATURE,)), ["digitalSignature", "keyAgreement"], []),
        (KeyUsageRule(required=(KeyUsage.DIGITAL_SIGNATURE,)), [], ["keyUsage: digitalSignature is required"]),
        (KeyUsageRule(required=(KeyUsage.DIGITAL_SIGNATURE,), denied=(KeyUsage.CRL_SIGN,)), ["digitalSignature", "cRLSign"], ["keyUsage: cRLSign is denied"]),
        (KeyUsageRule(allowed=(KeyUsage.CRL_SIGN,), denied=(KeyUsage.CRL_SIGN,)), ["cRLSign"], ["keyUsage: cRLSign is denied"]),
    ],
)  # fmt: skip
def test_key_usage_rules(rule, usages, violations):
    usages = tuple(KeyUsage(each) for each in usages)
    assert judge(Policy("1", "p", key_usages=rule), judged(key_usages=usages)) == tuple(violations)


def test_extended_key_usages_are_named_where_they_have_a_name():
    rule = ExtendedKeyUsageRule(allowed=(CLIENT,), required=(SERVER,))
    found = judge(Policy("1", "p", extended_key_usages=rule), judged(extended_key_usages=("1.2.3",)))
    assert found == (
        "extendedKeyUsage: 1.2.3 is not allowed; allowed: clientAuth, serverAuth",
        "extendedKeyUsage: serverAuth is required",
    )
    assert purpose("1.2.3") == "1.2.3"


def test_algorithms_are_those_listed():
    policy = Policy("1", "p", signature_algorithms=("ecdsa-with-SHA256",), key_algorithms=(KeyAlgorithm.EC_P256,))
    assert judge(policy, judged()) == ()
    odd = PublicKey(KeyAlgorithm.RSA_OTHER, 2056, b"", "")
    assert judge(policy, judged(key=odd)) == ("key: RSA of 2056 bits is not allowed; allowed: EC_prime256v1",)


def test_validity_may_reach_the_maximum_and_no_further():
    policy = Policy("1", "p", max_validity=timedelta(days=90))
    assert judge(policy, judged(validity=timedelta(days=90))) == ()
    assert judge(policy, judged(validity=timedelta(days=90, seconds=1))) == (
        "validity: longer than the policy's maximum of 90d",
    )


def test_names_of_an_order_are_judged_one_by_one():
    rules = rules_of(Policy("1", "p", sans=(SanRule(DNS, allowed=("*.example.com",), required=("must.example.com",)),)))
    good, bad, other = *dns("a.example.com", "a.example.org"), San(SanType.IP_ADDRESS, "10.0.0.1")
    assert rules.judge_names((good, bad, other)) == (
        (bad, 'subjectAltName dns_name: "a.example.org" is not allowed; allowed: *.example.com, must.example.com'),
        (other, 'subjectAltName ip_address: "10.0.0.1" is not allowed; allowed types: dns_name'),
    )
    assert rules_of(Policy("1", "open")).judge_names((good, bad, other)) == ()


def test_a_policy_with_a_pattern_that_means_nothing_is_refused():
    with pytest.raises(InvalidPattern):
        rules_of(Policy("1", "p", sans=(SanRule(DNS, allowed=("a..b",)),)))


def test_the_memory_of_compiled_policies_is_bounded_and_true(monkeypatch):
    monkeypatch.setattr(policies, "_MOST_READY", 3)
    made = [Policy(str(i), "p", sans=(SanRule(DNS, allowed=(f"h{i}.example",)),)) for i in range(20)]
    for _ in range(2):
        for i, policy in enumerate(made):
            assert rules_of(policy).judge_names(dns(f"h{i}.example")) == ()
            assert rules_of(policy) is rules_of(policy)
            assert len(policies._ready) <= 3


WORDS = st.sampled_from(["a.x", "b.x", "*.x", "**", "a.*", "c.a.x", "b.y"])
RULES = st.builds(SanRule, st.just(DNS), st.lists(WORDS, max_size=3).map(tuple), st.lists(WORDS, max_size=2).map(tuple), st.lists(WORDS, max_size=2).map(tuple))  # fmt: skip


@given(
    rules=st.none() | st.lists(RULES, max_size=2).map(tuple),
    names=st.lists(st.sampled_from(["a.x", "b.x", "c.a.x", "b.y", "z"]), max_size=3),
)
def test_judgement_is_what_d1_and_d3_say(rules, names):
    """The rules again, as plainly as they can be said, against the compiled ones."""

    def meets(name, patterns):
        return any(san_pattern(DNS, pattern)(name) for pattern in patterns)

    if rules is None:
        wanted = True
    else:
        denied = [p for rule in rules for p in rule.denied]
        named = [p for rule in rules for p in (*rule.allowed, *rule.required)]
        free = any(not rule.allowed and not rule.required for rule in rules)
        wanted = all(bool(rules) and not meets(name, denied) and (free or meets(name, named)) for name in names)
        wanted = wanted and all(any(meets(name, [p]) for name in names) for rule in rules for p in rule.required)
    assert (judge(Policy("1", "p", sans=rules), judged(sans=dns(*names))) == ()) is wanted


KINDS = st.sampled_from(list(SubjectType))


@given(st.lists(st.tuples(KINDS, st.text(max_size=8))), st.sets(KINDS))
def test_types_without_a_rule_never_pass(subject, ruled):
    """Default deny: whatever is not named is refused."""
    attributes = tuple(attribute(kind, value) for kind, value in subject)
    found = judge(Policy("1", "p", subject=tuple(SubjectRule(kind) for kind in ruled)), judged(subject=attributes))
    assert len(found) == sum(kind not in ruled for kind, _ in subject)


def test_a_policy_is_no_authority_unless_it_says_so():
    assert BasicConstraints() == BasicConstraints(ca=False, path_length=None)
    assert EC.algorithm is KeyAlgorithm.EC_P256
