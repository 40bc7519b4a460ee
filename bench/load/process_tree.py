"""What a process and its descendants have used, from /proc: the gateway, its workers, the supervisor and the signer's.

The tree is looked at anew at every reading, since workers are replaced while it is measured. May not happen here:
signals, and anything else that the measured would feel.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def descendants(root: int) -> list[int]:
    """`root` and all processes below it, as of now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time together. A process that has ended counts nothing: measure over a time without deaths."""
    total = 0
    for pid in pids:
        if (fields := _stat(pid)) is not None:
            total += int(fields[11]) + int(fields[12])
    return total / _TICK


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds, user and system: of the whole tree, and by what its processes are called; how many there are."""

    seconds: float
    by_name: dict[str, float]
    processes: int


def used(root: int) -> Used:
    """What the tree below `root` has used so far, in which a process that has ended counts with whoever awaited it."""
    by_name: Counter[str] = Counter()
    processes = 0
    for pid in descendants(root):
        if (fields := _stat(pid)) is None:
            continue
        processes += 1
        # utime and stime, and cutime and cstime: those of children that have ended and were awaited (proc(5)).
        by_name[_called(pid)] += sum(int(each) for each in fields[11:15])
    return Used(by_name.total() / _TICK, {name: ticks / _TICK for name, ticks in by_name.items()}, processes)


def resident_bytes(pid: int) -> int:
    """The resident set of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _called(pid: int) -> str:
    """The module or program that a process runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return "?"
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return Path(words[0]).name


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, which may hold spaces and parentheses: proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
