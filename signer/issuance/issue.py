"""One certificate: every check in its order, then one signature. A check never comes after the signature.

Why the result is not verified again: OpenSSL checks an RSA signature against faults of the CRT by itself, and for the
other algorithms a verification costs two to three signatures. What is signed was built here, from what was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from signer.contract.messages import IssueCertificate
from signer.contract.refusal import SignerRefusal
from signer.issuance import ceiling, lint, proof, template
from signer.issuance.issuer import Issuer
from signer.issuance.refused import Refused
from signer.issuance.ticket import Claim, claim_of
from signer.keystore.mechanism import PublicKey, algorithm_of

_MAX_SPKI: Final = 4096  # bytes; ML-DSA-87 takes 2,614


@dataclass(frozen=True, slots=True)
class Prepared:
    """A certificate that passed every check but one: whether its ticket and its serial are still free."""

    issuer: Issuer
    certificate: x509.CertificateBuilder
    claim: Claim


def prepared(issuer: Issuer, ask: IssueCertificate) -> Prepared:
    """The certificate of `ask`, checked and unsigned. Raises `Refused`; then nothing of it is used up.

    What comes over the wire comes through here, and gets leaves alone: an authority under an online root would let a
    gateway that is somebody else's sign for ever, beyond every ceiling.
    """
    proof.check(ask.proof)
    if ask.ca:
        raise Refused(SignerRefusal.CEILING, "an authority is made by a ceremony, never for a gateway")
    certificate = prepare(issuer, ask)
    return Prepared(issuer, certificate, claim_of(issuer.key.name, ask.serial, ask.ticket, ask.deadline))


def prepare(issuer: Issuer, ask: IssueCertificate) -> x509.CertificateBuilder:
    """The certificate of `ask`, checked and unsigned: ceiling, lint, template. Raises `Refused` (CEILING, LINT)."""
    public_key, algorithm = _subject_key(ask.spki)
    ceiling.check(issuer, ask, algorithm)
    lint.check(ask, algorithm)
    return template.build(issuer, ask, public_key)


def sign(issuer: Issuer, certificate: x509.CertificateBuilder) -> bytes:
    """What `prepare` gave, signed, DER."""
    return certificate.sign(issuer.private_key, issuer.digest).public_bytes(Encoding.DER)


def _subject_key(spki: bytes) -> tuple[PublicKey, str]:
    if len(spki) > _MAX_SPKI:
        raise Refused(SignerRefusal.LINT, "the subject's key is larger than any key")
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(SignerRefusal.LINT, "the subject's key is not a public key") from None
    algorithm = algorithm_of(key)
    if algorithm is None or not isinstance(key, PublicKey):
        raise Refused(
            SignerRefusal.LINT, "the subject's key is of a kind or strength that no certificate may carry (D7)"
        )
    return key, algorithm
