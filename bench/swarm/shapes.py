"""How many users there are when: steady, a working day's morning, or everybody at once after an outage. Pure."""

from __future__ import annotations

import math
from typing import Final

STEADY: Final = "steady"
MORNING: Final = "morning"
STORM: Final = "storm"
SHAPES: Final = (STEADY, MORNING, STORM)

DAY: Final = 600.0  # seconds that a shape takes where no --run-time says otherwise
_NIGHT: Final = 0.1  # of the peak: what renews while nobody is there
_PEAK_AT: Final = 0.35  # of the run
_OUTAGE: Final = (0.25, 0.5)  # the run's part in which nobody reaches the servers; then all come at once


def users_at(shape: str, elapsed: float, peak: int, length: float) -> int:
    """How many users there should be `elapsed` seconds into a run of `length`, with `peak` at the most."""
    part = min(max(elapsed / length, 0.0), 1.0) if length else 0.0
    if shape == MORNING:
        # A bell: night, everybody's machine at nine o'clock, and the rest of the day.
        bell = math.exp(-(((part - _PEAK_AT) / 0.15) ** 2))
        return max(1, round(peak * (_NIGHT + (1 - _NIGHT) * bell)))
    if shape == STORM:
        begins, ends = _OUTAGE
        if part < begins:
            return max(1, round(peak * _NIGHT))
        return 0 if part < ends else peak
    return peak


def spawn_rate(shape: str, peak: int, asked: float) -> float:
    """Users that begin or end each second: after an outage nobody waits for his turn."""
    return float(max(peak, 1)) if shape == STORM else asked
