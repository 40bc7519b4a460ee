"""Ceremonies: keys and certificates of authorities, made offline. No gateway asks for one; no key is ever overwritten.

Each step is kept when it is done, so a ceremony that was interrupted is run again and goes on. What is signed passes
the same lint and, below a root, the same ceilings as everything else.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from signer.contract.messages import GeneralName, IssueCertificate
from signer.hardening import harden
from signer.issuance import lint
from signer.issuance.issue import prepare, sign
from signer.issuance.issuer import Issuer, encoded, issuer_of
from signer.issuance.refused import Refused
from signer.issuance.template import build, key_identifier, name_of
from signer.keystore.durable import put
from signer.keystore.failures import KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import Ceiling, KeyKind, StoredKey, TokenPlace
from signer.keystore.mechanism import GENERATORS, PrivateKey, digest_of
from signer.keystore.pin import read_pins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, create, unlock
from signer.keystore.token import LazyTokens, tokens_of

DAY: Final = 86400  # seconds
ROOT_DAYS: Final = 20 * 365 + 5
AUTHORITY_DAYS: Final = 10 * 365 + 3
RA_DAYS: Final = 5 * 365 + 1
TLS_DAYS: Final = 397  # what browsers accept at most of an authority that a person installed
LEAF_DAYS: Final = RA_DAYS + 1  # the ceiling of an issuing authority, unless it is told otherwise

_NO_BOUND: Final = 10**10  # seconds
_AUTHORITY_USAGES: Final = ["keyCertSign", "cRLSign"]
_COMMON_NAME: Final = "2.5.4.3"
_SERVER: Final = "1.3.6.1.5.5.7.3.1"


class Made(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key of the store by name, with its certificate (PEM) and, where it issues, the chain up to the root."""

    key: str
    certificate: str
    chain: list[str] = []


class Listening(msgspec.Struct, frozen=True):
    """A TLS certificate (PEM), and where its key and chain stand."""

    certificate: str
    key_file: str
    chain_file: str


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a ceremony made or found, printed as JSON on standard output. For a root, `issuing` is the root itself."""

    root: Made
    issuing: Made
    ra: Made | None = None
    tls: Listening | None = None


Make: TypeAlias = Callable[[str, str, KeyKind], PrivateKey]  # a key's name, its algorithm, what it is for


@dataclass(frozen=True, slots=True)
class Plan:
    """An authority that shall exist. `parent` is None for a root; `days` is cut to the parent's own end.

    `leaf_days` is how long what it issues may be good for, as long as its key lives.
    """

    name: str
    subject: list[tuple[str, str]]
    algorithm: str
    parent: StoredKey | None
    path_length: int | None
    days: int
    leaf_days: int = LEAF_DAYS


class Ceremony:
    """The making of authorities in one opened store, at one time (`now`, seconds since the epoch).

    `make` makes their keys, in software unless it says otherwise.
    """

    def __init__(self, store: SoftKeyStore, *, now: int, make: Make | None = None) -> None:
        self._store = store
        self._now = now
        self._make = make or _in_software

    def authority(self, plan: Plan) -> StoredKey:
        """The authority of that name: found, or made. Raises `KeyStoreError`, `Refused`."""
        found = self._found(plan.name)
        if found is not None:
            issuer_of(found)  # raises where the name is an RA's
            return found
        private_key = self._make(plan.name, plan.algorithm, KeyKind.ISSUER)
        # What an authority may sign follows from its place: a root authorities only, the last one none.
        below = None if plan.path_length is None else plan.path_length - 1
        ceiling = Ceiling(
            max_validity=(plan.leaf_days if plan.path_length == 0 else plan.days) * DAY,
            leaves=plan.parent is not None,
            authorities=plan.path_length != 0,
            path_length=below if plan.path_length else None,
        )
        ask = self._ask(
            private_key,
            plan.name,
            subject=plan.subject,
            key_usages=_AUTHORITY_USAGES,
            days=plan.days,
            ca=True,
            path_length=plan.path_length,
        )
        if plan.parent is None:
            chain: tuple[x509.Certificate, ...] = (_self_signed(private_key, plan, ceiling, ask),)
        else:
            chain = (_issued(plan.parent, ask), *plan.parent.chain)
        return self._kept(StoredKey(plan.name, KeyKind.ISSUER, private_key, chain, ceiling))

    def ra(self, name: str, authority: StoredKey) -> StoredKey:
        """The RA of that name for an authority: found, or made. RSA, since SCEP encrypts to it (RFC 8894, 2.1)."""
        found = self._found(name)
        if found is not None:
            if found.kind is not KeyKind.RA:
                raise KeyStoreError(StoreFailure.UNSUPPORTED, f"the key {name} exists and is not an RA's")
            return found
        private_key = self._make(name, "RSA_2048", KeyKind.RA)
        ask = self._ask(
            private_key,
            name,
            subject=_registration(authority),
            key_usages=["digitalSignature", "keyEncipherment"],
            days=RA_DAYS,
        )
        chain = (_issued(authority, ask), *authority.chain)
        return self._kept(StoredKey(name, KeyKind.RA, private_key, chain, Ceiling(max_validity=0)))

    def tls(self, folder: Path, hosts: list[str], authority: StoredKey, *, anew: bool) -> Listening:
        """A listener's key and chain in `folder`: those that stand there, unless they do not fit or `anew`."""
        key_file, chain_file = folder / "key.pem", folder / "chain.pem"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate = None if anew else _standing(key_file, chain_file)
        if certificate is None:
            names = _names(hosts)
            private_key = _generate("EC_prime256v1")
            ask = self._ask(
                private_key,
                "tls",
                subject=[(_COMMON_NAME, next((each.value for each in names if len(each.value) <= 64), "localhost"))],
                sans=names,
                key_usages=["digitalSignature"],
                extended_key_usages=[_SERVER],
                days=TLS_DAYS,
            )
            certificate = _issued(authority, ask)
            # The root is left out: whoever trusts it has it.
            chain = "".join(_pem(each) for each in (certificate, *authority.chain[:-1]))
            key = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            put(chain_file, chain.encode())
            put(key_file, key)
        return Listening(_pem(certificate), str(key_file), str(chain_file))

    def _ask(
        self,
        private_key: PrivateKey,
        name: str,
        *,
        subject: list[tuple[str, str]],
        key_usages: list[str],
        days: int,
        sans: list[GeneralName] | None = None,
        extended_key_usages: list[str] | None = None,
        ca: bool = False,
        path_length: int | None = None,
    ) -> IssueCertificate:
        return IssueCertificate(
            issuer=name,
            ticket=b"",
            deadline=0,
            serial=_serial(),
            spki=_spki(private_key),
            subject=subject,
            sans=sans or [],
            san_critical=False,
            key_usages=key_usages,
            extended_key_usages=extended_key_usages or [],
            # A day back: a leaf that is backdated for slow clocks must not begin before its issuer.
            not_before=self._now - DAY,
            not_after=self._now + (days - 1) * DAY,
            proof=None,
            ca=ca,
            path_length=path_length,
        )

    def _found(self, name: str) -> StoredKey | None:
        try:
            return self._store.find(name)
        except KeyStoreError as error:
            if error.failure is StoreFailure.MISSING and name not in self._store.names():
                return None
            raise

    def _kept(self, key: StoredKey) -> StoredKey:
        with contextlib.suppress(KeyExists):  # another ceremony was faster; its key is the one that counts
            self._store.add(key)
        return self._store.find(key.name)


def first(ceremony: Ceremony, tls: Path, hosts: list[str]) -> Manifest:
    """A root, an issuing authority, an RA for SCEP and a TLS certificate: what a gateway starts with."""
    # Installations must not share a name, or a client that knows two of them takes one root for the other.
    mark = os.urandom(4).hex().upper()
    organization = ("2.5.4.10", "Muster")
    root = ceremony.authority(
        Plan("root", [organization, (_COMMON_NAME, f"Muster Root CA {mark}")], "EC_prime256v1", None, 1, ROOT_DAYS)
    )
    mark = root.certificate.subject.rfc4514_string().partition("Root CA ")[2][:8]
    subject = [organization, (_COMMON_NAME, f"Muster Issuing CA {mark}")]
    issuing = ceremony.authority(Plan("issuing", subject, "EC_prime256v1", root, 0, AUTHORITY_DAYS))
    ra = ceremony.ra("issuing-ra", issuing)
    return Manifest(_made(root), _made(issuing), _made(ra), ceremony.tls(tls, hosts, issuing, anew=False))


def main(asked: argparse.Namespace) -> int:
    """Hold the ceremony that the command line names. Gives the exit status: 2 with one sentence if it fails."""
    harden(follow_parent=False)
    os.umask(0o077)
    try:
        secret = read_secret(sys.stdin.fileno())
        pins = read_pins(asked.pin, sys.stdin.fileno())
        create(asked.keys, secret)
        kek = unlock(asked.keys, secret)
        tokens = tokens_of(asked.keys, kek, pins, writing=True)
        store = SoftKeyStore(asked.keys, kek, tokens)
        make = None if asked.verb == "tls" else _maker(tokens, asked.module, asked.token, asked.token_serial)
        shown = _held(Ceremony(store, now=int(time.time()), make=make), store, asked)
    except (KeyStoreError, Refused, ValueError, OSError) as error:
        print(f"signer: {error}", file=sys.stderr)  # noqa: T201 - a sentence for the operator
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(shown) + b"\n")
    return 0


def _maker(tokens: LazyTokens, module: str, token: str, serial: str) -> Make | None:
    """Where a ceremony's keys are made: on the token that the command line names, None for in software."""
    if not module and not token and not serial:
        return None
    if not module or not (token or serial):
        raise ValueError("--module goes with --token or --token-serial")

    def make(name: str, algorithm: str, kind: KeyKind) -> PrivateKey:
        where = TokenPlace(module, token, serial, name, b"")
        return tokens.generate(where, algorithm, decrypts=kind is KeyKind.RA)

    return make


def _held(ceremony: Ceremony, store: SoftKeyStore, asked: argparse.Namespace) -> Manifest | Listening:
    if asked.verb == "first":
        return first(ceremony, asked.tls.absolute(), asked.host)
    if asked.verb == "tls":
        return ceremony.tls(asked.tls.absolute(), asked.host, store.find(asked.issuer), anew=True)
    parent = None if asked.parent is None else store.find(asked.parent)
    path_length = 0 if asked.path_length is None and parent is not None else asked.path_length
    days = asked.days or (ROOT_DAYS if parent is None else AUTHORITY_DAYS)
    plan = Plan(asked.name, parse_subject(asked.subject), asked.algorithm, parent, path_length, days, asked.leaf_days)
    authority = ceremony.authority(plan)
    ra = ceremony.ra(f"{asked.name}-ra", authority) if asked.with_ra else None
    root = Made(_root_name(store, authority), _pem(authority.chain[-1]))
    return Manifest(root, _made(authority), None if ra is None else _made(ra))


def parse_subject(text: str) -> list[tuple[str, str]]:
    """A distinguished name in RFC 4514's form as (OID, value) in the certificate's order. Raises `ValueError`."""
    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a name such as 'CN=Devices CA,O=Example': {error}") from None
    if any(len(list(each)) != 1 for each in name.rdns):
        raise ValueError("each part of a subject has one attribute")
    return [(each.oid.dotted_string, str(each.value)) for each in name]


def _self_signed(private_key: PrivateKey, plan: Plan, ceiling: Ceiling, ask: IssueCertificate) -> x509.Certificate:
    public_key = private_key.public_key()
    lint.check(ask, plan.algorithm)
    aki = x509.AuthorityKeyIdentifier(key_identifier(ask.spki), None, None)
    itself = Issuer(
        key=StoredKey(plan.name, KeyKind.ISSUER, private_key, (), ceiling),
        private_key=private_key,
        digest=digest_of(public_key),
        name=name_of(plan.subject),
        identifier=encoded(aki, critical=False),
        spki=ask.spki,
        not_before=ask.not_before,
        not_after=ask.not_after,
        path_length=plan.path_length,
        signs_lists=True,
    )
    return x509.load_der_x509_certificate(sign(itself, build(itself, ask, public_key)))


def _issued(authority: StoredKey, ask: IssueCertificate) -> x509.Certificate:
    # How long the certificate of a ceremony is good says the person who holds it; the rest of the ceiling stands.
    issuer = issuer_of(replace(authority, ceiling=msgspec.structs.replace(authority.ceiling, max_validity=_NO_BOUND)))
    within = msgspec.structs.replace(
        ask, not_before=max(ask.not_before, issuer.not_before), not_after=min(ask.not_after, issuer.not_after)
    )
    return x509.load_der_x509_certificate(sign(issuer, prepare(issuer, within)))


def _in_software(_name: str, algorithm: str, _kind: KeyKind) -> PrivateKey:
    return _generate(algorithm)


def _generate(algorithm: str) -> PrivateKey:
    generate = GENERATORS.get(algorithm)
    if generate is None:
        raise ValueError(f"{algorithm!r} is none of {', '.join(GENERATORS)}")
    return generate()


def _registration(authority: StoredKey) -> list[tuple[str, str]]:
    subject = [(each.oid.dotted_string, str(each.value)) for each in authority.certificate.subject]
    return [(oid, f"{value[:61]} RA" if oid == _COMMON_NAME else value) for oid, value in subject]


def _names(hosts: list[str]) -> list[GeneralName]:
    names: list[GeneralName] = []
    for host in [*hosts, "localhost", "127.0.0.1", "::1"]:
        try:
            name = GeneralName("ip_address", str(ip_address(host)))
        except ValueError:
            name = GeneralName("dns_name", host.lower().rstrip("."))
        if lint.san_fault(name) is None and name not in names:  # machines have names that no certificate may have
            names.append(name)
    return names


def _standing(key_file: Path, chain_file: Path) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificates(chain_file.read_bytes())[0]
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError):
        return None
    fits = certificate.public_key() == key.public_key()
    return certificate if fits else None


def _root_name(store: SoftKeyStore, authority: StoredKey) -> str:
    """The name of the key whose certificate ends the chain, empty if it is not in this store."""
    for name in store.names():
        if store.find(name).certificate == authority.chain[-1]:
            return name
    return ""


def _made(key: StoredKey) -> Made:
    issues = key.kind is KeyKind.ISSUER
    return Made(key.name, _pem(key.certificate), [_pem(each) for each in key.chain] if issues else [])


def _serial() -> bytes:
    octets = os.urandom(16)
    return bytes((0x40 | octets[0] & 0x3F,)) + octets[1:]  # 126 random bits, positive, of one length


def _spki(private_key: PrivateKey) -> bytes:
    return private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
