"""`python -m bench.listing`: a revocation list of 100,000 entries, from the store's rows to what is handed out.

What it takes, the longest that the gateway's loop stands still meanwhile, and what an issuance takes beside it, with
one signer worker and with two. The figures depend on the machine; nothing here is a test.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio

from bench import interrupt, values
from bench.pool import SECRET, signer
from bench.signing import Asks
from gateway.actions.publish import Publications, outlook, renew_revocation_lists
from gateway.actions.resources import Resources
from gateway.domain.authority import Authority, AuthorityKind, AuthorityStatus
from gateway.domain.revocation import RevocationReason
from gateway.outbound.signer import open_signer
from gateway.store import catalogue, revocations
from gateway.store.unit import Store, Unit, open_store
from signer.ceremony import Ceremony, first
from signer.client import SignerClient
from signer.contract.messages import Certificate
from signer.keystore.softkey import SoftKeyStore, create, unlock

ROWS: Final = 500  # in one unit of work
ROUNDS: Final = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.listing", description=__doc__)
    parser.add_argument(
        "--entries",
        type=values.count_or_none,
        default=100_000,
        help="revocations before the first list (default 100000)",
    )
    entries: int = parser.parse_args(arguments).entries
    print(f"{'':24} {'':8} {'':9} {'':6}   issuance beside it, ms")
    print(f"{f'a list of {entries}':24} {'seconds':>8} {'stall ms':>9} {'MB':>6}   {'p50':>6} {'p99':>6} {'max':>6}")
    with tempfile.TemporaryDirectory() as place:
        keys = Path(place, "keys")
        create(keys, SECRET)
        first(Ceremony(SoftKeyStore(keys, unlock(keys, SECRET)), now=int(time.time())), Path(place, "tls"), [])
        for workers in (1, 2):
            with signer(keys, "--workers", str(workers)) as ready:
                trio.run(
                    listing,
                    Path(place, f"{workers}.db"),
                    list(ready.sockets),
                    workers,
                    entries,
                    restrict_keyboard_interrupt_to_checkpoints=True,
                )


async def listing(file: Path, sockets: list[str], workers: int, entries: int) -> None:
    """The rows for one number of workers: issuance alone, then beside lists."""
    async with open_store(f"sqlite:///{file}") as store, open_signer(sockets, queue=4096) as asking:
        await fill(store, entries)
        resources = Resources(store, asking, lambda: catalogue.Catalogue(0, (), (), (), (), ()), now, os.urandom)
        client = SignerClient(sockets)
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            watch = Watch(client)
            nursery.start_soon(watch.issue)
            nursery.start_soon(watch.tick)
            await trio.sleep(1)
            watch.report(f"{workers} worker(s), no list", 0.0, 0.0)
            publications = Publications()
            for number in range(ROUNDS):
                seconds, size = await one_list(resources, publications)
                watch.report(f"{workers} worker(s), {'start' if number == 0 else 'one more'}", seconds, size)
            nursery.cancel_scope.cancel()


async def one_list(resources: Resources, publications: Publications) -> tuple[float, float]:
    """Revoke one and sign; at first everything is read, as after a start. Gives seconds, and megabytes."""
    await resources.store.write(lambda unit: revoke(unit, os.urandom(15).hex()))
    publications.rest("authority", 0)
    seen = await outlook(resources)
    began = time.perf_counter()
    assert await renew_revocation_lists(resources, publications, authority(), seen) == 1
    seconds = time.perf_counter() - began
    held = publications.current("authority", now())
    assert held is not None
    return seconds, len(held.der) / 1e6


class Watch:
    """One asker that issues one certificate after the other, and a clock that should tick every millisecond."""

    def __init__(self, client: SignerClient) -> None:
        self._client = client
        self._latencies: list[float] = []
        self._stall = 0.0

    async def issue(self) -> None:
        """Ask for ever."""
        asks = Asks()
        while True:
            began = time.perf_counter()
            outcome = await self._client.ask(asks.issue(), share="bench", deadline=trio.current_time() + 60)
            assert isinstance(outcome, Certificate), outcome
            self._latencies.append(time.perf_counter() - began)

    async def tick(self) -> None:
        """Note by how much the loop is late, at most."""
        while True:
            began = time.perf_counter()
            await trio.sleep(0.001)
            self._stall = max(self._stall, time.perf_counter() - began - 0.001)

    def report(self, name: str, seconds: float, size: float) -> None:
        """A row of what was seen since the last."""
        seen = sorted(self._latencies)
        at = [1e3 * seen[int(len(seen) * share)] for share in (0.5, 0.99)]
        figures = f"{at[0]:6.2f} {at[1]:6.2f} {1e3 * seen[-1]:6.1f}"
        print(f"{name:24} {seconds:8.2f} {1e3 * self._stall:9.1f} {size:6.1f}   {figures}")
        self._latencies, self._stall = [], 0.0


async def fill(store: Store, entries: int) -> None:
    """So many revocations, and nothing else: a list reads no certificates."""
    for start in range(0, entries, ROWS):
        count = min(ROWS, entries - start)

        def unit(unit: Unit, count: int = count) -> None:
            for _ in range(count):
                revoke(unit, os.urandom(15).hex())

        await store.write(unit)


def revoke(unit: Unit, serial: str) -> None:
    """One row."""
    revocations.put(
        unit,
        issuer_id="authority",
        serial=serial.lstrip("0"),
        reason=RevocationReason.SUPERSEDED,
        at=now() - timedelta(seconds=int.from_bytes(os.urandom(3), "big")),
        not_after=now() + timedelta(days=90),
        partition=None,
        revision=revocations.begin(unit, "authority"),
    )


def now() -> datetime:
    """By the clock on the wall."""
    return datetime.now(UTC)


def authority() -> Authority:
    """The issuing authority, as far as its lists go."""
    return Authority(
        id="authority",
        name="issuing",
        kind=AuthorityKind.INTERMEDIATE,
        status=AuthorityStatus.ACTIVE,
        key="issuing",
        subject="",
        chain=(),
        key_algorithm="EC_prime256v1",
        not_before=now(),
        not_after=now() + timedelta(days=3650),
    )


if __name__ == "__main__":
    interrupt.run(main)
