"""Benchmarks: what parsing, signing, storing and enrolling cost, beside their floors and budgets.

Never a timed test: a benchmark prints figures and judges nothing. `load/` drives a running gateway from outside.
"""
