"""What the OCSP driver takes for an answer: the status of the certificate that it asked about, and nothing else."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

from bench.load.conversation import Answer, Failed
from bench.load.ocsp import Asking, Ocsp
from bench.load.trust import Trust

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(subject: str, serial: int, key: ec.EllipticCurvePrivateKey = KEY) -> x509.Certificate:
    """One of the issuer's."""
    subject_name, issuer_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)]) for cn in (subject, "issuer"))
    builder = x509.CertificateBuilder(issuer_name, subject_name, key.public_key(), serial, NOW, NOW)
    return builder.sign(KEY, SHA256())


ISSUER = certificate("issuer", 1)
NAMESAKE = certificate("issuer", 1, ec.generate_private_key(ec.SECP256R1()))
SERIALS = (5, 0x7F, 0x80, 0xFF00, (1 << 159) - 1)  # some need an octet of their own for the sign


def answered(about: x509.Certificate, issuer: x509.Certificate, status: ocsp.OCSPCertStatus) -> Answer:
    revoked = NOW if status is ocsp.OCSPCertStatus.REVOKED else None
    builder = ocsp.OCSPResponseBuilder().add_response(
        about, issuer, SHA1(), status, NOW, NOW + dt.timedelta(days=1), revoked, None
    )
    made = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, ISSUER).sign(KEY, SHA256())
    return Answer(200, {}, made.public_bytes(Encoding.DER))


def heard(about: x509.Certificate, answer: Answer) -> None:
    """Ask about a certificate of ISSUER's, and take `answer` for it. Raises Failed."""
    der, issuer = (each.public_bytes(Encoding.DER) for each in (about, ISSUER))
    conversation = Asking(Ocsp("http://h/ocsp", Trust(), der, issuer)).enroll()
    next(conversation)
    with pytest.raises(StopIteration):
        conversation.send(answer)


@pytest.mark.parametrize("serial", SERIALS)
@pytest.mark.parametrize("status", [ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED])
def test_the_status_of_the_certificate_is_an_answer(serial: int, status: ocsp.OCSPCertStatus):
    about = certificate("leaf", serial)
    heard(about, answered(about, ISSUER, status))


@pytest.mark.parametrize("serial", SERIALS)
def test_a_certificate_that_the_responder_does_not_know_is_none(serial: int):
    about = certificate("leaf", serial)
    with pytest.raises(Failed, match="does not know"):
        heard(about, answered(about, ISSUER, ocsp.OCSPCertStatus.UNKNOWN))


@pytest.mark.parametrize("serial", SERIALS)
def test_the_status_of_another_certificate_is_none(serial: int):
    about = certificate("leaf", serial)
    other = certificate("leaf", serial + 1)
    for answer in (
        answered(other, ISSUER, ocsp.OCSPCertStatus.GOOD),
        answered(about, NAMESAKE, ocsp.OCSPCertStatus.GOOD),
    ):
        with pytest.raises(Failed, match="another certificate"):
            heard(about, answer)


def test_a_refusal_is_none():
    refused = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
    with pytest.raises(Failed, match="not a success"):
        heard(certificate("leaf", 5), Answer(200, {}, refused.public_bytes(Encoding.DER)))
