"""Keys that were made elsewhere, written to a token: from then on they do not leave it. Nothing is signed here."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.types import Session

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PrivateKey
from signer.keystore.tokenpair import CURVES, ED25519

_OBJECT: Final[dict[Attribute, object]] = {
    Attribute.CLASS: ObjectClass.PRIVATE_KEY,
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
}


def take_in(session: Session, place: TokenPlace, private_key: PrivateKey) -> None:
    """Make a private key's object with the label and id of `place`, in a session that may write.

    Raises `PKCS11Error`, and `KeyStoreError` (UNSUPPORTED) for an algorithm that no token is asked for.
    """
    session.create_object({**_OBJECT, **_numbers(private_key), Attribute.LABEL: place.label, Attribute.ID: place.id})


def _numbers(private_key: PrivateKey) -> dict[Attribute, object]:
    match private_key:
        case rsa.RSAPrivateKey():
            return _rsa(private_key)
        case ec.EllipticCurvePrivateKey():
            parameters = next((der for der, curve in CURVES.values() if curve.name == private_key.curve.name), None)
            if parameters is not None:
                size = (private_key.key_size + 7) // 8
                value = private_key.private_numbers().private_value.to_bytes(size, "big")
                return {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: parameters, Attribute.VALUE: value}
        case ed25519.Ed25519PrivateKey():
            value = private_key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
            return {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.EC_PARAMS: ED25519, Attribute.VALUE: value}
        case _:
            pass
    raise KeyStoreError(StoreFailure.UNSUPPORTED, "keys of this algorithm do not go to tokens")


def _rsa(private_key: rsa.RSAPrivateKey) -> dict[Attribute, object]:
    numbers = private_key.private_numbers()
    values = {
        Attribute.MODULUS: numbers.public_numbers.n,
        Attribute.PUBLIC_EXPONENT: numbers.public_numbers.e,
        Attribute.PRIVATE_EXPONENT: numbers.d,
        Attribute.PRIME_1: numbers.p,
        Attribute.PRIME_2: numbers.q,
        Attribute.EXPONENT_1: numbers.dmp1,
        Attribute.EXPONENT_2: numbers.dmq1,
        Attribute.COEFFICIENT: numbers.iqmp,
    }
    octets: dict[Attribute, object] = {
        each: value.to_bytes((value.bit_length() + 7) // 8, "big") for each, value in values.items()
    }
    return {Attribute.KEY_TYPE: KeyType.RSA, **octets}
