"""`python -m bench`: one table of every number of the performance plan; `python -m bench DETAIL`: one bench alone.

May not happen here: a measurement. Each piece is a module with `measure(effort)`; one that cannot run is told, and the
others still do.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, cast

from bench import chosen, interrupt, values
from bench.figure import Effort, Figure, Measure
from bench.table import machine, printed, write

Narrowed: TypeAlias = Callable[[Effort, Sequence[str]], list[Figure]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A module with rows of the table, and the numbers that they have.

    `narrows`: its `measure` takes as well the numbers that are wanted, and leaves out all others.
    """

    module: str
    numbers: Sequence[str]
    narrows: bool = False


PIECES: Final = (
    Piece("front", ("P1",)),
    Piece("enrollments", ("P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9"), narrows=True),
    Piece("handshake", ("P6",)),
    Piece("filled", ("P10",)),
    Piece("commits", ("P11",)),
    Piece("memory", ("P12",)),
    Piece("starting", ("P14",)),
    Piece("scaling", ("P15",)),
    Piece("overload", ("P13", "P16")),
)
_EPILOG: Final = """one bench alone, with options of its own (--help):
{details}

examples:
  python -m bench                       the table, in about eight minutes
  python -m bench --only P5 --only P8   two of its numbers
  python -m bench --full                with a million certificates and 100,000 enrollments; hours
  python -m bench load est --help       load for a server of yours
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; 1 if anything could not run or failed."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    known = details()
    if words and words[0] in known:
        sys.argv = [f"python -m bench {words[0]}", *words[1:]]
        # With `alter_sys` it is what processes of its own import, as if it had been run by itself.
        runpy.run_module(f"bench.{words[0]}", run_name="__main__", alter_sys=True)
        return 0
    parser = _parser(known)
    options = parser.parse_args(words)
    file = chosen.destination(parser, options, "bench")
    effort = Effort(options.seconds, options.clients, options.full, _progress)
    about = machine()
    figures, trouble = composed(effort, options.only)
    print(", ".join(f"{name} {about[name]}" for name in ("processor", "cores", "python", "openssl", "commit")))
    print(printed(figures))
    print("ms CPU: the server's user and system time over its process tree, each; floor: the bare cryptography in it;")
    print("bare: the same work by a program that does nothing else (bench/bare); paced: the budget at this")
    print("machine's pace: cryptography as it is here, the rest times what the machine is slower (bench/floors.py).")
    write(file, about, figures, trouble)
    print(f"written to {file}")
    for sentence in trouble:
        print(f"could not run: {sentence}", file=sys.stderr)
    return 1 if trouble or any(each.failures for each in figures) else 0


def details() -> dict[str, str]:
    """Every bench that runs alone, with what its file says of itself."""
    here = Path(__file__).parent
    found = {path.stem: path for path in here.glob("*.py")} | {
        path.parent.name: path for path in here.glob("*/__main__.py")
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items() if not name.startswith("__")}
    return {name: _about(text) for name, text in texts.items() if '\nif __name__ == "__main__":' in text}


def _about(text: str) -> str:
    """The first sentence of a file's docstring, without its command."""
    [line, *_] = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    return line.rpartition("`: ")[2]


def composed(effort: Effort, only: Sequence[str]) -> tuple[list[Figure], list[str]]:
    """All figures, or those numbers alone; and a sentence for each piece that could not run."""
    figures: list[Figure] = []
    trouble: list[str] = []
    pieces = [piece for piece in PIECES if not only or set(piece.numbers) & set(only)]
    for index, piece in enumerate(pieces, 1):
        effort.say(f"[{index}/{len(pieces)}] {' '.join(piece.numbers)}: bench.{piece.module}")
        cores, began = os.sched_getaffinity(0), time.monotonic()
        try:
            measured = _measured(piece, effort, only)
        except Exception as error:  # noqa: BLE001, one piece's failure, of any kind, must not take the others with it
            traceback.print_exc()
            trouble.append(f"bench.{piece.module}: {type(error).__name__}: {error}")
            continue
        finally:
            os.sched_setaffinity(0, cores)
        figures += [each for each in measured if not only or each.number in only]
        effort.say(f"    {time.monotonic() - began:.0f} s")
    return sorted(figures, key=_order), trouble


def _order(figure: Figure) -> int:
    return int(figure.number.removeprefix("P"))


def _measured(piece: Piece, effort: Effort, only: Sequence[str]) -> list[Figure]:
    # By name, when its turn comes: the pieces import half the product, and one that cannot be imported is one row less.
    measure = importlib.import_module(f"bench.{piece.module}").measure
    if piece.narrows:
        return cast("Narrowed", measure)(effort, only)
    return cast("Measure", measure)(effort)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser(known: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="One table: every number of the performance plan, with its budget and its floor.",
        epilog=_EPILOG.format(details="\n".join(f"  {name:12} {about}" for name, about in sorted(known.items()))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds", type=values.positive, default=4.0, help="how long each row is measured (default 4)"
    )
    parser.add_argument("--clients", type=values.count, default=16, help="closed-loop clients (default 16)")
    parser.add_argument(
        "--only",
        type=chosen.one_of(chosen.PLAN),
        action="append",
        metavar="P5",
        default=[],
        help="only this number, P1 to P16; may be repeated",
    )
    parser.add_argument("--full", action="store_true", help="the long ones at their full length")
    parser.add_argument(
        "--json",
        type=values.writable_file,
        metavar="FILE",
        help="where the figures go (default bench-results/bench.json; bench-only.json with --only)",
    )
    return parser


if __name__ == "__main__":
    interrupt.run(main)
