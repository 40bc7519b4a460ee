"""Anti-replay nonces (RFC 8555, 6.5): sealed, so that making one stores nothing; counted, so that each is spent once.

Workers of one machine share key and marks: whoever is asked can spend what any of them made. No clock, dice or store is
reached for here; what is remembered has one fixed size, whoever asks and however often.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# Clients keep a nonce between two requests; certbot waits minutes for a person at a prompt.
_LIFETIME: Final = 3600  # seconds

# How many of a maker's newest nonces are remembered for certain: at the 6,000 requests a second of a busy worker
# 11 minutes' worth, in 512 KiB. An older one is answered badNonce with a fresh one beside it, which costs its client
# one more request.
WINDOW: Final = (1 << 22) * 31 // 32

# Time 4, maker 1, number 6, and 5 that are zero: one block of AES, 22 characters of base64 without padding (A7: at most
# 64). A block by itself, as a permutation that only the key's owner knows, needs no random IV and no tag, and is made
# and opened in a quarter of the time that AES-GCM takes. It is never the same twice, since its number is not. Of blocks
# that somebody guesses, one in 2^40 has the zeros, and hardly one in 2^80 a time, a maker and a number of this hour.
_NUMBER_BITS: Final = 48
_SLOT_BITS: Final = 8
_ZEROS: Final = 40
_SPARE: Final = (1 << _ZEROS) - 1
_NUMBER: Final = (1 << _NUMBER_BITS) - 1
_SLOT: Final = (1 << _SLOT_BITS) - 1
_SLOT_AT: Final = _ZEROS + _NUMBER_BITS
_TIME_AT: Final = _SLOT_AT + _SLOT_BITS
_BLOCK: Final = 16
_SPELLED: Final = 22

_WRITTEN: Final = bytes.maketrans(b"+/", b"-_")
_READ: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # what is not of our alphabet becomes what the decoder refuses
_PADDING: Final = b"=="

# The count stands alone in a line of the processor's cache: its maker writes it all the time.
_HEAD: Final = 64
# A window is made of so many pieces, and marks are cleared a piece at a time.
_PIECES: Final = 62
_LEAST_PIECE: Final = 8


def _nothing(start: int, length: int) -> None:
    """Within one process nothing is awaited between a look and a mark."""


class Region:
    """One maker's count and the marks of what was spent, in `size(window)` bytes, zero at first.

    Processes may share them: one makes, all spend. `hold` and `release` then keep the others from some bytes (start
    and length, from the region's first byte) for less than a microsecond's work.
    """

    def __init__(
        self,
        buffer: memoryview,
        *,
        window: int = WINDOW,
        hold: Callable[[int, int], None] = _nothing,
        release: Callable[[int, int], None] = _nothing,
    ) -> None:
        self._piece = _piece(window)
        self._ring = window + 2 * self._piece
        self._count = buffer[:8].cast("Q")
        self._marks = buffer[_HEAD : _HEAD + self._ring // 8]
        self._hold = hold
        self._release = release

    def take_over(self) -> None:
        """Become the maker: of a new region, or in the place of one that ended, however that was."""
        piece = -(-self._count[0] // self._piece)
        # Where the maker before was killed between two steps of clearing, this does both.
        self._count[0] = piece * self._piece
        self._clear(piece)

    def number(self) -> int:
        """The next number. The maker's alone."""
        number = self._count[0]
        piece, first = divmod(number, self._piece)
        if not first:
            # The count says already that what these marks spoke of is too old to be spent.
            self._clear(piece + 1)
        self._count[0] = number + 1
        return number

    def spend(self, number: int) -> bool:
        """Whether the nonce of this number is young enough and unspent; from then on it is spent."""
        place = number % self._ring
        at, mark = place >> 3, 1 << (place & 7)
        self._hold(_HEAD + at, 1)
        try:
            count = self._count[0]
            oldest = count // self._piece - self._ring // self._piece + 2
            if number >= count or number // self._piece < oldest or self._marks[at] & mark:
                return False
            self._marks[at] |= mark
            return True
        finally:
            self._release(_HEAD + at, 1)

    def _clear(self, piece: int) -> None:
        length = self._piece // 8
        start = piece % (self._ring // self._piece) * length
        self._hold(_HEAD + start, length)
        self._marks[start : start + length] = bytes(length)
        self._release(_HEAD + start, length)


def size(window: int = WINDOW) -> int:
    """How many bytes a region takes; a multiple of 64."""
    return _HEAD + -(-(window + 2 * _piece(window)) // 512) * 64


def _piece(window: int) -> int:
    if window % 8:
        raise ValueError("the window is a multiple of 8")
    piece = max(_LEAST_PIECE, window // _PIECES)
    if piece % 8 or window % piece:
        return _LEAST_PIECE
    return piece


@dataclass(frozen=True, slots=True)
class Book:
    """What makers and spenders share: the key, everybody's region, and when their clock began, in its seconds.

    `own` is the place of the region whose maker this process is. The key lives as long as the regions: a nonce from
    before a restart of them all does not open.
    """

    key: bytes
    regions: Sequence[Region]
    own: int
    epoch: float


def alone(dice: Callable[[int], bytes], clock: Callable[[], float], *, window: int = WINDOW) -> Book:
    """The book of a process that shares with nobody."""
    return Book(dice(16), (Region(memoryview(bytearray(size(window))), window=window),), 0, clock())


class Nonces:
    """The nonces of one process; of one alone where there is no `book`.

    `dice` gives random bytes, `clock` seconds that never go back.
    """

    def __init__(self, dice: Callable[[int], bytes], clock: Callable[[], float], book: Book | None = None) -> None:
        book = book or alone(dice, clock)
        self._clock, self._epoch, self._regions = clock, book.epoch, book.regions
        cipher = Cipher(algorithms.AES(book.key), modes.ECB())  # noqa: S305, a block by itself has no pattern to show
        self._seal, self._unseal = cipher.encryptor().update, cipher.decryptor().update
        self._slot, self._own = book.own << _SLOT_AT, book.regions[book.own]
        self._own.take_over()

    def make(self) -> str:
        """A fresh nonce."""
        seconds = int(self._clock() - self._epoch)
        told = seconds << _TIME_AT | self._slot | self._own.number() << _ZEROS
        sealed = self._seal(told.to_bytes(_BLOCK))
        return binascii.b2a_base64(sealed, newline=False).translate(_WRITTEN, b"=").decode("ascii")

    def spend(self, nonce: str) -> bool:
        """Whether `nonce` is one of ours, young enough and unspent; from then on it is spent.

        Look and mark are one step for all who share the book, so of any number of attempts one succeeds.
        """
        if len(nonce) != _SPELLED:
            return False
        try:
            sealed = binascii.a2b_base64(nonce.encode("ascii").translate(_READ) + _PADDING, strict_mode=True)
        except ValueError:
            return False
        opened = int.from_bytes(self._unseal(sealed))
        if opened & _SPARE:
            return False
        seconds, slot, number = opened >> _TIME_AT, opened >> _SLOT_AT & _SLOT, opened >> _ZEROS & _NUMBER
        if self._clock() - self._epoch - seconds > _LIFETIME or slot >= len(self._regions):
            return False
        return self._regions[slot].spend(number)
