"""The memory that a machine's workers share, mapped: nonces' marks, numbers of connections, rates, wrong guesses.

Never here: a secret, or a file that others could open.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from functools import partial
from typing import Final

from gateway.fronts.acme.nonces import Region, size
from gateway.fronts.guessing import TABLE as GUESSES
from gateway.fronts.rates import TABLE as RATES
from gateway.serve.workers.slots import LINE, SLOTS

_NONCES: Final = SLOTS * LINE
_RATES: Final = _NONCES + SLOTS * size()
_GUESSES: Final = _RATES + RATES
_WHOLE: Final = _GUESSES + GUESSES


class Memory:
    """The memory behind a descriptor, mapped. Both stay open for as long as the process lives.

    Pages exist once they are written. Closing any descriptor of a file gives up all of a process's locks on it
    (fcntl(2)), so nothing is ever closed here.
    """

    def __init__(self, descriptor: int) -> None:
        os.ftruncate(descriptor, _WHOLE)  # the same for all workers, so only the first one's changes anything
        self._descriptor = descriptor
        self._whole = memoryview(mmap.mmap(descriptor, 0))
        self.open = [self._whole[each * LINE : each * LINE + 8].cast("Q") for each in range(SLOTS)]
        self.present = [self._whole[each * LINE + 8 : each * LINE + 16].cast("Q") for each in range(SLOTS)]
        self.rates = self._whole[_RATES:_GUESSES]
        self.guesses = self._whole[_GUESSES:]

    def regions(self) -> tuple[Region, ...]:
        """Each slot's nonces. A record lock on a mark's byte (fcntl(2), 2 us a pair) makes look and mark one step."""
        return tuple(self._region(_NONCES + each * size()) for each in range(SLOTS))

    def _region(self, start: int) -> Region:
        buffer = self._whole[start : start + size()]
        return Region(buffer, hold=partial(self._lock, start), release=partial(self._unlock, start))

    def _lock(self, base: int, start: int, length: int) -> None:
        # Its holder is a few instructions from letting go, or dead, and then the kernel lets go for it.
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX, length, base + start)

    def _unlock(self, base: int, start: int, length: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, length, base + start)
