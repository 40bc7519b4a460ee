"""What REST wishes for, in the product's nouns (D5, D12)."""

import datetime as dt

import pytest

from gateway.actions.wished import KEY_BITS, from_wishes, managed_key_algorithm
from gateway.domain.policy import Policy
from gateway.domain.profile import Defaults, Profile
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import UNSET, KeyAlgorithm, KeyUsage, Proof, ProofKind, Protocol, SubjectType
from protocols.pkix.names import AlternativeName, Attribute
from protocols.rest.needs import Wishes
from tests.doubles.issuer import public_key

PROOF = Proof(Protocol.API, ProofKind.API_TOKEN, "machine", b"\x00" * 32)


def asked(wishes: Wishes):
    return from_wishes(wishes, public_key(), PROOF, managed_key=b"sealed")


def test_what_is_left_out_is_left_to_the_profile():
    request = asked(Wishes(frozenset()))
    assert request.subject is UNSET
    assert request.sans is UNSET
    assert request.key_usages is UNSET
    assert request.extended_key_usages is UNSET
    assert request.ttl is UNSET
    assert request.managed_key == b"sealed"


def test_null_clears_each_of_them():
    request = asked(Wishes(frozenset({"commonName", "altNames", "keyUsages", "extendedKeyUsages", "ttl"})))
    assert [(each.type, each.value) for each in request.subject] == [(SubjectType.COMMON_NAME, "")]
    assert request.sans is None
    assert request.key_usages is None
    assert request.extended_key_usages is None
    assert request.ttl is None


def test_what_is_given_is_asked_for():
    given = frozenset({"commonName", "organization", "keyUsages", "extendedKeyUsages", "ttl"})
    wishes = Wishes(
        given,
        subject=(Attribute("2.5.4.3", "a"),),
        key_usages=("digitalSignature",),
        extended_key_usages=(),
        ttl=dt.timedelta(days=3),
    )
    request = asked(wishes)
    assert [(each.type.value, each.value) for each in request.subject] == [("common_name", "a"), ("organization", "")]
    assert request.key_usages == (KeyUsage.DIGITAL_SIGNATURE,)
    assert request.extended_key_usages == ()
    assert request.ttl == dt.timedelta(days=3)


def test_what_no_policy_could_judge_is_refused_together():
    """D1."""
    wishes = Wishes(
        frozenset({"altNames", "keyUsages"}),
        subject=(Attribute("1.2.3", "x"),),
        sans=(AlternativeName("other:1.2.3", "00"),),
        key_usages=("everything",),
    )
    with pytest.raises(Refusal) as refusal:
        asked(wishes)
    assert refusal.value.reason is RefusalReason.POLICY
    assert len(refusal.value.violations) == 3


def profile(algorithm: KeyAlgorithm | None) -> Profile:
    return Profile("p", "p", "a", Policy("p", "p"), Defaults(key_algorithm=algorithm))


def test_the_key_is_the_wish_else_the_default_else_p256():
    wish = Wishes(frozenset({"keyAlgorithm"}), key_algorithm="ML-DSA-65")
    assert managed_key_algorithm(wish, profile(KeyAlgorithm.RSA_2048)) is KeyAlgorithm.ML_DSA_65
    assert managed_key_algorithm(Wishes(frozenset()), profile(KeyAlgorithm.RSA_2048)) is KeyAlgorithm.RSA_2048
    assert managed_key_algorithm(Wishes(frozenset()), profile(None)) is KeyAlgorithm.EC_P256
    cleared = Wishes(frozenset({"keyAlgorithm"}))
    assert managed_key_algorithm(cleared, profile(KeyAlgorithm.RSA_2048)) is KeyAlgorithm.EC_P256


@pytest.mark.parametrize("name", [*sorted(set(KeyAlgorithm) - set(KEY_BITS)), "DSA"])
def test_a_key_that_is_not_generated_here_is_refused(name: str):
    with pytest.raises(Refusal):
        managed_key_algorithm(Wishes(frozenset({"keyAlgorithm"}), key_algorithm=name), profile(None))
