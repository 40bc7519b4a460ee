"""`python -m signer calibrate`: how fast keys of the kinds in a folder sign, by the number of processes that do.

Every key that signs here is made for it and forgotten: in memory, or as a session object of its token (CKA_TOKEN
false). No key of an authority is opened, no certificate made, nothing written. Standard output is JSON lines.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from signer.hardening import harden
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import GENERATORS, PrivateKey, digest_of
from signer.keystore.pin import Logins, read_pins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, unlock

_MESSAGE: Final = b"m" * 400  # about as long as what is signed of a certificate
_WARM: Final = 3  # signatures before the first that counts
_GENERATION: Final = 120.0  # seconds; a token may take its time for an RSA key

End: TypeAlias = "Connection[object, object]"
Signing: TypeAlias = Callable[[], object]


class Measured(msgspec.Struct, frozen=True):
    """One row. `token` is its label, empty for software; `p50` and `p99` are microseconds that a signature took.

    `trouble` says why there are no figures.
    """

    algorithm: str
    token: str
    workers: int
    per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    trouble: str = ""


class Kind(msgspec.Struct, frozen=True):
    """An algorithm, and the token on which its keys are made; None for software."""

    algorithm: str
    place: TokenPlace | None = None

    @property
    def token(self) -> str:
        """The token's label, or its serial number; empty for software."""
        return "" if self.place is None else self.place.token or self.place.serial or "token"


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `calibrate` to a command line."""
    from signer.keystore.pin import HELP

    verb = verbs.add_parser("calibrate", help="measure how fast temporary keys sign, by the number of processes")
    verb.add_argument("--keys", type=Path, required=True, help="the folder of keys, whose kinds are measured")
    verb.add_argument("--pin", action="append", default=[], metavar="SOURCE", help=HELP)
    verb.add_argument("--most", type=int, default=4, help="how many processes at most (default 4)")
    verb.add_argument("--seconds", type=float, default=0.5, help="how long each row is measured (default 0.5)")


def main(asked: argparse.Namespace) -> int:
    """Measure, a line of JSON a row. Gives the exit status: 2 and one sentence where the folder cannot be opened."""
    harden(follow_parent=False)
    try:
        kek = unlock(asked.keys, read_secret(sys.stdin.fileno()))
        logins = Logins(asked.keys, kek, read_pins(asked.pin, sys.stdin.fileno()))
        found = kinds(SoftKeyStore(asked.keys, kek))
    except KeyStoreError as error:
        print(f"signer: {error}", file=sys.stderr)  # noqa: T201 - a sentence for the operator
        return 2
    for each in found:
        for row in measured(each, logins, asked.most, asked.seconds):
            sys.stdout.buffer.write(msgspec.json.encode(row) + b"\n")
            sys.stdout.buffer.flush()
    return 0


def kinds(store: SoftKeyStore) -> list[Kind]:
    """What kinds of keys a folder has, software first; no key is opened and no token asked."""
    found: dict[tuple[str, str], Kind] = {}
    for name in store.names():
        facts = store.facts(name)
        for place in facts.everywhere or (None,):
            kind = Kind(facts.algorithm, place)
            found.setdefault((kind.token, kind.algorithm), kind)
    return [found[each] for each in sorted(found)]


def measured(kind: Kind, logins: Logins, most: int, seconds: float) -> Iterator[Measured]:
    """A row for 1, 2, ... `most` processes, each with a key of its own; a row with `trouble` where none can be made."""
    # Forked: nothing of a token is loaded in this process yet, and each child loads its own.
    context = multiprocessing.get_context("fork")
    ends: list[End] = []
    children = []
    try:
        for number in range(1, most + 1):
            ours, theirs = context.Pipe()
            child = context.Process(target=_sign_when_told, args=(kind, logins, theirs, seconds), daemon=True)
            child.start()
            theirs.close()
            ends.append(ours)
            children.append(child)
            trouble = _said(ours, _GENERATION)
            if trouble:
                yield Measured(kind.algorithm, kind.token, number, trouble=str(trouble))
                return
            yield _row(kind, ends, seconds)
    finally:
        for end in ends:
            # Closed ends would not end them: each child holds a copy of those that were there before it.
            with suppress(OSError):
                end.send("end")
            end.close()
        for child in children:
            child.join(timeout=5)
            if child.is_alive():
                child.kill()


def _row(kind: Kind, ends: list[End], seconds: float) -> Measured:
    for end in ends:
        end.send("go")
    took: list[float] = []
    for end in ends:
        answer = _said(end, seconds + _GENERATION)
        if not isinstance(answer, list):
            return Measured(kind.algorithm, kind.token, len(ends), trouble=str(answer))
        took += answer
    took.sort()
    return Measured(
        kind.algorithm,
        kind.token,
        len(ends),
        per_second=len(took) / seconds,
        p50=took[len(took) // 2] * 1e6,
        p99=took[int(len(took) * 0.99)] * 1e6,
    )


def _said(end: End, seconds: float) -> object:
    try:
        return end.recv() if end.poll(seconds) else "no answer in time"
    except EOFError:
        return "the process that signs ended"


def _sign_when_told(kind: Kind, logins: Logins, end: End, seconds: float) -> None:
    """A child: make a key, say so, and sign for `seconds` each time it is told to; how long each signature took."""
    try:
        sign = software(kind.algorithm) if kind.place is None else on_token(kind.algorithm, kind.place, logins)
        for _ in range(_WARM):
            sign()
    except Exception as error:  # noqa: BLE001 - a module may raise anything, and the operator is to read it
        end.send(str(error) or type(error).__name__)
        return
    end.send("")
    with suppress(EOFError, OSError):
        while end.recv() == "go":
            end.send(_timed(sign, seconds))


def _timed(sign: Signing, seconds: float) -> list[float]:
    took: list[float] = []
    began = now = time.perf_counter()
    while now - began < seconds:
        sign()
        before, now = now, time.perf_counter()
        took.append(now - before)
    return took


def software(algorithm: str) -> Signing:
    """A key in memory, and one signature with it."""
    return _signing(GENERATORS[algorithm]())


def _signing(key: PrivateKey) -> Signing:
    digest = digest_of(key.public_key())
    match key:
        case ec.EllipticCurvePrivateKey():
            assert digest is not None
            how = ec.ECDSA(digest)
            return lambda: key.sign(_MESSAGE, how)
        case rsa.RSAPrivateKey():
            assert digest is not None
            return lambda: key.sign(_MESSAGE, padding.PKCS1v15(), digest)
        case _:
            return lambda: key.sign(_MESSAGE)


def on_token(algorithm: str, place: TokenPlace, logins: Logins) -> Signing:
    """A key pair as session objects of a token, which end with the session, and one signature with it."""
    from signer.keystore.pkcs11 import Tokens
    from signer.keystore.tokenpair import for_session

    return for_session(Tokens(logins).token(place).session(), algorithm, _MESSAGE)
