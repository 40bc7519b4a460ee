"""`muster version`. Prints, and nothing else."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the examples."""
    parser.epilog = "example:\n  muster version"


def run(options: argparse.Namespace) -> int:  # noqa: ARG001, the shape of every command
    """Print the version of the installed package."""
    try:
        print(f"muster {version('muster')}")
    except PackageNotFoundError:
        print("muster, from a source folder that is not installed")
    return 0
