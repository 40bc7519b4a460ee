"""Hypothesis without a stop-watch: a slow machine is no fault of the code under test."""

from hypothesis import settings

settings.register_profile("protocols", deadline=None)
settings.load_profile("protocols")
