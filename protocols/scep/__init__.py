"""SCEP (RFC 8894), and what clients of its many drafts still send, as a pure server.

`operations.operate` is the one door; what it needs of its host is listed in `needs`. `messages` reads queries and
pkiMessages, `certrep` writes the answers, `failures` says how each refusal looks on this wire.

Never here: a key, a clock, dice, a store, or a message type that nobody listed (S58): what is not named is refused.
Who comes in: `gateway.fronts.scep`.
"""
