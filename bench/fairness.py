"""Fair share on real workers: nine applications that offer a tenth each, and one that offers ten times the pool.

    python -m bench.fairness

Open loop; the key is RSA-4096, so that the pool is what is short, and neither this driver nor the hops between both.
The workers have half of the cores and this driver the other: at nine tenths of what a pool can do, whoever else wants
its core decides what is seen.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import trio

from bench import cores, interrupt, values
from bench.pool import Pool, part, pool
from bench.signing import Asks
from signer.client import Busy, SignerClient
from signer.contract.messages import Certificate
from signer.keystore.mechanism import GENERATORS

NINE: Final = tuple(f"small-{number}" for number in range(1, 10))
STORM: Final = "storm"
OFFERS: Final = (0.05, 0.1)  # of the capacity, each of the nine
STORMS: Final = (0.0, 10.0)  # of the capacity; nothing is calm
PATIENCE: Final = 10.0  # seconds that each of them waits
TICK: Final = 0.002  # seconds; the storm's arrivals come together


class Crowd:
    """Shares that ask at rates of their own, whoever waits; what came of it by share."""

    def __init__(self, client: SignerClient) -> None:
        self.client = client
        self.asks = Asks()
        self.waits: dict[str, list[float]] = {}
        self.refused: dict[str, int] = {}

    async def offer(self, share: str, rate: float, seconds: float) -> None:
        """Ask at `rate` for `seconds`, and wait for what is under way; for ever, until this is cancelled."""
        dice = random.Random(share)
        self.waits[share], self.refused[share] = [], 0
        due = trio.current_time()
        ending = due + seconds
        async with trio.open_nursery() as nursery:
            while due < ending:
                if rate * TICK > 1:
                    due += TICK
                    count = round(rate * TICK)
                else:
                    due += dice.expovariate(rate)
                    count = 1
                await trio.sleep_until(due)
                for _ in range(count):
                    try:  # as the gateway does, which writes down what it asks for
                        self.client.require_room(share, seconds=PATIENCE)
                    except Busy:
                        self.refused[share] += 1
                    else:
                        nursery.start_soon(self._one, share)

    async def _one(self, share: str) -> None:
        began = trio.current_time()
        try:
            outcome = await self.client.ask(self.asks.issue(), share=share, deadline=began + PATIENCE)
        except Busy:
            self.refused[share] += 1
            return
        assert isinstance(outcome, Certificate), outcome
        self.waits[share].append(trio.current_time() - began)


async def capacity(at: Pool, storm: float, seconds: float) -> float:
    """What the pool can do, a second, while ten shares ask: eight askers each, in a closed loop.

    `storm` more are asked for a second, as later: where cores are two threads of one, or share what they have, a worker
    is slower by a tenth or two while this driver works.
    """
    client, asks, done = SignerClient(at.sockets), Asks(), 0
    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        beside = Crowd(client)
        if storm:
            serving.start_soon(beside.offer, "beside", storm, math.inf)
        ending = trio.current_time() + seconds

        async def asker(share: str) -> None:
            nonlocal done
            while trio.current_time() < ending:
                await client.ask(asks.issue(), share=share, deadline=ending + PATIENCE)
                done += 1

        async with trio.open_nursery() as nursery:
            for share in (*NINE, STORM) * 8:
                nursery.start_soon(asker, share)
        serving.cancel_scope.cancel()
    return (done + len(beside.waits.get("beside", ()))) / seconds


async def crowd(at: Pool, small: float, storm: float, seconds: float) -> Crowd:
    """Nine shares that offer `small` a second each, and one that offers `storm` if that is more than nothing."""
    client = SignerClient(at.sockets)
    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        asking = Crowd(client)
        for _ in range(20):  # the client learns what an ask takes
            await client.ask(asking.asks.issue(), share="warm", deadline=trio.current_time() + PATIENCE)
        if storm:
            serving.start_soon(asking.offer, STORM, storm, math.inf)
        async with trio.open_nursery() as nursery:
            for share in NINE:
                nursery.start_soon(asking.offer, share, small, seconds)
        serving.cancel_scope.cancel()
    return asking


@dataclass(frozen=True, slots=True)
class Row:
    """What the nine saw, waits in milliseconds, and what the storm got, over all rounds."""

    each: float
    storm: bool
    served: int
    refused: int
    p50_ms: float
    p99_ms: float
    storm_served: int
    storm_refused: int

    def line(self) -> str:
        """The row as it is printed."""
        name = f"{self.each:.0%} each, {'a storm' if self.storm else 'calm'}"
        waits = f"{self.served:7} {self.refused:8} {self.p50_ms:8.2f} {self.p99_ms:8.2f}"
        return f"{name:28} {waits} {self.storm_served:8} {self.storm_refused:9}"


def row(each: float, storm: float, rounds: list[Crowd]) -> Row:
    """What the nine saw in rounds of one kind, taken together."""
    waits = sorted(wait for asking in rounds for share in NINE for wait in asking.waits[share])
    return Row(
        each,
        storm > 0,
        len(waits),
        sum(asking.refused[share] for asking in rounds for share in NINE),
        part(waits, 0.5) * 1000,
        part(waits, 0.99) * 1000,
        sum(len(asking.waits.get(STORM, ())) for asking in rounds),
        sum(asking.refused.get(STORM, 0) for asking in rounds),
    )


def measured(at: Pool, rounds: int, seconds: float) -> list[Row]:
    """Calm and storm in turns, so that a slow minute of the machine falls on both; and the capacity before each pair,
    since a tenth of what the machine could do a minute ago may be an eighth.
    """
    awaited = partial(trio.run, restrict_keyboard_interrupt_to_checkpoints=True)
    came: dict[tuple[float, float], list[Crowd]] = {(each, storm): [] for each in OFFERS for storm in STORMS}
    for number in range(rounds):
        for each in OFFERS:
            most = awaited(capacity, at, STORMS[-1] * awaited(capacity, at, 0.0, 1.0), 2.0)
            print(f"round {number + 1} of {rounds}: {most:.0f} certificates a second", file=sys.stderr, flush=True)
            for storm in STORMS:
                came[each, storm].append(awaited(crowd, at, each * most, storm * most, seconds))
    return [row(each, storm, crowds) for (each, storm), crowds in came.items()]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=3.0, help="how long each is measured in a round (default 3)"
    )
    parser.add_argument("--rounds", type=values.count, default=10, help="how often (default 10)")
    parser.add_argument(
        "--key", choices=tuple(GENERATORS), default="RSA_4096", help="the authority's (default RSA_4096)"
    )
    parser.add_argument(
        "--workers", type=values.count, default=1, help="processes that sign; this driver wants a core, too"
    )
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/fairness.json", help="where the figures go"
    )
    options = parser.parse_args(arguments)
    halves = cores.halves()
    with ExitStack() as stack:
        with cores.on(halves.server):
            at = stack.enter_context(pool(options.key, softhsm=False, workers=options.workers))
        stack.enter_context(cores.on(halves.load))
        rows = measured(at, options.rounds, options.seconds)
    print(f"{options.key} in software, {options.workers} worker(s), {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'the nine':28} {'served':>7} {'refused':>8} {'p50 ms':>8} {'p99 ms':>8} {'storm':>8} {'refused':>9}")
    for each in rows:
        print(each.line())
    for calm, stormy in zip(rows[::2], rows[1::2], strict=True):
        times = stormy.p50_ms / calm.p50_ms, stormy.p99_ms / calm.p99_ms
        print(f"{calm.each:.0%} each: p50 {times[0]:.2f} x calm, p99 {times[1]:.2f} x calm (at most 2 is wanted)")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    interrupt.run(main)
