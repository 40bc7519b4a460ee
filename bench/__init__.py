"""Benchmarks: what parsing, signing, storing and enrolling cost, beside their floors and budgets.

`python -m bench` prints one table of the performance plan's numbers, each row from a module with `measure(effort)`;
`python -m bench DETAIL` runs one bench alone, and `--help` lists them. `load/` drives any server from outside, `swarm/`
is for people who load-test a deployment of their own.
Must never happen here: a verdict. A benchmark prints figures; it is never a timed test.
Who comes in: people, and nobody else's code.
"""
