"""One certificate: every check in its order, then one signature. A check never comes after the signature.

Why the result is not verified again: OpenSSL checks an RSA signature against faults of the CRT by itself, and for the
other algorithms a verification costs two to three signatures. What is signed was built here, from what was checked.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from signer.contract.messages import IssueCertificate
from signer.contract.refusal import SignerRefusal
from signer.issuance import ceiling, leaf, lint, proof, template
from signer.issuance.issuer import Issuer
from signer.issuance.refused import Refused
from signer.issuance.signature import signed
from signer.issuance.ticket import Claim, claim_of
from signer.keystore.mechanism import PublicKey, algorithm_of

_MAX_SPKI: Final = 4096  # bytes; ML-DSA-87 takes 2,614
_NO_KEY: Final = "the subject's key is not a public key"
# SubjectPublicKeyInfo of id-ecPublicKey, secp256r1 and an uncompressed point (RFC 5480, 2), up to its coordinates.
_P256: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_LENGTH: Final = len(_P256) + 64  # bytes
# The curve y^2 = x^3 - 3x + b over the integers modulo p (SP 800-186, 3.2.1.3).
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A certificate that passed every check but one: whether its ticket and its serial are still free."""

    ask: IssueCertificate
    issuer: Issuer
    tbs: bytes
    claim: Claim


def prepared(issuer: Issuer, ask: IssueCertificate) -> Prepared:
    """The certificate of `ask`, checked and unsigned. Raises `Refused`; then nothing of it is used up.

    What comes over the wire comes through here, and gets leaves alone: an authority under an online root would let a
    gateway that is somebody else's sign for ever, beyond every ceiling.
    """
    proof.check(ask.proof)
    if ask.ca:
        raise Refused(SignerRefusal.CEILING, "an authority is made by a ceremony, never for a gateway")
    spki, algorithm = _subject_key(ask.spki)
    _check(issuer, ask, spki, algorithm)
    tbs = leaf.tbs(issuer, ask, spki)
    return Prepared(ask, issuer, tbs, claim_of(issuer.key.name, ask.serial, ask.ticket, ask.deadline))


def certificate(made: Prepared) -> bytes:
    """What `prepared` gave, signed, DER."""
    return signed(made.issuer.signature, made.issuer.algorithm, made.tbs)


def prepare(issuer: Issuer, ask: IssueCertificate) -> x509.CertificateBuilder:
    """The same for a ceremony, which may add to it: no proof, no ticket, and authorities as well as leaves."""
    public_key, algorithm = _loaded(ask.spki)
    _check(issuer, ask, _spelled(public_key), algorithm)
    return template.build(issuer, ask, public_key)


def sign(issuer: Issuer, certificate: x509.CertificateBuilder) -> bytes:
    """What `prepare` gave, signed, DER."""
    return certificate.sign(issuer.private_key, issuer.digest).public_bytes(Encoding.DER)


def _check(issuer: Issuer, ask: IssueCertificate, spki: bytes, algorithm: str) -> None:
    ceiling.check(issuer, ask, spki, algorithm)
    lint.check(ask, algorithm)


def _subject_key(spki: bytes) -> tuple[bytes, str]:
    """The subject's key as it is written into the certificate, DER, and its algorithm."""
    if spki.startswith(_P256) and len(spki) == _P256_LENGTH:
        # Nearly every key. There is one spelling of it; what is left to be seen is whether its point is on the curve
        # (SP 800-186, D.1.1; the cofactor is 1): 2 us, where OpenSSL makes a whole key of it in 9.
        x, y = int.from_bytes(spki[-64:-32], "big"), int.from_bytes(spki[-32:], "big")
        if x >= _P or y >= _P or (y * y - (x * x - 3) * x - _B) % _P:
            raise Refused(SignerRefusal.LINT, _NO_KEY)
        return spki, "EC_prime256v1"
    key, algorithm = _loaded(spki)
    return _spelled(key), algorithm


def _spelled(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _loaded(spki: bytes) -> tuple[PublicKey, str]:
    if len(spki) > _MAX_SPKI:
        raise Refused(SignerRefusal.LINT, "the subject's key is larger than any key")
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise Refused(SignerRefusal.LINT, _NO_KEY) from None
    algorithm = algorithm_of(key)
    if algorithm is None or not isinstance(key, PublicKey):
        raise Refused(
            SignerRefusal.LINT, "the subject's key is of a kind or strength that no certificate may carry (D7)"
        )
    return key, algorithm
