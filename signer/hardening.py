"""What a process that holds keys gives up before it opens the first of them. No key is touched here."""

from __future__ import annotations

import ctypes
import resource
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4


def harden(*, follow_parent: bool) -> None:
    """No core dumps and no reading of this process's memory by others of its user, since it holds keys.

    With `follow_parent` the kernel sends SIGTERM when the parent dies, in whatever way.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        if follow_parent:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
