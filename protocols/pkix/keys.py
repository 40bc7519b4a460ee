"""Public keys: which kinds exist here, and which must never be certified (D7, A24, A85).

Only checks that hold for every policy live here; a policy chooses among what is left. No private key is ever touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from protocols.exchange import Reason, Refused

RSA_MINIMUM: Final = 2048
RSA_MAXIMUM: Final = 8192
"""Bits. Above, one verification costs milliseconds, which an unauthenticated peer may ask for."""

FERMAT_ROUNDS: Final = 100

_RSA_NAMES: Final = {2048: "RSA_2048", 3072: "RSA_3072", 4096: "RSA_4096"}
_CURVES: Final = {
    "secp256r1": ("EC_prime256v1", 256),
    "secp384r1": ("EC_secp384r1", 384),
    "secp521r1": ("EC_secp521r1", 521),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key is. `algorithm` as in the REST API; `bits` of the modulus, the field or the encoded public key."""

    algorithm: str
    bits: int


_ED25519: Final = Kind("ED25519", 256)
_ED448: Final = Kind("ED448", 456)
_ML_DSA_44: Final = Kind("ML-DSA-44", 1312 * 8)
_ML_DSA_65: Final = Kind("ML-DSA-65", 1952 * 8)
_ML_DSA_87: Final = Kind("ML-DSA-87", 2592 * 8)


def judge(key: object) -> Kind:
    """The kind of a public key that may be certified, whoever asks. A few tens of microseconds for RSA, one for others.

    Raises:
        Refused: BAD_KEY, with a sentence that says what is wrong with the key.
    """
    match key:
        case ec.EllipticCurvePublicKey():
            # The library has checked that the point is on the curve and not its identity when it loaded the key.
            known = _CURVES.get(key.curve.name)
            if known is None:
                raise _bad(f"The key is on curve {key.curve.name}; use P-256, P-384 or P-521.")
            return Kind(*known)
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            judge_rsa(numbers.n, numbers.e)
            bits = numbers.n.bit_length()
            return Kind(_RSA_NAMES.get(bits, "RSA_OTHER"), bits)
        case ed25519.Ed25519PublicKey():
            return _ED25519
        case ed448.Ed448PublicKey():
            return _ED448
        case mldsa.MLDSA44PublicKey():
            return _ML_DSA_44
        case mldsa.MLDSA65PublicKey():
            return _ML_DSA_65
        case mldsa.MLDSA87PublicKey():
            return _ML_DSA_87
        case _:
            raise _bad("The key is of a kind that is not certified here; use RSA, EC, Ed25519, Ed448 or ML-DSA.")


def judge_rsa(modulus: int, exponent: int) -> None:
    """Refuse an RSA key of a wrong size or exponent, and one whose factors are known to be findable.

    Raises:
        Refused: BAD_KEY.
    """
    bits = modulus.bit_length()
    if not RSA_MINIMUM <= bits <= RSA_MAXIMUM:
        raise _bad(f"The RSA key has {bits} bits; {RSA_MINIMUM} to {RSA_MAXIMUM} are accepted.")
    if exponent != 65537:
        raise _bad("The RSA key's public exponent is not 65537.")
    if math.gcd(modulus, _SMALL_PRIMES_PRODUCT) != 1:
        raise _bad("The RSA key's modulus has a small factor.")
    if _is_roca(modulus):
        raise _bad("The RSA key was made by a generator with the ROCA weakness (CVE-2017-15361).")
    if _has_close_factors(modulus):
        raise _bad("The RSA key's two primes are too close to each other; Fermat's method factors it.")


def _bad(detail: str) -> Refused:
    return Refused(Reason.BAD_KEY, detail)


def _primes(limit: int) -> tuple[int, ...]:
    sieve = bytearray([1]) * limit
    for at in range(2, math.isqrt(limit) + 1):
        if sieve[at]:
            sieve[at * at :: at] = bytes(len(range(at * at, limit, at)))
    return tuple(at for at in range(2, limit) if sieve[at])


# The bound of the public web's largest authority: beyond, a factor is not found by accident but by effort.
_SMALL_PRIMES_PRODUCT: Final = math.prod(_primes(753))


def _subgroup(prime: int) -> frozenset[int]:
    """The powers of 65537 modulo a prime."""
    found, power = set(), 1
    while power not in found:
        found.add(power)
        power = power * 65537 % prime
    return frozenset(found)


# The weak generator made primes k*M + (65537^a mod M), M a product of the first primes, so that modulo each of them
# both factors, and their product, are powers of 65537 (Nemec et al., "The Return of Coppersmith's Attack", CCS 2017,
# 2.1). M holds all primes to 167 at every key size. A prime whose group 65537 generates says nothing and is left out.
_ROCA: Final = tuple(
    (prime, powers) for prime in _primes(168)[1:] for powers in (_subgroup(prime),) if len(powers) < prime - 1
)
_ROCA_PRODUCT: Final = math.prod(prime for prime, _ in _ROCA)


def _is_roca(modulus: int) -> bool:
    residue = modulus % _ROCA_PRODUCT
    return all(residue % prime in powers for prime, powers in _ROCA)


# A square is a square modulo everything. Two in a hundred of the residues of this number are squares, and its table is
# small; so the exact root is drawn about twice for a hundred candidates.
_SIEVE: Final = 16 * 9 * 5 * 7 * 11
_IS_SQUARE: Final = bytearray(_SIEVE)
for _root in range(_SIEVE // 2 + 1):
    _IS_SQUARE[_root * _root % _SIEVE] = 1


def _has_close_factors(modulus: int) -> bool:
    """Fermat's method for `FERMAT_ROUNDS` candidates a with n = a^2 - b^2, on residues first."""
    first = math.isqrt(modulus) + 1
    residue, wanted, squares, sieve = first % _SIEVE, modulus % _SIEVE, _IS_SQUARE, _SIEVE
    for step in range(FERMAT_ROUNDS):
        if squares[((residue + step) * (residue + step) - wanted) % sieve]:
            candidate = first + step
            rest = candidate * candidate - modulus
            if math.isqrt(rest) ** 2 == rest:
                return True
    # p = q: the modulus is a square itself.
    return (first - 1) ** 2 == modulus
