"""Fair share on real workers: nine applications that offer a tenth each, and one that offers ten times the pool.

    python -m bench.fairness

Open loop; the key is RSA-2048, so that the pool and not this driver is what is short.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Final

import trio

from bench.pool import Pool, part, pool
from bench.signing import Asks
from signer.client import Busy, SignerClient
from signer.contract.messages import Certificate

NINE: Final = tuple(f"small-{number}" for number in range(1, 10))
STORM: Final = "storm"
TICK: Final = 0.002  # seconds; the storm's arrivals come together


class Crowd:
    """Shares that ask at rates of their own, whoever waits; what came of it by share."""

    def __init__(self, client: SignerClient) -> None:
        self.client = client
        self.asks = Asks()
        self.waits: dict[str, list[float]] = {}
        self.refused: dict[str, int] = {}

    async def offer(self, share: str, rate: float, seconds: float) -> None:
        """Ask at `rate` for `seconds`, and wait for what is under way."""
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
                    nursery.start_soon(self._one, share)

    async def _one(self, share: str) -> None:
        began = trio.current_time()
        try:
            outcome = await self.client.ask(self.asks.issue(), share=share, deadline=began + 10)
        except Busy:
            self.refused[share] += 1
            return
        assert isinstance(outcome, Certificate), outcome
        self.waits[share].append(trio.current_time() - began)


async def capacity(at: Pool, seconds: float) -> float:
    """What the pool can do, a second, while ten shares ask: eight askers each, in a closed loop."""
    client, asks, done = SignerClient(at.sockets), Asks(), 0
    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        ending = trio.current_time() + seconds

        async def asker(share: str) -> None:
            nonlocal done
            while trio.current_time() < ending:
                await client.ask(asks.issue(), share=share, deadline=ending + 10)
                done += 1

        async with trio.open_nursery() as nursery:
            for share in (*NINE, STORM) * 8:
                nursery.start_soon(asker, share)
        serving.cancel_scope.cancel()
    return done / seconds


async def crowd(at: Pool, small: float, storm: float, seconds: float) -> Crowd:
    """Nine shares that offer `small` a second each, and one that offers `storm` if that is more than nothing."""
    client = SignerClient(at.sockets)
    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        asking = Crowd(client)
        for _ in range(20):  # the client learns what an ask takes
            await client.ask(asking.asks.issue(), share="warm", deadline=trio.current_time() + 10)
        async with trio.open_nursery() as nursery:
            for share in NINE:
                nursery.start_soon(asking.offer, share, small, seconds)
            if storm:
                nursery.start_soon(asking.offer, STORM, storm, seconds)
        serving.cancel_scope.cancel()
    return asking


def row(name: str, asking: Crowd) -> dict[str, object]:
    """What the nine saw, as a row that is printed."""
    waits = sorted(wait for share in NINE for wait in asking.waits[share])
    p50, p99 = part(waits, 0.5) * 1000, part(waits, 0.99) * 1000
    refused = sum(asking.refused[share] for share in NINE)
    storm, turned_away = len(asking.waits.get(STORM, ())), asking.refused.get(STORM, 0)
    print(f"{name:28} {len(waits):7} {refused:8} {p50:8.2f} {p99:8.2f} {storm:8} {turned_away:9}", flush=True)
    return {
        "name": name,
        "served": len(waits),
        "refused": refused,
        "p50_ms": p50,
        "p99_ms": p99,
        "storm_served": storm,
        "storm_refused": turned_away,
    }


def main() -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.fairness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured (default 5)")
    parser.add_argument("--workers", type=int, default=1, help="processes that sign; this driver wants a core, too")
    parser.add_argument("--json", type=Path, default=Path("bench-results/fairness.json"), help="where the figures go")
    options = parser.parse_args()
    with pool("RSA_2048", softhsm=False, workers=options.workers) as at:
        most = trio.run(capacity, at, 2.0)
        print(f"RSA-2048 in software, {options.workers} worker(s): {most:.0f} certificates a second")
        print(f"{'the nine':28} {'served':>7} {'refused':>8} {'p50 ms':>8} {'p99 ms':>8} {'storm':>8} {'refused':>9}")
        rows = []
        for each in (0.05, 0.1):
            for storm in (0.0, 10.0):
                name = f"{each:.0%} each, {'a storm' if storm else 'calm'}"
                rows.append(row(name, trio.run(crowd, at, each * most, storm * most, options.seconds)))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
