"""What is done with one key's object on a token, once it was found: sign, decrypt, prove. No session is kept here."""

from __future__ import annotations

import hashlib
import os
from typing import Final

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import MGF, Attribute, KeyType, Mechanism, PKCS11Error
from pkcs11.types import DecryptMixin, Object, SignMixin

from signer.keystore.failures import KeyStoreError, StoreFailure, token_failure
from signer.keystore.tokenkey import DIGEST_INFO, TokenPublicKey

_MECHANISMS: Final = {
    "sha1": (Mechanism.SHA_1, MGF.SHA1),
    "sha256": (Mechanism.SHA256, MGF.SHA256),
    "sha384": (Mechanism.SHA384, MGF.SHA384),
    "sha512": (Mechanism.SHA512, MGF.SHA512),
}
# Errors of a session or a token that no ciphertext causes. SoftHSM answers a wrong padding by GeneralError.
_NOT_THE_CIPHERTEXT: Final = frozenset(
    {
        "DeviceRemoved",
        "KeyHandleInvalid",
        "ObjectHandleInvalid",
        "SessionClosed",
        "SessionHandleInvalid",
        "TokenNotPresent",
        "UserNotLoggedIn",
    }
)


def leaves(key: Object) -> bool:
    """Whether a private key can be taken out of its token. A token that does not say is believed to keep it."""
    try:
        return bool(key[Attribute.EXTRACTABLE]) or not key[Attribute.SENSITIVE]
    except pkcs11.AttributeTypeInvalid:
        return False


def signed(key: Object, data: bytes, mechanism: Mechanism, parameter: object = None) -> bytes:
    """What the key signs, as the mechanism wants it. Raises `PKCS11Error`, `KeyStoreError`."""
    if not isinstance(key, SignMixin):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "a key on a token may not sign (CKA_SIGN)")
    return bytes(key.sign(data, mechanism=mechanism, mechanism_param=parameter))


def unpadded(block: bytes) -> bytes:
    """What stands in a block of EME-PKCS1-v1_5 (RFC 8017, 7.2.2), nothing where the padding is wrong.

    Not an error, which would take longer: the caller gives no plaintext and a plaintext of a wrong length one answer.
    """
    end = block.find(b"\0", 2)
    good = (block[0] == 0) & (block[1] == 2) & (end >= 10)  # at least eight bytes of padding
    return block[end + 1 :] if good else b""


def opened(key: Object, ciphertext: bytes, mechanism: Mechanism, parameter: object) -> bytes:
    """What was encrypted to the key. Raises `PKCS11Error`, `KeyStoreError`, and `ValueError` where it does not open."""
    if not isinstance(key, DecryptMixin):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "a key on a token may not decrypt (CKA_DECRYPT)")
    try:
        plain = key.decrypt(ciphertext, mechanism=mechanism, mechanism_param=parameter)
    except PKCS11Error as error:
        # Whatever a ciphertext can cause looks like a wrong padding, and must not start a new session: the time that
        # takes would tell (Bleichenbacher). A session that truly failed shows when the same key signs.
        if type(error).__name__ in _NOT_THE_CIPHERTEXT or token_failure(error) is StoreFailure.UNSUPPORTED:
            raise
        raise ValueError("the ciphertext does not open") from None
    assert isinstance(plain, bytes)
    return plain


def mechanism_of(digest: str) -> tuple[Mechanism, MGF]:
    """The digest's mechanism, and its MGF1. Raises `KeyStoreError`."""
    found = _MECHANISMS.get(digest)
    if found is None:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token is asked for {digest}")
    return found


def is_half_of(key: Object, public_key: TokenPublicKey) -> bool:
    """Whether a private key is the other half of that one: it signs something, which is verified."""
    if key[Attribute.KEY_TYPE] is not _key_type(public_key):  # SoftHSM answers another kind's mechanism by GeneralError
        return False
    message = b"muster proves a key" + os.urandom(16)
    digest = hashlib.sha256(message).digest()
    try:
        match public_key:
            case rsa.RSAPublicKey():
                signature = signed(key, DIGEST_INFO["sha256"] + digest, Mechanism.RSA_PKCS)
                public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                pair = signed(key, digest, Mechanism.ECDSA)
                numbers = [int.from_bytes(half, "big") for half in (pair[: len(pair) // 2], pair[len(pair) // 2 :])]
                public_key.verify(encode_dss_signature(*numbers), message, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey():
                public_key.verify(signed(key, message, Mechanism.EDDSA), message)
    except InvalidSignature:
        return False
    return True


def _key_type(public_key: TokenPublicKey) -> KeyType:
    match public_key:
        case rsa.RSAPublicKey():
            return KeyType.RSA
        case ec.EllipticCurvePublicKey():
            return KeyType.EC
        case ed25519.Ed25519PublicKey():
            return KeyType.EC_EDWARDS
