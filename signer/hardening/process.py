"""What a process that holds keys gives up before it opens the first of them. No key is touched here."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_LAST_DESCRIPTOR: Final = 2**20  # more than any limit of open files in use; one system call closes them all

# What a worker with keys in software needs of its surroundings: to find its own code, to write what it says. A token's
# module may read any variable (SOFTHSM2_CONF and its like), so a worker with tokens keeps them.
_NEEDED: Final = frozenset({"HOME", "LANG", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV"})
_NEEDED_PREFIXES: Final = ("LC_", "LD_", "PYTHON")


def harden(*, follow_parent: bool) -> None:
    """No core dumps, no reading of this process by others of its user, no rights by exec, and files for itself alone.

    With `follow_parent` the kernel sends SIGTERM when the parent dies, in whatever way.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        # Beside dumps this closes /proc/PID/mem and ptrace(2) to whoever is not root (prctl(2), proc(5)).
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        # A program with the setuid bit, or with capabilities in its file, gives nothing to us or our children.
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if follow_parent:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def close_strangers(*ours: int) -> None:
    """Close every descriptor but the standard ones and `ours`, in whatever state the parent left them."""
    first = 3
    for each in sorted({*ours, _LAST_DESCRIPTOR}):
        if each >= first:
            os.closerange(first, each)
            first = each + 1


def surroundings(variables: Mapping[str, str], *, tokens: bool) -> dict[str, str]:
    """The variables of an environment that a worker inherits; all of them where it opens `tokens`."""
    return {
        name: value
        for name, value in variables.items()
        if tokens or name in _NEEDED or name.startswith(_NEEDED_PREFIXES)
    }


def leave_folder() -> None:
    """Stand in the root folder, so that no relative path means anything and no file system is kept from unmounting."""
    os.chdir("/")
