"""Keys that must never be certified (D7, A24, A85)."""

from __future__ import annotations

import math

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocols.exchange import Reason, Refused
from protocols.pkix import keys
from tests.doubles.pkcs10 import rsa2048


def detail(modulus: int, exponent: int = 65537) -> str:
    with pytest.raises(Refused) as caught:
        keys.judge_rsa(modulus, exponent)
    assert caught.value.reason is Reason.BAD_KEY
    return caught.value.detail


def is_prime(number: int) -> bool:
    """Miller and Rabin's test, good enough for a test's numbers."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17):
        power = pow(base, odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True


def next_prime(number: int) -> int:
    number |= 1
    while math.gcd(number, keys._SMALL_PRIMES_PRODUCT) != 1 or not is_prime(number):
        number += 2
    return number


def test_a_sound_modulus_passes():
    for number in range(2):
        keys.judge_rsa(rsa2048(number).public_key().public_numbers().n, 65537)


def test_sizes_and_exponents_have_bounds():
    sound = rsa2048().public_key().public_numbers().n
    assert "2047 bits" in detail(sound >> 1)
    assert "8193 bits" in detail(1 << 8192 | 1)
    for exponent in (1, 2, 3, 17, 65539, 1 << 64 | 1):
        assert "exponent" in detail(sound, exponent)


def test_a_small_factor_is_found():
    sound = rsa2048().public_key().public_numbers().n
    for small in (2, 3, 751):
        assert "small factor" in detail(small * sound)
    keys.judge_rsa(757 * sound, 65537)  # the first prime beyond the bound


def test_close_primes_are_found_within_the_rounds_and_not_beyond():
    p = next_prime(3 << 1022)
    assert "close" in detail(p * next_prime(p + 2))
    assert "close" in detail(p * p)
    # Fermat's method needs about d^2 / 8p rounds for a difference d: none for a small one, over a hundred for this one.
    far = next_prime(p + math.isqrt(8 * p * (keys.FERMAT_ROUNDS + 40)))
    keys.judge_rsa(p * far, 65537)
    # Some rounds in, where the sieve of residues has let the candidates before it pass or not.
    for rounds in (3, 20, 60, 95):
        near = next_prime(p + math.isqrt(8 * p * rounds))
        assert "close" in detail(p * near), rounds


def test_the_roca_structure_is_found():
    # Primes of the form k*M + (65537^a mod M), as the weak generator makes them (CVE-2017-15361), M for 2048-bit keys.
    product = math.prod(prime for prime in keys._primes(702))
    assert product.bit_length() == 971

    def weak(power: int, k: int) -> int:
        rest = pow(65537, power, product)
        while True:
            candidate = k * product + rest
            if is_prime(candidate):
                return candidate
            k += 1

    p, q = weak(123456789, 1 << 53), weak(987654321, 3 << 52)
    modulus = p * q
    assert modulus.bit_length() >= 2048
    assert "ROCA" in detail(modulus)


def test_the_marks_of_roca_are_rare_in_other_keys():
    # One in 2^27 and less: the product of the subgroups' shares.
    share = math.prod(len(powers) / (prime - 1) for prime, powers in keys._ROCA)
    assert share < 2**-27


def test_a_key_of_no_signature_is_refused():
    with pytest.raises(Refused):
        keys.judge(x25519.X25519PrivateKey.generate().public_key())


def test_a_loaded_key_is_judged_like_its_numbers():
    sound = rsa2048().public_key().public_numbers().n
    with pytest.raises(Refused):
        keys.judge(rsa.RSAPublicNumbers(65537, 127 * sound).public_key())


def test_each_of_the_candidates_is_tried_and_the_next_is_not():
    # CVE-2022-26320: whatever residues the modulus has. n = a^2 - b^2, found at the candidate that a is.
    tried = set()
    for half in range(1 << 40, (1 << 40) + 4000):
        a = half * 2
        b = math.isqrt(2 * a * (half % 130 + 1))
        n = a * a - b * b
        rounds = a - math.isqrt(n) - 1
        tried.add(rounds)
        assert keys._has_close_factors(n) == (rounds < keys.FERMAT_ROUNDS), (a, b)
    assert set(range(keys.FERMAT_ROUNDS + 20)) <= tried


def test_a_key_that_is_known_by_its_octets_is_judged_the_same():
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP256K1()):
        key = ec.generate_private_key(curve).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert (keys.kind_of(spki) is None) == (curve.name != "secp256r1")
    known = ec.generate_private_key(ec.SECP256R1()).public_key()
    spki = known.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert keys.kind_of(spki) == keys.judge(known)
    compressed = known.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    assert keys.kind_of(spki[:23] + b"\x03" + spki[26:27] + compressed) is None
