"""`python -m bench.storing`: what a unit of work and a read cost, beside what bare sqlite3 costs for the same rows.

Never here: a promise. Figures are of this machine, this disk and this moment; CPU is of the whole process.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import trio

from bench import interrupt, values
from gateway.domain.audit import AuditEvent
from gateway.domain.certificate import Certificate
from gateway.domain.request import CertificateRequest, ProofKind, Protocol, RequestStatus, San, SanType
from gateway.store import certificates, issuance
from gateway.store.migrate import current, statements
from gateway.store.unit import Store, StoreError, Unit, open_store

NOW = datetime.now(UTC).replace(microsecond=0)
SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What some number of works took."""

    done: int
    seconds: float
    cpu: float

    def line(self, title: str) -> str:
        """One line: works a second, CPU microseconds each."""
        return f"{title:<58} {self.done / self.seconds:>9,.0f}/s {self.cpu / self.done * 1e6:>8.1f} us CPU"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1, with a sentence, where the store cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m bench.storing", description=__doc__)
    parser.add_argument(
        "--url", type=_store, help="a store of your own, empty: postgresql://...; default: SQLite in a new folder"
    )
    parser.add_argument(
        "--folder",
        type=values.folder,
        help="where the SQLite file goes (the disk under test); default: the system's",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(f"store: {options.url or 'SQLite, WAL, synchronous=FULL'}; sqlite3 {sqlite3.sqlite_version}")
        for rows in (1, 16, 64):
            print(
                floor(Path(folder) / f"floor-{rows}.db", rows).line(
                    f"floor: bare sqlite3, {rows} reservations a commit"
                )
            )
        url = options.url or f"sqlite:///{folder}/store.db"
        # In the middle of the store's own work an interrupt would leave writers waiting for an answer that never comes.
        try:
            trio.run(measure, url, restrict_keyboard_interrupt_to_checkpoints=True)
        except StoreError as trouble:
            print(f"bench storing: {trouble}", file=sys.stderr)
            return 1
    return 0


def _store(text: str) -> str:
    if not re.match("postgres(ql)?:|sqlite:///.", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not postgresql://... or sqlite:///path")
    return text


async def measure(url: str) -> None:
    """The store's own cost: reservation and completion, with their audit events, and reads."""
    async with open_store(url) as store:
        for writers in (1, 16, 64):
            cost = await closed_loop(writers, partial(reserve, store))
            print(cost.line(f"reserve: request, serial, audit; {writers} writers"))
        for writers in (1, 16, 64):
            cost = await closed_loop(writers, partial(enroll, store))
            print(cost.line(f"reserve and complete: two commits; {writers} writers"))
        for readers in (1, 64):
            cost = await closed_loop(readers, partial(read, store))
            print(cost.line(f"read a certificate by id; {readers} readers"))
        cost = await closed_loop(64, partial(enroll, store), beside=busy)
        print(cost.line("reserve and complete; 64 writers, a loop that is never idle"))


async def closed_loop(
    clients: int, work: Callable[[str], Awaitable[object]], beside: Callable[[], Awaitable[object]] | None = None
) -> Cost:
    """Some clients, each asking again as soon as it is answered; `beside` runs over and over next to them."""
    done = 0
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    end = start + SECONDS

    async def client(number: int) -> None:
        nonlocal done
        turn = 0
        while time.perf_counter() < end:
            await work(f"{start}-{number}-{turn}")
            turn += 1
            done += 1

    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(client, number)
        while beside is not None and time.perf_counter() < end:
            await beside()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return Cost(done, time.perf_counter() - start, cpu)


async def busy() -> None:
    """A fifth of a millisecond of somebody else's work, as a gateway under load always has."""
    end = time.perf_counter() + 0.0002
    while time.perf_counter() < end:
        pass
    await trio.lowlevel.checkpoint()


async def reserve(store: Store, name: str) -> tuple[str, str]:
    """One unit: what is durable before a signature."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    request = CertificateRequest(
        id=f"{time.time_ns():x}{digest[:8]}",
        application_id="application",
        profile_id="profile",
        protocol=Protocol.ACME,
        status=RequestStatus.SIGNING,
        proof_kind=ProofKind.ACME_ORDER,
        proof_subject="account",
        subject="CN=host.example",
        sans=(San(SanType.DNS_NAME, "host.example"),),
        created_at=NOW,
        updated_at=NOW,
    )
    event = AuditEvent(NOW, "acme-order:account", "certificate.request", request.id, "success", "application")

    def unit(unit: Unit) -> None:
        issuance.reserve(
            unit,
            request=request,
            deduplication=request.id.encode(),
            serial=_serial(request.id),
            issuer_id="authority",
            plan=b"p" * 500,
            at=NOW,
        )
        unit.audit(event)

    await store.write(unit)
    return request.id, digest


def _serial(request_id: str) -> str:
    """As real ones, it sorts by the time of its making."""
    return f"40{request_id}"


_last_certificate: list[str] = []


async def enroll(store: Store, name: str) -> None:
    """Two units: a reservation, and its completion."""
    request_id, digest = await reserve(store, name)
    certificate = Certificate(
        id=f"c{request_id}",
        serial=_serial(request_id),
        issuer_id="authority",
        der=bytes.fromhex(digest) * 20,
        subject="CN=host.example",
        sans=(San(SanType.DNS_NAME, "host.example"),),
        not_before=NOW,
        not_after=NOW + timedelta(days=90),
        sha1=digest[:40],
        sha256=digest,
        spki_sha256=digest,
        key_algorithm="EC_prime256v1",
        signature_algorithm="1.2.840.10045.4.3.2",
        source="issued",
        created_at=NOW,
        application_id="application",
        profile_id="profile",
        request_id=request_id,
        protocol="acme",
    )
    event = AuditEvent(NOW, "acme-order:account", "certificate.issue", certificate.id, "success", "application")

    def unit(unit: Unit) -> None:
        issuance.complete(unit, certificate, at=NOW)
        unit.audit(event)

    await store.write(unit)
    _last_certificate[:] = [certificate.id]


async def read(store: Store, _: str) -> None:
    """One read by key, of the widest row there is."""
    found = await store.read(lambda unit: certificates.find(unit, _last_certificate[0]))
    if found is None:
        raise RuntimeError("the certificate vanished")
    # A client of a real gateway does something else between two reads; without this nobody else would ever run.
    await trio.lowlevel.cancel_shielded_checkpoint()


def floor(file: Path, rows: int) -> Cost:
    """The same three rows without the store: prepared statements, one commit for `rows` reservations."""
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 4000", "cache_size = -32768"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in statements(current()):
        connection.execute(statement)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    done = 0
    while time.perf_counter() < start + SECONDS:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(rows):
            done += 1
            _bare(connection, done)
        connection.execute("COMMIT")
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    seconds = time.perf_counter() - start
    connection.close()
    return Cost(done, seconds, cpu)


def _bare(connection: sqlite3.Connection, number: int) -> None:
    digest = hashlib.sha256(number.to_bytes(8, "big"))
    key = f"{number:020x}"
    connection.execute(
        "INSERT INTO certificate_requests"
        " VALUES (?,'a','p','acme','signing','acme-order','x',?,'CN=x','[]',1,1,NULL,NULL)",
        (key, digest.digest()),
    )
    connection.execute(
        "INSERT INTO serials VALUES ('authority',?,'reserved',?,NULL,?,1,NULL)",
        (digest.hexdigest()[:32], key, b"p" * 500),
    )
    connection.execute(
        "INSERT INTO audit VALUES (?,1,'acme-order:account','certificate.request',?,'success','a','','','',?)",
        (number, key, digest.digest()),
    )


if __name__ == "__main__":
    interrupt.run(main)
