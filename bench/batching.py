"""Natural batching: how frames grow with load, and what a certificate costs then, beside the bare floor of the module.

    python -m bench.batching

Closed loop by 1 to 256 askers, then an open loop (Poisson) at parts of what the closed one reached. CPU microseconds of
the gateway's side and of the workers, an ask; `floor` is one process that signs in a loop and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

import trio

from bench import interrupt, values
from bench.pool import Pool, part, pool
from bench.signing import Asks, cpu
from signer.client import Busy, SignerClient
from signer.contract.messages import Certificate

ASKERS: Final = (1, 4, 16, 64, 256)
OFFERED: Final = (0.5, 0.8)
KEYS: Final = (("EC_prime256v1", False), ("EC_prime256v1", True), ("RSA_2048", False), ("RSA_2048", True))


@dataclass(frozen=True, slots=True)
class Row:
    """One load. `share` is what is reached of the floor times the number of workers; waits are in milliseconds."""

    algorithm: str
    store: str
    load: str
    gateway_us: float
    worker_us: float
    mean: float
    largest: int
    per_second: float
    share: float
    p50: float
    p95: float
    p99: float


class Loading:
    """Asks through a client, and keeps how long each took."""

    def __init__(self, client: SignerClient) -> None:
        self.client = client
        self.asks = Asks()
        self.waits: list[float] = []

    async def once(self) -> None:
        """One ask."""
        began = trio.current_time()
        try:
            outcome = await self.client.ask(self.asks.issue(), share="bench", deadline=began + 10)
        except Busy:
            return
        assert isinstance(outcome, Certificate), outcome
        self.waits.append(trio.current_time() - began)

    async def closed(self, askers: int, seconds: float) -> None:
        """So many askers, each asking again when it is answered."""
        ending = trio.current_time() + seconds

        async def asker() -> None:
            while trio.current_time() < ending:
                await self.once()

        async with trio.open_nursery() as nursery:
            for _ in range(askers):
                nursery.start_soon(asker)

    async def open(self, rate: float, seconds: float) -> None:
        """So many asks a second, whoever waits."""
        dice = random.Random(1)
        due = trio.current_time()
        ending = due + seconds
        async with trio.open_nursery() as nursery:
            while (due := due + dice.expovariate(rate)) < ending:
                await trio.sleep_until(due)
                nursery.start_soon(self.once)


async def measured(at: Pool, load: str, work: Callable[[Loading], Awaitable[None]]) -> Row:
    """One row, through a client of its own."""
    client = SignerClient(at.sockets)
    async with trio.open_nursery() as serving:
        await serving.start(client.run)
        loading = Loading(client)
        await loading.closed(4, 0.2)  # the client learns what an ask takes, and the workers wake up
        loading.waits.clear()
        began, ours, theirs = time.perf_counter(), time.process_time(), sum(map(cpu, at.workers))
        asks, frames = client.statistics().asks, client.statistics().frames
        await work(loading)
        wall = time.perf_counter() - began
        ours, theirs = time.process_time() - ours, sum(map(cpu, at.workers)) - theirs
        after = client.statistics()
        serving.cancel_scope.cancel()
    count = len(loading.waits)
    loading.waits.sort()
    p50, p95, p99 = (part(loading.waits, each) * 1000 for each in (0.5, 0.95, 0.99))
    return Row(
        at.floor.algorithm,
        "SoftHSM2" if at.floor.token else "software",
        load,
        ours / count * 1e6,
        theirs / count * 1e6,
        (after.asks - asks) / (after.frames - frames),
        after.largest,
        count / wall,
        count / wall / (at.floor.per_second * len(at.workers)),
        p50,
        p95,
        p99,
    )


async def rows(at: Pool, seconds: float) -> list[Row]:
    """All loads of one pool, printed as they are done."""
    done: list[Row] = []
    for askers in ASKERS:
        done.append(await measured(at, f"{askers} askers", partial(Loading.closed, askers=askers, seconds=seconds)))
        show(done[-1])
    most = max(row.per_second for row in done)
    for offered in OFFERED:
        rate = offered * most
        done.append(await measured(at, f"open {offered:.0%}", partial(Loading.open, rate=rate, seconds=seconds)))
        show(done[-1])
    return done


def show(row: Row) -> None:
    """One row as text."""
    costs = f"{row.gateway_us:8.0f} {row.worker_us:8.0f} {row.mean:6.1f} {row.largest:5} {row.per_second:8.0f}"
    waits = f"{row.p50:8.2f} {row.p95:8.2f} {row.p99:8.2f}"
    print(f"{row.algorithm:14} {row.store:9} {row.load:10} {costs} {row.share:6.0%} {waits}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.batching", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=1.5, help="how long each row is measured (default 1.5)"
    )
    parser.add_argument("--workers", type=values.count, default=1, help="processes that sign (default 1)")
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/batching.json", help="where the figures go"
    )
    options = parser.parse_args(arguments)
    names = f"{'us gw':>8} {'us wrk':>8} {'mean':>6} {'max':>5} {'a second':>8} {'floor':>6}"
    print(f"{'key':14} {'store':9} {'load':10} {names} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8}")
    done: list[Row] = []
    for algorithm, softhsm in KEYS:
        with pool(algorithm, softhsm=softhsm, workers=options.workers) as at:
            floor = f"{at.floor.per_second:.0f} a second, {at.floor.p50:.0f} us"
            print(f"{algorithm:14} {'SoftHSM2' if softhsm else 'software':9} the bare floor of one process: {floor}")
            done += trio.run(rows, at, options.seconds, restrict_keyboard_interrupt_to_checkpoints=True)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(row) for row in done], indent=2) + "\n")


if __name__ == "__main__":
    interrupt.run(main)
