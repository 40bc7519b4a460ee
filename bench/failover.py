"""Signing on SoftHSM2: by one thread and by two processes, and what the loss of the first of two tokens costs an ask.

    python -m bench.failover

Needs SoftHSM2 (Debian: softhsm2). Two threads are not measured: python-pkcs11 initialises a module without locking, and
what two threads then do is luck (`tests/hsm/test_threads.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.pool
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench import interrupt
from signer.keystore.key import TokenPlace
from signer.keystore.mechanism import PrivateKey
from signer.keystore.pin import Logins
from signer.keystore.pkcs11 import Tokens

MODULE: Final = "/usr/lib/softhsm/libsofthsm2.so"
PIN: Final = "2468"
SIGNATURES: Final = 2000
_ECDSA: Final = ec.ECDSA(hashes.SHA256())


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    argparse.ArgumentParser(prog="python -m bench.failover", description=__doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        tokens = Path(place, "tokens")
        tokens.mkdir()
        configuration = Path(place, "softhsm2.conf")
        configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        folders = {label: made(label, tokens) for label in ("a", "b")}
        private_key = ec.generate_private_key(ec.SECP256R1())
        with processes(1) as one:
            one.apply(write, (place, private_key.private_numbers().private_value))
        print(f"{'SoftHSM2, P-256':44} {'signatures/s':>12}")
        with processes(2) as two:
            print(f"{'one process, one thread':44} {two.apply(rate, (place,)):12.0f}")
            print(f"{'two processes, one thread each':44} {sum(two.map(rate, [place, place], chunksize=1)):12.0f}")
        with processes(1) as one:
            for name, milliseconds in one.apply(failover, (place, str(folders["a"]))):
                print(f"{name:44} {milliseconds:9.2f} ms")


@contextlib.contextmanager
def processes(count: int) -> Iterator[multiprocessing.pool.Pool]:
    """So many of them, which have nothing of this one; ended on the way out."""
    resource_tracker.ensure_running()  # its start would have this process, and the next child, hear interrupts again
    with interrupt.child(partial(multiprocessing.get_context("spawn").Pool, count), _end) as started:
        yield started


def _end(started: multiprocessing.pool.Pool) -> None:
    started.terminate()
    started.join()


def made(label: str, tokens: Path) -> Path:
    """A token; gives its folder."""
    before = set(tokens.iterdir())
    command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True)
    [folder] = set(tokens.iterdir()) - before
    return folder


def opened(folder: str, *, writing: bool = False) -> Tokens:
    """The tokens as a worker opens them."""
    return Tokens(Logins(Path(folder), bytes(32), {"": PIN}), writing=writing, say=lambda _: None)


def place(label: str) -> TokenPlace:
    """Where the key is on a token."""
    return TokenPlace(MODULE, label, "", "key", b"")


def write(folder: str, value: int) -> None:
    """The key, onto both."""
    key = ec.derive_private_key(value, ec.SECP256R1())
    tokens = opened(folder, writing=True)
    for label in ("a", "b"):
        tokens.take_in(place(label), key)
    number = key.public_key().public_numbers()
    Path(folder, "public").write_text(f"{number.x} {number.y}", encoding="ascii")


def found(folder: str) -> PrivateKey:
    """The key on both, the first token before the second."""
    x, y = map(int, Path(folder, "public").read_text(encoding="ascii").split())
    public_key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return opened(folder).find_any([place("a"), place("b")], public_key)


def rate(folder: str) -> float:
    """Signatures a second of this process."""
    key = found(folder)
    began = time.perf_counter()
    for _ in range(SIGNATURES):
        sign(key)
    return SIGNATURES / (time.perf_counter() - began)


def failover(folder: str, first: str) -> list[tuple[str, float]]:
    """Milliseconds of one signature: before, when the first token has just gone, while it is away, when it is back."""
    key = found(folder)
    rows = [("a signature by the first of two tokens", best(key))]
    away = Path(first).rename(f"{folder}/away")
    rows.append(("the one that finds the first token gone", once(key)))
    rows.append(("by the second, the first being left alone", best(key)))
    away.rename(first)
    time.sleep(1.1)
    rows.append(("the one that finds the first token back", once(key)))
    rows.append(("by the first again", best(key)))
    return rows


def sign(key: PrivateKey) -> None:
    """One signature."""
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    key.sign(b"data", _ECDSA)


def once(key: PrivateKey) -> float:
    """Milliseconds of one signature."""
    began = time.perf_counter()
    sign(key)
    return (time.perf_counter() - began) * 1000


def best(key: PrivateKey) -> float:
    """The best of a hundred."""
    return min(once(key) for _ in range(100))


if __name__ == "__main__":
    interrupt.run(main)
