"""The file of one key: what it says in the clear, sealed together with what it keeps secret. No folder is listed here.

Who can write to a key's file, but has not the unlock secret, cannot raise a ceiling or exchange a certificate in it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from signer.hardening.memory import wipe
from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, OnToken, StoredKey, TokenPlace
from signer.keystore.mechanism import PrivateKey, algorithm_of
from signer.keystore.seal import close_box, open_box

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_VERSION: Final = 1
_TOKEN_VERSION: Final = 2  # of the file of a key on a token: who knows only the first says so, and does not guess
_MAX_FILE: Final = 1024 * 1024  # bytes; a chain of ML-DSA-87 certificates takes 50 KiB
_PLACES_VERSION: Final = 3  # of a key on several tokens
_PRIVATE_KEY: Final = b"muster private key\0"
_TOKEN_KEY: Final = b"muster token key\0"
_TOKEN_KEYS: Final = b"muster token keys\0"
# So that no kind is read as another.
_PURPOSES: Final = {_VERSION: _PRIVATE_KEY, _TOKEN_VERSION: _TOKEN_KEY, _PLACES_VERSION: _TOKEN_KEYS}


class KeyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a key file says in the clear. `chain` is DER, the key's own certificate first, the root last.

    `place` is where a key on a token is, `places` where one on several tokens is, in order of preference; a file that
    has either carries no private key. `links` are DER, `request` is a PKCS#10 in DER, where the chain is still to come.
    """

    name: str
    kind: KeyKind
    algorithm: str
    chain: list[bytes]
    ceiling: Ceiling
    place: TokenPlace | None = None
    links: list[bytes] = []
    predecessor: str = ""
    request: bytes = b""
    places: list[TokenPlace] = []

    @property
    def everywhere(self) -> tuple[TokenPlace, ...]:
        """All places of a key on tokens; none for a key in software."""
        return tuple(self.places) if self.place is None else (self.place,)


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key's file. The bytes of `facts`, exactly as they stand, are authenticated with `sealed`."""

    version: int
    facts: msgspec.Raw
    sealed: bytes


_files = msgspec.json.Decoder(KeyFile)
_facts = msgspec.json.Decoder(KeyFacts)


def encode(kek: bytes, facts: KeyFacts, plain: bytes | bytearray | None) -> bytes:
    """The content of a key's file. `plain` is the private key, PKCS#8 DER; None for a key on a token.

    Of that nothing is sealed but the proof that the file was written with the secret.
    """
    clear = msgspec.json.format(msgspec.json.encode(facts), indent=2)
    version = _VERSION if plain is not None else _PLACES_VERSION if facts.places else _TOKEN_VERSION
    sealed = close_box(kek, plain or b"", _PURPOSES[version] + clear)
    return msgspec.json.encode(KeyFile(version, msgspec.Raw(clear), sealed))


def read(path: Path, kek: bytes, name: str) -> tuple[KeyFacts, bytearray | None]:
    """What a key's file says, and the private key in it, PKCS#8 DER: None where that is on a token.

    Raises `KeyStoreError`: MISSING, DAMAGED, UNSUPPORTED, UNAVAILABLE.
    """
    raw = content(path, f"there is no key named {name}")
    try:
        whole = _files.decode(raw)
        if whole.version not in _PURPOSES:
            raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key file {path.name} is of a newer version")
        facts = _facts.decode(whole.facts)
    except msgspec.DecodeError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {path.name} is damaged: {error}") from None
    try:
        plain = open_box(kek, whole.sealed, _PURPOSES[whole.version] + bytes(whole.facts))
    except KeyStoreError as error:
        raise KeyStoreError(error.failure, f"the key file {path.name} is damaged: {error}") from None
    if facts.name != name:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {path.name} holds the key named {facts.name}")
    return facts, plain if whole.version == _VERSION else None


def facts_of(key: StoredKey) -> KeyFacts:
    """What the file of a key says in the clear."""
    return KeyFacts(
        key.name,
        key.kind,
        algorithm_named(key.private_key),
        [each.public_bytes(Encoding.DER) for each in key.chain],
        key.ceiling,
        place_of(key.private_key),
        [each.public_bytes(Encoding.DER) for each in key.links],
        key.predecessor,
        places=several_of(key.private_key),
    )


def place_of(private_key: PrivateKey) -> TokenPlace | None:
    """Where a key on one token is, None for a key in software or on several."""
    return private_key.place if isinstance(private_key, OnToken) and len(private_key.places) == 1 else None


def several_of(private_key: PrivateKey) -> list[TokenPlace]:
    """Where a key on several tokens is; empty for any other."""
    return list(private_key.places) if isinstance(private_key, OnToken) and len(private_key.places) > 1 else []


def everywhere(private_key: PrivateKey) -> tuple[TokenPlace, ...]:
    """All places of a key on tokens."""
    return private_key.places if isinstance(private_key, OnToken) else ()


def algorithm_named(private_key: PrivateKey) -> str:
    """The name of a key's algorithm."""
    return algorithm_of(private_key.public_key()) or ""


def public_half(private_key: PrivateKey) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def plain_of(private_key: PrivateKey) -> bytes | None:
    """PKCS#8 DER, in the clear; None for a key on a token."""
    if isinstance(private_key, OnToken):
        return None
    return private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def chain_of(file: str, chain: list[bytes]) -> tuple[x509.Certificate, ...]:
    """Certificates of a file. Raises `KeyStoreError`."""
    try:
        return tuple(x509.load_der_x509_certificate(each) for each in chain)
    except ValueError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: {error}") from None


def loaded(file: str, plain: bytearray, public_key: PublicKeyTypes | None) -> PrivateKey:
    """The private key of a file, the other half of `public_key`; `plain` is wiped. Raises `KeyStoreError`."""
    try:
        private_key = load_der_private_key(plain, None)
    except ValueError as error:
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} is damaged: {error}") from None
    finally:
        wipe(plain)
    if not isinstance(private_key, PrivateKey):
        raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key file {file} holds a key of an unknown algorithm")
    theirs = None
    if public_key is not None:
        theirs = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if theirs != public_half(private_key):
        raise KeyStoreError(StoreFailure.DAMAGED, f"the key file {file} holds a certificate of another key")
    return private_key


def content(path: Path, missing: str) -> bytes:
    """A file of the store, not larger than any may be. Raises `KeyStoreError`, MISSING with the sentence `missing`."""
    try:
        with reaching(path), path.open("rb") as file:
            found = file.read(_MAX_FILE + 1)
    except FileNotFoundError:
        raise KeyStoreError(StoreFailure.MISSING, missing) from None
    if len(found) > _MAX_FILE:
        raise KeyStoreError(StoreFailure.DAMAGED, f"{path} is damaged: it is larger than any key file")
    return found


def checked_name(name: str) -> str:
    """A name that a key may have; it becomes a file's. Raises `KeyStoreError`."""
    if not NAME.fullmatch(name):
        raise KeyStoreError(StoreFailure.MISSING, "a key's name is 1 to 100 letters, digits, dots, dashes, underscores")
    return name


@contextlib.contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Errors of the operating system as `KeyStoreError`; that a file is missing is left to the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyStoreError(StoreFailure.UNAVAILABLE, f"cannot use {path}: {error.strerror}") from None
