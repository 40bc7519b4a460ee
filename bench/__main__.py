"""`python -m bench`: run the drivers against a gateway of its own and print figure, budget and floor side by side."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import floors
from bench.gateway import Quickstart, gateway
from bench.load import acme, est, ocsp, rest, scep
from bench.load.closed_loop import Client, Figures, run


@dataclass(frozen=True, slots=True)
class Work:
    """One row: its number and budget (server CPU, milliseconds) in the performance plan, its floor and its client."""

    number: str
    title: str
    budget: float
    floor: Callable[[floors.Operations], float]
    client: Callable[[Quickstart, acme.Responder], Client]


WORKS: Sequence[Work] = (
    Work(
        "P3",
        "ACME issuance, order ready at once",
        0.80,
        lambda each: each.acme(3),
        lambda at, responder: acme.ready_at_once(at.reuse_directory, at.root, responder),
    ),
    Work(
        "P4",
        "ACME issuance with http-01",
        1.50,
        lambda each: each.acme(5),
        lambda at, responder: acme.with_validation(at.directory, at.root, responder),
    ),
    Work(
        "P5",
        "EST simpleenroll, keep-alive, Basic",
        0.45,
        lambda each: each.est(),
        lambda at, _: est.by_passphrase(at.est, at.root, at.est_user, at.est_passphrase),
    ),
    Work(
        "P5",
        "EST simpleenroll, keep-alive, client certificate",
        0.45,
        lambda each: each.est(),
        lambda at, _: est.by_certificate(at.est, at.root, at.est_user, at.est_passphrase),
    ),
    Work(
        "P7",
        "SCEP PKCSReq, RSA-2048 RA and client",
        1.30,
        lambda each: each.scep(),
        lambda at, _: scep.by_challenge(at.scep, at.scep_challenge),
    ),
    Work(
        "P8",
        "REST enrollment with a CSR",
        0.50,
        lambda each: each.rest(),
        lambda at, _: rest.by_csr(at.rest, at.root, at.token, at.application, at.profile),
    ),
    Work("P9", "OCSP answer, cached: GET", 0.10, lambda each: each.ocsp(0), lambda at, _: ocsp.kept(at.http)),
    Work("P9", "OCSP answer, signed: POST, nonce", 0.30, lambda each: each.ocsp(1), lambda at, _: ocsp.signed(at.http)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if any enrollment failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured (default 5)")
    parser.add_argument("--clients", type=int, default=16, help="closed-loop clients (default 16)")
    parser.add_argument("--only", action="append", metavar="P5", help="only this row; may be given again")
    parser.add_argument("--json", type=Path, default=Path("bench-results/enroll.json"), help="where the figures go")
    options = parser.parse_args(arguments)
    works = [work for work in WORKS if not options.only or work.number in options.only]
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}, {options.clients} clients; measuring the floors ...")
    operations = floors.measure()
    rows = []
    responder = acme.Responder()
    with gateway(responder.port) as quickstart:
        for index, work in enumerate(works, 1):
            print(f"[{index}/{len(works)}] {work.title} ...", file=sys.stderr)
            clients = [work.client(quickstart, responder) for _ in range(options.clients)]
            figures = run(clients, server=quickstart.pid, seconds=options.seconds)
            rows.append((work, figures, work.floor(operations)))
    responder.close()
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([record(*row) for row in rows], indent=2) + "\n")
    return 1 if any(figures.failures for _, figures, _ in rows) else 0


def table(rows: Sequence[tuple[Work, Figures, float]]) -> str:
    """The rows as text: server CPU beside budget and floor, then what the clients saw."""
    names = ("ms CPU", "budget", "floor", "share", "/s", "p50 ms", "p95 ms", "p99 ms")
    columns = " ".join(f"{name:>7}" for name in names)
    lines = [f"{'':4} {'work':48} {columns}"]
    for work, figures, floor in rows:
        share = floor / figures.cpu_ms * 100
        costs = f"{figures.cpu_ms:7.2f} {work.budget:7.2f} {floor:7.2f} {share:6.0f}% {figures.per_second:7.0f}"
        waits = " ".join(f"{seconds * 1000:7.1f}" for seconds in (figures.p50, figures.p95, figures.p99))
        lines.append(f"{work.number:4} {work.title:48} {costs} {waits}")
        if figures.failures:
            lines.append(f"     {figures.failures} failed; the first: {figures.first_failure}")
    lines.append(
        "ms CPU: server user + system over the process tree, an enrollment; floor: the bare cryptography in it."
    )
    return "\n".join(lines)


def record(work: Work, figures: Figures, floor: float) -> dict[str, object]:
    """One row for the JSON file."""
    return {"number": work.number, "title": work.title, "budget_ms": work.budget, "floor_ms": floor, **asdict(figures)}


if __name__ == "__main__":
    sys.exit(main())
