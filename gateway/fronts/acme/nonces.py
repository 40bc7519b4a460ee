"""Anti-replay nonces (RFC 8555, 6.5): sealed, so that making one stores nothing; counted, so that each is spent once.

No clock, dice or store is reached for here; what is remembered has one fixed size, whoever asks and however often.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# Clients keep a nonce between two requests; certbot waits minutes for a person at a prompt.
_LIFETIME: Final = 3600  # seconds

# How many of the newest nonces are remembered: at the 6,000 requests a second of a busy gateway 11 minutes' worth, in
# 512 KiB. An older one is answered badNonce with a fresh one beside it, which costs its client one more request.
_WINDOW: Final = 1 << 22

# IV 12, time 4, number 7, tag 16: 39 bytes, which base64 spells in 52 characters without padding (A7: at most 64).
_IV: Final = 12
_NUMBER_BITS: Final = 56
_CLEAR: Final = 11
_SPELLED: Final = 52


class Nonces:
    """The nonces of one process.

    The key is made at the start and never leaves: a nonce from before a restart, or of another process, does not
    open. `dice` gives random bytes, `clock` seconds that never go back.
    """

    def __init__(self, dice: Callable[[int], bytes], clock: Callable[[], float], *, window: int = _WINDOW) -> None:
        if window % 8:
            raise ValueError("the window is a multiple of 8")
        self._dice = dice
        self._clock = clock
        self._window = window
        self._seal = AESGCM(dice(16))
        self._epoch = clock()
        self._made = 0
        self._spent = bytearray(window // 8)

    def make(self) -> str:
        """A fresh nonce."""
        number = self._made
        self._made = number + 1
        place = number % self._window
        # The place was another nonce's, one window ago, which can no longer be spent.
        self._spent[place >> 3] &= ~(1 << (place & 7))
        seconds = int(self._clock() - self._epoch)
        iv = self._dice(_IV)
        clear = (seconds << _NUMBER_BITS | number).to_bytes(_CLEAR)
        return urlsafe_b64encode(iv + self._seal.encrypt(iv, clear, None)).decode("ascii")

    def spend(self, nonce: str) -> bool:
        """Whether `nonce` is one of ours, young enough and unspent; from then on it is spent.

        Nothing is awaited between the look and the mark, so of any number of attempts one succeeds.
        """
        number = self._open(nonce)
        if number is None or number < self._made - self._window:
            return False
        place = number % self._window
        mark = 1 << (place & 7)
        if self._spent[place >> 3] & mark:
            return False
        self._spent[place >> 3] |= mark
        return True

    def _open(self, nonce: str) -> int | None:
        """The number inside, or None for what we did not make or made too long ago."""
        if len(nonce) != _SPELLED:
            return None
        try:
            sealed = urlsafe_b64decode(nonce)
            clear = int.from_bytes(self._seal.decrypt(sealed[:_IV], sealed[_IV:], None))
        except (binascii.Error, ValueError, InvalidTag):
            return None
        if self._clock() - self._epoch - (clear >> _NUMBER_BITS) > _LIFETIME:
            return None
        return clear & ((1 << _NUMBER_BITS) - 1)
