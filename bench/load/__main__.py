"""`python -m bench.load PROTOCOL`: drive a server of ACME, EST, SCEP, REST or OCSP, and print what came of it.

May not happen here: a verdict about the server; the exit status says whether what was asked for came back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from bench.load import report
from bench.load.command import WrongOption, fleet, parser, plans, url_options
from bench.load.fleet import Fleet
from bench.load.responder import Responder
from bench.load.run import Outcome, Plan, load
from bench.table import machine


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; 1 where what was asked for did not come back, 2 where it could not begin."""
    options = parser().parse_args(arguments)
    try:
        with ExitStack() as stack:
            clients, wanted = fleet(options, _responder(options, stack)), plans(options)
            outcomes = [_run(clients, plan, options.pid, first=plan is wanted[0]) for plan in wanted]
    except (WrongOption, RuntimeError, OSError, ValueError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 2
    print(report.MEANING)
    if options.json is not None:
        runs = [report.record(each) for each in outcomes]
        content = {"protocol": options.protocol, "url": url_options(options), "machine": machine(), "runs": runs}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if all(report.came_back(each) for each in outcomes) else 1


def _run(clients: Fleet, plan: Plan, pid: int, *, first: bool) -> Outcome:
    print(f"preparing {plan.clients} clients in {plan.processes} processes ...", file=sys.stderr, flush=True)
    outcome = load(clients, plan, server=pid)
    if first:
        print(report.HEADING)
    print(report.row(outcome), flush=True)
    for sentence in report.warnings(outcome):
        print(f"         {sentence}", flush=True)
    return outcome


def _responder(options: argparse.Namespace, stack: ExitStack) -> str:
    """Where drivers name what http-01 is to find; empty where nobody answers it."""
    if getattr(options, "http01_port", None) is None:
        return ""
    try:
        made = Responder(options.http01_port, options.http01_host)
    except OSError as error:
        raise WrongOption(f"--http01-port: {options.http01_host}:{options.http01_port}: {error.strerror}") from None
    stack.callback(made.close)
    return made.address


if __name__ == "__main__":
    sys.exit(main())
