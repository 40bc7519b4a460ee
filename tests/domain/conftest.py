"""Hypothesis without a stopwatch: how long an example takes says more of the machine's neighbours than of the code."""

from hypothesis import settings

settings.register_profile("domain", deadline=None)
settings.load_profile("domain")
