"""Keys for tests, made once a run: an RSA key takes a tenth of a second, and no test cares which one it gets."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of this name."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    """The P-256 key of this name."""
    return ec.generate_private_key(ec.SECP256R1())
