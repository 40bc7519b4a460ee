"""What a registration authority's key does for SCEP: unwrap a content-encryption key, sign attributes of a CMS message.

An issuer's key is never used here. Nothing is decrypted but a key of a cipher's length, and nothing is signed that does
not parse as signed attributes.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from signer.contract.messages import SignAttributes, UnwrapKey
from signer.contract.refusal import SignerRefusal
from signer.issuance.attributes import check_signed_attributes
from signer.issuance.refused import Refused
from signer.keystore.key import KeyKind, StoredKey
from signer.keystore.mechanism import PrivateKey

SUBSTITUTES: Final = b"muster substitute keys"
"""What the secret behind substitutes is derived for."""

_KEY_LENGTHS: Final = frozenset({16, 24, 32})  # bytes: AES, and the three keys of 3DES
_SHA1: Final = hashes.SHA1()  # noqa: S303 - OAEP's default and RFC 8894's legacy digest (S44, S49); not in certificates
_OAEP: Final = {
    "oaep-sha1": padding.OAEP(padding.MGF1(_SHA1), _SHA1, None),
    "oaep-sha256": padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None),
}
_PKCS1: Final = padding.PKCS1v15()
_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha1": _SHA1,
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


def unwrap(key: StoredKey, ask: UnwrapKey, *, substitutes: bytes) -> bytes:
    """The content-encryption key in `ask`, of `ask.length` bytes. Raises `Refused` (WRONG_KIND, UNSUPPORTED, UNWRAP).

    For PKCS#1 v1.5 a wrong padding or length gives a key derived from `substitutes` (32 secret bytes, the same for all
    workers and after a restart), the RA's name, the ciphertext and the length: the same each time whoever is asked, and
    never what another RA gives, so that neither an answer nor a repetition tells right from wrong (Bleichenbacher;
    RFC 8017, 7.2.2; S49). OpenSSL rejects implicitly as well, but with a plaintext of another length.
    """
    private_key = _ra_key(key)
    if not isinstance(private_key, rsa.RSAPrivateKey):
        raise Refused(SignerRefusal.UNSUPPORTED, f"the key {key.name!r} cannot unwrap: it is not RSA")
    if ask.length not in _KEY_LENGTHS:
        raise Refused(SignerRefusal.UNSUPPORTED, f"content-encryption keys have 16, 24 or 32 bytes, not {ask.length}")
    if len(ask.wrapped) != (private_key.key_size + 7) // 8:
        raise Refused(SignerRefusal.UNWRAP, "the wrapped key has not the length of this key's modulus")
    if ask.algorithm == "pkcs1v15":
        return _unwrap_pkcs1(private_key, ask, substitutes)
    oaep = _OAEP.get(ask.algorithm)
    if oaep is None:
        raise Refused(SignerRefusal.UNSUPPORTED, f"keys are not unwrapped by {ask.algorithm[:50]!r}")
    try:
        unwrapped = private_key.decrypt(ask.wrapped, oaep)
    except ValueError:
        unwrapped = b""
    if len(unwrapped) != ask.length:
        raise Refused(SignerRefusal.UNWRAP, "the wrapped key is not for this key")
    return unwrapped


def sign_attributes(key: StoredKey, ask: SignAttributes) -> bytes:
    """A signature over the SET OF attributes in `ask`, PKCS#1 v1.5 or ECDSA. Raises `Refused`."""
    private_key = _ra_key(key)
    digest = _DIGESTS.get(ask.digest)
    if digest is None:
        raise Refused(SignerRefusal.UNSUPPORTED, f"attributes are not signed with {ask.digest[:50]!r}")
    check_signed_attributes(ask.attributes, digest.digest_size)
    match private_key:
        case rsa.RSAPrivateKey():
            return private_key.sign(ask.attributes, _PKCS1, digest)
        case ec.EllipticCurvePrivateKey():
            return private_key.sign(ask.attributes, ec.ECDSA(digest))
        case _:
            raise Refused(SignerRefusal.UNSUPPORTED, f"the key {key.name!r} cannot sign attributes")


def _unwrap_pkcs1(private_key: rsa.RSAPrivateKey, ask: UnwrapKey, substitutes: bytes) -> bytes:
    # Keyed BLAKE2b (RFC 7693), half of an HMAC's price; made for right keys too, as time would tell.
    substitute = blake2b(b"%b\0%b" % (ask.ra.encode(), ask.wrapped), key=substitutes, digest_size=ask.length).digest()
    try:
        unwrapped = private_key.decrypt(ask.wrapped, _PKCS1)
    except ValueError:  # not below the modulus: everybody can see that, but it is answered alike
        unwrapped = b""
    return unwrapped if len(unwrapped) == ask.length else substitute


def _ra_key(key: StoredKey) -> PrivateKey:
    if key.kind is not KeyKind.RA:
        raise Refused(SignerRefusal.WRONG_KIND, f"the key {key.name!r} is not a registration authority's")
    return key.private_key
