"""The store of keys that is built in: a folder of sealed PKCS#8, one file a key. Nothing here is ever overwritten.

    keystore.json   how the key-encryption key is derived, and the sealing key under it: a wrong secret is found at once
    NAME.key        kind, certificate chain and ceiling in the clear, and the private key sealed together with them: who
                    can write to the folder, but has not the secret, cannot raise a ceiling or exchange a certificate.
                    A key on a token has a file of version 2: its place stands beside the ceiling, nothing but the proof
                    that both were written with the secret is sealed, and the key itself is found by a `key.TokenDoor`

Files are 0600, the folder 0700. A file appears whole and durable (written aside, synced, linked) or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from signer.keystore.failures import KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, OnToken, StoredKey, TokenDoor, TokenPlace
from signer.keystore.mechanism import PrivateKey, PublicKey, algorithm_of
from signer.keystore.seal import KEY_LENGTH, Derivation, close_box, derive, open_box

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
HEADER: Final = "keystore.json"
_SUFFIX: Final = ".key"
_VERSION: Final = 1
_TOKEN_VERSION: Final = 2  # of the file of a key on a token: who knows only the first says so, and does not guess
_MAX_FILE: Final = 1024 * 1024  # bytes; a chain of ML-DSA-87 certificates takes 50 KiB
_SEALING: Final = b"muster sealing key"
_SUBJECT_KEY: Final = b"muster subject key"
_PRIVATE_KEY: Final = b"muster private key\0"
_TOKEN_KEY: Final = b"muster token key\0"
_PURPOSES: Final = {_VERSION: _PRIVATE_KEY, _TOKEN_VERSION: _TOKEN_KEY}  # so that neither kind is read as the other


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`keystore.json`. `sealing` is a random key, sealed, so that what it seals outlives a change of the secret."""

    version: int
    derivation: Derivation
    sealing: bytes


class KeyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key file says in the clear. `chain` is DER, the key's own certificate first, the root last.

    `place` is where a key on a token is; a file that has one carries no private key.
    """

    name: str
    kind: KeyKind
    algorithm: str
    chain: list[bytes]
    ceiling: Ceiling
    place: TokenPlace | None = None


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's file. The bytes of `facts`, exactly as they stand, are authenticated with `sealed`."""

    version: int
    facts: msgspec.Raw
    sealed: bytes


_headers = msgspec.json.Decoder(Header)
_files = msgspec.json.Decoder(KeyFile)
_facts = msgspec.json.Decoder(KeyFacts)


def create(folder: Path, secret: bytes) -> None:
    """Make `folder` a key store, unless it is one. Raises `KeyStoreError` where it cannot be written."""
    with _reaching(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / HEADER).exists():
            return
        derivation = Derivation(os.urandom(16))
        sealing = close_box(derive(secret, derivation), os.urandom(KEY_LENGTH), _SEALING)
        header = msgspec.json.format(msgspec.json.encode(Header(_VERSION, derivation, sealing)), indent=2)
        with contextlib.suppress(KeyExists):  # another process made it in this moment
            write_new(folder / HEADER, header)


def unlock(folder: Path, secret: bytes) -> bytes:
    """The key-encryption key of a store, for `SoftKeyStore`. Raises `KeyStoreError`, LOCKED if the secret is wrong."""
    header = _header(folder)
    kek = derive(secret, header.derivation)
    _sealing_key(header, kek)
    return kek


class SoftKeyStore:
    """An opened folder of keys (`key.KeyStore`). Each file is read once, when its key is first asked for.

    Keys on tokens are found by `tokens`; without it they are unsupported.
    """

    def __init__(self, folder: Path, kek: bytes, tokens: TokenDoor | None = None) -> None:
        self._folder = folder
        self._kek = kek
        self._tokens = tokens
        self._sealing_key = _sealing_key(_header(folder), kek)
        self._opened: dict[str, StoredKey] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""
        with _reaching(self._folder):
            return tuple(sorted(each.name.removesuffix(_SUFFIX) for each in self._folder.glob(f"*{_SUFFIX}")))

    def find(self, name: str) -> StoredKey:
        """The key of that name, from memory or from its file. Raises `KeyStoreError`."""
        found = self._opened.get(name)
        if found is None:
            found = self._opened[name] = self._read(name)
        return found

    def seal(self, secret: bytes) -> bytes:
        """A subject's private key, encrypted under the store's sealing key."""
        return close_box(self._sealing_key, secret, _SUBJECT_KEY)

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given. Raises `KeyStoreError`."""
        return open_box(self._sealing_key, sealed, _SUBJECT_KEY)

    def add(self, key: StoredKey) -> None:
        """Store a new key; durable when it returns. Raises `KeyExists` or `KeyStoreError`."""
        _checked_name(key.name)
        algorithm = algorithm_of(key.private_key.public_key()) or ""
        chain = [each.public_bytes(Encoding.DER) for each in key.chain]
        place = key.private_key.place if isinstance(key.private_key, OnToken) else None
        facts = msgspec.json.format(
            msgspec.json.encode(KeyFacts(key.name, key.kind, algorithm, chain, key.ceiling, place)), indent=2
        )
        if place is None:
            plain = key.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            sealed = close_box(self._kek, plain, _PRIVATE_KEY + facts)
        else:
            sealed = close_box(self._kek, b"", _TOKEN_KEY + facts)
        version = _VERSION if place is None else _TOKEN_VERSION
        whole = msgspec.json.encode(KeyFile(version, msgspec.Raw(facts), sealed))
        with _reaching(self._folder):
            write_new(self._folder / (key.name + _SUFFIX), whole)

    def _read(self, name: str) -> StoredKey:
        path = self._folder / (_checked_name(name) + _SUFFIX)
        content = _content(path, f"there is no key named {name}")
        try:
            whole = _files.decode(content)
            if whole.version not in _PURPOSES:
                raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key file {path.name} is of a newer version")
            facts = _facts.decode(whole.facts)
        except msgspec.DecodeError as error:
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {path.name} is damaged: {error}") from None
        try:
            plain = open_box(self._kek, whole.sealed, _PURPOSES[whole.version] + bytes(whole.facts))
        except KeyStoreError as error:
            raise KeyStoreError(error.failure, f"the key file {path.name} is damaged: {error}") from None
        if facts.name != name:
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {path.name} holds the key named {facts.name}")
        if whole.version == _TOKEN_VERSION:
            return self._token_key(path.name, facts)
        return _opened_key(path.name, facts, plain)

    def _token_key(self, file: str, facts: KeyFacts) -> StoredKey:
        chain = _chain(file, facts)
        public_key = chain[0].public_key() if chain else None
        if facts.place is None or not isinstance(public_key, PublicKey):
            raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: it names no key on a token")
        if self._tokens is None:
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {facts.name} rests on a token, and none is opened")
        private_key = self._tokens.find(facts.place, public_key)
        return StoredKey(facts.name, facts.kind, private_key, chain, facts.ceiling)


def write_new(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, whole and durable when it returns. Raises `KeyExists` or `OSError`."""
    aside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(aside, path)  # unlike a rename, this fails where a file stands already
        except FileExistsError:
            raise KeyExists(path.name) from None
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _chain(file: str, facts: KeyFacts) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_der_x509_certificate(each) for each in facts.chain)
    except ValueError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: {error}") from None


def _opened_key(file: str, facts: KeyFacts, plain: bytes) -> StoredKey:
    chain = _chain(file, facts)
    try:
        private_key = load_der_private_key(plain, None)
    except ValueError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: {error}") from None
    if not isinstance(private_key, PrivateKey):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key file {file} holds a key of an unknown algorithm")
    ours = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if not chain or chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != ours:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} holds a certificate of another key")
    return StoredKey(facts.name, facts.kind, private_key, chain, facts.ceiling)


def _header(folder: Path) -> Header:
    try:
        header = _headers.decode(_content(folder / HEADER, f"{folder} is not a key store: it has no {HEADER}"))
    except msgspec.DecodeError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"{folder / HEADER} is damaged: {error}") from None
    if header.version != _VERSION:
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"{folder / HEADER} is of a newer version")
    return header


def _sealing_key(header: Header, kek: bytes) -> bytes:
    try:
        return open_box(kek, header.sealing, _SEALING)
    except KeyStoreError as error:
        if error.failure is StoreFailure.DAMAGED:
            raise KeyStoreError(StoreFailure.LOCKED, "the unlock secret does not open this key store") from None
        raise


def _content(path: Path, missing: str) -> bytes:
    try:
        with _reaching(path), path.open("rb") as file:
            content = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        raise KeyStoreError(StoreFailure.MISSING, missing) from None
    if len(content) > _MAX_FILE:
        raise KeyStoreError(StoreFailure.DAMAGED, f"{path} is damaged: it is larger than any key file")
    return content


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise KeyStoreError(StoreFailure.MISSING, "a key's name is 1 to 100 letters, digits, dots, dashes, underscores")
    return name


@contextlib.contextmanager
def _reaching(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyStoreError(StoreFailure.UNAVAILABLE, f"cannot use {path}: {error.strerror}") from None
