"""What the signer costs: one issuance inside a worker, step by step, and one ask through the wire, beside its floor.

    python -m bench.signing

CPU microseconds: of one process for the steps, of the gateway's process and the worker's together for an ask.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from bench import interrupt
from bench.pool import SECRET, signer
from signer.ceremony import Ceremony, first
from signer.client import SignerClient
from signer.contract.messages import GeneralName, IssueCertificate, No, Proof, UnwrapKey, Verb
from signer.issuance import ceiling, leaf, lint
from signer.issuance.issue import certificate, prepared
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.signature import signed
from signer.issuance.ticket import Tickets, claim_of
from signer.journal.entry import ISSUED, PURPOSE, Signed
from signer.journal.journal import Journal
from signer.keystore.softkey import SoftKeyStore, create, unlock

ROUNDS: Final = 5
ASKERS: Final = (1, 16, 64)
_encode: Final = msgspec.msgpack.Encoder().encode
_DER: Final = bytes.fromhex("308202003082018c") + bytes(508)  # as long as a certificate


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    argparse.ArgumentParser(prog="python -m bench.signing", description=__doc__).parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        keys = Path(place, "keys")
        create(keys, SECRET)
        store = SoftKeyStore(keys, unlock(keys, SECRET))
        first(Ceremony(store, now=int(time.time())), Path(place, "tls"), [])
        steps(store)
        wire(keys)


def steps(store: SoftKeyStore) -> None:
    """One issuance, P-256 issuer and subject."""
    issuer, tickets, asks = issuer_of(store.find("issuing")), Tickets(), Asks()
    ask = asks.issue()
    tbs = leaf.tbs(issuer, ask, ask.spki)
    now = int(time.time())
    assert isinstance(issuer.private_key, ec.EllipticCurvePrivateKey)
    bare = issuer.private_key
    print(f"{'one issuance, steps':40} {'us':>8}")
    rows: list[tuple[str, Callable[[], object]]] = [
        ("floor: a bare ECDSA P-256 signature", lambda: bare.sign(b"m" * 400, ec.ECDSA(hashes.SHA256()))),
        ("load the subject's key", lambda: load_der_public_key(ask.spki)),
        ("ceiling", lambda: ceiling.check(issuer, ask, ask.spki, "EC_prime256v1")),
        ("lint", lambda: lint.check(ask, "EC_prime256v1")),
        ("what is signed, in DER", lambda: leaf.tbs(issuer, ask, ask.spki)),
        ("sign it", lambda: signed(issuer.signature, issuer.algorithm, tbs)),
        ("all of it, ticket included", lambda: once(issuer, asks.issue(), tickets, now)),
    ]
    for name, work in rows:
        print(f"{name:40} {best(work):8.1f}")
    with tempfile.TemporaryDirectory() as place:
        journal = Journal(Path(place), store.derived(PURPOSE))
        for together in (1, 16):
            name = f"claim and journal, {together} at once, each"
            print(f"{name:40} {best(partial(kept, journal, ask, together), 200) / together:8.1f}")


def once(issuer: Issuer, ask: IssueCertificate, tickets: Tickets, now: int) -> bytes:
    """One issuance; what is written about it is in the table of asks."""
    made = prepared(issuer, ask)
    tickets.spend(made.claim, now=now)
    return certificate(made)


def kept(journal: Journal, ask: IssueCertificate, together: int) -> None:
    """What a worker does besides signing, for a batch of so many certificates."""
    claims = [claim_of(ask.issuer, os.urandom(16), os.urandom(16), ask.deadline) for _ in range(together)]
    journal.claim(claims)
    for each in claims:
        asked = hashlib.sha256(_encode(ask)).digest()
        journal.record(Signed(ISSUED, ask.issuer, 5**50, _DER, each.ticket, bytes(32), asked))
    journal.write()


def wire(keys: Path) -> None:
    """Asks to one worker by 1, 16 and 64 askers: empty ones (refused at the first look), then issuances."""
    with signer(keys) as ready:
        empty = UnwrapKey("issuing", b"", "pkcs1v15", 16)
        asks = Asks()
        awaited = partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
        print(f"\n{'one ask':24} {'askers':>6} {'us gateway':>11} {'us worker':>10} {'asks/frame':>11} {'a second':>9}")
        for name, make, count in (("empty", lambda: empty, 20000), ("certificate", asks.issue, 6000)):
            for askers in ASKERS:
                awaited(through, ready.sockets, ready.workers[0], name, make, askers, count)


async def through(paths: list[str], worker: int, name: str, make: Callable[[], Verb], askers: int, count: int) -> None:
    """One row: `count` asks by so many askers, each asking again when it is answered."""
    client = SignerClient(paths)
    numbers = itertools.count()

    async def asker() -> None:
        while next(numbers) < count:
            outcome = await client.ask(make(), share="bench", deadline=trio.current_time() + 60)
            assert not isinstance(outcome, No) or name == "empty", outcome

    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        async with trio.open_nursery() as nursery:
            wall, ours, theirs = time.perf_counter(), time.process_time(), cpu(worker)
            for _ in range(askers):
                nursery.start_soon(asker)
        wall, ours, theirs = time.perf_counter() - wall, time.process_time() - ours, cpu(worker) - theirs
        numbers_of = client.statistics()
        serving.cancel_scope.cancel()
    each = 1e6 / count
    frame = numbers_of.asks / numbers_of.frames
    print(f"{name:24} {askers:6} {ours * each:11.1f} {theirs * each:10.1f} {frame:11.1f} {count / wall:9.0f}")


class Asks:
    """Asks for certificates that differ in what must differ."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        self._number = 0
        proof = Proof("acme", "acme-order", "account", bytes(32), ["acme", "est"])
        now = int(time.time())
        self._model = IssueCertificate(
            issuer="issuing",
            ticket=b"",
            deadline=now + 500,
            serial=b"",
            spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            subject=[("2.5.4.3", "device.bench.example")],
            sans=[GeneralName("dns_name", "device.bench.example")],
            san_critical=False,
            key_usages=["digitalSignature"],
            extended_key_usages=["1.3.6.1.5.5.7.3.1"],
            not_before=now - 300,
            not_after=now + 90 * 86400,
            proof=proof,
            crl_urls=["http://localhost:8080/ca/issuing.crl"],
            issuer_urls=["http://localhost:8080/ca/issuing.crt"],
        )

    def issue(self) -> IssueCertificate:
        """The next one."""
        return msgspec.structs.replace(self._model, ticket=os.urandom(16), serial=b"\x01" + os.urandom(15))


def best(work: Callable[[], object], count: int = 1000) -> float:
    """CPU microseconds of `work`, the best of several rounds."""
    fastest = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(count):
            work()
        fastest = min(fastest, (time.process_time() - began) / count * 1e6)
    return fastest


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    interrupt.run(main)
