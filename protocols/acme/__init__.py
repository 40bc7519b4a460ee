"""ACME (RFC 8555, 8738): signed requests in, needs and replies out.

`operations.get` and `operations.post` are the only doors; `needs` lists everything that this protocol can make the
server do, `states` its records. No nonce is made, no clock read, no name resolved and nothing stored here; other
protocols are strangers. The front for ACME comes in; the store sees `states` only.
"""
