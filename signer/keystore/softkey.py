"""The store of keys that is built in: a folder of sealed PKCS#8, one file a key. No private key is ever overwritten.

    keystore.json   how the key-encryption key is derived, and the sealing key under it: a wrong secret is found at once
    NAME.key        kind, certificate chain and ceiling in the clear, and the private key sealed together with them: who
                    can write to the folder, but has not the secret, cannot raise a ceiling or exchange a certificate.
                    A key on a token has a file of version 2: its place stands beside the ceiling, nothing but the proof
                    that both were written with the secret is sealed, and the key itself is found by a `key.TokenDoor`;
                    version 3 is that of a key on several tokens, and names all its places
    NAME.pending    a key that waits for its certificate: no chain yet, but the request for one. No worker opens it

Files are 0600, the folder 0700. A file appears whole and durable (`durable`) or not at all. Around a key that stays a
file may be exchanged, for a new chain; whoever has the store open sees that within a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from signer.hardening import log
from signer.keystore.durable import open_lock, put, write_new
from signer.keystore.failures import KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, PendingKey, StoredKey, TokenDoor, TokenPlace
from signer.keystore.keyfile import (
    KeyFacts,
    algorithm_named,
    chain_of,
    checked_name,
    content,
    encode,
    everywhere,
    facts_of,
    loaded,
    place_of,
    plain_of,
    reaching,
    read,
)
from signer.keystore.mechanism import PrivateKey, PublicKey
from signer.keystore.seal import KEY_LENGTH, Derivation, close_box, derive, open_box

HEADER: Final = "keystore.json"
_SUFFIX: Final = ".key"
_PENDING: Final = ".pending"
_LOCK: Final = ".ceremony.lock"
_LOOK: Final = (
    1.0  # seconds; how often an open key's file is looked at: a renewal is in use that soon, a stat costs 2 us
)
_VERSION: Final = 1
_SEALING: Final = b"muster sealing key"
_SUBJECT_KEY: Final = b"muster subject key"


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`keystore.json`. `sealing` is a random key, sealed, so that what it seals outlives a change of the secret."""

    version: int
    derivation: Derivation
    sealing: bytes


_headers = msgspec.json.Decoder(Header)


def create(folder: Path, secret: bytes | bytearray) -> None:
    """Make `folder` a key store, unless it is one. Raises `KeyStoreError` where it cannot be written."""
    with reaching(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / HEADER).exists():
            return
        derivation = Derivation(os.urandom(16))
        sealing = close_box(derive(secret, derivation), os.urandom(KEY_LENGTH), _SEALING)
        header = msgspec.json.format(msgspec.json.encode(Header(_VERSION, derivation, sealing)), indent=2)
        with contextlib.suppress(KeyExists):  # another process made it in this moment
            write_new(folder / HEADER, header)


def unlock(folder: Path, secret: bytes | bytearray) -> bytes:
    """The key-encryption key of a store, for `SoftKeyStore`. Raises `KeyStoreError`, LOCKED if the secret is wrong."""
    header = _header(folder)
    kek = derive(secret, header.derivation)
    _sealing_key(header, kek)
    return kek


Identity: TypeAlias = tuple[int, int, int]  # of a file: inode, time of its last change, length


@dataclass(slots=True)
class Opened:
    """A key that was read, from which file, when that is looked at again, and what was wrong with a later one."""

    key: StoredKey
    file: Identity
    look_at: float
    fault: str = ""


class SoftKeyStore:
    """An opened folder of keys (`key.KeyStore`). A file is read when its key is first asked for, and after it changed.

    Keys on tokens are found by `tokens`; without it they are unsupported. `clock` is monotonic, in seconds; `say` gets
    a sentence for the log where a key's new file cannot be used, and the one that was read before is used on.
    """

    def __init__(
        self,
        folder: Path,
        kek: bytes,
        tokens: TokenDoor | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._kek = kek
        self._tokens = tokens
        self._clock = clock
        self._say = say or log.say
        self._sealing_key = _sealing_key(_header(folder), kek)
        self._opened: dict[str, Opened] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        return self._named(_SUFFIX)

    def pending_names(self) -> tuple[str, ...]:
        """The names of all keys that wait for a certificate, sorted."""
        return self._named(_PENDING)

    def find(self, name: str) -> StoredKey:
        """The key of that name, from memory or from its file. Raises `KeyStoreError`."""
        found = self._opened.get(name)
        if found is None:
            # First, so that a file which is exchanged meanwhile is looked at again.
            identity = self._identity(name)
            found = self._opened[name] = Opened(self._read(name, None), identity, self._clock() + _LOOK)
        elif self._clock() >= found.look_at:
            self._look(name, found)
        return found.key

    def facts(self, name: str, *, pending: bool = False) -> KeyFacts:
        """What the file of that key says, proved to be ours; no token is asked. Raises `KeyStoreError`."""
        return self._content(name, _PENDING if pending else _SUFFIX)[0]

    def chain(self, name: str) -> tuple[x509.Certificate, ...]:
        """The chain of a key; no token is asked. Raises `KeyStoreError`."""
        return chain_of(name + _SUFFIX, self.facts(name).chain)

    def pending(self, name: str) -> PendingKey:
        """The key of that name that waits for its certificate. Raises `KeyStoreError`."""
        facts, plain = self._content(name, _PENDING)
        file = name + _PENDING
        try:
            request = x509.load_der_x509_csr(facts.request)
        except ValueError as error:
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: {error}") from None
        public_key = request.public_key()
        if plain is not None:
            private_key = loaded(file, plain, public_key)
        elif facts.place is None or not isinstance(public_key, PublicKey):
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: it names no key on a token")
        else:
            private_key = self._door(name).find(facts.place, public_key)
        return PendingKey(name, private_key, request, facts.ceiling, facts.predecessor)

    def seal(self, secret: bytes) -> bytes:
        """A subject's private key, encrypted under the store's sealing key."""
        return close_box(self._sealing_key, secret, _SUBJECT_KEY)

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises `KeyStoreError`."""
        return bytes(open_box(self._sealing_key, sealed, _SUBJECT_KEY))

    def derived(self, purpose: bytes) -> bytes:
        """A key of 32 bytes that only who has the unlock secret can know, another for each purpose."""
        return hmac.digest(self._sealing_key, purpose, "sha256")

    def add(self, key: StoredKey) -> None:
        """Store a new key; durable when it returns. Raises `KeyExists` or `KeyStoreError`."""
        with reaching(self._folder):
            write_new(self._path(key.name, _SUFFIX), encode(self._kek, facts_of(key), plain_of(key.private_key)))

    def replace(
        self,
        name: str,
        *,
        chain: Sequence[x509.Certificate] | None = None,
        links: Sequence[x509.Certificate] | None = None,
        ceiling: Ceiling | None = None,
        places: Sequence[TokenPlace] | None = None,
    ) -> None:
        """Exchange what stands beside a stored key. Durable, and at once for every reader; no token is asked.

        Raises `KeyStoreError`, also where the chain would be another key's.
        """
        facts, plain = self._content(name, _SUFFIX)
        if chain is not None:
            own = chain_of(name + _SUFFIX, facts.chain)[0].public_key()
            if not chain or chain[0].public_key() != own:
                sentence = f"the chain is not one of the key {name}, and keys are not overwritten"
                raise KeyStoreError(StoreFailure.UNSUPPORTED, sentence)
            facts = msgspec.structs.replace(facts, chain=_ders(chain))
        if links is not None:
            facts = msgspec.structs.replace(facts, links=_ders(links))
        if ceiling is not None:
            facts = msgspec.structs.replace(facts, ceiling=ceiling)
        if places is not None:
            if plain is not None:
                raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} rests in software, on no token")
            alone = places[0] if len(places) == 1 else None
            facts = msgspec.structs.replace(facts, place=alone, places=[] if alone is not None else list(places))
        with reaching(self._folder):
            put(self._path(name, _SUFFIX), encode(self._kek, facts, plain))
        self._opened.pop(name, None)

    def add_pending(self, key: PendingKey) -> None:
        """Store a new key that waits for its certificate. Raises `KeyExists` or `KeyStoreError`."""
        request = key.request.public_bytes(Encoding.DER)
        facts = KeyFacts(
            key.name,
            KeyKind.ISSUER,
            algorithm_named(key.private_key),
            [],
            key.ceiling,
            place_of(key.private_key),
            predecessor=key.predecessor,
            request=request,
        )
        with reaching(self._folder):
            write_new(self._path(key.name, _PENDING), encode(self._kek, facts, plain_of(key.private_key)))

    def forget_pending(self, name: str) -> None:
        """Remove the file of a key that waited; its key is stored by now, with its certificate."""
        with reaching(self._folder):
            self._path(name, _PENDING).unlink(missing_ok=True)

    @contextlib.contextmanager
    def ceremony(self) -> Iterator[None]:
        """Wait until no other ceremony is held with this folder. Raises `KeyStoreError`."""
        with reaching(self._folder):
            descriptor = open_lock(self._folder / _LOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _named(self, suffix: str) -> tuple[str, ...]:
        with reaching(self._folder):
            return tuple(sorted(each.name.removesuffix(suffix) for each in self._folder.glob(f"*{suffix}")))

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / (checked_name(name) + suffix)

    def _identity(self, name: str) -> Identity:
        path = self._path(name, _SUFFIX)
        try:
            with reaching(path):
                status = path.stat()
        except FileNotFoundError:
            raise KeyStoreError(StoreFailure.MISSING, f"there is no key named {name}") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _look(self, name: str, opened: Opened) -> None:
        """Take a key's new file if there is one that can be used; no ask fails because of it."""
        opened.look_at = self._clock() + _LOOK
        try:
            identity = self._identity(name)
            if identity == opened.file:
                opened.fault = ""
                return
            key = self._read(name, opened.key)
        except KeyStoreError as error:
            if opened.fault != str(error):
                opened.fault = str(error)
                self._say(f"the key {name} is used as it was read before: {error}")
            return
        opened.key, opened.file, opened.fault = key, identity, ""

    def _read(self, name: str, before: StoredKey | None) -> StoredKey:
        """A key from its file. Where its place is that of `before` the same object on the token is used on."""
        facts, plain = self._content(name, _SUFFIX)
        file = name + _SUFFIX
        chain = chain_of(file, facts.chain)
        if plain is not None:
            private_key = loaded(file, plain, chain[0].public_key() if chain else None)
        else:
            private_key = self._token_key(file, facts, chain, before)
        links = chain_of(file, facts.links)
        return StoredKey(facts.name, facts.kind, private_key, chain, facts.ceiling, links, facts.predecessor)

    def _content(self, name: str, suffix: str) -> tuple[KeyFacts, bytearray | None]:
        return read(self._path(name, suffix), self._kek, name)

    def _token_key(
        self, file: str, facts: KeyFacts, chain: tuple[x509.Certificate, ...], before: StoredKey | None
    ) -> PrivateKey:
        public_key = chain[0].public_key() if chain else None
        places = facts.everywhere
        if not places or not isinstance(public_key, PublicKey):
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: it names no key on a token")
        if (
            before is not None
            and everywhere(before.private_key) == places
            and before.chain[0].public_key() == public_key
        ):
            return before.private_key
        door = self._door(facts.name)
        return door.find(places[0], public_key) if len(places) == 1 else door.find_any(places, public_key)

    def _door(self, name: str) -> TokenDoor:
        if self._tokens is None:
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} rests on a token, and none is opened")
        return self._tokens


def _ders(certificates: Sequence[x509.Certificate]) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in certificates]


def _header(folder: Path) -> Header:
    try:
        header = _headers.decode(content(folder / HEADER, f"{folder} is not a key store: it has no {HEADER}"))
    except msgspec.DecodeError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"{folder / HEADER} is damaged: {error}") from None
    if header.version != _VERSION:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"{folder / HEADER} is of a newer version")
    return header


def _sealing_key(header: Header, kek: bytes) -> bytes:
    try:
        return bytes(open_box(kek, header.sealing, _SEALING))
    except KeyStoreError as error:
        if error.failure is StoreFailure.DAMAGED:
            raise KeyStoreError(StoreFailure.LOCKED, "the unlock secret does not open this key store") from None
        raise
