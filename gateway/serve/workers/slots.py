"""Workers' places in the memory that they share, as the parent needs to know them. Nothing heavy is imported here."""

from __future__ import annotations

import os
from typing import Final

MOST_WORKERS: Final = 64
# A worker that drains still has its place while the next one has begun.
SLOTS: Final = MOST_WORKERS + 1
LINE: Final = 64  # bytes; a line of the processor's cache, so that neighbours do not slow each other down


def make() -> int:
    """A descriptor of new, empty memory; whoever maps it gives it its size. Its owner closes it."""
    return os.memfd_create("muster-workers", os.MFD_CLOEXEC)


def vacate(descriptor: int, slot: int) -> None:
    """The worker of this slot is gone: it has no connections, and nobody waits for it to accept."""
    os.pwrite(descriptor, bytes(LINE), slot * LINE)
