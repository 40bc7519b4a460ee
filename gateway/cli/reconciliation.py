"""`muster doctor --journal`: holds the signer's journal against the inventory. Looks only."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.actions.reconcile import Tally
    from gateway.serve.journal import Fault, Note
    from gateway.serve.settings import Settings

_PAUSE: Final = 1.0  # seconds between two lines of progress


async def look(found: Settings) -> int:
    """Compare, say each difference as it is found and a summary at the end. Gives the exit status."""
    from gateway.actions.reconcile import Reconciliation, moment
    from gateway.serve.folder import require_complete
    from gateway.serve.journal import shown_journal
    from gateway.serve.opening import now, opened_store
    from gateway.store import catalogue

    secret = require_complete(found)
    progress = _Progress()
    async with opened_store(found) as store:
        authorities = (await store.read(catalogue.load)).authorities
        keys = {each.key: (each.id, each.name) for each in authorities}
        comparison = Reconciliation(store, keys, now=now(), dice=os.urandom, tell=progress.tell)
        async with shown_journal(found, secret, progress.said) as journal:
            await comparison.entries(journal.pages(), progress.show)
            end = journal.end
        assert end is not None
        begun = None if end.begun is None else moment(end.begun)
        await comparison.inventory(begun, progress.show)
    progress.clear()
    tally = comparison.tally
    if progress.faults or tally.differences:
        print(
            f"journal: {progress.faults} faults in the journal and {tally.differences} differences from the inventory, "
            f"in {tally.entries} entries and {tally.inventory} certificates"
        )
        return 1
    print(f"journal: {tally.entries} entries, whole; {tally.certificates} certificates in it{_besides(tally)}")
    if tally.ceremonies:
        print(f"ceremonies: {tally.ceremonies} certificates that were signed in them are in the inventory")
    if begun is not None:
        older = f"; {tally.older} older certificates are not in it" if tally.older else ""
        print(f"inventory: {tally.inventory} certificates since {begun:%Y-%m-%d %H:%M:%S} UTC agree with it{older}")
    return 0


def _besides(tally: Tally) -> str:
    parts = [
        f"{number} {what}"
        for number, what in (
            (tally.in_flight, "being recorded just now"),
            (tally.settled, "never recorded and revoked since"),
        )
        if number
    ]
    return f" ({', '.join(parts)})" if parts else ""


class _Progress:
    """What is printed on the way: sentences on standard output, a counter on a terminal's standard error."""

    def __init__(self) -> None:
        self.faults = 0
        self._shown_at = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def said(self, told: Fault | Note) -> None:
        """Print what the signer's program says of the journal itself."""
        from gateway.serve.journal import Fault

        if isinstance(told, Fault):
            self.faults += 1
        self.tell(told.sentence if isinstance(told, Fault) else f"note: {told.sentence}")

    def tell(self, sentence: str) -> None:
        """Print a sentence."""
        self.clear()
        print(f"journal: {sentence}")

    def show(self, tally: Tally) -> None:
        """Show how far it has come, now and then."""
        if self._terminal and time.monotonic() > self._shown_at + _PAUSE:
            self._shown_at = time.monotonic()
            counts = f"{tally.entries} entries, {tally.inventory + tally.older} certificates"
            print(f"\r{counts} ...", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the counter off the terminal."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
