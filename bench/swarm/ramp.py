"""The shape of a run as locust wants it: asked every second how many users there should be.

May not happen here: how many that are (`shapes`).
"""

from __future__ import annotations

import time

from locust import LoadTestShape

from bench.swarm.shapes import DAY, STEADY, spawn_rate, users_at


class Ramp(LoadTestShape):
    """What `--shape` names, between `--users` at its peak and the night; `--run-time` is its length."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """How many users now, and how fast to get there; None ends the run."""
        if self.runner is None:
            return None
        parsed = self.runner.environment.parsed_options
        shape = str(getattr(parsed, "shape", STEADY))
        peak = int(getattr(parsed, "num_users", None) or 1)
        asked = float(getattr(parsed, "spawn_rate", None) or 1)
        limit = _seconds(getattr(parsed, "run_time", None))
        elapsed = time.perf_counter() - self.start_time
        if limit and elapsed > limit:
            return None
        return users_at(shape, elapsed, peak, limit or DAY), spawn_rate(shape, peak, asked)


def _seconds(run_time: object) -> float:
    """Locust's run time: seconds once it has read `10m`, or still the text in the web view's form."""
    if isinstance(run_time, int | float):
        return float(run_time)
    if not isinstance(run_time, str) or not run_time:
        return 0.0
    from locust.util.timespan import parse_timespan

    return float(parse_timespan(run_time))
