"""Certs-only messages, read by OpenSSL and by cryptography."""

from __future__ import annotations

import subprocess

from asn1crypto import cms
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from protocols.cms import degenerate
from tests.doubles.client_keys import ec_key
from tests.doubles.scep_client import self_signed


def test_independent_readers_find_the_certificates_in_their_order():
    """S27, E23: no signers, no content, the order as given."""
    certificates = [self_signed(ec_key("a"), name) for name in ("zeta", "alpha")]
    bag = degenerate.certificates_only([each.public_bytes(Encoding.DER) for each in certificates])
    signed = cms.ContentInfo.load(bag, strict=True)["content"]
    assert signed.dump(force=True) == signed.dump()
    assert [each.dump() for each in signed["certificates"]] == [
        each.public_bytes(Encoding.DER) for each in certificates
    ]
    assert len(signed["signer_infos"]) == 0
    assert signed["encap_content_info"]["content"].native is None
    printed = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs", "-noout"], input=bag, capture_output=True, check=True
    ).stdout.decode()
    assert printed.index("zeta") < printed.index("alpha")


def test_one_certificate_is_der_for_a_strict_reader():
    """E40: cryptography refuses what is not DER with a warning, which is an error here."""
    certificate = self_signed(ec_key("a"))
    bag = degenerate.certificates_only([certificate.public_bytes(Encoding.DER)])
    assert pkcs7.load_der_pkcs7_certificates(bag) == [certificate]


def test_an_empty_bag_is_still_a_message():
    assert cms.ContentInfo.load(degenerate.certificates_only([]), strict=True)["content_type"].native == "signed_data"
