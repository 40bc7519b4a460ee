"""Durations as people write them: `12h`, `90d`, `3m`, `1y`. Nothing here depends on a calendar."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

# A month is 30 days and a year 365 (applications.md, Policy): validity is counted, not read off a calendar.
_UNITS: Final = {"h": timedelta(hours=1), "d": timedelta(days=1), "m": timedelta(days=30), "y": timedelta(days=365)}
_DURATION: Final = re.compile(r"([0-9]{1,9})([hdmy])")

LONGEST: Final = timedelta(days=365 * 100)  # beyond it dates overflow long before anybody means it


def parse_duration(text: str) -> timedelta:
    """A duration of the form `[0-9]+[hdmy]`: hours, days, months of 30 days, years of 365 days.

    Raises ValueError, with a sentence, for another form, for nothing at all and for more than 100 years.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("a duration is a number and one of h, d, m (30 days), y (365 days), such as 90d")
    try:
        duration = int(found[1]) * _UNITS[found[2]]
    except OverflowError:
        duration = timedelta.max
    if not timedelta(0) < duration <= LONGEST:
        raise ValueError("a duration is more than nothing and at most 100 years")
    return duration


def format_duration(duration: timedelta) -> str:
    """The shortest of the forms that `parse_duration` reads; otherwise in whole seconds, `90s`."""
    for unit in "ydh":  # not m: nobody reads "3m" as 90 days
        if duration % _UNITS[unit] == timedelta(0):
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration // timedelta(seconds=1)}s"
