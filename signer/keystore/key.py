"""What a key is, what is known beside it, and the door that every store of keys fits. No store is opened here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

import msgspec
from cryptography import x509

from signer.keystore.mechanism import PrivateKey, PublicKey


@unique
class KeyKind(StrEnum):
    """What a key is for. One kind is never used as the other."""

    ISSUER = "issuer"  # signs certificates and revocation lists
    RA = "ra"  # unwraps content-encryption keys and signs CMS attributes


class NameRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A subtree of names, as in RFC 5280, 4.2.1.10: a DNS suffix, a network in CIDR form, a mailbox or its host, ...

    `type` is `dns_name`, `ip_address`, `email`, `uri` (its host) or `directory` (a name in RFC 4514's form); `upn`
    stands for other names of any form. A `Ceiling` knows the first three.
    """

    type: str
    value: str


class Ceiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one issuer's key may ever sign, whatever a gateway asks. None means that there is no bound of that kind.

    `max_validity` is in seconds. `leaves` is false for a root that certifies authorities only; `authorities` is true
    for a key that may; `path_length` bounds theirs.
    `algorithms` names subjects' keys, `extended_key_usages` dotted OIDs.
    """

    max_validity: int
    leaves: bool = True
    authorities: bool = False
    path_length: int | None = None
    algorithms: list[str] | None = None
    extended_key_usages: list[str] | None = None
    names: list[NameRange] | None = None


class TokenPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a key is that rests on a PKCS#11 token: the module's file, the token, the key's label and CKA_ID.

    An empty `token` (its label), `serial`, `label` or `id` matches any; what is left must match exactly one.
    """

    module: str
    token: str
    serial: str
    label: str
    id: bytes


class OnToken:
    """What a private key is besides, if it rests on a token: its place, or its places where several tokens have it.

    Nothing else of it can be stored.
    """

    def __init__(self, places: tuple[TokenPlace, ...]) -> None:
        self.places = places

    @property
    def place(self) -> TokenPlace:
        """The place that is asked first."""
        return self.places[0]


class TokenDoor(Protocol):
    """Whoever opens keys on tokens. Its methods raise `KeyStoreError`."""

    def find(self, place: TokenPlace, public_key: PublicKey) -> PrivateKey:
        """The key at that place, proved to be the other half of `public_key`."""

    def find_any(self, places: Sequence[TokenPlace], public_key: PublicKey) -> PrivateKey:
        """The key that is at all of those places, proved at each that can be reached, which must be one at least."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key, opened. `chain` begins with the key's own certificate and ends with the root; it is never empty.

    `private_key` may be a subclass whose operations run on a token. A key that took another's place knows it by name
    (`predecessor`); for a root the two certify each other (`links`: OldWithNew, NewWithOld; RFC 4210, 4.4). One between
    two others has the links to both.
    """

    name: str
    kind: KeyKind
    private_key: PrivateKey
    chain: tuple[x509.Certificate, ...]
    ceiling: Ceiling
    links: tuple[x509.Certificate, ...] = ()
    predecessor: str = ""

    @property
    def certificate(self) -> x509.Certificate:
        """The key's own certificate."""
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class PendingKey:
    """An issuer's key whose certificate somebody else shall sign, asked for by `request`. It signs nothing yet."""

    name: str
    private_key: PrivateKey
    request: x509.CertificateSigningRequest
    ceiling: Ceiling
    predecessor: str = ""


class KeyStore(Protocol):
    """An opened store of keys. Its methods raise `KeyStoreError`."""

    def names(self) -> tuple[str, ...]:
        """The names of all keys, sorted."""

    def find(self, name: str) -> StoredKey:
        """The key of that name. A key that was stored after the store was opened is found too."""

    def seal(self, secret: bytes) -> bytes:
        """`secret` (a subject's private key) encrypted at rest; `unseal` is its reverse."""

    def unseal(self, sealed: bytes) -> bytes:
        """What `seal` was given."""

    def derived(self, purpose: bytes) -> bytes:
        """32 secret bytes, the same in every process that opens the store, and others for each purpose."""
