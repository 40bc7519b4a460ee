"""Flattened JSON Web Signatures (RFC 7515, 7.2.2), as ACME narrows them (RFC 8555, 6.2).

`parse` believes nothing; `verify` is separate, so that a caller can look up the key in between. No symmetric algorithm
is known here, so that no public key can ever be taken for a shared secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocols.exchange import Malformed
from protocols.jose import base64url, strict
from protocols.jose.jwk import Verifier


@dataclass(frozen=True, slots=True)
class _Ecdsa:
    """RFC 7518, 3.4. `half` is the size of r and of s in a signature, in octets."""

    curve: str
    half: int
    scheme: ec.ECDSA


@dataclass(frozen=True, slots=True)
class _Rsa:
    """RFC 7518, 3.3 and 3.5."""

    padding: padding.AsymmetricPadding
    digest: hashes.HashAlgorithm


@dataclass(frozen=True, slots=True)
class _Edwards:
    """RFC 8037, 3.1."""


def _pss(digest: hashes.HashAlgorithm) -> _Rsa:
    # RFC 7518, 3.5: the salt is as long as the digest, and MGF1 uses the same one.
    return _Rsa(padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


_ALGORITHMS: Final[Mapping[str, _Ecdsa | _Rsa | _Edwards]] = {
    "ES256": _Ecdsa("P-256", 32, ec.ECDSA(hashes.SHA256())),
    "RS256": _Rsa(padding.PKCS1v15(), hashes.SHA256()),
    "ES384": _Ecdsa("P-384", 48, ec.ECDSA(hashes.SHA384())),
    "ES512": _Ecdsa("P-521", 66, ec.ECDSA(hashes.SHA512())),
    "EdDSA": _Edwards(),
    "PS256": _pss(hashes.SHA256()),
    "PS384": _pss(hashes.SHA384()),
    "PS512": _pss(hashes.SHA512()),
}

ALGORITHMS: Final = tuple(_ALGORITHMS)
"""What may stand in `alg` (A18), in the order in which it is offered."""


class BadAlgorithm(Malformed):
    """An `alg` that is not in `ALGORITHMS`, or not one for the key; the answer lists them (RFC 8555, 6.2)."""


@dataclass(frozen=True, slots=True)
class Jws:
    """A JWS that was read and not yet verified.

    Exactly one of `kid` and `jwk` is set (A20); `jwk` is as sent. `payload` is decoded; `signed` is what was signed.
    """

    alg: str
    kid: str | None
    jwk: Mapping[str, object] | None
    nonce: str | None
    url: str | None
    payload: bytes
    signed: bytes
    signature: bytes


def parse(body: bytes) -> Jws:
    """Read a flattened JWS and its protected header. About 10 microseconds.

    Raises:
        BadAlgorithm: HS256 and its like, `none`, anything that is not offered.
        Malformed: not a flattened JWS, an unprotected header, `crit` or `b64`, both or neither of `kid` and `jwk`.
    """
    outer = strict.members(body, field="JWS")
    for name in ("header", "signatures"):
        if name in outer:
            raise Malformed(
                f"The JWS has the member {name}; send one signature, in flattened JSON, its header protected.",
                field=name,
            )
    protected, payload, signature = (_text(outer, name, "JWS") for name in ("protected", "payload", "signature"))
    header = strict.members(base64url.decode(protected, field="protected"), field="protected header")
    for name in ("crit", "b64"):
        if name in header:
            # RFC 7797 would change what is signed; no extension is understood, so none is critical (RFC 7515, 4.1.11).
            raise Malformed(f"The JWS has the header parameter {name}, which is not understood.", field=name)
    alg = _text(header, "alg", "protected header")
    if alg not in _ALGORITHMS:
        raise BadAlgorithm(f"The JWS is signed with {alg[:32]!r}; use one of {', '.join(ALGORITHMS)}.", field="alg")
    kid, jwk = _optional(header, "kid"), header.get("jwk")
    if (kid is None) == (jwk is None):
        raise Malformed("The JWS must have exactly one of the header parameters kid and jwk.", field="kid")
    if jwk is not None and not isinstance(jwk, dict):
        raise Malformed("The header parameter jwk is not a JSON object.", field="jwk")
    return Jws(
        alg=alg,
        kid=kid,
        jwk=jwk,
        nonce=_optional(header, "nonce"),
        url=_optional(header, "url"),
        payload=base64url.decode(payload, field="payload"),
        signed=f"{protected}.{payload}".encode(),
        signature=base64url.decode(signature, field="signature"),
    )


def verify(jws: Jws, verifier: Verifier) -> None:
    """Verify the signature. About 50 microseconds for P-256.

    Raises:
        BadAlgorithm: the algorithm is not one for this key (A19).
        Malformed: field `signature`; it does not verify, or an ECDSA one is not of its fixed length.
    """
    try:
        match _ALGORITHMS[jws.alg], verifier.key:
            case _Ecdsa() as algorithm, ec.EllipticCurvePublicKey() as key if algorithm.curve == verifier.kind:
                key.verify(_ecdsa_signature(jws, algorithm.half), jws.signed, algorithm.scheme)
            case _Rsa() as algorithm, rsa.RSAPublicKey() as key:
                key.verify(jws.signature, jws.signed, algorithm.padding, algorithm.digest)
            case _Edwards(), ed25519.Ed25519PublicKey() as key:
                key.verify(jws.signature, jws.signed)
            case _:
                raise BadAlgorithm(
                    f"The JWS is signed with {jws.alg}, which is not for a key of kind {verifier.kind}.", field="alg"
                )
    except InvalidSignature:
        raise Malformed("The JWS's signature does not verify with its key.", field="signature") from None


def _ecdsa_signature(jws: Jws, half: int) -> bytes:
    """The DER that the library wants, from r and s side by side at full size (RFC 7518, 3.4)."""
    if len(jws.signature) != 2 * half:
        # Often a signature that is DER already, or one whose leading zeros were dropped.
        raise Malformed(
            f"The JWS's signature has {len(jws.signature)} octets; {jws.alg} has {2 * half}, r and s at full size.",
            field="signature",
        )
    r, s = int.from_bytes(jws.signature[:half], "big"), int.from_bytes(jws.signature[half:], "big")
    return encode_dss_signature(r, s)


def _text(members: Mapping[str, object], name: str, where: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise Malformed(f"The {where} has no member {name} that is a string.", field=name)
    return value


def _optional(members: Mapping[str, object], name: str) -> str | None:
    return _text(members, name, "protected header") if name in members else None
