"""Enrollment over Secure Transport (RFC 7030, RFC 8951) as a pure server.

`operations.operate` is the one door; what it needs of its host is listed in `needs`. `messages` reads credentials and
bodies and writes certs-only answers, `failures` says how each refusal looks on this wire.

Never here: a key, a clock, a store, TLS. Who the peer is, and whether the connection was secure, comes in as facts.
Who comes in: `gateway.fronts.est`.
"""
