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


@dataclass(frozen=True, slots=True)
class Kind:
    """What a key is. `algorithm` as in the REST API; `bits` of the modulus, the field or the encoded public key."""

    algorithm: str
    bits: int

    @property
    def elliptic(self) -> bool:
        """Whether it is an EC key."""
        return self.algorithm.startswith("EC_")

    @property
    def rsa(self) -> bool:
        """Whether it is an RSA key."""
        return self.algorithm.startswith("RSA_")


_RSA: Final = {bits: Kind(f"RSA_{bits}", bits) for bits in (2048, 3072, 4096)}
_P256: Final = Kind("EC_prime256v1", 256)
_CURVES: Final = {
    "secp256r1": _P256,
    "secp384r1": Kind("EC_secp384r1", 384),
    "secp521r1": Kind("EC_secp521r1", 521),
}
# RFC 5480, 2: id-ecPublicKey on secp256r1, and a point of 65 octets that is not compressed. Nothing else in it varies.
_P256_PREFIX: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_P256_LENGTH: Final = 91

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
            return known
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            judge_rsa(numbers.n, numbers.e)
            bits = numbers.n.bit_length()
            return _RSA.get(bits) or Kind("RSA_OTHER", bits)
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


def kind_of(spki: bytes) -> Kind | None:
    """The kind of a SubjectPublicKeyInfo that the library has loaded, if it is certified and needs no other judgement.

    That is a P-256 key, in the one encoding that `judge` would find again; None for all others, which `judge` judges.
    """
    return _P256 if len(spki) == _P256_LENGTH and spki.startswith(_P256_PREFIX) else None


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


# A square is a square modulo everything; of a hundred candidates these moduli together leave one in ten keys one, so
# that next to no exact root is drawn. For each a row by the residue of n: a bit for each residue that a may have, over
# and over, so that one shift tells all candidates at once. One after the other they took half of an RSA judgement.
_MODULI: Final = (64, 63, 65, 11, 17, 19, 23, 29)
_ALL_ROUNDS: Final = (1 << FERMAT_ROUNDS) - 1


def _rows(modulus: int) -> tuple[int, ...]:
    squares = {root * root % modulus for root in range(modulus)}
    repeated = sum(1 << modulus * time for time in range(FERMAT_ROUNDS // modulus + 2))
    return tuple(
        repeated * sum(1 << a for a in range(modulus) if (a * a - residue) % modulus in squares)
        for residue in range(modulus)
    )


_SIEVES: Final = tuple((modulus, _rows(modulus)) for modulus in _MODULI)
_SIEVES_PRODUCT: Final = math.lcm(*_MODULI)


def _has_close_factors(modulus: int) -> bool:
    """Fermat's method for `FERMAT_ROUNDS` candidates a with n = a^2 - b^2, on residues first."""
    first = math.isqrt(modulus) + 1
    # Long division once each; what follows is arithmetic on small numbers.
    start, wanted = first % _SIEVES_PRODUCT, modulus % _SIEVES_PRODUCT
    left = _ALL_ROUNDS
    for small, rows in _SIEVES:
        left &= rows[wanted % small] >> start % small
    while left:
        candidate = first + (left & -left).bit_length() - 1
        rest = candidate * candidate - modulus
        if math.isqrt(rest) ** 2 == rest:
            return True
        left &= left - 1
    # p = q: the modulus is a square itself.
    return (first - 1) ** 2 == modulus
