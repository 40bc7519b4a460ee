"""`python -m bench.commits`: durable commits of an ACME issuance, alone and beside its neighbours (P11).

SQLite counts its own transactions in the header of the index of its write-ahead log, which whoever may read the file
can read too; so nothing of the gateway is changed to be counted. May not happen here: opening the store.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench import enrollments, interrupt
from bench.enrollments import Place, place
from bench.figure import Effort, Figure
from bench.load.acme import Account, Acme
from bench.load.run import Plan, drivers
from bench.table import printed

BUDGET: Final = 4.0  # the plan's
ISSUANCES: Final = 40
# WalIndexHdr of SQLite's walformat.html: iVersion, unused, iChange ("incremented each transaction"), in native order.
_HEADER: Final = struct.Struct("=III")


def transactions(store: Path) -> int:
    """How many transactions that store has committed, modulo 2^32; it is in WAL mode and open somewhere.

    Raises OSError where it is not.
    """
    with Path(f"{store}-shm").open("rb") as index:
        _, _, changes = _HEADER.unpack(index.read(_HEADER.size))
    return int(changes)


def measure(effort: Effort) -> list[Figure]:
    """P11: orders that are ready at once, and with http-01; one client alone, then `effort.clients` together."""
    figures = []
    with place() as at:
        works: tuple[tuple[str, str, Callable[[], Acme]], ...] = (
            ("ready at once", at.at.reuse_directory, lambda: at.acme(at.at.reuse_directory)),
            ("with http-01", at.at.directory, lambda: at.acme(at.at.directory)),
        )
        for title, directory, fleet in works:
            effort.say(f"P11 ACME issuance, {title} ...")
            alone = _alone(at, directory)
            together, done = _together(at, fleet(), effort)
            figures.append(
                Figure(
                    "P11",
                    f"durable commits of an ACME issuance, {title}",
                    alone,
                    "commits",
                    BUDGET,
                    note=f"{together:.2f} each, shared by {effort.clients} clients" if done else "",
                    conditions={"issuances": ISSUANCES, "clients": effort.clients, "commits_shared": together},
                )
            )
    return figures


def _alone(at: Place, directory: str) -> float:
    """Commits of one issuance after the other."""
    account = Account(directory, at.at.root)
    try:
        account.issue("localhost", at.responder)
        store = at.at.data / "store.sqlite"
        time.sleep(0.5)
        before = transactions(store)
        for _ in range(ISSUANCES):
            account.issue("localhost", at.responder)
        return ((transactions(store) - before) % 2**32) / ISSUANCES
    finally:
        account.close()


def _together(at: Place, fleet: Acme, effort: Effort) -> tuple[float, int]:
    """Commits an issuance where several clients issue at the same time; and how many there were."""
    store = at.at.data / "store.sqlite"
    with drivers(fleet, Plan(clients=effort.clients, seconds=max(1.0, effort.seconds / 2), warm_up=0.0)) as prepared:
        before = transactions(store)
        tally = prepared.run().tally
        # Those that were under way at the end committed too: one for each client at the most.
        done = tally.finished + effort.clients // 2
        return ((transactions(store) - before) % 2**32) / done, tally.finished


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the rows."""
    argparse.ArgumentParser(prog="python -m bench.commits", description=__doc__).parse_args(arguments)
    print(printed(measure(Effort(say=enrollments.progress))))
    return 0


if __name__ == "__main__":
    interrupt.run(main)
