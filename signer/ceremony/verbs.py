"""The ceremonies as verbs of a command line: read what is asked, hold the ceremony, print what it made.

Secrets come by standard input alone, a line each; standard output is one JSON document, standard error sentences.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography import x509

from signer.ceremony.authority import Ceremony, first
from signer.ceremony.chains import chain_from
from signer.ceremony.manifest import Listening, Made, Manifest, Shown, made, pem
from signer.ceremony.outside import import_key, install, pkcs12_from, private_key_from, request, request_again
from signer.ceremony.places import add_place, remove_place
from signer.ceremony.plan import (
    AUTHORITY_DAYS,
    ROOT_DAYS,
    Extras,
    Plan,
    check_policies,
    parse_bounds,
    parse_subject,
    require_like,
)
from signer.ceremony.renewal import follow, rekey, renew
from signer.ceremony.scribe import Scribe
from signer.ceremony.showing import listed, shown
from signer.ceremony.transcript import Transcript
from signer.hardening import harden
from signer.issuance.refused import Refused
from signer.issuance.template import addresses
from signer.journal.failed import JournalFailed
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import KeyKind, PendingKey, StoredKey, TokenPlace
from signer.keystore.mechanism import PrivateKey
from signer.keystore.pin import read_pins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, create, unlock
from signer.keystore.token import LazyTokens, tokens_of

_LARGEST: Final = 1024 * 1024  # bytes of a file with keys or certificates
_LONGEST: Final = 4096  # bytes of a passphrase

Answer: TypeAlias = Manifest | Listening | Shown | list[Shown]


@dataclass(frozen=True, slots=True)
class Held:
    """A ceremony, with what a verb needs beside it."""

    ceremony: Ceremony
    store: SoftKeyStore
    tokens: LazyTokens
    passphrase: bytes


def main(asked: argparse.Namespace) -> int:
    """Hold the ceremony that the command line names. Gives the exit status: 2 with one sentence if it fails."""
    harden(follow_parent=False)
    os.umask(0o077)
    try:
        secret = read_secret(sys.stdin.fileno())
        passphrase = _line(sys.stdin.fileno()) if asked.verb == "import" else b""
        pins = read_pins(asked.pin, sys.stdin.fileno())
        if asked.verb in _BEGIN:
            create(asked.keys, secret)
        kek = unlock(asked.keys, secret)
        tokens = tokens_of(asked.keys, kek, pins, writing=True)
        store = SoftKeyStore(asked.keys, kek, tokens)
        transcript = Transcript(time.time)
        with store.ceremony():
            make = _maker(tokens, asked, transcript)
            with contextlib.closing(Scribe(asked.keys, store)) as scribe:
                ceremony = Ceremony(store, now=int(time.time()), make=make, transcript=transcript, write=scribe.write)
                answer = _VERBS[asked.verb](Held(ceremony, store, tokens, passphrase), asked)
    except (KeyStoreError, JournalFailed, Refused, ValueError, OSError) as error:
        print(f"signer: {error}", file=sys.stderr)  # noqa: T201 - a sentence for the operator
        return 2
    if isinstance(answer, Manifest):
        answer = msgspec.structs.replace(answer, transcript=transcript.closed())
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    return 0


def _first(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, "first authorities")
    urls = (tuple(asked.crl_url), tuple(asked.issuer_url), tuple(asked.ocsp_url))
    return first(held.ceremony, asked.tls.absolute(), asked.host, urls)


def _tls(held: Held, asked: argparse.Namespace) -> Listening:
    return held.ceremony.tls(asked.tls.absolute(), asked.host, held.store.find(asked.issuer), anew=True)


def _create(held: Held, asked: argparse.Namespace) -> Manifest:
    if asked.name in held.store.pending_names():
        raise ValueError(f"{asked.name} waits for its certificate: install it, or choose another name")
    _begin(held, asked, f"make the authority {asked.name}")
    plan = _plan(asked, None if asked.parent is None else held.store.find(asked.parent))
    earlier = held.ceremony.found(asked.name)
    if earlier is not None and earlier.kind is KeyKind.ISSUER:
        require_like(plan, earlier)
    authority = held.ceremony.authority(plan)
    return _told(held, authority, with_ra=asked.with_ra)


def _request(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, f"request a certificate for the authority {asked.name}")
    return _asked_for(request(held.ceremony, _plan(asked, None)))


def _install(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, f"install the certificate of the authority {asked.name}")
    content = _standard_input() if asked.certificate is None else _file(asked.certificate)
    authority = install(held.ceremony, asked.name, chain_from(content))
    # A key that follows another has an RA where that one has.
    inherits = bool(authority.predecessor) and f"{authority.predecessor}-ra" in held.store.names()
    return _told(held, authority, with_ra=asked.with_ra or inherits, followed=True)


def _import(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, f"import the authority {asked.name}")
    given: list[x509.Certificate] = []
    if (asked.pkcs12 is None) == (asked.key is None):
        raise ValueError("either --pkcs12 or --key with --chain is needed")
    if asked.pkcs12 is not None:
        private_key, given = pkcs12_from(_file(asked.pkcs12), held.passphrase)
    else:
        private_key = private_key_from(_file(asked.key), held.passphrase)
    if asked.chain is not None:
        given = [*given, *chain_from(_file(asked.chain))]
    where = _where(asked)

    def rest(key: PrivateKey) -> PrivateKey:
        if where is None:
            return key
        held.ceremony.transcript.module(held.tokens.described(where))
        return held.tokens.take_in(_named(where, asked.name), key)

    key = import_key(held.ceremony, asked.name, private_key, given, leaf_days=asked.leaf_days, rest=rest)
    return _told(held, key, with_ra=asked.with_ra)


def _renew(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, f"renew {asked.name} with the same key")
    parent = None if asked.parent is None else held.store.find(asked.parent)
    key = renew(held.ceremony, asked.name, asked.days, parent, _addresses(asked), known=asked.known)
    if key is None:
        key = held.store.find(asked.name)
        held.ceremony.transcript.say(f"{asked.name} was signed elsewhere: here is a request for its new certificate")
        return msgspec.structs.replace(_told(held, key), csr=pem(request_again(key)))
    return _told(held, key, followed=True)


def _rekey(held: Held, asked: argparse.Namespace) -> Manifest:
    _begin(held, asked, f"a new key for {asked.name}, named {asked.successor}")
    parent = None if asked.parent is None else held.store.find(asked.parent)
    new = rekey(
        held.ceremony,
        asked.name,
        asked.successor,
        algorithm=asked.algorithm,
        days=asked.days,
        parent=parent,
        addresses=_addresses(asked),
    )
    return _asked_for(new) if isinstance(new, PendingKey) else _told(held, new)


def _addresses(asked: argparse.Namespace) -> Extras:
    """Where another parent publishes, for what it signs."""
    return list(addresses(tuple(asked.crl_url), tuple(asked.issuer_url), tuple(asked.ocsp_url)))


def _add_place(held: Held, asked: argparse.Namespace) -> Shown:
    add_place(held.store, held.tokens, asked.name, _named(_token_asked(asked), asked.label))
    return shown(held.store, asked.name)


def _remove_place(held: Held, asked: argparse.Namespace) -> Shown:
    remove_place(held.store, asked.name, _token_asked(asked))
    return shown(held.store, asked.name)


def _token_asked(asked: argparse.Namespace) -> TokenPlace:
    where = _where(asked)
    if where is None:
        raise ValueError("--module and --token say which token is meant")
    return where


def _show(held: Held, asked: argparse.Namespace) -> Shown:
    return shown(held.store, asked.name)


def _list(held: Held, _asked: argparse.Namespace) -> list[Shown]:
    return listed(held.store)


_VERBS: Final[dict[str, Callable[[Held, argparse.Namespace], Answer]]] = {
    "first": _first,
    "tls": _tls,
    "create-authority": _create,
    "request": _request,
    "install": _install,
    "import": _import,
    "renew": _renew,
    "rekey": _rekey,
    "add-place": _add_place,
    "remove-place": _remove_place,
    "show": _show,
    "list": _list,
}
# Those that may be the first with a folder. To any other a folder without keys is another one than was meant.
_BEGIN: Final = frozenset({"first", "create-authority", "request", "import"})


def _begin(held: Held, asked: argparse.Namespace, what: str) -> None:
    held.ceremony.transcript.opened(what, str(asked.keys.absolute()))


def _told(held: Held, key: StoredKey, *, with_ra: bool = False, followed: bool = False) -> Manifest:
    """A key that issues, or an RA that was renewed, with all that changed around it."""
    store = held.store
    below = follow(held.ceremony, key) if followed else []
    if key.kind is KeyKind.RA:
        authority = Made(_name_of(store, key.chain[1]), pem(key.chain[1]), [pem(each) for each in key.chain[1:]])
        return Manifest(Made(_name_of(store, key.chain[-1]), pem(key.chain[-1])), authority, made(key), below=below)
    if with_ra:
        held.ceremony.ra(f"{key.name}-ra", key)
    name = f"{key.name}-ra"
    ra = None
    if name in store.names() and store.facts(name).kind is KeyKind.RA:
        ra = Made(name, pem(store.chain(name)[0]))
    root = Made(_name_of(store, key.chain[-1]), pem(key.chain[-1]))
    return Manifest(root, made(key), ra, links=[pem(each) for each in held.store.find(key.name).links], below=below)


def _asked_for(pending: PendingKey) -> Manifest:
    return Manifest(Made("", ""), Made(pending.name, ""), csr=pem(pending.request))


def _plan(asked: argparse.Namespace, parent: StoredKey | None) -> Plan:
    below = parent is not None or asked.verb == "request"
    return Plan(
        name=asked.name,
        subject=parse_subject(asked.subject),
        algorithm=asked.algorithm,
        parent=parent,
        path_length=0 if asked.path_length is None and below else asked.path_length,
        days=asked.days or (AUTHORITY_DAYS if below else ROOT_DAYS),
        leaf_days=asked.leaf_days,
        bounds=parse_bounds(asked.permitted, asked.excluded),
        policies=check_policies(asked.policy, asked.cps),
        cps=asked.cps,
        crl_urls=tuple(asked.crl_url),
        issuer_urls=tuple(asked.issuer_url),
        ocsp_urls=tuple(asked.ocsp_url),
    )


def _where(asked: argparse.Namespace) -> TokenPlace | None:
    """The token that the command line names, None for in software."""
    if not asked.module and not asked.token and not asked.token_serial:
        return None
    if not asked.module or not (asked.token or asked.token_serial):
        raise ValueError("--module goes with --token or --token-serial")
    return TokenPlace(asked.module, asked.token, asked.token_serial, "", b"")


def _named(where: TokenPlace, name: str) -> TokenPlace:
    return msgspec.structs.replace(where, label=name)


def _maker(
    tokens: LazyTokens, asked: argparse.Namespace, transcript: Transcript
) -> Callable[[str, str, KeyKind], PrivateKey] | None:
    """Where a ceremony's keys are made: on the token that the command line names, None for in software."""
    if not hasattr(asked, "module"):
        return None
    where = _where(asked)
    if where is None:
        return None

    def make(name: str, algorithm: str, kind: KeyKind) -> PrivateKey:
        transcript.module(tokens.described(where))
        return tokens.generate(_named(where, name), algorithm, decrypts=kind is KeyKind.RA)

    return make


def _name_of(store: SoftKeyStore, certificate: x509.Certificate) -> str:
    """The name of the key that has this certificate, empty if it is not in this store."""
    return next((name for name in store.names() if store.chain(name)[0] == certificate), "")


def _file(path: Path) -> bytes:
    with path.open("rb") as file:
        return _whole(file.read(_LARGEST + 1), str(path))


def _line(descriptor: int) -> bytes:
    """A line of standard input without its end, unbuffered, so that what follows is left to others."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LONGEST:
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line.rstrip(b"\r\n")


def _standard_input() -> bytes:
    content = b""
    while len(content) <= _LARGEST:
        more = os.read(sys.stdin.fileno(), 65536)
        if not more:
            break
        content += more
    return _whole(content, "standard input")


def _whole(content: bytes, where: str) -> bytes:
    if len(content) > _LARGEST:
        raise ValueError(f"{where} is too large for certificates")
    return content
