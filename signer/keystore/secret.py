"""The unlock secret, on its one way in: a descriptor that only the parent can write to. It is never logged or kept.

Never by argument or environment, which other processes of the machine can read.
"""

from __future__ import annotations

import os
from typing import Final

from signer.keystore.failures import KeyStoreError, StoreFailure

_LONGEST: Final = 4096  # bytes


def read_secret(descriptor: int) -> bytes:
    """The first line, without its end. Unbuffered, so that what follows is left to others. Raises `KeyStoreError`."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) <= _LONGEST:
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    secret = bytes(line).rstrip(b"\r\n")
    if not 0 < len(secret) < _LONGEST:
        raise KeyStoreError(StoreFailure.LOCKED, "the unlock secret is expected as the first line of standard input")
    return secret
