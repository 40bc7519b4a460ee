"""JOSE as ACME needs it: flattened JWS and public JWK (RFC 7515, 7517, 7518, 7638, 8037), under strict limits.

Verification only: no private key, no signature is made, no symmetric algorithm is known. `jws.parse` believes
nothing and `jws.verify` is a step of its own, because the order of checks is its caller's to fix. ACME comes in,
nobody else.
"""
