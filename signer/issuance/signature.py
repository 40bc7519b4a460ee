"""A signature over DER that was built here, and the identifier of its algorithm. Nothing from outside is signed.

`CertificateBuilder` does this by itself; what is too long or too frequent for it comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa

from signer.issuance.der import bit_string, sequence
from signer.keystore.mechanism import Digest, PrivateKey

# AlgorithmIdentifiers. RFC 4055, section 5 (NULL parameters), RFC 5758, 3.2, RFC 8410, 3 and RFC 9881 (none).
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_ECDSA: Final = {
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
    "sha512": bytes.fromhex("300a06082a8648ce3d040304"),
}
_BY_ECDSA: Final = {each.name: ec.ECDSA(each) for each in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())}
_ED25519: Final = bytes.fromhex("300506032b6570")
_ED448: Final = bytes.fromhex("300506032b6571")
_ML_DSA_44: Final = bytes.fromhex("300b0609608648016503040311")
_ML_DSA_65: Final = bytes.fromhex("300b0609608648016503040312")
_ML_DSA_87: Final = bytes.fromhex("300b0609608648016503040313")


Sign: TypeAlias = Callable[[bytes], bytes]
"""The key's ordinary signature of what it is given, as `CertificateBuilder` would make it."""


def signed(signature: Sign, algorithm: bytes, tbs: bytes) -> bytes:
    """SEQUENCE { `tbs`, its algorithm (`algorithm_identifier`), its signature }: certificates and lists, DER."""
    return sequence(tbs, algorithm, bit_string(signature(tbs)))


def algorithm_identifier(private_key: PrivateKey, digest: Digest | None) -> bytes:
    """What `signature` signs with, DER. `digest` is `digest_of` the key."""
    match private_key:
        case ec.EllipticCurvePrivateKey():
            return _ECDSA[_digest(digest).name]
        case rsa.RSAPrivateKey():
            return _RSA_SHA256
        case ed25519.Ed25519PrivateKey():
            return _ED25519
        case ed448.Ed448PrivateKey():
            return _ED448
        case mldsa.MLDSA44PrivateKey():
            return _ML_DSA_44
        case mldsa.MLDSA65PrivateKey():
            return _ML_DSA_65
        case mldsa.MLDSA87PrivateKey():
            return _ML_DSA_87
        case _:
            assert_never(private_key)


def signing(private_key: PrivateKey, digest: Digest | None) -> Sign:
    """How a key signs; `digest` is `digest_of` it. Asked once a key: to tell the kinds apart takes 5 us."""
    match private_key:
        case ec.EllipticCurvePrivateKey() as on_curve:
            by_ecdsa = _BY_ECDSA[_digest(digest).name]
            return lambda tbs: on_curve.sign(tbs, by_ecdsa)
        case rsa.RSAPrivateKey() as of_rsa:
            padded, hashed = padding.PKCS1v15(), _digest(digest)
            return lambda tbs: of_rsa.sign(tbs, padded, hashed)
        case _:
            return private_key.sign


def _digest(digest: Digest | None) -> Digest:
    assert digest is not None  # RSA and ECDSA have one, by `digest_of`
    return digest
