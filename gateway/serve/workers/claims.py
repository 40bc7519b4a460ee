"""Who of a machine's workers has a piece of work: record locks on an empty file, gone with the worker that had them.

Nothing is stored, and nobody waits here. Between machines nothing is claimed.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import blake2b
from pathlib import Path


class Claims:
    """The claims of one process. Made once in it: closing any descriptor of a file gives up its locks (fcntl(2))."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, name: str) -> bool:
        """Whether `name` is this process's from now on; it must not have it already."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except OSError:
            return False
        return True

    def give_back(self, name: str) -> None:
        """It is nobody's."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _place(name))


def _place(name: str) -> int:
    """A byte of its own, for any number of names that is ever at work: a file's offsets have 63 bits (fcntl(2))."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> 2
