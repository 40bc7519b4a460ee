"""Algorithms of keys: their names, how they are generated, with which digest they sign. No SHA-1 or MD5 here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
PublicKey: TypeAlias = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | ed448.Ed448PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)
Digest: TypeAlias = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

EXPONENT: Final = 65537  # D7
RSA_SIZES: Final = range(2048, 8193)  # bits, D7

_CURVES: Final = {"secp256r1": "EC_prime256v1", "secp384r1": "EC_secp384r1", "secp521r1": "EC_secp521r1"}
_NAMED_RSA: Final = {2048: "RSA_2048", 3072: "RSA_3072", 4096: "RSA_4096"}

# The names are the REST API's (D12).
GENERATORS: Final[dict[str, Callable[[], PrivateKey]]] = {
    "RSA_2048": lambda: rsa.generate_private_key(EXPONENT, 2048),
    "RSA_3072": lambda: rsa.generate_private_key(EXPONENT, 3072),
    "RSA_4096": lambda: rsa.generate_private_key(EXPONENT, 4096),
    "EC_prime256v1": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EC_secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EC_secp521r1": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ED25519": ed25519.Ed25519PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}


def algorithm_of(key: PublicKeyTypes) -> str | None:
    """The name of a public key's algorithm, None if no certificate may carry it (D7).

    RSA sizes from 2048 to 8192 bits without a name of their own are `RSA_OTHER`.
    """
    match key:
        case rsa.RSAPublicKey():
            if key.key_size not in RSA_SIZES or key.public_numbers().e != EXPONENT:
                return None
            return _NAMED_RSA.get(key.key_size, "RSA_OTHER")
        case ec.EllipticCurvePublicKey():
            return _CURVES.get(key.curve.name)
        case ed25519.Ed25519PublicKey():
            return "ED25519"
        case ed448.Ed448PublicKey():
            return "ED448"
        case mldsa.MLDSA44PublicKey():
            return "ML-DSA-44"
        case mldsa.MLDSA65PublicKey():
            return "ML-DSA-65"
        case mldsa.MLDSA87PublicKey():
            return "ML-DSA-87"
        case _:
            return None


def digest_of(key: PublicKey) -> Digest | None:
    """The digest with which a key of this kind signs certificates; None where the algorithm brings its own.

    A curve's digest is the one of its strength (RFC 5480, section 4).
    """
    match key:
        case rsa.RSAPublicKey():
            return hashes.SHA256()
        case ec.EllipticCurvePublicKey():
            if key.key_size > 384:
                return hashes.SHA512()
            return hashes.SHA384() if key.key_size > 256 else hashes.SHA256()
        case _:
            return None
