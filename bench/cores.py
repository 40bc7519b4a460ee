"""Who runs where: the server on one half of the cores, the load on the other, so that neither is measured as the other.

May not happen here: a change that outlives the block it was made for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Halves:
    """Cores of the server and of the load; both are all where there is only one."""

    server: frozenset[int]
    load: frozenset[int]


def halves() -> Halves:
    """This machine's, as far as this process may use it: one core for the server, the others for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Halves(frozenset(cores), frozenset(cores))
    return Halves(frozenset(cores[:1]), frozenset(cores[1:]))


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """What is started within the block inherits these cores and keeps them; this process gets its own back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
