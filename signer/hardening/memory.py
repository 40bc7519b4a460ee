"""Secrets in memory: kept out of swap where the machine permits it, and wiped when their use is over. No key is made.

What Python cannot do: an object of type `bytes` or `str` is never wiped (others may share it), and memory that a
library has freed may keep its content until it is used again. So secrets that pass through here rest in `bytearray`s;
keys that OpenSSL holds are its own.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Final

_MCL_CURRENT: Final = 1  # mlockall(2); the same on all machines but a few that nobody runs this on
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4  # lock what is used, instead of reading in every page of every library
_CAP_IPC_LOCK: Final = 14  # capabilities(7)
# A worker takes 60 MiB, and several hundred while it signs a list of 100,000 entries. All that is mapped counts against
# the limit, used or not; and under MCL_FUTURE what goes beyond the limit is not swapped but refused. So a limit near
# the need would turn a precaution into an outage.
NEEDED: Final = 2 * 1024**3  # bytes


def wipe(*secrets: bytearray) -> None:
    """Overwrite each with zeros, in place."""
    for each in secrets:
        each[:] = bytes(len(each))


def lock_memory() -> str | None:
    """Keep this process's memory, now and later, out of swap. Gives a sentence that says why not, or None."""
    if sys.platform != "linux":
        return "memory is not locked on this system: keys may reach its swap space"
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not _capable() and hard != resource.RLIM_INFINITY and hard < NEEDED:
        return (
            "memory is not locked, so keys may reach the machine's swap space: "
            f"its limit (memlock) is {hard >> 10} KiB, less than {NEEDED >> 20} MiB"
        )
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) != 0:
        return f"memory is not locked, so keys may reach the machine's swap space: {os.strerror(ctypes.get_errno())}"
    return None


def _capable() -> bool:
    """Whether this process may lock memory beyond every limit."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_IPC_LOCK & 1)
    return False
