"""How many workers there are, where nobody says: as many as help on this machine. No process is started here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gateway.serve.settings import Settings
from gateway.serve.workers.slots import MOST_WORKERS

# Beyond that the store's one writer is what all wait for (docs/decisions/0010-workers.md).
MOST_BY_ITSELF: Final = 16
_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def workers(settings: Settings) -> int:
    """As the settings say, 64 at most; 0: one for each processor that this process may use."""
    if settings.workers:
        return min(settings.workers, MOST_WORKERS)
    return max(1, min(processors(), MOST_BY_ITSELF))


def processors(quota: Path = _QUOTA) -> int:
    """How many processors' time this process may use: those that it may run on, and its control group's share."""
    count = len(os.sched_getaffinity(0))
    try:
        most, period = quota.read_text(encoding="ascii").split()
        if most != "max":
            count = min(count, max(1, round(int(most) / int(period))))
    except (OSError, ValueError):
        pass
    return count
