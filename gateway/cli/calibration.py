"""`muster doctor --signer`: how many workers are worth having, for each kind of key that there is."""

from __future__ import annotations

import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.serve.calibration import Row
    from gateway.serve.settings import Settings

_BARS: Final = " ▏▎▍▌▋▊▉█"
_WIDTH: Final = 24  # characters of the longest bar
_WORTH: Final = 0.10  # a worker that adds less is not worth its memory and its login on the token


async def look(found: Settings) -> int:
    """Measure with temporary keys, print a table and a hint for each kind. Gives the exit status."""
    from gateway.serve.calibration import rows
    from gateway.serve.folder import require_complete

    secret = require_complete(found)
    most = max(4, (os.cpu_count() or 1), found.signer_workers)
    most = min(most, 8)
    kinds: dict[tuple[str, str], list[Row]] = {}
    print(f"temporary keys sign, with 1 to {most} workers; no authority's key is used", flush=True)
    async with aclosing(rows(found, secret, most=most)) as measured:
        async for row in measured:
            kinds.setdefault((row.token, row.algorithm), []).append(row)
            _progress(f"{_title(row)}, {row.workers} of {most} workers ...")
    _progress("")
    for each in kinds.values():
        print("\n".join(shown(each, found.signer_workers)))
    return 1 if any(row.trouble for each in kinds.values() for row in each) else 0


def shown(rows: list[Row], configured: int) -> list[str]:
    """One kind's table, its plot and its hint, as lines."""
    lines = [f"\n{_title(rows[0])}", f"{'workers':>9} {'a second':>9} {'p50 us':>8} {'p99 us':>8}"]
    good = [row for row in rows if not row.trouble]
    fastest = max((row.per_second for row in good), default=1.0)
    for row in good:
        figures = f"{row.workers:9} {row.per_second:9.0f} {row.p50:8.0f} {row.p99:8.0f}"
        lines.append(f"{figures}  {bar(row.per_second / fastest)}")
    lines += [f"{row.workers:9} {row.trouble}" for row in rows if row.trouble]
    if good:
        lines.append(hint(good, configured))
    return lines


def bar(part: float) -> str:
    """`part` of the full width, in eighths of a character."""
    eighths = round(max(0.0, min(1.0, part)) * _WIDTH * 8)
    return _BARS[8] * (eighths // 8) + _BARS[eighths % 8].strip()


def hint(rows: list[Row], configured: int) -> str:
    """How many workers are worth having: the first after which one more adds less than a tenth."""
    enough = rows[0]
    for row in rows[1:]:
        if row.per_second < enough.per_second * (1 + _WORTH):
            gain = (row.per_second / enough.per_second - 1) * 100
            added = f"one more adds {gain:.0f} %" if gain >= 0.5 else "one more adds nothing"
            break
        enough = row
    else:
        added = "more were not measured"
    number = enough.workers
    advice = f"{number} worker{'s' if number > 1 else ''} of {enough.per_second:.0f} signatures a second; {added}"
    if number < 2 <= configured:
        advice += "; the second is there for when one is busy or dies"
    return f"{advice} (signer.workers is {configured})"


def _title(row: Row) -> str:
    return f"{row.algorithm}, {f'token {row.token}' if row.token else 'software'}"


def _progress(sentence: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{sentence}", end="", file=sys.stderr, flush=True)
