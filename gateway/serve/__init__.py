"""The composition root: the only place that wires rooms together.

Here the settings are read, the data folder is made and guarded, the signer's processes are started and watched, the
store is opened, the listeners accept. Every nursery of the running gateway is opened in `lifespan`.

Must never happen here: a decision about a request, SQL, a private key in memory, a second way of doing what an
action does. Who comes in: `gateway.cli`.
"""
