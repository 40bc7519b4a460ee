"""ACME account keys for tests: the public JWK, and requests signed as a client signs them."""

from __future__ import annotations

import functools
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_DIGESTS = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
_NAMES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def b64(octets: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    """A number as JWK writes it, at full size where there is one."""
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class AccountKey:
    """A private key that signs with one algorithm."""

    def __init__(self, alg: str = "ES256") -> None:
        self.alg = alg
        self.key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
        self.jwk: dict[str, str]
        if alg in _CURVES:
            self.key = ec.generate_private_key(_CURVES[alg])
            point, size = self.key.public_key().public_numbers(), (self.key.key_size + 7) // 8
            self.jwk = {"kty": "EC", "crv": _NAMES[alg], "x": number(point.x, size), "y": number(point.y, size)}
        elif alg == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
            self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(self.key.public_key().public_bytes_raw())}
        else:
            self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            numbers = self.key.public_key().public_numbers()
            self.jwk = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}

    def sign(self, octets: bytes) -> bytes:
        """A signature as JWS has it (RFC 7518, 3)."""
        digest = _DIGESTS.get(self.alg[2:], hashes.SHA256())
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.key.sign(octets, ec.ECDSA(digest)))
            size = (self.key.key_size + 7) // 8
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(octets)
        if self.alg.startswith("PS"):
            return self.key.sign(octets, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        return self.key.sign(octets, padding.PKCS1v15(), digest)

    def request(self, header: Mapping[str, object], payload: bytes | str) -> bytes:
        """A flattened JWS; the header gets `alg` where it has none. A payload of text is sent as it is, encoded or not."""
        protected = b64(json.dumps({"alg": self.alg, **header}).encode())
        text = payload if isinstance(payload, str) else b64(payload)
        signature = b64(self.sign(f"{protected}.{text}".encode()))
        return json.dumps({"protected": protected, "payload": text, "signature": signature}).encode()


def account_key(alg: str = "ES256", which: int = 0) -> AccountKey:
    """The same key for the same algorithm and number, in one run."""
    return _made(alg, which)


@functools.cache
def _made(alg: str, which: int) -> AccountKey:
    return AccountKey(alg)
