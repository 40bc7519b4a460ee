"""Anti-replay nonces (RFC 8555, 6.5): sealed, so that making one stores nothing; counted, so that each is spent once.

Workers of one machine share key and marks: whoever is asked can spend what any of them made. No clock, dice or store is
reached for here; what is remembered has one fixed size, whoever asks and however often.
"""

from __future__ import annotations

import binascii
import struct
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
_PARTS: Final = struct.Struct(">IBHI5s")
_ZEROS: Final = bytes(5)
_LOW: Final = 32  # bits of the number's second part
_BLOCK: Final = 16
_SPELLED: Final = 22

# Nonces are made so many at once, before they are asked for, at a third of what they cost one by one; those that
# nobody asked for in so many seconds are left, so that what is given out has nearly its whole lifetime before it.
_AT_ONCE: Final = 32
_STALE: Final = 60

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

    def numbers(self, most: int) -> range:
        """The next numbers, one at least and `most` at most. The maker's alone."""
        number = self._count[0]
        piece, first = divmod(number, self._piece)
        if not first:
            # The count says already that what these marks spoke of is too old to be spent.
            self._clear(piece + 1)
        end = min(number + most, (piece + 1) * self._piece)
        self._count[0] = end
        return range(number, end)

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
        self._slot, self._own = book.own, book.regions[book.own]
        self._own.take_over()
        self._made: list[str] = []
        self._stale_at = 0.0

    def make(self) -> str:
        """A fresh nonce."""
        if not self._made or self._clock() >= self._stale_at:
            self._make_some()
        return self._made.pop()

    def _make_some(self) -> None:
        now = self._clock()
        seconds, slot = int(now - self._epoch), self._slot
        blocks = [
            _PARTS.pack(seconds, slot, number >> _LOW, number & (1 << _LOW) - 1, _ZEROS)
            for number in self._own.numbers(_AT_ONCE)
        ]
        sealed = self._seal(b"".join(blocks))
        self._made = [
            binascii.b2a_base64(sealed[at : at + _BLOCK], newline=False).translate(_WRITTEN, b"=").decode("ascii")
            for at in range(0, len(sealed), _BLOCK)
        ]
        self._stale_at = now + _STALE

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
        parts: tuple[int, int, int, int, bytes] = _PARTS.unpack(self._unseal(sealed))
        seconds, slot, high, low, zeros = parts
        if zeros != _ZEROS or self._clock() - self._epoch - seconds > _LIFETIME or slot >= len(self._regions):
            return False
        return self._regions[slot].spend(high << _LOW | low)
