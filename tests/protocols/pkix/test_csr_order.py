"""Requests whose attributes are not in DER's order, as strongSwan 5.9.8 writes them; the signature is over what came."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix import csr
from protocols.pkix.names import AlternativeName
from tests.doubles.pkcs10 import (
    CHALLENGE_PASSWORD,
    EXTENSION_REQUEST,
    SUBJECT,
    PrivateKey,
    attribute,
    extension,
    p256,
    rsa2048,
    tlv,
)

RSA_SHA256 = bytes.fromhex("300d06092a864886f70d01010b0500")
RSA_PSS_SHA256 = bytes.fromhex(
    "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d0609608648016503"
    "04020105 00a203020120".replace(" ", "")
)
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ED25519 = bytes.fromhex("300506032b6570")
ED448 = bytes.fromhex("300506032b6571")

SIGNERS: dict[str, tuple[Callable[[], PrivateKey], bytes, Callable[[PrivateKey, bytes], bytes]]] = {
    "rsa": (rsa2048, RSA_SHA256, lambda key, tbs: key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())),
    "pss": (
        rsa2048,
        RSA_PSS_SHA256,
        lambda key, tbs: key.sign(tbs, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
    ),
    "ec": (p256, ECDSA_SHA256, lambda key, tbs: key.sign(tbs, ec.ECDSA(hashes.SHA256()))),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, ED25519, lambda key, tbs: key.sign(tbs)),
    "ed448": (ed448.Ed448PrivateKey.generate, ED448, lambda key, tbs: key.sign(tbs)),
}


def out_of_order(signer: str, *, spoil: bool = False, claimed: bytes = b"", sort: bool = False) -> bytes:
    """The extensions before the challenge: longer before shorter, so not sorted; `claimed` is named as algorithm."""
    make, algorithm, sign = SIGNERS[signer]
    key = make()
    names = x509.SubjectAlternativeName([x509.DNSName("dev2.example")]).public_bytes()
    attributes = (
        attribute(EXTENSION_REQUEST, tlv(0x30, extension("2.5.29.17", names))),
        attribute(CHALLENGE_PASSWORD, tlv(0x0C, b"secret")),
    )
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    tbs = tlv(0x30, tlv(0x02, b"\0"), SUBJECT, spki, tlv(0xA0, *(sorted(attributes) if sort else attributes)))
    signature = sign(key, tbs + b"!" if spoil else tbs)
    return tlv(0x30, tbs, claimed or algorithm, tlv(0x03, b"\0", signature))


@pytest.mark.parametrize("signer", ["rsa", "pss", "ec", "ed25519"])
def test_attributes_in_any_order_are_read_and_the_signature_is_over_what_came(signer: str):
    der = out_of_order(signer)
    with pytest.raises(ValueError):
        x509.load_der_x509_csr(der)
    read = csr.parse(der)
    assert read.der == der
    assert read.challenge == "secret"
    assert read.sans == (AlternativeName("dns_name", "dev2.example"),)


@pytest.mark.parametrize("signer", list(SIGNERS))
def test_a_wrong_signature_is_refused_in_any_order(signer: str):
    with pytest.raises(Refused) as caught:
        csr.parse(out_of_order(signer, spoil=True))
    assert caught.value.reason is Reason.BAD_CSR


def test_a_key_that_nobody_sends_out_of_order_is_not_taken_on_trust():
    with pytest.raises(Refused):
        csr.parse(out_of_order("ed448"))


@pytest.mark.parametrize("der", [b"0\x02\x05\x00", b"0\x00", b"0\x020\x00", b"0\x80", b""])
def test_what_is_no_request_in_any_order_is_malformed(der: bytes):
    with pytest.raises(Malformed):
        csr.parse(der)


@pytest.mark.parametrize(("signer", "claimed"), [("ec", RSA_SHA256), ("rsa", ECDSA_SHA256), ("ed25519", ED448)])
@pytest.mark.parametrize("sort", [True, False])
def test_a_signature_that_claims_an_algorithm_of_another_kind_of_key_is_refused(
    signer: str, claimed: bytes, sort: bool
):
    der = out_of_order(signer, claimed=claimed, sort=sort)
    with pytest.raises(Refused) as caught:
        csr.parse(der)
    assert caught.value.reason is Reason.BAD_CSR
