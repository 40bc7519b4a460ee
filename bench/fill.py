"""`python -m bench fill`: put a million certificates into a store, so that what grows with them can be seen.

It writes what issuances write, by the store's own functions, many to a commit. It never touches a folder that a gateway
is using, and never signs: what it writes opens nothing (`population`). Taken up again it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bench import interrupt, values
from bench.population import Population, mould
from bench.serving import serving
from gateway.domain.request import RequestStatus
from gateway.serve.folder import Folder, State, held, inspect
from gateway.serve.opening import opened_store
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, load
from gateway.store import catalogue, requests
from gateway.store.unit import Store, Unit

MILLION: Final = 1_000_000
IN_A_UNIT: Final = 500  # certificates: some 5,000 changed pages, well below what SQLite lets its log grow to by itself
REVOKED_EACH: Final = 100  # one in a hundred certificates is revoked before its end, in an ordinary year
# Names a folder that a whole table's benches fill once, and the next run finds full.
KEPT: Final = "BENCH_FILLED"
_LINE: Final = 0.5  # seconds between two lines of progress on a terminal
_LOG_LINE: Final = 10.0  # and in a log, where they stay

_EXAMPLES: Final = """\
examples:
  python -m bench fill --data /var/tmp/million
      make the folder if need be, as `muster serve` would, and fill its SQLite store; again: nothing is left to do
  python -m bench fill --certificates 100000 --data /var/tmp/million --store-url postgresql://muster@db/bench
      the same in PostgreSQL; the folder holds the keys, the URL goes to `muster serve` as MUSTER_STORE_URL
  muster serve --data /var/tmp/million
      serve it then
"""

Progress = Callable[[int, int], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; 1, with a sentence, where the folder cannot be filled."""
    parser = argparse.ArgumentParser(
        prog="python -m bench fill",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--certificates", type=values.count_or_none, default=MILLION, metavar="N", help="how many (default 1000000)"
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the data folder; made if missing")
    parser.add_argument("--store-url", default="", metavar="URL", help="postgresql://...; default: as the folder says")
    parser.add_argument(
        "--revoked-each",
        type=values.count_or_none,
        default=REVOKED_EACH,
        metavar="N",
        help="one in N is revoked (default 100; 0: none)",
    )
    options = parser.parse_args(arguments)
    try:
        found = fill(options.data, options.certificates, url=options.store_url, revoked_each=options.revoked_each,
                     progress=Line())  # fmt: skip
    except CannotStart as refusal:
        print(f"bench fill: {refusal}", file=sys.stderr)
        return 1
    print(f"{found:,} certificates are in the store of {options.data}")
    return 0


def fill(
    data: Path,
    certificates: int,
    *,
    url: str = "",
    revoked_each: int = REVOKED_EACH,
    progress: Progress | None = None,
) -> int:
    """Fill the store of `data` until it has `certificates`; how many it has then. `url` names a store elsewhere.

    Raises CannotStart where the folder is in use, damaged or somebody else's.
    """
    found = settings(data, url)
    if inspect(found) is not State.COMPLETE:
        with serving(data, environment=_variables(url)):
            pass  # its first start makes folder, keys and the demo application
    with held(Folder(data)):
        filling = partial(_fill, found, certificates, revoked_each, progress or _silent)
        # In the middle of the store's own work an interrupt would leave it waiting for an answer that never comes.
        return trio.run(filling, restrict_keyboard_interrupt_to_checkpoints=True)


def _silent(_done: int, _total: int) -> None:
    pass


@contextmanager
def filled(certificates: int, say: Callable[[str], None]) -> Iterator[Path]:
    """A data folder with so many certificates: the one that `BENCH_FILLED` names, or one for the while."""
    kept = os.environ.get(KEPT)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as place:
        data = Path(kept or Path(place, "data"))
        say(f"filling {data} with {certificates:,} certificates ...")
        fill(data, certificates)
        yield data


async def _fill(found: Settings, total: int, revoked_each: int, progress: Progress) -> int:
    async with opened_store(found) as store:
        done = await store.read(count)
        population = await _population(store, total, revoked_each)
        while done < total:
            progress(done, total)
            numbers = range(done, min(total, done + IN_A_UNIT))
            await store.write(partial(_settle, population=population, numbers=numbers))
            done = numbers.stop
        progress(done, total)
        return await store.read(count)


def count(unit: Unit) -> int:
    """How many certificates were issued; reads an index of all requests."""
    _, total = requests.search(
        unit, application_ids=None, profile_id=None, status=RequestStatus.ISSUED, search=None, limit=0, offset=0
    )
    return total


async def _population(store: Store, total: int, revoked_each: int) -> Population:
    pairs = (await store.read(catalogue.load)).pairs
    if not pairs:
        raise CannotStart("the store has no application with a profile, to whom certificates could belong")
    # A minute ago: a gateway that starts now must find nothing in its future.
    until = datetime.now(UTC) - timedelta(minutes=1)
    moulds = tuple(mould(pair.authority.chain[0]) for pair in pairs)
    return Population(pairs, moulds, max(total, 1), until, revoked_each)


def _settle(unit: Unit, *, population: Population, numbers: range) -> None:
    for number in numbers:
        population.settle(unit, number)


def settings(data: Path, url: str = "") -> Settings:
    """Those of `data` as a gateway there would read them, with the store at `url` if that is given."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("MUSTER_")}
    return load({"data": str(data)}, environment | _variables(url), folder=Path.cwd())


def _variables(url: str) -> dict[str, str]:
    return {"MUSTER_STORE_URL": url} if url else {}


class Line:
    """A line of progress on standard error: how far, how fast, how long still. Rewritten in place on a terminal."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None
        self._shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is, now and then, and when it is done."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
            if done:
                print(f"{done:,} are there already", file=sys.stderr)
        terminal = sys.stderr.isatty()
        if now - self._shown < (_LINE if terminal else _LOG_LINE) and done < total:
            return
        self._shown = now
        began, first = self._began
        rate = (done - first) / (now - began) if now > began else 0.0
        end = "" if not rate or done >= total else f", {duration((total - done) / rate)} left"
        bar = "#" * (30 * done // max(total, 1))
        line = f"[{bar:30}] {done:,} of {total:,}, {rate:,.0f}/s{end}"
        print(f"\r{line}\033[K" if terminal else line, end="" if terminal and done < total else "\n", file=sys.stderr)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 42 s, 3 min 5 s."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


if __name__ == "__main__":
    interrupt.run(main)
