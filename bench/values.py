"""What an option of a bench's command line may be: types for argparse, which refuse a value in one sentence.

argparse puts the option's name before it. May not happen here: an option's name, and anything that is sent.
"""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Final

_MOST_SECONDS: Final = 1e8  # three years; the operating system's clocks take no number at all
_MOST_A_SECOND: Final = 1e6  # arrivals; no driver comes near, and one would only make a list of them
_MOST_PORT: Final = 65535


def seconds(text: str) -> float:
    """A time that is more than nothing, in seconds. Raises ArgumentTypeError."""
    return _number(text, "seconds", _MOST_SECONDS, more_than_nothing=True)


def seconds_or_none(text: str) -> float:
    """A time in seconds, which may be 0. Raises ArgumentTypeError."""
    return _number(text, "seconds", _MOST_SECONDS, more_than_nothing=False)


def rate(text: str) -> float:
    """How many a second. Raises ArgumentTypeError."""
    return _number(text, "a second", _MOST_A_SECOND, more_than_nothing=True)


def count(text: str) -> int:
    """How many there are: one at least. Raises ArgumentTypeError."""
    number = _whole(text)
    if number < 1:
        raise ArgumentTypeError(f"{text}: a whole number, 1 or more")
    return number


def count_or_none(text: str) -> int:
    """How many there are, which may be none. Raises ArgumentTypeError."""
    number = _whole(text)
    if number < 0:
        raise ArgumentTypeError(f"{text}: a whole number, 0 or more")
    return number


def positive(text: str) -> float:
    """A share or another measure that is more than nothing. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text}: more than 0, and finite")
    return number


def port(text: str) -> int:
    """A port to listen at, from 1 to 65535. Raises ArgumentTypeError."""
    number = _whole(text)
    if not 1 <= number <= _MOST_PORT:
        raise ArgumentTypeError(f"{text}: a port is from 1 to {_MOST_PORT}")
    return number


def process(text: str) -> int:
    """The number of a process that runs on this machine. Raises ArgumentTypeError."""
    number = _whole(text)
    if number < 1 or not Path(f"/proc/{number}").exists():
        raise ArgumentTypeError(f"{text}: there is no such process")
    return number


def folder(text: str) -> Path:
    """A folder that is there. Raises ArgumentTypeError."""
    if not Path(text).is_dir():
        raise ArgumentTypeError(f"{text} is no folder")
    return Path(text)


def readable_file(text: str) -> Path:
    """A file that is there, and may be read. Raises ArgumentTypeError."""
    path = Path(text)
    try:
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise _refused(f"{text} cannot be read", error) from None
    return path


def writable_file(text: str) -> Path:
    """A file that can be written, with the folders above it, which are made. Raises ArgumentTypeError.

    It is tried, since nothing else is sure: a bench that runs for an hour must not find out at its end.
    """
    path = Path(text)
    try:
        there = path.exists()
        if there and not path.is_file() and not path.is_dir():
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "Permission denied")
            return path  # a pipe or a terminal: whoever reads it must not see that it was tried
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if not there:
            path.resolve().unlink()
    except (OSError, ValueError) as error:
        raise _refused(f"{text} cannot be written", error) from None
    return path


def _number(text: str, unit: str, most: float, *, more_than_nothing: bool) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if math.isnan(number) or number < 0 or (more_than_nothing and not number) or number > most:
        least = "more than 0" if more_than_nothing else "0 or more"
        raise ArgumentTypeError(f"{text}: {least} and at most {most:,.0f} {unit}")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no whole number") from None


def _refused(what: str, error: OSError | ValueError) -> ArgumentTypeError:
    return ArgumentTypeError(f"{what}: {(isinstance(error, OSError) and error.strerror) or error}")
