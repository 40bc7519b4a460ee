"""Which numbers of the plan a bench is asked for, and where its figures go: a part never in the whole's place."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.values import writable_file

PLAN: Final = tuple(f"P{number}" for number in range(1, 17))  # of the performance plan


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
        return options.json or writable_file(f"bench-results/{name}{'-only' if options.only else ''}.json")
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --json: {error}")
