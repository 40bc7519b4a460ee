"""Locust users for ACME, EST, SCEP and REST: load-test a deployment of your own, Muster or any other server.

`fleet` is what `locust -f` loads; `options` what it is told, `mistakes` what of that cannot work, `member` what all
users share, `shapes` how many there are when. docs/load-testing.md shows how to use it and how to read its figures.
Must never happen here: a protocol's bytes put together again (they come from `bench.load`), a secret in argv, a failure
that is named by its HTTP status where the protocol has a word for it.
Who comes in: locust, with gevent's sockets in place of Python's.
"""
