"""The log: sentences on standard error. Nothing ever fails because they cannot be written, and no secret is said.

A log on a full disk, or a pipe whose reader is gone, must not end a process that signs.
"""

from __future__ import annotations

import contextlib
import sys
import traceback


def say(sentence: str) -> None:
    """One line, at once."""
    with contextlib.suppress(OSError):
        print(f"signer: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 - the log


def tell(error: BaseException) -> None:
    """An error that nobody foresaw, with where it came from."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
        sys.stderr.flush()
