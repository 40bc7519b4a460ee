"""Several gateway workers on one machine: they share listening sockets, the store, the signer and a little memory.

The parent, which is what `muster serve` is, starts them, starts the dead ones again, and replaces them one after the
other; it serves no request. A worker (`python -m gateway.serve.workers`) is told everything on its standard input and
ends with it. Must never happen here: a request is read in the parent, a worker gets the key store's secret, a count in
shared memory that decides more than fairness or what a lock guards. Who comes in: `serve.start`, `serve.lifespan`.
"""
