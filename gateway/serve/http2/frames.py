"""Frames told apart before h2 reads them (RFC 9113, 4): what is too long is refused by its first nine octets.

h2 looks at a length when the whole frame is there, 16 MiB later, and at a block of header fields when its last frame
is. It also takes a client's goodbye for the end of all streams. Pure: octets in, octets out.
"""

from __future__ import annotations

import struct
from typing import Final

from h2.errors import ErrorCodes

# RFC 9113, 3.4: what a client's octets begin with, before its first frame.
PREFACE_OCTETS: Final = 24
# RFC 9113, 6.5.2: what no setting of ours allows to exceed.
FRAME_OCTETS: Final = 1 << 14
# Streams that a client opens have odd numbers below this one (RFC 9113, 5.1.1 and 6.8).
EVERY_STREAM: Final = (1 << 31) - 1

_HEAD: Final = 9  # length 3, type 1, flags 1, stream 4
_HEADERS: Final = 1
_GOAWAY: Final = 7
_CONTINUATION: Final = 9
_END_HEADERS: Final = 4
_LEAVING: Final = struct.Struct(">3sBBIII")


class Unbearable(Exception):
    """The connection ends with this `code`."""

    def __init__(self, code: ErrorCodes) -> None:
        super().__init__(code.name)
        self.code = code


class Frames:
    """One client's octets, from its first on. `block` is the most that the field blocks of one head may have together.

    `left`: the client has said goodbye, in peace; what it asked for before is still to be answered (RFC 9113, 6.8).
    """

    __slots__ = ("_block", "_most_block", "_preface", "_rest", "left")

    def __init__(self, *, block: int) -> None:
        self._most_block = block
        self._preface = PREFACE_OCTETS
        self._rest = b""
        self._block = 0
        self.left = False

    @property
    def held(self) -> int:
        """Octets that wait for the end of their frame or of their head."""
        return len(self._rest) + self._block

    def take(self, data: bytes) -> bytes:
        """What h2 is to be given now: whole frames.

        Raises:
            Unbearable: FRAME_SIZE_ERROR, or ENHANCE_YOUR_CALM for a head beyond its bound.
        """
        data = self._rest + data if self._rest else data
        at = begin = min(self._preface, len(data))  # h2 judges the preface as it comes
        self._preface -= at
        parts = [data[:at]] if at else []
        while len(data) - at >= _HEAD:
            length, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
            self._judge(kind, length)
            end = at + _HEAD + length
            if len(data) < end:
                break
            self._count(kind, flags, length)
            if kind == _GOAWAY and not self._block and self._is_peaceful(data, at, length):
                self.left = True
                parts.append(data[begin:at])
                begin = end
            at = end
        parts.append(data[begin:at])
        self._rest = data[at:]
        return b"".join(parts)

    def _judge(self, kind: int, length: int) -> None:
        if length > FRAME_OCTETS:
            raise Unbearable(ErrorCodes.FRAME_SIZE_ERROR)
        if kind in {_HEADERS, _CONTINUATION} and self._block + length > self._most_block:
            raise Unbearable(ErrorCodes.ENHANCE_YOUR_CALM)

    def _count(self, kind: int, flags: int, length: int) -> None:
        if kind not in {_HEADERS, _CONTINUATION}:
            return  # in the midst of a head h2 ends the connection for it
        # Frames without an octet in them cost something as well.
        self._block = 0 if flags & _END_HEADERS else self._block + length + _HEAD

    @staticmethod
    def _is_peaceful(data: bytes, at: int, length: int) -> bool:
        stream = data[at + 5 : at + _HEAD]
        code = data[at + _HEAD + 4 : at + _HEAD + 8]
        return length >= 8 and not int.from_bytes(stream, "big") and not int.from_bytes(code, "big")


def goodbye(last: int) -> bytes:
    """A GOAWAY without an error: streams up to `last` were or will be answered, none beyond it (RFC 9113, 6.8).

    h2's own would end everything on our side, too.
    """
    return _LEAVING.pack(b"\0\0\x08", _GOAWAY, 0, 0, last, ErrorCodes.NO_ERROR)
