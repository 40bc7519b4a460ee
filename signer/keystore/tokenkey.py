"""Keys that rest on a token, as subclasses of cryptography's private keys: digest and padding here, the number there.

Nothing of a private key is ever in this process. PKCS#11 is imported by whoever opens tokens (`pkcs11`), not here.
"""

from __future__ import annotations

from typing import Final, NoReturn, Protocol, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed, encode_dss_signature
from cryptography.utils import Buffer

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import OnToken, TokenPlace

TokenPublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

# DigestInfo up to the digest itself (RFC 8017, section 9.2, note 1). SHA-1 is for RFC 8894's legacy alone (S44).
DIGEST_INFO: Final = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


class Seat(Protocol):
    """One key's operations on its token. Each raises `KeyStoreError`; the inputs are as the mechanisms want them."""

    @property
    def places(self) -> tuple[TokenPlace, ...]:
        """Where the key is: on one token or on several."""

    def ecdsa(self, digest: bytes) -> bytes:
        """R and s of one length, for a digest not longer than the curve (CKM_ECDSA)."""

    def pkcs1(self, digest_info: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 signature of a DigestInfo (CKM_RSA_PKCS)."""

    def pss(self, digest: bytes, algorithm: str, mgf: str, salt_length: int) -> bytes:
        """An RSASSA-PSS signature of a digest (CKM_RSA_PKCS_PSS)."""

    def eddsa(self, data: bytes) -> bytes:
        """A signature by Ed25519 (CKM_EDDSA)."""

    def decrypt_pkcs1(self, ciphertext: bytes) -> bytes:
        """What was encrypted by RSAES-PKCS1-v1_5: empty, or a `ValueError`, for whatever a ciphertext may cause."""

    def decrypt_oaep(self, ciphertext: bytes, algorithm: str, mgf: str) -> bytes:
        """What was encrypted by RSAES-OAEP. Raises `ValueError` as above."""


class _Resident(OnToken):
    """What all keys on tokens refuse: to be shown."""

    def __init__(self, seat: Seat) -> None:
        super().__init__(seat.places)
        self._seat = seat

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """Refused."""
        self._refuse()

    def private_bytes_raw(self) -> NoReturn:
        """Refused."""
        self._refuse()

    def private_numbers(self) -> NoReturn:
        """Refused."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "a private key does not leave its token")


class TokenEllipticCurveKey(_Resident, ec.EllipticCurvePrivateKey):
    """A key on a NIST curve. ECDSA only."""

    def __init__(self, seat: Seat, public_key: ec.EllipticCurvePublicKey) -> None:
        super().__init__(seat)
        self._public_key = public_key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The other half."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """The curve."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Bits of the curve's order."""
        return self._public_key.key_size

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """An Ecdsa-Sig-Value (RFC 3279, 2.2.3), DER. Raises `KeyStoreError`."""
        # FIPS 186-5, 6.4.1: the leftmost bits; done here, since some tokens refuse what is longer.
        digest = _digest(data, signature_algorithm.algorithm)[: (self.key_size + 7) // 8]
        pair = self._seat.ecdsa(digest)
        half = len(pair) // 2
        return encode_dss_signature(int.from_bytes(pair[:half], "big"), int.from_bytes(pair[half:], "big"))

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:  # noqa: ARG002 - cryptography's signature
        """Refused: no verb agrees on keys."""
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "a key on a token does not agree on keys")

    def __copy__(self) -> TokenEllipticCurveKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenEllipticCurveKey:
        return self


class TokenRsaKey(_Resident, rsa.RSAPrivateKey):
    """An RSA key: PKCS#1 v1.5 and PSS signatures, PKCS#1 v1.5 and OAEP decryption."""

    def __init__(self, seat: Seat, public_key: rsa.RSAPublicKey) -> None:
        super().__init__(seat)
        self._public_key = public_key

    def public_key(self) -> rsa.RSAPublicKey:
        """The other half."""
        return self._public_key

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._public_key.key_size

    def sign(
        self,
        data: Buffer,
        padding: padding.AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | NoDigestInfo,
    ) -> bytes:
        """A signature of the modulus' length. Raises `KeyStoreError`, UNSUPPORTED for another padding or digest."""
        if isinstance(algorithm, NoDigestInfo):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, "a key on a token signs digests only")
        chosen = _algorithm(algorithm)
        digest = _digest(data, algorithm)
        if padding.name == "EMSA-PSS":
            return self._seat.pss(digest, chosen.name, *_pss(padding, chosen, self._public_key))
        prefix = DIGEST_INFO.get(chosen.name)
        if padding.name != "EMSA-PKCS1-v1_5" or prefix is None:
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no signature by {padding.name} and {chosen.name}")
        return self._seat.pkcs1(prefix + digest)

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> bytes:
        """The plaintext. Raises `ValueError` where it does not open, and `KeyStoreError` where the token fails.

        PKCS#1 v1.5 that does not open may give nothing instead: nobody may be shown either (Bleichenbacher; S49).
        """
        if padding.name == "EME-OAEP":
            return self._seat.decrypt_oaep(ciphertext, *_oaep(padding))
        if padding.name != "EMSA-PKCS1-v1_5":  # cryptography's name for both uses of PKCS#1 v1.5
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no decryption by {padding.name}")
        return self._seat.decrypt_pkcs1(ciphertext)

    def __copy__(self) -> TokenRsaKey:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenRsaKey:
        return self


class TokenEd25519Key(_Resident, ed25519.Ed25519PrivateKey):
    """An Ed25519 key."""

    def __init__(self, seat: Seat, public_key: ed25519.Ed25519PublicKey) -> None:
        super().__init__(seat)
        self._public_key = public_key

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """The other half."""
        return self._public_key

    def sign(self, data: Buffer) -> bytes:
        """A signature (RFC 8032), 64 bytes. Raises `KeyStoreError`."""
        return self._seat.eddsa(bytes(data))

    def __copy__(self) -> TokenEd25519Key:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> TokenEd25519Key:
        return self


TokenKey: TypeAlias = TokenEllipticCurveKey | TokenRsaKey | TokenEd25519Key


def token_key(seat: Seat, public_key: TokenPublicKey) -> TokenKey:
    """The key that is the other half of `public_key`."""
    match public_key:
        case rsa.RSAPublicKey():
            return TokenRsaKey(seat, public_key)
        case ec.EllipticCurvePublicKey():
            return TokenEllipticCurveKey(seat, public_key)
        case ed25519.Ed25519PublicKey():
            return TokenEd25519Key(seat, public_key)


def spki(public_key: TokenPublicKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _algorithm(algorithm: Prehashed | hashes.HashAlgorithm) -> hashes.HashAlgorithm:
    # cryptography has no public name for what a Prehashed is of.
    return algorithm._algorithm if isinstance(algorithm, Prehashed) else algorithm  # noqa: SLF001


def _digest(data: Buffer, algorithm: Prehashed | hashes.HashAlgorithm) -> bytes:
    if isinstance(algorithm, Prehashed):
        return bytes(data)
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _pss(
    asked: padding.AsymmetricPadding, algorithm: hashes.HashAlgorithm, public_key: rsa.RSAPublicKey
) -> tuple[str, int]:
    if not isinstance(asked, padding.PSS) or not isinstance(asked.mgf, padding.MGF1):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "PSS goes with MGF1")
    salt = asked._salt_length  # noqa: SLF001 - cryptography has no public name for it
    if salt is padding.PSS.DIGEST_LENGTH:
        length = algorithm.digest_size
    elif isinstance(salt, int):
        length = salt
    else:
        length = padding.calculate_max_pss_salt_length(public_key, algorithm)
    return asked.mgf._algorithm.name, length  # noqa: SLF001


def _oaep(asked: padding.AsymmetricPadding) -> tuple[str, str]:
    if not isinstance(asked, padding.OAEP) or not isinstance(asked.mgf, padding.MGF1):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, "OAEP goes with MGF1")
    return asked.algorithm.name, asked.mgf._algorithm.name  # noqa: SLF001 - no public name
