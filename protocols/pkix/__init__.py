"""PKIX: certification requests, certificates, names, keys and PEM, read and verified (RFC 5280, RFC 2986, RFC 7468).

Nothing here signs, holds a private key, knows a policy or reads a clock. What the peer got wrong is `Malformed`; what
may not be accepted whoever asks is `Refused`. The protocols come in, and whoever needs a certificate's facts.
"""
