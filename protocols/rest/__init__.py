"""The enrollment part of the REST API (D12, D13), as pure exchanges over JSON.

`operations` has one function for each address; `messages` holds the bodies as msgspec types, which are also their
documentation; `failures` writes problem documents (RFC 9457). What they need of their host is listed in `needs`.

Never here: a token, a role, a policy, a store. Who the caller is and what it may do is decided by the host.
Who comes in: `gateway.fronts.rest`.
"""
