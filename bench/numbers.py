"""What benches take on the command line: how many, how long, which numbers of the plan, and where figures go.

Each is a type for argparse, which names the option before the sentence and ends with status 2. May not happen here: a
default, or an option of one bench alone.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PLAN: Final = tuple(f"P{number}" for number in range(1, 17))  # of the performance plan


def count(text: str) -> int:
    """A whole number, 1 or more. Raises ArgumentTypeError with a sentence."""
    return _whole(text, 1)


def count_or_none(text: str) -> int:
    """A whole number, 0 or more. Raises ArgumentTypeError with a sentence."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {least} or more")
    return number


def positive(text: str) -> float:
    """A finite number above 0, as of seconds. Raises ArgumentTypeError with a sentence."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def one_of(known: Sequence[str]) -> Callable[[str], str]:
    """A type for one of these numbers of the plan, in capitals or not. It raises ArgumentTypeError naming all."""

    def number(text: str) -> str:
        if text.upper() not in known:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
        return text.upper()

    return number


def destination(parser: argparse.ArgumentParser, options: argparse.Namespace, name: str) -> Path:
    """Where figures go: to `--json`, or to a file of that name; to another one with `--only`.

    So a part of a table never takes the place of the whole one, which `report` shows. Ends with status 2 where the file
    cannot be written.
    """
    try:
        return options.json or result(f"bench-results/{name}{'-only' if options.only else ''}.json")
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --json: {error}")


def folder(text: str) -> Path:
    """A folder that exists. Raises ArgumentTypeError with a sentence."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no folder")
    return Path(text)


def result(text: str) -> Path:
    """A file that can be written, its folder made if need be. Raises ArgumentTypeError with a sentence.

    It is tried before anything is measured, so that no figure is lost; a file that is there keeps what it holds.
    """
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be written: {error.strerror}") from None
    return path
