"""The least that the same work costs in the same language: a program that knows nothing but how to do it once.

It speaks enough ACME, EST and REST for the drivers of `bench.load`, over TLS on the listener's own stream, with
cryptography, sqlite3 and trio alone. Nothing is checked but signatures and nonces: no policy, no approval, no accounts
of its own, no audit trail, no signer process, no limits. What a figure is above this is what Muster does more; what a
budget is below it, no gateway on this interpreter can meet on this machine.
"""
