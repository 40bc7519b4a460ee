"""`muster`: finds the subcommand and runs it. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NoReturn, Protocol

from gateway.serve.refusal import CannotStart

_EXAMPLES: Final = """\
examples:
  muster serve                                   start a gateway; everything it needs is made in ./muster-data
  muster serve --data /var/lib/muster --https 0.0.0.0:443 --external-url https://pki.example.com
  muster apply -f muster.toml --dry-run          show what a declaration would change
  muster apply -f muster.toml                    change it, now, in a running gateway too
  muster bearer create --name ci --application payments-api --role operator

A gateway that runs prints one working command for certbot, strongSwan and curl.
Settings: muster.toml in the data folder, MUSTER_* variables, flags; see docs/configuration.md.
"""
COMMANDS: Final = {
    "serve": "start a gateway, making what it needs at the first start",
    "apply": "declare authorities, policies, profiles, applications and enrollment settings",
    "authority": "make, renew and replace authorities: key ceremonies",
    "token": "list PKCS#11 tokens, make one on SoftHSM2",
    "bearer": "make, list and end bearer tokens for the REST API",
    "doctor": "look whether what is stored is whole",
    "version": "print the version",
}


INTERRUPTED: Final = 128 + 2  # what shells give for SIGINT


class Command(Protocol):
    """What each module of a subcommand offers."""

    def describe(self, parser: argparse.ArgumentParser) -> None:
        """Add the flags and the examples."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it, and give the exit status."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence and where to read on; argparse would print the whole usage first."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these words. Only the subcommand that is named is imported and described."""
    top = _Parser(
        prog="muster",
        description="A gateway for certificate enrollment over ACME, EST, SCEP and REST.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, meaning in COMMANDS.items():
        one = commands.add_parser(
            name, help=meaning, description=meaning, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if words and words[0] == name:
            command(name).describe(one)
    return top


def command(name: str) -> Command:
    """The module of a subcommand."""
    module: Command = import_module(f"gateway.cli.{name}")
    return module


def main(words: Sequence[str] | None = None) -> None:
    """Run `muster` with these words (the process's own by default) and exit."""
    given = list(sys.argv[1:] if words is None else words)
    if not given:
        parser(given).print_help(sys.stderr)
        sys.exit(2)
    options = parser(given).parse_args(given)
    run: Callable[[argparse.Namespace], int] = command(options.command).run
    try:
        status = run(options)
    except CannotStart as refusal:
        print(f"muster: {refusal}", file=sys.stderr)
        status = 2
    except BrokenPipeError:
        status = 1  # the reader of our output went away, as `head` does
    except (KeyboardInterrupt, BaseExceptionGroup) as interrupt:
        if not _interrupted(interrupt):
            raise
        print("muster: interrupted; what was made by then is found again by the same command", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)


def _interrupted(raised: BaseException) -> bool:
    """Whether it is Ctrl-C alone, as nurseries wrap it."""
    if isinstance(raised, BaseExceptionGroup):
        return all(_interrupted(each) for each in raised.exceptions)
    return isinstance(raised, KeyboardInterrupt)
