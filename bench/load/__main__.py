"""`python -m bench.load PROTOCOL`: drive a server of ACME, EST, SCEP, REST or OCSP, and print what came of it.

May not happen here: a verdict about the server; the exit status says whether what was asked for came back.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.load import report
from bench.load.acme import Acme
from bench.load.command import WrongOption, fleet, parser, plans, url_options
from bench.load.fleet import Fleet
from bench.load.responder import Responder
from bench.load.run import Outcome, Plan, load
from bench.table import machine

INTERRUPTED: Final = 130  # as shells say that SIGINT (2) ended a command: 128 more


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; gives the exit status, whose meaning `--help` says."""
    try:
        options = parser().parse_args(arguments)
        wanted = plans(options)
        record = _Record(options)
        with ExitStack() as stack:
            clients = _located(fleet(options, _responder(options, stack)))
            for plan in wanted:
                record.add(_run(clients, plan, options.pid, first=not record.outcomes))
    except (WrongOption, RuntimeError, OSError, ValueError) as error:
        print(f"bench.load: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench.load: interrupted; a run is counted when it is over", file=sys.stderr)
        return INTERRUPTED
    print(report.MEANING)
    return 0 if all(report.came_back(each) for each in record.outcomes) else 1


class _Record:
    """The runs so far. They are written after each, so that what ends the command early leaves those before it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.outcomes: list[Outcome] = []
        self._file: Path | None = options.json
        self._head = {"protocol": options.protocol, "url": url_options(options)}
        if self._file is not None:
            self._head["machine"] = machine()

    def add(self, outcome: Outcome) -> None:
        """Take in a run. Raises WrongOption where the file cannot be written any more."""
        self.outcomes.append(outcome)
        if self._file is None:
            return
        content = {**self._head, "runs": [report.record(each) for each in self.outcomes]}
        try:
            self._file.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise WrongOption(f"--json: {self._file}: {error.strerror}") from None


def _run(clients: Fleet, plan: Plan, pid: int, *, first: bool) -> Outcome:
    print(f"preparing {plan.clients} clients in {plan.processes} processes ...", file=sys.stderr, flush=True)
    outcome = load(clients, plan, server=pid)
    if first:
        print(report.HEADING)
    print(report.row(outcome), flush=True)
    for sentence in report.warnings(outcome):
        print(f"         {sentence}", flush=True)
    return outcome


def _located(clients: Fleet) -> Fleet:
    """The same, at the origin that their server names. Raises WrongOption where it has no directory for them."""
    if not isinstance(clients, Acme):
        return clients
    try:
        return clients.located()
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise WrongOption(f"--directory: {clients.url}: {error}") from None


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
