"""Keys on PKCS#11 tokens (`key.TokenDoor`): opened by place, proved against their certificates, never taken out.

One process, one thread, one session a token: python-pkcs11 initialises a module without locking. A session that failed
is thrown away; a PIN that was refused is never tried again (`pin.Logins`); a token that is away is asked once a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pkcs11
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pkcs11 import MGF, Attribute, KeyType, Mechanism, ObjectClass, PKCS11Error, TokenFlag
from pkcs11.types import DecryptMixin, Object, Session, SignMixin, Token

from signer.keystore.failures import KeyStoreError, StoreFailure, token_failure
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PrivateKey, PublicKey
from signer.keystore.pin import Logins
from signer.keystore.tokenkey import DIGEST_INFO, TokenKey, TokenPublicKey, token_key
from signer.keystore.tokenpair import generated
from signer.keystore.tokentake import take_in

T = TypeVar("T")

_AWAY: Final = 1.0  # seconds without another try, so that asks are refused at once and the token is left in peace
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


class Module:
    """A PKCS#11 module in this process. `generation` grows when it begins again, which ends all sessions on its tokens.

    Handles are numbers that begin anew with it: one of an older generation may be another key's.
    """

    def __init__(self, path: str) -> None:
        # A bare name would be searched for along paths that others may set.
        if not Path(path).is_absolute() or not Path(path).is_file():
            sentence = f"there is no PKCS#11 module {path} (an absolute path is needed)"
            raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence)
        try:
            self._library = pkcs11.lib(path)
        except PKCS11Error as error:
            sentence = f"the PKCS#11 module {path} does not load: {_code(error)}"
            raise KeyStoreError(StoreFailure.UNAVAILABLE, sentence) from None
        self.generation = 0

    def token(self, where: TokenPlace) -> Token:
        """The one token of that label and serial number. Raises `PKCS11Error`."""
        try:
            return self._chosen(where)
        except PKCS11Error:
            # A module's list of slots is made when it is initialised (SoftHSM): a token that came back is seen by a
            # module that begins again.
            self.generation += 1
            self._library.reinitialize()
            return self._chosen(where)

    def _chosen(self, where: TokenPlace) -> Token:
        return self._library.get_token(token_label=where.token or None, token_serial=where.serial.encode() or None)


_modules: Final[dict[str, Module]] = {}  # a module is loaded once in a process, whoever asks


def module(path: str) -> Module:
    """The module in that file. Raises `KeyStoreError` (UNAVAILABLE)."""
    found = _modules.get(path)
    if found is None:
        found = _modules[path] = Module(path)
    return found


class OpenToken:
    """One token with its session, opened when first needed and again after it failed."""

    def __init__(self, where: TokenPlace, logins: Logins, *, writing: bool, clock: Callable[[], float]) -> None:
        self._where = where
        self._logins = logins
        self._writing = writing
        self._clock = clock
        self._session: Session | None = None
        self._module: Module | None = None
        self._generation = 0
        self._objects: dict[TokenPlace, Object] = {}
        self._away_until = 0.0
        self._raw_rsa = False
        self._away: KeyStoreError | None = None

    def session(self) -> Session:
        """The session, logged in. Raises `KeyStoreError`: LOCKED, UNAVAILABLE."""
        if self._module is not None and self._module.generation != self._generation:
            self._objects.clear()
            self._session = None
        if self._session is None:
            if self._away is not None and self._clock() < self._away_until:
                raise KeyStoreError(self._away.failure, str(self._away))
            try:
                with self._logins.turn():
                    self._session = self._opened()
            except KeyStoreError as error:
                self._away, self._away_until = error, self._clock() + _AWAY
                raise
            self._away = None
        return self._session

    def drop(self) -> None:
        """Throw the session away, and every handle with it: in a new session its number may be another key's."""
        self._objects.clear()
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(PKCS11Error):
                session.close()

    def run(self, seat: TokenSeat, work: Callable[[Object], T]) -> T:
        """Do `work` with a key's object, and once more in a new session if this one failed. Raises `KeyStoreError`.

        A second try makes no second signature known: the first gave none.
        """
        try:
            return self.once(seat, work)
        except KeyStoreError as error:
            if error.failure is not StoreFailure.SESSION:
                raise
            return self.once(seat, work)

    def once(self, seat: TokenSeat, work: Callable[[Object], T]) -> T:
        """Do `work` with a key's object. Raises `KeyStoreError`; the session is gone where it is SESSION's fault."""
        try:
            self.session()
            found = self._objects.get(seat.place)
            if found is None:
                found = self._objects[seat.place] = self._proved(seat)
            return work(found)
        except PKCS11Error as error:
            failure = token_failure(error)
            if failure in (StoreFailure.SESSION, StoreFailure.UNAVAILABLE):
                self.drop()
            raise KeyStoreError(failure, f"the token {self._name} failed: {_code(error)}") from None

    @property
    def _name(self) -> str:
        return self._where.token or self._where.serial

    def _opened(self) -> Session:
        try:
            self._module = module(self._where.module)
            token = self._module.token(self._where)
            self._generation = self._module.generation
            if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
                sentence = f"the token {self._name} locks itself at the next wrong PIN: log in by hand first"
                raise KeyStoreError(StoreFailure.LOCKED, sentence)
            self._raw_rsa = Mechanism.RSA_X_509 in token.slot.get_mechanisms()
            pin = self._logins.pin(token.label)
            with self._logins.attempt(token.serial, pin):
                return self._logged_in(token, pin)
        except PKCS11Error as error:
            raise KeyStoreError(
                StoreFailure.UNAVAILABLE, f"cannot use the token {self._name}: {_code(error)}"
            ) from None

    def decrypted(self, key: Object, ciphertext: bytes) -> bytes:
        """What was encrypted by RSAES-PKCS1-v1_5. Raises `PKCS11Error`, `ValueError`."""
        # A module takes another time to tell a wrong padding than to give a plaintext (SoftHSM 35 us: it writes a log).
        # So the padding is taken off here, wherever the token gives the bare number.
        if not self._raw_rsa:
            return _decrypt(key, ciphertext, Mechanism.RSA_PKCS, None)
        return unpadded(_decrypt(key, ciphertext, Mechanism.RSA_X_509, None).rjust(len(ciphertext), b"\0"))

    def _logged_in(self, token: Token, pin: str) -> Session:
        try:
            return token.open(rw=self._writing, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # by another session of this process: logins are per process (PKCS#11, 5.6)
            return token.open(rw=self._writing)
        except PKCS11Error as error:
            if token_failure(error) is StoreFailure.LOCKED:
                sentence = f"the token {self._name} refuses the PIN: {_code(error)}"
                raise KeyStoreError(StoreFailure.LOCKED, sentence) from None
            raise

    def _proved(self, seat: TokenSeat) -> Object:
        """The object of a key, which has signed something that its certificate's public key verifies."""
        place = seat.place
        wanted: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        if place.label:
            wanted[Attribute.LABEL] = place.label
        if place.id:
            wanted[Attribute.ID] = place.id
        found = list(self.session().get_objects(wanted))
        if len(found) != 1:
            sentence = (
                f"the token {self._name} has {len(found)} private keys {place.label!r} with the id {place.id.hex()}"
            )
            raise KeyStoreError(StoreFailure.MISSING, sentence)
        if _leaves(found[0]):
            sentence = f"the key {place.label!r} on the token {self._name} can be taken out: it is not for authorities"
            raise KeyStoreError(StoreFailure.DAMAGED, sentence)
        if not _is_half_of(found[0], seat.public_key):
            sentence = f"the key {place.label!r} on the token {self._name} is not the one of its certificate"
            raise KeyStoreError(StoreFailure.DAMAGED, sentence)
        return found[0]


@dataclass(frozen=True, slots=True)
class TokenSeat:
    """One key's operations on its token (`tokenkey.Seat`)."""

    token: OpenToken
    place: TokenPlace
    public_key: TokenPublicKey

    def ecdsa(self, digest: bytes) -> bytes:
        """CKM_ECDSA."""
        return self.token.run(self, lambda key: _sign(key, digest, Mechanism.ECDSA))

    def pkcs1(self, digest_info: bytes) -> bytes:
        """CKM_RSA_PKCS."""
        return self.token.run(self, lambda key: _sign(key, digest_info, Mechanism.RSA_PKCS))

    def pss(self, digest: bytes, algorithm: str, mgf: str, salt_length: int) -> bytes:
        """CKM_RSA_PKCS_PSS."""
        parameter = (_mechanism(algorithm)[0], _mechanism(mgf)[1], salt_length)
        return self.token.run(self, lambda key: _sign(key, digest, Mechanism.RSA_PKCS_PSS, parameter))

    def eddsa(self, data: bytes) -> bytes:
        """CKM_EDDSA."""
        return self.token.run(self, lambda key: _sign(key, data, Mechanism.EDDSA))

    def decrypt_pkcs1(self, ciphertext: bytes) -> bytes:
        """CKM_RSA_X_509 where the token has it, CKM_RSA_PKCS otherwise."""
        return self.token.run(self, lambda key: self.token.decrypted(key, ciphertext))

    def decrypt_oaep(self, ciphertext: bytes, algorithm: str, mgf: str) -> bytes:
        """CKM_RSA_PKCS_OAEP, without a label."""
        parameter = (_mechanism(algorithm)[0], _mechanism(mgf)[1], None)
        return self.token.run(self, lambda key: _decrypt(key, ciphertext, Mechanism.RSA_PKCS_OAEP, parameter))


class Tokens:
    """All tokens that the keys of one store rest on (`key.TokenDoor`), each opened when it is first needed.

    `writing` is for ceremonies, which make keys.
    """

    def __init__(self, logins: Logins, *, writing: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._logins = logins
        self._writing = writing
        self._clock = clock
        self._opened: dict[tuple[str, str, str], OpenToken] = {}

    def find(self, place: TokenPlace, public_key: PublicKey) -> PrivateKey:
        """The key at that place. Raises `KeyStoreError`: DAMAGED if it is not the other half of `public_key`."""
        if not isinstance(public_key, TokenPublicKey):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token holds keys such as {type(public_key).__name__}")
        seat = TokenSeat(self.token(place), place, public_key)
        seat.token.run(seat, lambda _: None)
        return token_key(seat, public_key)

    def generate(self, where: TokenPlace, algorithm: str, *, decrypts: bool = False) -> TokenKey:
        """Make a key pair of that label on a token, sensitive and not extractable. Raises `KeyStoreError`.

        `decrypts` is for an RA's. The key's id is random: what an interrupted ceremony left is never taken for it.
        """
        token = self.token(where)
        place = TokenPlace(where.module, where.token, where.serial, where.label, os.urandom(16))
        try:
            public_key = generated(token.session(), place, algorithm, decrypts=decrypts)
        except PKCS11Error as error:
            token.drop()
            sentence = f"the token {where.token or where.serial} makes no key {algorithm}: {_code(error)}"
            raise KeyStoreError(token_failure(error), sentence) from None
        seat = TokenSeat(token, place, public_key)
        token.run(seat, lambda _: None)
        return token_key(seat, public_key)

    def take_in(self, where: TokenPlace, private_key: PrivateKey) -> TokenKey:
        """Write a key that was made elsewhere to a token, sensitive and not extractable. Raises `KeyStoreError`."""
        public_key = private_key.public_key()
        if not isinstance(public_key, TokenPublicKey):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token holds keys such as {type(public_key).__name__}")
        token = self.token(where)
        place = TokenPlace(where.module, where.token, where.serial, where.label, os.urandom(16))
        try:
            take_in(token.session(), place, private_key)
        except PKCS11Error as error:
            token.drop()
            sentence = f"the token {where.token or where.serial} does not take the key: {_code(error)}"
            raise KeyStoreError(token_failure(error), sentence) from None
        seat = TokenSeat(token, place, public_key)
        token.run(seat, lambda _: None)
        return token_key(seat, public_key)

    def described(self, where: TokenPlace) -> str:
        """A token and its module in words: label, serial number, model and versions. Raises `KeyStoreError`."""
        found = self.token(where).session().token
        library = pkcs11.lib(where.module)
        major, minor = library.library_version
        firmware = ".".join(str(each) for each in found.firmware_version)
        return (
            f"{found.label}, serial number {found.serial.decode(errors='replace').strip()}, "
            f"{found.manufacturer_id.strip()} {found.model.strip()}, firmware {firmware}; "
            f"module {where.module}, {library.library_description.strip()} {major}.{minor}"
        )

    def token(self, place: TokenPlace) -> OpenToken:
        """The token of a place, not necessarily open."""
        known = (place.module, place.token, place.serial)
        found = self._opened.get(known)
        if found is None:
            found = self._opened[known] = OpenToken(place, self._logins, writing=self._writing, clock=self._clock)
        return found


def _leaves(key: Object) -> bool:
    """Whether a private key can be taken out of its token. A token that does not say is believed to keep it."""
    try:
        return bool(key[Attribute.EXTRACTABLE]) or not key[Attribute.SENSITIVE]
    except pkcs11.AttributeTypeInvalid:
        return False


def _code(error: PKCS11Error) -> str:
    return " ".join((type(error).__name__, str(error))).strip()


def _sign(key: Object, data: bytes, mechanism: Mechanism, parameter: object = None) -> bytes:
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


def _decrypt(key: Object, ciphertext: bytes, mechanism: Mechanism, parameter: object) -> bytes:
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


def _mechanism(digest: str) -> tuple[Mechanism, MGF]:
    found = _MECHANISMS.get(digest)
    if found is None:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token is asked for {digest}")
    return found


def _is_half_of(key: Object, public_key: TokenPublicKey) -> bool:
    if key[Attribute.KEY_TYPE] is not _key_type(public_key):  # SoftHSM answers another kind's mechanism by GeneralError
        return False
    message = b"muster proves a key" + os.urandom(16)
    digest = hashlib.sha256(message).digest()
    try:
        match public_key:
            case rsa.RSAPublicKey():
                signature = _sign(key, DIGEST_INFO["sha256"] + digest, Mechanism.RSA_PKCS)
                public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            case ec.EllipticCurvePublicKey():
                pair = _sign(key, digest, Mechanism.ECDSA)
                numbers = [int.from_bytes(half, "big") for half in (pair[: len(pair) // 2], pair[len(pair) // 2 :])]
                public_key.verify(encode_dss_signature(*numbers), message, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PublicKey():
                public_key.verify(_sign(key, message, Mechanism.EDDSA), message)
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
