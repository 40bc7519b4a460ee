"""The signer's command line: `serve` beside a gateway, and the ceremonies, which need no gateway. Wires only.

The unlock secret is always the first line of standard input.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; gives the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    asked = _parser(given).parse_args(given)
    verb: str = asked.verb
    if verb == "worker":
        from signer import worker

        return worker.main(asked.keys, asked.descriptor, asked.orders)
    if verb == "serve":
        from signer import supervisor

        return supervisor.main(asked.keys, asked.workers, asked.runtime, asked.pin, stuck=asked.stuck_after)
    if verb == "journal":
        from signer.journal import show

        return show.main(asked.keys)
    if verb in ("tokens", "init-token"):
        from signer import tokens

        return tokens.main(asked)
    if verb == "calibrate":
        from signer import calibration

        return calibration.main(asked)
    from signer import ceremony

    return ceremony.main(asked)


def _parser(given: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m signer",
        description="Holds the keys. The unlock secret is read from the first line of standard input.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    serve = verbs.add_parser("serve", help="start workers; end with standard input or SIGTERM")
    _keys(serve)
    _pin(serve)
    serve.add_argument("--workers", type=_count, default=1, help="processes that sign (default 1)")
    serve.add_argument("--runtime", type=Path, help="a private folder for the sockets (default: a new one)")

    journal = verbs.add_parser("journal", help="prove the issuance journal, and show it as JSON lines")
    _keys(journal)

    serve.add_argument(
        "--stuck-after", type=float, default=10.0, metavar="SECONDS", help="end a worker whose token does not answer"
    )

    worker = verbs.add_parser("worker", help=argparse.SUPPRESS)  # started by serve alone
    worker.add_argument("keys")
    worker.add_argument("descriptor")
    worker.add_argument("orders", nargs="?", default="")
    if given[:1] not in (["serve"], ["worker"]):  # which start without the libraries that ceremonies need
        from signer import calibration, tokens
        from signer.ceremony.arguments import add_verbs

        add_verbs(verbs)
        tokens.add_verbs(verbs)
        calibration.add_verb(verbs)
    return parser


def _keys(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--keys", type=Path, required=True, help="the folder of keys")


def _pin(verb: argparse.ArgumentParser) -> None:
    from signer.keystore.pin import HELP

    verb.add_argument("--pin", action="append", default=[], metavar="SOURCE", help=HELP)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
