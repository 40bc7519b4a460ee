"""`python -m bench.enrollments`: what each piece of work costs a served gateway, over the network (P2 to P9).

A gateway of its own with one worker has one core, the drivers have the others; closed loop, kept connections but for
P6. Where the bare program can do the work as well, the two take turns of less than a second, so that both are measured
in good and in bad moments of the machine; its pace is sampled in those of the figure. May not happen here: a figure
without its floor, or beside what was measured in other seconds.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import chosen, cores, floors, interrupt, pace, values
from bench.bare.served import Served, served
from bench.figure import Effort, Figure
from bench.gateway import Quickstart, gateway
from bench.load.acme import Acme, Responder
from bench.load.est import Enrolling, Est
from bench.load.fleet import Fleet
from bench.load.ocsp import Ocsp
from bench.load.rest import Rest
from bench.load.run import Drivers, Outcome, Plan, drivers
from bench.load.scep import Scep
from bench.load.tally import Tally
from bench.load.trust import Trust
from bench.load.wire import Connection
from bench.table import printed

TURNS: Final = 6  # of a gateway and of the bare program each, one after the other
_WARM_UP: Final = 0.2  # seconds before each turn counts, for the caches that the other one has filled


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
    floor: floors.Floor
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
NUMBERS: Final = tuple(dict.fromkeys(work.number for work in WORKS))


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
    with place() as at, _bare(at) as least, pace.beside(cores.halves().server) as yardstick:
        for work in WORKS:
            if not only or work.number in only:
                effort.say(f"{work.number} {work.title} ...")
                figures.append(_measured(work, at, least, yardstick, effort))
    return figures


def _measured(work: Work, at: Place, least: Served, yardstick: pace.Beside, effort: Effort) -> Figure:
    plan = Plan(clients=effort.clients, seconds=effort.seconds, cores=cores.halves().load)
    with ExitStack() as stack:
        if work.bare is None:
            ours = stack.enter_context(drivers(work.fleet(at), plan))
            outcome = ours.run(server=at.at.pid)
            return _figure(work, outcome, yardstick.mean([outcome.counted]), effort.clients)
        turn = replace(plan, seconds=effort.seconds / TURNS, warm_up=_WARM_UP)
        short = replace(turn, seconds=turn.seconds / 2)
        ours = stack.enter_context(drivers(work.fleet(at), turn))
        theirs = stack.enter_context(drivers(work.bare(least, at), short))
        outcomes, bare = in_turns(ours, at.at.pid, theirs, least.pid)
        sampled = yardstick.mean([each.counted for each in outcomes])
        beside_bare = yardstick.mean([each.counted for each in bare])
    figure = _figure(work, together(outcomes), sampled, effort.clients)
    conditions = {**figure.conditions, "turns": TURNS, "pace beside bare": beside_bare.operations.pace}
    return replace(figure, bare=together(bare).cpu_ms, conditions=conditions)


def in_turns(ours: Drivers, pid: int, theirs: Drivers, least: int) -> tuple[list[Outcome], list[Outcome]]:
    """Run the one and the other `TURNS` times; what came of each. `pid` and `least` are whose CPU counts."""
    outcomes, bare = [], []
    for _ in range(TURNS):
        outcomes.append(ours.run(server=pid))
        bare.append(theirs.run(server=least))
    return outcomes, bare


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several of the same drivers: all work, and all CPU time of the server, added up."""
    tally, by_name, cpu = Tally(), Counter[str](), 0.0
    for each in outcomes:
        tally.add(each.tally)
        by_name.update(each.by_name)
        cpu += float("nan") if each.server_cpu is None else each.server_cpu
    counted = (outcomes[0].counted[0], outcomes[-1].counted[1])
    return Outcome(tally, sum(each.seconds for each in outcomes), outcomes[0].rate, cpu, dict(by_name), counted)


@contextmanager
def _bare(at: Place) -> Iterator[Served]:
    """The least that could be, on the gateway's core; one of the two sleeps while the other is measured."""
    with ExitStack() as stack:
        with cores.on(cores.halves().server):
            bare = stack.enter_context(served(at.responder, _fetched(f"{at.at.http}/ca/issuing.crt")))
        yield bare


def _figure(work: Work, outcome: Outcome, sampled: pace.Sampled, clients: int) -> Figure:
    tally, operations = outcome.tally, sampled.operations
    p50, p95, p99, p999 = (tally.waits.quantile(share) * 1000 for share in (0.5, 0.95, 0.99, 0.999))
    conditions: dict[str, str | int | float | bool] = {
        "loop": "closed",
        "clients": clients,
        "seconds": outcome.seconds,
        "done": tally.finished,
        "driver_share_of_a_core": tally.cpu,
        "requests_each": tally.requests_each,
        **sampled.conditions(),
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
        paced=operations.paced(work.budget, work.floor),
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
    parser.add_argument(
        "--seconds", type=values.positive, default=4.0, help="how long each row is measured (default 4)"
    )
    parser.add_argument("--clients", type=values.count, default=16, help="closed-loop clients (default 16)")
    parser.add_argument(
        "--only",
        type=chosen.one_of(NUMBERS),
        action="append",
        metavar="P5",
        default=[],
        help="only this row; may be given again",
    )
    options = parser.parse_args(arguments)
    figures = measure(Effort(options.seconds, options.clients, say=progress), options.only)
    print(printed(figures))
    return 1 if any(each.failures for each in figures) else 0


if __name__ == "__main__":
    interrupt.run(main)
