"""Keys on PKCS#11 tokens (`key.TokenDoor`): opened by place, proved against their certificates, never taken out.

One process, one thread, one session a token: python-pkcs11 initialises a module without locking. A session that failed
is thrown away; a PIN that was refused is never tried again (`pin.Logins`); a token that fails rests (`circuit`).
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass, PKCS11Error, TokenFlag
from pkcs11.types import Object, Session, Token

from signer.hardening import log
from signer.keystore.circuit import Circuit, State
from signer.keystore.failover import SharedSeat
from signer.keystore.failures import KeyStoreError, StoreFailure, token_failure
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PrivateKey, PublicKey
from signer.keystore.module import Module, code, module
from signer.keystore.pin import Logins
from signer.keystore.tokenkey import TokenKey, TokenPublicKey, token_key
from signer.keystore.tokenpair import generated
from signer.keystore.tokentake import take_in
from signer.keystore.tokenwork import is_half_of, leaves, mechanism_of, opened, signed, unpadded
from signer.keystore.watch import Watch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all tokens of a process share. `clock` is monotonic, in seconds; `say` gets sentences for the log."""

    logins: Logins
    writing: bool
    clock: Callable[[], float]
    watch: Watch
    say: Callable[[str], None]


class OpenToken:
    """One token with its session, opened when first needed and again after it failed."""

    def __init__(self, where: TokenPlace, around: Surroundings) -> None:
        self._where = where
        self._around = around
        self._session: Session | None = None
        self._module: Module | None = None
        self._generation = 0
        self._objects: dict[TokenPlace, Object] = {}
        self._raw_rsa = False
        self._circuit = Circuit()
        self._fault: KeyStoreError | None = None
        self._worked_once = False
        self.failures: Counter[StoreFailure] = Counter()
        self.openings = 0
        self.closings = 0
        self.slow = 0  # operations that worked and took too long
        rest = around.watch.rest(self.name)
        if rest:
            self._leave(KeyStoreError(StoreFailure.UNAVAILABLE, f"the token {self.name} took a worker with it"), rest)

    @property
    def name(self) -> str:
        """The token's label, its serial number where the place has no label."""
        return self._where.token or self._where.serial

    @property
    def state(self) -> State:
        """Whether it is asked at the moment."""
        return self._circuit.state

    @property
    def changes(self) -> int:
        """Another number whenever what is told of it has changed."""
        return self.openings + self.closings + self.slow + self.failures.total()

    def session(self) -> Session:
        """The session, logged in. Raises `KeyStoreError`: LOCKED, UNAVAILABLE."""
        if self._module is not None and self._module.generation != self._generation:
            self._objects.clear()
            self._session = None
        if self._session is None:
            with self._around.logins.turn():
                self._around.watch.begin(self.name, opening=True)
                try:
                    self._session = self._opened()
                finally:
                    self._around.watch.end()
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

        A second try makes no second signature known: the first gave none. A token whose circuit is open is not asked.
        """
        began = self._around.clock()
        circuit = self._circuit.asked(began)
        if circuit is None:
            raise self._left_alone(began)
        self._circuit = circuit
        try:
            try:
                done = self.once(seat, work)
            except KeyStoreError as error:
                if error.failure is not StoreFailure.SESSION:
                    raise
                self.failures[error.failure] += 1
                done = self.once(seat, work)
        except KeyStoreError as error:
            self._failed(error, self._around.clock() - began)
            if self._circuit.state is State.OPEN:
                error.retry_after = max(1, math.ceil(self._circuit.until - self._around.clock()))
            raise
        except ValueError:  # a ciphertext that does not open: the token is well
            self._worked(self._around.clock() - began)
            raise
        self._worked(self._around.clock() - began)
        return done

    def once(self, seat: TokenSeat, work: Callable[[Object], T]) -> T:
        """Do `work` with a key's object. Raises `KeyStoreError`; the session is gone where it is SESSION's fault."""
        try:
            self.session()
            found = self._objects.get(seat.place)
            self._around.watch.begin(self.name)
            if found is None:
                found = self._objects[seat.place] = self._proved(seat)
            return work(found)
        except PKCS11Error as error:
            failure = token_failure(error)
            if failure in (StoreFailure.SESSION, StoreFailure.UNAVAILABLE):
                self.drop()
            raise KeyStoreError(failure, f"the token {self.name} failed: {code(error)}") from None
        finally:
            self._around.watch.end()

    def _worked(self, took: float) -> None:
        self._worked_once = True
        now = self._around.clock()
        before, self._circuit = self._circuit, self._circuit.worked(now, took)
        if self._circuit is not before and self._circuit.state is State.CLOSED and before.state is State.PROBING:
            self._fault = None
            self.closings += 1
            self._around.say(f"the token {self.name} works again")
        elif self._circuit is not before:
            self.slow += 1
            sentence = f"the token {self.name} is slow: an operation took {took:.1f} s"
            self._noticed(before, KeyStoreError(StoreFailure.UNAVAILABLE, sentence))

    def _failed(self, error: KeyStoreError, took: float) -> None:
        """What went wrong decides whether it is the token's: a key that is missing says nothing of its neighbours."""
        self.failures[error.failure] += 1
        now = self._around.clock()
        before = self._circuit
        match error.failure:
            case StoreFailure.UNAVAILABLE | StoreFailure.LOCKED:
                self._circuit = before.opened(now)
            case StoreFailure.SESSION:
                self._circuit = before.troubled(now)
            case StoreFailure.MISSING | StoreFailure.DAMAGED | StoreFailure.UNSUPPORTED:
                self._worked(took)
                return
            case _:
                assert_never(error.failure)
        self._noticed(before, error)

    def _leave(self, error: KeyStoreError, rest: float) -> None:
        before, self._circuit = self._circuit, self._circuit.opened(self._around.clock(), rest)
        self._noticed(before, error)

    def _noticed(self, before: Circuit, error: KeyStoreError) -> None:
        if self._circuit.state is not State.OPEN:
            return
        self._fault = error
        if before.state is State.CLOSED:
            self.openings += 1
        if before.state is State.CLOSED and self._worked_once:  # otherwise whoever opens the key says what is wrong
            self._around.say(f"the token {self.name} is left alone, and tried again by itself: {error}")

    def _left_alone(self, now: float) -> KeyStoreError:
        fault = self._fault
        rest = max(1, math.ceil(self._circuit.until - now))
        failure = StoreFailure.UNAVAILABLE if fault is None else fault.failure
        return KeyStoreError(failure, f"the token {self.name} is left alone: {fault}", rest)

    def _opened(self) -> Session:
        try:
            self._module = module(self._where.module)
            token = self._module.token(self._where)
            self._generation = self._module.generation
            if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
                sentence = f"the token {self.name} locks itself at the next wrong PIN: log in by hand first"
                raise KeyStoreError(StoreFailure.LOCKED, sentence)
            self._raw_rsa = Mechanism.RSA_X_509 in token.slot.get_mechanisms()
            pin = self._around.logins.pin(token.label)
            with self._around.logins.attempt(token.serial, pin):
                return self._logged_in(token, pin)
        except PKCS11Error as error:
            raise KeyStoreError(StoreFailure.UNAVAILABLE, f"cannot use the token {self.name}: {code(error)}") from None

    def decrypted(self, key: Object, ciphertext: bytes) -> bytes:
        """What was encrypted by RSAES-PKCS1-v1_5. Raises `PKCS11Error`, `ValueError`."""
        # A module takes another time to tell a wrong padding than to give a plaintext (SoftHSM 35 us: it writes a log).
        # So the padding is taken off here, wherever the token gives the bare number.
        if not self._raw_rsa:
            return opened(key, ciphertext, Mechanism.RSA_PKCS, None)
        return unpadded(opened(key, ciphertext, Mechanism.RSA_X_509, None).rjust(len(ciphertext), b"\0"))

    def _logged_in(self, token: Token, pin: str) -> Session:
        try:
            return token.open(rw=self._around.writing, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # by another session of this process: logins are per process (PKCS#11, 5.6)
            return token.open(rw=self._around.writing)
        except PKCS11Error as error:
            if token_failure(error) is StoreFailure.LOCKED:
                sentence = f"the token {self.name} refuses the PIN: {code(error)}"
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
                f"the token {self.name} has {len(found)} private keys {place.label!r} with the id {place.id.hex()}"
            )
            raise KeyStoreError(StoreFailure.MISSING, sentence)
        if leaves(found[0]):
            sentence = f"the key {place.label!r} on the token {self.name} can be taken out: it is not for authorities"
            raise KeyStoreError(StoreFailure.DAMAGED, sentence)
        if not is_half_of(found[0], seat.public_key):
            sentence = f"the key {place.label!r} on the token {self.name} is not the one of its certificate"
            raise KeyStoreError(StoreFailure.DAMAGED, sentence)
        return found[0]


@dataclass(frozen=True, slots=True)
class TokenSeat:
    """One key's operations on its token (`tokenkey.Seat`)."""

    token: OpenToken
    place: TokenPlace
    public_key: TokenPublicKey

    @property
    def places(self) -> tuple[TokenPlace, ...]:
        """Where the key is."""
        return (self.place,)

    def ecdsa(self, digest: bytes) -> bytes:
        """CKM_ECDSA."""
        return self.token.run(self, lambda key: signed(key, digest, Mechanism.ECDSA))

    def pkcs1(self, digest_info: bytes) -> bytes:
        """CKM_RSA_PKCS."""
        return self.token.run(self, lambda key: signed(key, digest_info, Mechanism.RSA_PKCS))

    def pss(self, digest: bytes, algorithm: str, mgf: str, salt_length: int) -> bytes:
        """CKM_RSA_PKCS_PSS."""
        parameter = (mechanism_of(algorithm)[0], mechanism_of(mgf)[1], salt_length)
        return self.token.run(self, lambda key: signed(key, digest, Mechanism.RSA_PKCS_PSS, parameter))

    def eddsa(self, data: bytes) -> bytes:
        """CKM_EDDSA."""
        return self.token.run(self, lambda key: signed(key, data, Mechanism.EDDSA))

    def decrypt_pkcs1(self, ciphertext: bytes) -> bytes:
        """CKM_RSA_X_509 where the token has it, CKM_RSA_PKCS otherwise."""
        return self.token.run(self, lambda key: self.token.decrypted(key, ciphertext))

    def decrypt_oaep(self, ciphertext: bytes, algorithm: str, mgf: str) -> bytes:
        """CKM_RSA_PKCS_OAEP, without a label."""
        parameter = (mechanism_of(algorithm)[0], mechanism_of(mgf)[1], None)
        return self.token.run(self, lambda key: opened(key, ciphertext, Mechanism.RSA_PKCS_OAEP, parameter))


class Tokens:
    """All tokens that the keys of one store rest on (`key.TokenDoor`), each opened when it is first needed.

    `writing` is for ceremonies, which make keys.
    """

    def __init__(
        self,
        logins: Logins,
        *,
        writing: bool = False,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._around = Surroundings(logins, writing, clock, watch or Watch(), say or log.say)
        self._opened: dict[tuple[str, str, str], OpenToken] = {}
        self.failovers = 0

    @property
    def known(self) -> tuple[OpenToken, ...]:
        """The tokens that were asked for, open or not."""
        return tuple(self._opened.values())

    def find(self, place: TokenPlace, public_key: PublicKey) -> PrivateKey:
        """The key at that place. Raises `KeyStoreError`: DAMAGED if it is not the other half of `public_key`."""
        if not isinstance(public_key, TokenPublicKey):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token holds keys such as {type(public_key).__name__}")
        seat = TokenSeat(self.token(place), place, public_key)
        seat.token.run(seat, lambda _: None)
        return token_key(seat, public_key)

    def find_any(self, places: Sequence[TokenPlace], public_key: PublicKey) -> PrivateKey:
        """The key that is at all of those places: proved at each that answers, which must be one at least.

        Raises `KeyStoreError`: DAMAGED if one place has another key by that name, else where no place can serve.
        """
        if not isinstance(public_key, TokenPublicKey):
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"no token holds keys such as {type(public_key).__name__}")
        seats = [TokenSeat(self.token(place), place, public_key) for place in places]
        errors: list[KeyStoreError] = []
        for seat in seats:
            try:
                seat.token.run(seat, lambda _: None)
            except KeyStoreError as error:
                if error.failure is StoreFailure.DAMAGED:
                    raise
                errors.append(error)
        if len(errors) == len(seats):
            raise errors[0]
        for each in errors:
            self._around.say(f"a key is served without one of its tokens: {each}")
        return token_key(SharedSeat(seats, self._around.clock, self._failed_over), public_key)

    def _failed_over(self) -> None:
        self.failovers += 1

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
            sentence = f"the token {where.token or where.serial} makes no key {algorithm}: {code(error)}"
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
            sentence = f"the token {where.token or where.serial} does not take the key: {code(error)}"
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
            found = self._opened[known] = OpenToken(place, self._around)
        return found
