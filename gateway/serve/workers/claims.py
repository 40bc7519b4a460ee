"""Who of a machine's workers has a piece of work: record locks on an empty file, gone with the worker that had them.

Nothing is stored, and nobody waits here. Between machines nothing is claimed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

# A worker looks at a piece of work and then claims it. Where another has ended it in between, the claim must fail, or
# it would be done twice; to look once more after each claim would cost as much as the claim's work in the store does.
LINGER: Final = 1.0  # seconds


class Claims:
    """The claims of one process. Made once in it: closing any descriptor of a file gives up its locks (fcntl(2)).

    `clock` gives seconds.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._clock = clock
        self._ended: dict[str, float] = {}  # since when, the longest first

    def take(self, name: str) -> bool:
        """Whether `name` is this process's from now on."""
        self._let_go()
        if self._ended.pop(name, None) is not None:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except OSError:
            return False
        return True

    def give_back(self, name: str, *, ended: bool) -> None:
        """It is nobody's: at once, or where the work has `ended` after a while, for whoever looked before that."""
        self._let_go()
        if ended:
            self._ended[name] = self._clock()
        else:
            self._unlock(name)

    def _let_go(self) -> None:
        """Give back what has ended long enough ago. Until the next claim it may stay: nobody asks for it again."""
        until = self._clock() - LINGER
        while self._ended:
            name, since = next(iter(self._ended.items()))
            if since > until:
                return
            del self._ended[name]
            self._unlock(name)

    def _unlock(self, name: str) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, _place(name))


def _place(name: str) -> int:
    """A byte of its own, for any number of names that is ever at work: a file's offsets have 63 bits (fcntl(2))."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> 2
