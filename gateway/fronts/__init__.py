"""The doors: how to ask. One file (or folder) a protocol; each turns HTTP into an exchange and answers its needs.

A front finds the pair, reads the body under a cap, drives the exchange with `carry`, and answers every need by an
action or one read of the store. `routes` lists every address of the gateway; what it does not list does not exist.
Must never happen here: judging a request, signing, SQL, believing a header about who the peer is or what our own
address is. Who comes in: `serve`.
"""
