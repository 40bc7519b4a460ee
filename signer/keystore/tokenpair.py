"""Key pairs, made on a token: sensitive, not extractable, for one use. Nothing is signed here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag
from pkcs11.types import Session

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.tokenkey import TokenPublicKey
from signer.keystore.tokenwork import signed

_NONE: Final = MechanismFlag(0)  # what a key may do says its template
_RSA: Final = {"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
# namedCurve of RFC 5480, 2.1.1.1, DER, and the curve.
CURVES: Final[dict[str, tuple[bytes, ec.EllipticCurve]]] = {
    "EC_prime256v1": (bytes.fromhex("06082a8648ce3d030107"), ec.SECP256R1()),
    "EC_secp384r1": (bytes.fromhex("06052b81040022"), ec.SECP384R1()),
    "EC_secp521r1": (bytes.fromhex("06052b81040023"), ec.SECP521R1()),
}
ED25519: Final = bytes.fromhex("130c") + b"edwards25519"  # PKCS#11 3.0, 2.3.5: curveName, a PrintableString


def generated(session: Session, place: TokenPlace, algorithm: str, *, decrypts: bool) -> TokenPublicKey:
    """Make a key pair with the label and id of `place`, in a session that may write, and give its public half.

    Raises `PKCS11Error`, and `KeyStoreError` (UNSUPPORTED) for an algorithm that no token is asked for.
    """
    private: dict[Attribute, object] = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: True,
        Attribute.DECRYPT: decrypts,
    }
    public: dict[Attribute, object] = {Attribute.VERIFY: True, Attribute.ENCRYPT: decrypts}
    bits = _RSA.get(algorithm)
    if bits is not None:
        half, _ = session.generate_keypair(
            KeyType.RSA,
            bits,
            store=True,
            label=place.label,
            id=place.id,
            capabilities=_NONE,
            public_template=public,
            private_template=private,
        )
        numbers = (int.from_bytes(half[each], "big") for each in (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS))
        return rsa.RSAPublicNumbers(*numbers).public_key()
    curve = CURVES.get(algorithm)
    if curve is None and algorithm != "ED25519":
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"keys of {algorithm[:50]!r} are not made on tokens")
    kind = KeyType.EC_EDWARDS if curve is None else KeyType.EC
    parameters = {Attribute.EC_PARAMS: ED25519 if curve is None else curve[0]}
    half, _ = session.create_domain_parameters(kind, parameters, local=True).generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN if curve is None else Mechanism.EC_KEY_PAIR_GEN,
        capabilities=_NONE,
        public_template=public,
        private_template=private,
        store=True,
        label=place.label,
        id=place.id,
    )
    point = _point(bytes(half[Attribute.EC_POINT]))
    if curve is None:
        return ed25519.Ed25519PublicKey.from_public_bytes(point)
    return ec.EllipticCurvePublicKey.from_encoded_point(curve[1], point)


def for_session(session: Session, algorithm: str, message: bytes) -> Callable[[], bytes]:
    """Make a key pair that ends with `session` (CKA_TOKEN false); gives what signs `message` with it, for measuring.

    Raises `PKCS11Error`, and `KeyStoreError` (UNSUPPORTED).
    """
    bits, curve = _RSA.get(algorithm), CURVES.get(algorithm)
    if bits is not None:
        _, key = session.generate_keypair(KeyType.RSA, bits, store=False)
        return lambda: signed(key, message, Mechanism.SHA256_RSA_PKCS)
    if curve is None and algorithm != "ED25519":
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"keys of {algorithm[:50]!r} are not made on tokens")
    kind = KeyType.EC_EDWARDS if curve is None else KeyType.EC
    parameters = {Attribute.EC_PARAMS: ED25519 if curve is None else curve[0]}
    domain = session.create_domain_parameters(kind, parameters, local=True)
    if curve is None:
        _, key = domain.generate_keypair(mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=False)
        return lambda: signed(key, message, Mechanism.EDDSA)
    _, key = domain.generate_keypair(store=False)
    # A digest of the curve's length, as a worker gives it to the token.
    digest = hashlib.sha512(message).digest()[: min(64, (curve[1].key_size + 7) // 8)]
    return lambda: signed(key, digest, Mechanism.ECDSA)


def _point(octets: bytes) -> bytes:
    """CKA_EC_POINT without its OCTET STRING, which PKCS#11 wants for curves and tokens leave out here and there."""
    if octets[:1] != b"\x04":
        return octets
    for header in (2, 3):  # short form, and 0x81 with one byte of length for P-521
        length = octets[header - 1]
        if len(octets) == header + length and (header == 2 or octets[1] == 0x81):
            return octets[header:]
    return octets
