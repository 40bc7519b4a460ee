"""Where keys rest, and what a key is: `key` is the door that every store fits, `softkey` the store that is built in.

Never here: building or checking a certificate, a socket, a decision about what may be signed. A key's ceiling is stored
beside it and sealed to it, but judged in `issuance`. Workers and ceremonies come in.
An HSM's store is one more implementation of `key.KeyStore`, with subclasses of cryptography's private keys.
"""
