"""Where keys rest, and what a key is: `key` is the door that every store fits, `softkey` the store that is built in.

Never here: building or checking a certificate, a socket, a decision about what may be signed. A key's ceiling is stored
beside it and sealed to it, but judged in `issuance`. Workers and ceremonies come in.
A key on a token has its file in the same store; `pkcs11` finds it, as a subclass of cryptography's private keys
(`tokenkey`), with a PIN from `pin`. No code of PKCS#11 is loaded where no key rests on a token.
"""
