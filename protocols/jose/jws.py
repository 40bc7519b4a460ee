"""Flattened JSON Web Signatures (RFC 7515, 7.2.2), as ACME narrows them (RFC 8555, 6.2).

`parse` believes nothing; `verify` is separate, so that a caller can look up the key in between. No symmetric algorithm
is known here, so that no public key can ever be taken for a shared secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, cast

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from protocols.exchange import Malformed
from protocols.jose import base64url, strict
from protocols.jose.jwk import ED25519, RSA, Verifier


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


_UNPROTECTED: Final = frozenset({"header", "signatures"})
_NOT_UNDERSTOOD: Final = frozenset({"crit", "b64"})


class BadAlgorithm(Malformed):
    """An `alg` that is not in `ALGORITHMS`, or not one for the key; the answer lists them (RFC 8555, 6.2)."""


class Jws(msgspec.Struct, frozen=True):
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


class _Outer(msgspec.Struct, frozen=True):
    """What all clients send, and nothing beside it (RFC 8555, 6.2)."""

    protected: str
    payload: str
    signature: str


class _ByKid(msgspec.Struct, frozen=True):
    """The header of a request by an account, as all clients write it (RFC 8555, 6.2)."""

    alg: str
    kid: str
    nonce: str
    url: str
    jwk: ClassVar[None] = None


class _Header(msgspec.Struct, frozen=True):
    """Any other header."""

    alg: str
    kid: str | None
    jwk: Mapping[str, object] | None
    nonce: str | None
    url: str | None


# Before an INTEGER of 32 octets, the first of which is not zero: DER, without and with the octet that says its sign.
_USUAL_HALF: Final = 32
_INTEGER: Final = (b"\x02\x20", b"\x02\x21\0")

_OUTER: Final = strict.Form(_Outer, strings=6)
_BY_KID: Final = strict.Form(_ByKid, strings=8)


def parse(body: bytes) -> Jws:
    """Read a flattened JWS and its protected header. About 7 microseconds.

    Raises:
        BadAlgorithm: HS256 and its like, `none`, anything that is not offered.
        Malformed: not a flattened JWS, an unprotected header, `crit` or `b64`, both or neither of `kid` and `jwk`.
    """
    outer = _OUTER.exact(body) or _outer(body)
    octets = base64url.decode(outer.protected, field="protected")
    header: _ByKid | _Header | None = _BY_KID.exact(octets)
    if header is None or header.alg not in _ALGORITHMS:
        header = _header(octets)
    return Jws(
        header.alg,
        header.kid,
        header.jwk,
        header.nonce,
        header.url,
        base64url.decode(outer.payload, field="payload") if outer.payload else b"",
        f"{outer.protected}.{outer.payload}".encode(),
        base64url.decode(outer.signature, field="signature"),
    )


def _outer(body: bytes) -> _Outer:
    """The three members of a body that has others beside them, or is wrong."""
    outer = strict.members(body, field="JWS")
    if not _UNPROTECTED.isdisjoint(outer):
        name = next(each for each in _UNPROTECTED if each in outer)
        raise Malformed(
            f"The JWS has the member {name}; send one signature, in flattened JSON, its header protected.",
            field=name,
        )
    protected, payload = _text(outer, "protected", "JWS"), _text(outer, "payload", "JWS")
    return _Outer(protected, payload, _text(outer, "signature", "JWS"))


def _header(octets: bytes) -> _Header:
    """A protected header that carries a key, has other members, or is wrong."""
    header = strict.members(octets, field="protected header")
    if not _NOT_UNDERSTOOD.isdisjoint(header):
        # RFC 7797 would change what is signed; no extension is understood, so none is critical (RFC 7515, 4.1.11).
        name = next(each for each in _NOT_UNDERSTOOD if each in header)
        raise Malformed(f"The JWS has the header parameter {name}, which is not understood.", field=name)
    alg = _text(header, "alg", "protected header")
    if alg not in _ALGORITHMS:
        raise BadAlgorithm(f"The JWS is signed with {alg[:32]!r}; use one of {', '.join(ALGORITHMS)}.", field="alg")
    kid, jwk = _optional(header, "kid"), header.get("jwk")
    if (kid is None) == (jwk is None):
        raise Malformed("The JWS must have exactly one of the header parameters kid and jwk.", field="kid")
    if jwk is not None and not isinstance(jwk, dict):
        raise Malformed("The header parameter jwk is not a JSON object.", field="jwk")
    return _Header(alg, kid, jwk, _optional(header, "nonce"), _optional(header, "url"))


def verify(jws: Jws, verifier: Verifier) -> None:
    """Verify the signature. About 50 microseconds for P-256.

    Raises:
        BadAlgorithm: the algorithm is not one for this key (A19).
        Malformed: field `signature`; it does not verify, or an ECDSA one is not of its fixed length.
    """
    algorithm, kind = _ALGORITHMS[jws.alg], verifier.kind
    # By the kind that the key was loaded as: to ask the library's abstract classes costs as much as reading the header.
    try:
        if isinstance(algorithm, _Ecdsa) and kind == algorithm.curve:
            curve_key = cast("ec.EllipticCurvePublicKey", verifier.key)
            curve_key.verify(_ecdsa_signature(jws, algorithm.half), jws.signed, algorithm.scheme)
        elif isinstance(algorithm, _Rsa) and kind == RSA:
            cast("rsa.RSAPublicKey", verifier.key).verify(
                jws.signature, jws.signed, algorithm.padding, algorithm.digest
            )
        elif isinstance(algorithm, _Edwards) and kind == ED25519:
            cast("ed25519.Ed25519PublicKey", verifier.key).verify(jws.signature, jws.signed)
        else:
            raise BadAlgorithm(f"The JWS is signed with {jws.alg}, which is not for a key of kind {kind}.", field="alg")
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
    r, s = jws.signature[:half], jws.signature[half:]
    if half == _USUAL_HALF and r[0] and s[0]:
        r, s = _INTEGER[r[0] >> 7] + r, _INTEGER[s[0] >> 7] + s
    else:
        r, s = _positive(r), _positive(s)
    length = len(r) + len(s)
    return (b"\x30%c" % length if length < 0x80 else b"\x30\x81%c" % length) + r + s


def _positive(octets: bytes) -> bytes:
    """An INTEGER, DER, of at most 66 octets."""
    bare = octets.lstrip(b"\0")
    if not bare or bare[0] & 0x80:
        bare = b"\0" + bare
    return b"\x02%c" % len(bare) + bare


def _text(members: Mapping[str, object], name: str, where: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise Malformed(f"The {where} has no member {name} that is a string.", field=name)
    return value


def _optional(members: Mapping[str, object], name: str) -> str | None:
    return _text(members, name, "protected header") if name in members else None
