"""Who waits for a file's write lock: processes that want to write raise a hand, and whoever has just written gives way.

SQLite has no queue: a waiter tries again now and then, and a busy neighbour takes the lock at every other moment. Never
here: a lock that guards anything. Hands are a courtesy, and a process that dies lowers its own.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Final

# struct flock on Linux (fcntl(2)): type, whence, start, length, process.
_LOCK: Final = struct.Struct("hhqqi")
_HANDS: Final = 128  # more than there are processes on one store
_ASKED: Final = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, _HANDS, 0)


class Hands:
    """The hands of all processes that write to `file`, as record locks on an empty file beside it.

    A process must have one of these only: closing any descriptor of a file gives up all its locks on it (fcntl(2)).
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._own: int | None = None

    def raise_own(self) -> None:
        """Say that this process waits. Where nobody can see it for want of places, it waits as before."""
        start = os.getpid() % _HANDS
        for each in range(_HANDS):
            place = (start + each) % _HANDS
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except OSError:
                continue
            self._own = place
            return

    def lower_own(self) -> None:
        """It waits no more."""
        if self._own is not None:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._own)
            self._own = None

    def others(self) -> bool:
        """Whether another process waits. Costs a system call, a microsecond."""
        found: int = _LOCK.unpack_from(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, _ASKED))[0]
        return found != fcntl.F_UNLCK

    def close(self) -> None:
        """Lower the hand for good."""
        os.close(self._descriptor)
