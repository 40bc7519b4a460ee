"""Keys, issuers and asks for the signer's tests: one good ask, and whatever a compromised gateway changes in it."""

import atexit
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.ceremony import DAY, Ceremony, Plan
from signer.contract.messages import GeneralName, IssueCertificate, Proof
from signer.contract.refusal import SignerRefusal
from signer.issuance.issue import certificate, prepare, prepared, sign
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets
from signer.journal.journal import Journal
from signer.keystore.key import Ceiling, KeyKind, StoredKey
from signer.keystore.mechanism import GENERATORS
from signer.keystore.seal import close_box, open_box
from signer.keystore.softkey import SoftKeyStore
from signer.supervisor import Ready

NOW = 1_800_000_000
SECRET = b"a secret for tests"
SERVER = "1.3.6.1.5.5.7.3.1"
COMMON_NAME = "2.5.4.3"


class MemoryStore:
    """A store of keys without a folder (`key.KeyStore`)."""

    def __init__(self, *keys: StoredKey) -> None:
        self.keys = {each.name: each for each in keys}
        self.key = bytes(32)

    def add(self, key: StoredKey) -> None:
        self.keys[key.name] = key

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.keys))

    def find(self, name: str) -> StoredKey:
        if name not in self.keys:
            from signer.keystore.failures import KeyStoreError, StoreFailure

            raise KeyStoreError(StoreFailure.MISSING, f"there is no key named {name}")
        return self.keys[name]

    def seal(self, secret: bytes) -> bytes:
        return close_box(self.key, secret, b"test")

    def unseal(self, sealed: bytes) -> bytes:
        return open_box(self.key, sealed, b"test")

    def derived(self, purpose: bytes) -> bytes:
        return hashlib.blake2b(purpose, key=self.key, digest_size=32).digest()


@cache
def root(algorithm: str = "EC_prime256v1") -> StoredKey:
    """A root of path length 2."""
    return _ceremony().authority(Plan("root", [(COMMON_NAME, "Root")], algorithm, None, 2, 7300))


def issuing(algorithm: str = "EC_prime256v1", path_length: int | None = 0) -> StoredKey:
    """An authority under `root()`; the same for the same arguments."""
    return _issuing(algorithm, path_length)


@cache
def _issuing(algorithm: str, path_length: int | None) -> StoredKey:
    plan = Plan("issuing", [(COMMON_NAME, "Issuing")], algorithm, root(), path_length, 3650)
    return _ceremony().authority(plan)


@cache
def ra() -> StoredKey:
    """An RA under `issuing()`."""
    return _ceremony().ra("issuing-ra", issuing())


def memory_store() -> MemoryStore:
    return MemoryStore(root(), issuing(), ra())


def issuer(algorithm: str = "EC_prime256v1", path_length: int | None = 0, **ceiling: object) -> Issuer:
    """The issuer of `issuing(algorithm, path_length)`, with another ceiling where one is given."""
    key = issuing(algorithm, path_length)
    raised = msgspec.structs.replace(key.ceiling, **ceiling)
    return issuer_of(StoredKey(key.name, key.kind, key.private_key, key.chain, raised))


@cache
def spki(algorithm: str = "EC_prime256v1") -> bytes:
    """A subject's public key; the same for the same algorithm."""
    return GENERATORS[algorithm]().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def issue(by: Issuer, ask: IssueCertificate, tickets: Tickets, *, now: int) -> bytes:
    """What a desk does with one ask, its journal left out: check, spend, sign. An authority is made as in ceremonies."""
    if ask.ca:
        return sign(by, prepare(by, ask))
    made = prepared(by, ask)
    tickets.spend(made.claim, now=now)
    return certificate(made)


def issued(ask=None, by=None) -> x509.Certificate:
    der = issue(by or issuer(), ask or good_ask(), Tickets(), now=NOW)
    return x509.load_der_x509_certificate(der)


def refuses(reason: SignerRefusal, ask, by=None, tickets=None) -> str:
    with pytest.raises(Refused) as caught:
        issue(by or issuer(), ask, tickets or Tickets(), now=NOW)
    assert caught.value.reason is reason, caught.value
    return caught.value.detail


def authority_ask(**changes):
    names = {"subject": [("2.5.4.3", "Sub CA")], "sans": [], "extended_key_usages": []}
    return good_ask(**{**names, "ca": True, "path_length": 0, "key_usages": ["keyCertSign", "cRLSign"], **changes})


@cache
def _journals() -> Path:
    folder = Path(mkdtemp(prefix="muster-test-journal-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def journal(folder: Path | None = None, *, now: Callable[[], float] = lambda: NOW, **more: int) -> Journal:
    """A journal in `folder`, or in one of its own."""
    return Journal(folder or Path(mkdtemp(dir=_journals())), bytes(32), now=now, **more)


def proof(**changes: object) -> Proof:
    return msgspec.structs.replace(Proof("acme", "acme-order", "account-1", bytes(32), ["acme", "est"]), **changes)


def good_ask(**changes: object) -> IssueCertificate:
    """An ask for a TLS server's certificate, with a ticket and a serial of its own; `changes` are what is wrong with it."""
    ask = IssueCertificate(
        issuer="issuing",
        ticket=os.urandom(16),
        deadline=NOW + 60,
        serial=b"\x01" + os.urandom(15),
        spki=spki(),
        subject=[(COMMON_NAME, "server.example")],
        sans=[GeneralName("dns_name", "server.example")],
        san_critical=False,
        key_usages=["digitalSignature"],
        extended_key_usages=[SERVER],
        not_before=NOW - 300,
        not_after=NOW + 90 * DAY,
        proof=proof(),
    )
    return msgspec.structs.replace(ask, **changes)


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def stored(kind: KeyKind, algorithm: str, chain: tuple[x509.Certificate, ...]) -> StoredKey:
    """A key of any kind, for what a ceremony would not make."""
    return StoredKey("odd", kind, GENERATORS[algorithm](), chain, Ceiling(max_validity=DAY))


class RunningSigner:
    """A real supervisor with real workers."""

    def __init__(self, process: "subprocess.Popen[bytes]", ready: Ready) -> None:
        self.process = process
        self.sockets = ready.sockets
        self.workers = ready.workers


def start_signer(
    keys: Path, *arguments: str, secret: bytes = SECRET, log: IO[str] | None = None
) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", "signer", "serve", "--keys", str(keys), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log or subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    process.stdin.write(secret + b"\n")
    process.stdin.flush()
    return process


@contextmanager
def running_signer(keys: Path, *arguments: str, secret: bytes = SECRET, log: IO[str] | None = None):
    process = start_signer(keys, *arguments, secret=secret, log=log)
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read().decode() if process.stderr else ""
        yield RunningSigner(process, msgspec.json.decode(line, type=Ready))
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        if process.stderr:
            process.stderr.close()


def ceremony(store: SoftKeyStore | MemoryStore) -> Ceremony:
    return Ceremony(store, now=NOW)  # type: ignore[arg-type]


def _ceremony() -> Ceremony:
    return ceremony(MemoryStore())
