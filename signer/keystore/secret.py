"""The unlock secret, on its one way in: a descriptor that only the parent can write to. It is never logged or kept.

Never by argument or environment, which other processes of the machine can read.
"""

from __future__ import annotations

import os
from typing import Final

from signer.hardening.memory import wipe
from signer.keystore.failures import KeyStoreError, StoreFailure

_LONGEST: Final = 4096  # bytes


def read_secret(descriptor: int) -> bytearray:
    """The first line, without its end, to be wiped after use. Unbuffered: what follows is left to others.

    Raises `KeyStoreError`.
    """
    # One piece of memory from the first byte on: what grows leaves its copies behind.
    line = bytearray(_LONGEST)
    length = 0
    with memoryview(line) as view:
        while length < _LONGEST and os.readv(descriptor, [view[length : length + 1]]) and line[length] != ord("\n"):
            length += 1
    secret = line[:length].rstrip(b"\r")
    wipe(line)
    if not 0 < len(secret) < _LONGEST:
        raise KeyStoreError(StoreFailure.LOCKED, "the unlock secret is expected as the first line of standard input")
    return secret
