"""`muster doctor`: looks at what is stored and says whether it is whole. Looks only; it mends nothing."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.cli.flags import add_settings, settings

if TYPE_CHECKING:
    from gateway.serve.settings import Settings

_EXAMPLES: Final = """\
examples:
  muster doctor --audit                          follow the chain of audit events from the first to the last
  muster doctor --audit --data /var/lib/muster   the same, of another folder
  muster doctor --journal                        hold what the signer wrote down against the inventory
  muster doctor --signer                         measure how many workers are worth having; takes some seconds

It works beside a running gateway and without one. Exit status 0: whole; 1: not whole, and the sentences say where.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    looks = parser.add_mutually_exclusive_group(required=True)
    looks.add_argument("--audit", action="store_true", help="verify the chain of audit events")
    looks.add_argument("--journal", action="store_true", help="verify what was signed, and compare the inventory")
    looks.add_argument("--signer", action="store_true", help="measure signatures a second by number of workers")
    add_settings(parser, "data")


def run(options: argparse.Namespace) -> int:
    """Look, and say what was found."""
    import trio

    # An interrupt in the middle of a signer process's start would have trio's own half-made pipes complain on standard
    # error, and in the middle of the store's work leave others waiting for ever; at a checkpoint it can do neither.
    asking = partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
    if options.journal:
        from gateway.cli.reconciliation import look

        return asking(partial(look, settings(options)))
    if options.signer:
        from gateway.cli.calibration import look as calibrate

        return asking(partial(calibrate, settings(options)))
    return asking(partial(_audit, settings(options)))


async def _audit(found: Settings) -> int:
    from gateway.serve.folder import require_complete
    from gateway.serve.opening import opened_store
    from gateway.store import audit

    require_complete(found)
    async with opened_store(found) as store:
        broken = await store.read(audit.verify)
        length = await store.read(audit.length)
    if broken is None:
        print(f"audit: {length} events, and the chain is whole")
        return 0
    print(f"audit: the chain is broken at event {broken} of {length}: it, or one before it, was changed or removed")
    return 1
