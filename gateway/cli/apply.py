"""`muster apply`: make the store agree with a declaration. Shows the difference first; decides nothing itself."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.cli.flags import add_settings, settings
from gateway.serve.refusal import CannotStart

if TYPE_CHECKING:
    from gateway.actions.compare import Change
    from gateway.domain.declaration.shape import Declaration

_EXAMPLES: Final = """\
examples:
  muster apply -f muster.toml --dry-run     show what would change, change nothing
  muster apply -f muster.toml               show it and do it; the second time there is nothing to do
  muster apply -f - < muster.toml           read the declaration from standard input

a declaration:
  [[policies]]
  name = "internal-servers"
  preset = "tls-server"
  sans = [{type = "dns_name", allowed = ["**.corp.example.com"]}]

  [[profiles]]
  slug = "internal"
  authority = "issuing"
  policy = "internal-servers"
  defaults = {ttl = "90d"}

  [[applications]]
  name = "payments-api"
  profiles = ["internal"]

  [applications.enrollment.internal.acme]
  skipEabBinding = true
  allowedNetworks = ["10.0.0.0/8"]

  [applications.enrollment.internal.est]
  passphraseEnv = "PAYMENTS_EST_PASSPHRASE"

What the declaration does not speak of stays as it is, and nothing is ever deleted. It works beside a running gateway,
which agrees within a second, and without one. Secrets are stored as hashes.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "-f", "--file", required=True, metavar="FILE", help="the declaration, TOML; - is standard input"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
    add_settings(parser, "data")


def run(options: argparse.Namespace) -> int:
    """Show the differences, and apply them unless told otherwise."""
    import trio

    from gateway.domain.declaration.reading import DeclarationError
    from gateway.serve import telemetry
    from gateway.serve.declare import apply

    found = settings(options)
    telemetry.start(found)
    try:
        declaration = _declaration(options.file)
        # In the middle of the store's own work an interrupt would leave others waiting for an answer that never comes.
        trio.run(
            partial(apply, found, declaration, _show, dry_run=options.dry_run),
            restrict_keyboard_interrupt_to_checkpoints=True,
            strict_exception_groups=True,
        )
    except DeclarationError as error:
        raise CannotStart("\n  ".join(["the declaration cannot be applied:", *error.problems])) from None
    if options.dry_run:
        print("nothing was changed (dry run)")
    return 0


def _show(changes: Sequence[Change]) -> None:
    for change in changes:
        print(change)
    if not changes:
        print("nothing to change")
    sys.stdout.flush()


def _declaration(file: str) -> Declaration:
    from gateway.domain.declaration.reading import read, with_secrets
    from gateway.serve.known_settings import KEYS

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    folder = Path() if file == "-" else Path(file).parent
    ours = {key.name.split(".")[0] for key in KEYS}
    return with_secrets(read(text, settings=ours), lambda name: (folder / name).read_text(), os.environ)
