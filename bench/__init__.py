"""Benchmarks: what parsing, signing, storing and enrolling cost, beside their floors and budgets.

`python -m bench` starts a gateway of its own and prints the table; `load/` drives a running gateway from outside.
`enrolling` measures the same without network, in process; `parsing`, `signing` and `storing` what is in it.
`batching` and `fairness` load the signer alone, with workers of their own; `overload` a gateway beyond its capacity.
Must never happen here: a verdict. A benchmark prints figures; it is never a timed test.
Who comes in: people, and nobody else's code.
"""
