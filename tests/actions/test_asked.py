"""What a CSR asks for, in the product's nouns: everything is named or refused, nothing is lost on the way."""

from __future__ import annotations

import pytest
from cryptography import x509

from gateway.actions.asked import from_csr
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import (
    UNSET,
    KeyAlgorithm,
    KeyUsage,
    Proof,
    ProofKind,
    Protocol,
    San,
    SanType,
    SubjectAttribute,
    SubjectType,
)
from protocols.pkix import csr
from tests.doubles import pkcs10

PROOF = Proof(Protocol.EST, ProofKind.EST_PASSPHRASE, "dev1", b"h" * 32)


def refusal(der: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        from_csr(csr.parse(der), PROOF)
    assert caught.value.reason is RefusalReason.POLICY
    assert caught.value.detail == caught.value.violations[0]
    return caught.value


def test_names_key_and_usages_are_carried_over():
    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    purpose = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    parsed = csr.parse(
        pkcs10.request("a.example", "a.example", common_name="dev1", ips=("192.0.2.1",), extensions=(usage, purpose))
    )
    asked = from_csr(parsed, PROOF, deduplication=b"d", renewed_from="old", metadata=(("k", "v"),))
    assert asked.subject == (SubjectAttribute(SubjectType.COMMON_NAME, "dev1"),)
    assert asked.sans == (San(SanType.DNS_NAME, "a.example"), San(SanType.IP_ADDRESS, "192.0.2.1"))
    assert asked.key_usages == (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_ENCIPHERMENT)
    assert asked.extended_key_usages == ("1.3.6.1.5.5.7.3.2",)
    assert asked.key.algorithm is KeyAlgorithm.EC_P256
    assert asked.key.spki == parsed.spki
    assert asked.csr == parsed.der
    assert (asked.deduplication, asked.renewed_from, asked.metadata) == (b"d", "old", (("k", "v"),))
    assert asked.proof is PROOF


def test_what_a_csr_is_silent_about_leaves_room_for_defaults():
    """D5."""
    asked = from_csr(csr.parse(pkcs10.request()), PROOF)
    assert (asked.subject, asked.sans, asked.key_usages, asked.extended_key_usages) == (UNSET, UNSET, UNSET, UNSET)


def test_a_request_to_become_an_authority_is_refused():
    """E44, A86."""
    asked = pkcs10.request("a.example", extensions=(x509.BasicConstraints(ca=True, path_length=None),))
    assert "CA:TRUE" in refusal(asked).detail


def test_names_that_nobody_validates_never_pass_through_and_are_reported_together():
    """CVE-2022-34831, and D1."""
    others = (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),)
    asked = pkcs10.request("a.example", others=others, extensions=(x509.BasicConstraints(ca=True, path_length=None),))
    assert len(refusal(asked).violations) == 2


def test_an_attribute_that_no_policy_can_speak_of_is_refused():
    surname = bytes.fromhex("3010310e300c06035504040c05536d697468")  # SN=Smith
    assert "2.5.4.4" in refusal(pkcs10.raw_request(subject=surname)).detail
