"""Protocols are pure: bytes and facts in, needs and replies out.

ACME, EST, SCEP and REST are strangers to each other on shared foundations (`pkix`, `cms`, `jose`, `exchange`).
Must never happen here: a socket, clock, dice, thread, database or key. What a protocol cannot supply itself it asks for
as a `Need`; the list of needs is closed.
Who comes in: the gateway's fronts and actions.
"""
