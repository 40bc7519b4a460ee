"""Public keys as JWK (RFC 7517; RFC 7518, 6; RFC 8037): which are accepted, their thumbprints, and keys that verify.

A key is known by its canonical JSON (RFC 7638) and by nothing else; a private member in it is refused, never stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.exchange import Malformed, Reason, Refused
from protocols.jose import base64url, strict
from protocols.pkix import keys

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# The private members of RFC 7518, 6.2.2 and 6.3.2, and the symmetric key of 6.4.
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
RSA: Final = "RSA"
ED25519: Final = "Ed25519"

# base64url characters of the largest modulus accepted: nothing longer is turned into a number.
_LONGEST: Final = (keys.RSA_MAXIMUM // 8 * 4 + 2) // 3


@dataclass(frozen=True, slots=True)
class Jwk:
    """A public key that was accepted. `canonical` is the JSON of RFC 7638, 3; `thumbprint` its SHA-256, base64url."""

    canonical: bytes
    thumbprint: str


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that verifies. `kind` is `RSA`, or the name of the curve: what an algorithm must match (A19)."""

    kind: str
    key: PublicKey


def parse(members: Mapping[str, object]) -> Jwk:
    """Accept a public key, or say why not (A24).

    Raises:
        Refused: BAD_KEY for anything wrong with the key: a kind or curve that is not offered, a private member, a
            number that is not in its one spelling, a weak RSA key, a point that is not on its curve.
    """
    if not _PRIVATE.isdisjoint(members):
        raise _bad("The JWK has private members; send the public key only, and make a new key: this one is known now.")
    kind = members.get("kty")
    if kind == "RSA":
        exponent, modulus = _member(members, "e"), _member(members, "n")
        canonical = f'{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}'
    elif kind == "EC":
        curve, x, y = _curve(members, _CURVES), _member(members, "x"), _member(members, "y")
        canonical = f'{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}'
    elif kind == "OKP":
        curve, x = _curve(members, {ED25519: None}), _member(members, "x")
        canonical = f'{{"crv":"{curve}","kty":"OKP","x":"{x}"}}'
    else:
        raise _bad("The JWK's kty is not offered; use RSA, EC or OKP.")
    encoded = canonical.encode()
    verifier(encoded)
    return Jwk(encoded, thumbprint(encoded))


def thumbprint(canonical: bytes) -> str:
    """The SHA-256 thumbprint of canonical JSON, base64url (RFC 7638, 3)."""
    return base64url.encode(hashlib.sha256(canonical).digest())


# Loading checks that a point is on its curve and that a modulus is sound: about as dear as verifying. An account comes
# back with the same key in each of its nine requests, so the outcome is kept; 4096 keys are about 4 MiB.
@lru_cache(maxsize=4096)
def verifier(canonical: bytes) -> Verifier:
    """The key of canonical JSON, as `parse` or an account's row gives it, ready to verify.

    Raises:
        Refused: BAD_KEY.
    """
    members = strict.members(canonical, field="jwk")
    try:
        return _load(members)
    except ValueError:
        raise _bad("The JWK's point is not on its curve.") from None


@lru_cache(maxsize=4096)
def spki(canonical: bytes) -> bytes:
    """The key of canonical JSON as a SubjectPublicKeyInfo, DER. Raises as `verifier`."""
    return verifier(canonical).key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _load(members: Mapping[str, object]) -> Verifier:
    kind = members["kty"]
    if kind == "RSA":
        modulus, exponent = _integer(members, "n"), _integer(members, "e")
        keys.judge_rsa(modulus, exponent)
        return Verifier(RSA, rsa.RSAPublicNumbers(exponent, modulus).public_key())
    name = str(members["crv"])
    if kind == "OKP":
        return Verifier(name, ed25519.Ed25519PublicKey.from_public_bytes(_octets(members, "x", 32)))
    curve = _CURVES[name]
    size = (curve.key_size + 7) // 8
    point = b"\x04" + _octets(members, "x", size) + _octets(members, "y", size)
    return Verifier(name, ec.EllipticCurvePublicKey.from_encoded_point(curve, point))


def _member(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
        raise _bad(f"The JWK's member {name} is missing, not a string, or too long.")
    try:
        base64url.decode(value, field=f"jwk.{name}")
    except Malformed as fault:
        raise _bad(fault.detail) from None
    return value


def _curve(members: Mapping[str, object], offered: Mapping[str, object]) -> str:
    curve = members.get("crv")
    if not isinstance(curve, str) or curve not in offered:
        raise _bad(f"The JWK's curve is not offered; use {', '.join(offered)}.")
    return curve


def _octets(members: Mapping[str, object], name: str, size: int) -> bytes:
    octets = base64url.decode(str(members[name]), field=f"jwk.{name}")
    if len(octets) != size:
        # RFC 7518, 6.2.1.2: a coordinate has the full size of its field, leading zeros included.
        raise _bad(f"The JWK's member {name} has {len(octets)} octets instead of {size}.")
    return octets


def _integer(members: Mapping[str, object], name: str) -> int:
    octets = base64url.decode(str(members[name]), field=f"jwk.{name}")
    if octets[0] == 0:
        # RFC 7518, 2 (Base64urlUInt): as few octets as possible; another spelling would be another account.
        raise _bad(f"The JWK's member {name} begins with a zero octet; write the number in as few octets as it needs.")
    return int.from_bytes(octets, "big")


def _bad(detail: str) -> Refused:
    return Refused(Reason.BAD_KEY, detail)
