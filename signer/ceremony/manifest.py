"""What a ceremony tells whoever called it: certificates, names and a transcript, as JSON. Never a private key."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from signer.keystore.key import Ceiling, KeyKind, NameRange, StoredKey, TokenPlace


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of the store by name, with its certificate (PEM) and, where it issues, the chain up to the root.

    `certificate` is empty while somebody else is still to sign it.
    """

    key: str
    certificate: str
    chain: list[str] = []


class Listening(msgspec.Struct, frozen=True):
    """A TLS certificate (PEM), and where its key and chain stand."""

    certificate: str
    key_file: str
    chain_file: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a ceremony made or found, printed as JSON on standard output. For a root, `issuing` is the root itself.

    `links` are OldWithNew and NewWithOld (RFC 4210, 4.4), `csr` what somebody else is to sign, all PEM. `below` are the
    other keys whose chains changed, RAs with their chains too.
    """

    root: Made
    issuing: Made
    ra: Made | None = None
    tls: Listening | None = None
    links: list[str] = []
    csr: str = ""
    below: list[Made] = []
    transcript: list[str] = []


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of the store, described. Times are seconds since the epoch, fingerprints SHA-256 in hexadecimal.

    Without `place` it rests in software; `places` are all of a key that several tokens have. What speaks of a
    certificate is absent while the key waits for one (`csr`).
    """

    key: str
    kind: KeyKind
    algorithm: str
    spki_sha256: str
    ceiling: Ceiling
    subject: str
    place: TokenPlace | None = None
    certificate: str = ""
    certificate_sha256: str = ""
    serial: str = ""
    issuer: str = ""
    not_before: int = 0
    not_after: int = 0
    chain: list[str] = []
    path_length: int | None = None
    permitted: list[NameRange] = []
    excluded: list[NameRange] = []
    policies: list[str] = []
    parent: str = ""  # the name of the key that signed it, where that is in this store
    predecessor: str = ""
    links: list[str] = []
    csr: str = ""
    places: list[TokenPlace] = []


def made(key: StoredKey) -> Made:
    """A key with its certificate, and its chain if it issues."""
    issues = key.kind is KeyKind.ISSUER
    return Made(key.name, pem(key.certificate), [pem(each) for each in key.chain] if issues else [])


def chained(name: str, chain: Sequence[x509.Certificate]) -> Made:
    """A key of any kind with its chain."""
    return Made(name, pem(chain[0]), [pem(each) for each in chain])


def pem(thing: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """A certificate or a request as PEM."""
    return thing.public_bytes(Encoding.PEM).decode()
