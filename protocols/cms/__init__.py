"""Cryptographic Message Syntax (RFC 5652), as much of it as SCEP and EST speak.

Here lives reading of BER and writing of DER: `degenerate` bags of certificates, `signed` messages, `enveloped` ones.
What is read is untrusted, so every reader has limits on size, depth and count (S52), and raises `Malformed`.

Never here: a private key (whoever holds one signs the prepared attributes and unwraps keys), dice (content keys and
IVs are arguments), or a word of SCEP. Who comes in: `protocols.scep` and `protocols.est`.
"""
