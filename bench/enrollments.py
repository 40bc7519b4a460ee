"""`python -m bench.enrollments`: what each piece of work costs a served gateway, over the network (P2 to P9).

A gateway of its own with one worker has one core, the drivers have the others; closed loop, kept connections but for
P6. May not happen here: a figure without its floor.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import cores, floors
from bench.bare.served import Served, served
from bench.figure import Effort, Figure
from bench.gateway import Quickstart, gateway
from bench.load.acme import Acme, Responder
from bench.load.est import Enrolling, Est
from bench.load.fleet import Fleet
from bench.load.ocsp import Ocsp
from bench.load.rest import Rest
from bench.load.run import Outcome, Plan, load
from bench.load.scep import Scep
from bench.load.trust import Trust
from bench.load.wire import Connection
from bench.table import printed


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway and what its clients hold: a responder, a client certificate with its key (one PEM file)."""

    at: Quickstart
    responder: Responder
    held: str

    def acme(self, directory: str, *, only_read: bool = False) -> Acme:
        """Clients that prove `localhost`, each with an account of its own."""
        address = self.responder.address
        return Acme(directory, self.trust, names="localhost", key_authorizations=address, only_read=only_read)

    def est(self, *, fresh: bool = False, certificate: bool = False) -> Est:
        """EST clients, by passphrase or by certificate."""
        if certificate:
            return Est(self.at.est, Trust(self.at.root, certificate=self.held), fresh=fresh)
        return Est(self.at.est, self.trust, self.at.est_user, self.at.est_passphrase, fresh=fresh)

    def ocsp(self, *, nonce: bool) -> Ocsp:
        """Clients that ask for the status of the issuing authority, which every gateway has."""
        issuing, root = (_fetched(f"{self.at.http}/ca/{name}.crt") for name in ("issuing", "root"))
        return Ocsp(f"{self.at.http}/ocsp/root", self.trust, issuing, root, nonce)

    @property
    def trust(self) -> Trust:
        """The gateway's own root."""
        return Trust(self.at.root)


@dataclass(frozen=True, slots=True)
class Work:
    """One row: its number and budget (server CPU, milliseconds) in the performance plan, its floor and its clients.

    `bare` are the same clients for the program that does nothing else, where it can do that work.
    """

    number: str
    title: str
    budget: float
    floor: Callable[[floors.Operations], float]
    fleet: Callable[[Place], Fleet]
    bare: Callable[[Served, Place], Fleet] | None = None


WORKS: Final[Sequence[Work]] = (
    Work(
        "P2",
        "one signed ACME POST-as-GET",
        0.20,
        lambda each: each.signed_read(),
        lambda place: place.acme(place.at.directory, only_read=True),
        lambda bare, _: bare.acme(only_read=True),
    ),
    Work(
        "P3",
        "ACME issuance, order ready at once",
        0.80,
        lambda each: each.acme(3),
        lambda place: place.acme(place.at.reuse_directory),
        lambda bare, _: bare.acme(),
    ),
    Work(
        "P4",
        "ACME issuance with http-01",
        1.50,
        lambda each: each.acme(5),
        lambda place: place.acme(place.at.directory),
        lambda bare, _: bare.acme(ready=False),
    ),
    Work(
        "P5",
        "EST simpleenroll, keep-alive, Basic",
        0.45,
        lambda each: each.est(),
        lambda place: place.est(),
        lambda bare, _: bare.est(),
    ),
    Work(
        "P5",
        "EST simpleenroll, keep-alive, client certificate",
        0.45,
        lambda each: each.est(),
        lambda place: place.est(certificate=True),
    ),
    Work(
        "P6",
        "EST simpleenroll, a full mutual handshake each",
        2.0,
        lambda each: each.est_with_handshake(),
        lambda place: place.est(certificate=True, fresh=True),
        lambda bare, place: bare.est(place.held),
    ),
    Work(
        "P7",
        "SCEP PKCSReq, RSA-2048 RA and client",
        1.30,
        lambda each: each.scep(),
        lambda place: Scep(place.at.scep, place.trust, place.at.scep_challenge),
    ),
    Work(
        "P8",
        "REST enrollment with a CSR",
        0.50,
        lambda each: each.rest(),
        lambda place: Rest(place.at.rest, place.trust, place.at.token, place.at.application, place.at.profile),
        lambda bare, _: bare.rest(),
    ),
    Work("P9", "OCSP answer, cached: GET", 0.10, lambda each: each.ocsp(0), lambda place: place.ocsp(nonce=False)),
    Work(
        "P9",
        "OCSP answer, signed: POST, nonce",
        0.30,
        lambda each: each.ocsp(1),
        lambda place: place.ocsp(nonce=True),
    ),
)


@contextmanager
def place() -> Iterator[Place]:
    """A gateway on its own core, with a client that is already known to it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="muster-bench-")))
        responder = Responder()
        stack.callback(responder.close)
        with cores.on(cores.halves().server):
            at = stack.enter_context(gateway(responder.port, "--workers", "1"))
        held = folder / "client.pem"
        held.touch(mode=0o600)
        held.write_bytes(_client_certificate(at))
        yield Place(at, responder, str(held))


def measure(effort: Effort, only: Sequence[str] = ()) -> list[Figure]:
    """P2 to P9, or those of `only`."""
    figures = []
    plan = Plan(clients=effort.clients, seconds=effort.seconds, cores=cores.halves().load)
    short = replace(plan, seconds=effort.seconds / 2)
    with place() as at, _bare(at) as least:
        for work in WORKS:
            if not only or work.number in only:
                effort.say(f"{work.number} {work.title} ...")
                # Beside its row: a machine that others use is twice as slow from one minute to the next.
                with cores.on(cores.halves().server):
                    operations = floors.measure()
                outcome = load(work.fleet(at), plan, server=at.at.pid)
                figure = _figure(work, outcome, operations, effort.clients)
                if work.bare is not None:
                    figure = replace(figure, bare=load(work.bare(least, at), short, server=least.pid).cpu_ms)
                figures.append(figure)
    return figures


@contextmanager
def _bare(at: Place) -> Iterator[Served]:
    """The least that could be, on the gateway's core; one of the two sleeps while the other is measured."""
    with ExitStack() as stack:
        with cores.on(cores.halves().server):
            bare = stack.enter_context(served(at.responder, _fetched(f"{at.at.http}/ca/issuing.crt")))
        yield bare


def _figure(work: Work, outcome: Outcome, operations: floors.Operations, clients: int) -> Figure:
    tally = outcome.tally
    p50, p95, p99, p999 = (tally.waits.quantile(share) * 1000 for share in (0.5, 0.95, 0.99, 0.999))
    conditions: dict[str, str | int | float | bool] = {
        "loop": "closed",
        "clients": clients,
        "seconds": outcome.seconds,
        "done": tally.finished,
        "driver_share_of_a_core": tally.cpu,
        "requests_each": tally.requests_each,
    }
    for name, seconds in outcome.by_name.items():
        conditions[f"cpu_ms {name}"] = seconds * 1000 / max(1, tally.finished)
    refused = f"{tally.not_now} were told to come again; " if tally.not_now else ""
    return Figure(
        work.number,
        work.title,
        outcome.cpu_ms,
        budget=work.budget,
        floor=work.floor(operations),
        paced=work.budget * operations.pace,
        per_second=outcome.per_second,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=tally.waits.largest * 1000,
        failures=tally.wrong + tally.not_now,
        note=refused + tally.first_failure,
        conditions=conditions,
    )


def _client_certificate(at: Quickstart) -> bytes:
    """A key and a certificate that was enrolled with the passphrase, PEM."""
    trust = Trust(at.root)
    enrolling = Enrolling(Est(at.est, trust, at.est_user, at.est_passphrase))
    connection = Connection(at.est, trust.context())
    issued = connection.play(enrolling.issue(opened=True))
    connection.close()
    return enrolling.template.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + issued


def _fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def progress(line: str) -> None:
    """A line for whoever waits."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print these rows alone; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.enrollments", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured (default 5)")
    parser.add_argument("--clients", type=int, default=16, help="closed-loop clients (default 16)")
    parser.add_argument("--only", action="append", metavar="P5", default=[], help="only this row; may be given again")
    options = parser.parse_args(arguments)
    figures = measure(Effort(options.seconds, options.clients, say=progress), options.only)
    print(printed(figures))
    return 1 if any(each.failures for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
