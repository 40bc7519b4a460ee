"""Drivers: clients of each protocol on raw sockets with prepared keys, so that the driver is never the limit.

A protocol's module says what a client asks next (`conversation`), `loop` plays many of them at once, closed or open,
`run` starts the processes and adds up what came of it. They speak to any server of their protocol, from outside.
Must never happen here: Muster's own ids and paths, secrets in a command line, a wait that is not counted.
Who comes in: `python -m bench.load`, the benches, and tests that need a client.
"""
