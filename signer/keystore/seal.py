"""Encryption at rest: one key-encryption key from the unlock secret, AES-256-GCM boxes under it. No file is touched.

A box is a version byte, a nonce of 12 random bytes, then ciphertext and tag. `purpose` is authenticated with it, so
that a box made for one use never opens as another. 96-bit random
nonces bear 2**32 boxes under one key (NIST SP 800-38D, 8.3).
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from signer.keystore.failures import KeyStoreError, StoreFailure

KEY_LENGTH: Final = 32  # bytes
_VERSION: Final = 1
_NONCE: Final = 12  # bytes
_TAG: Final = 16  # bytes


class Derivation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the key-encryption key comes from the unlock secret: scrypt (RFC 7914) and its cost."""

    salt: bytes
    # 2**15 costs 32 MiB and about 60 ms, once a start. The secret that a gateway makes for itself has 256 bits, so the
    # cost matters only for a passphrase that a person chose.
    n: int = 2**15
    r: int = 8
    p: int = 1


def derive(secret: bytes | bytearray, derivation: Derivation) -> bytes:
    """The key-encryption key, 32 bytes. Raises `KeyStoreError` (DAMAGED) for costs that no store of ours would have."""
    n, r, p = derivation.n, derivation.r, derivation.p
    if not 2 <= n <= 2**20 or n & (n - 1) or not 1 <= r <= 16 or not 1 <= p <= 16 or len(derivation.salt) < 16:
        raise KeyStoreError(StoreFailure.DAMAGED, "the key store's derivation parameters are out of range")
    return hashlib.scrypt(secret, salt=derivation.salt, n=n, r=r, p=p, dklen=KEY_LENGTH, maxmem=256 * n * r * p)


def close_box(key: bytes, plaintext: bytes | bytearray, purpose: bytes) -> bytes:
    """`plaintext` sealed under `key` for `purpose`."""
    nonce = os.urandom(_NONCE)
    return bytes((_VERSION,)) + nonce + AESGCM(key).encrypt(nonce, plaintext, purpose)


def open_box(key: bytes, box: bytes, purpose: bytes) -> bytearray:
    """The plaintext of a box, in memory that the caller can wipe.

    Raises `KeyStoreError`: UNSUPPORTED for another version, DAMAGED for everything else.
    """
    if len(box) < 1 + _NONCE + _TAG:
        raise KeyStoreError(StoreFailure.DAMAGED, "a sealed key is cut short")
    if box[0] != _VERSION:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"a sealed key has format {box[0]}, of a newer version")
    plaintext = bytearray(len(box) - 1 - _NONCE - _TAG)
    try:
        AESGCM(key).decrypt_into(box[1 : 1 + _NONCE], box[1 + _NONCE :], purpose, plaintext)
    except InvalidTag:
        raise KeyStoreError(StoreFailure.DAMAGED, "a sealed key does not open") from None
    return plaintext
