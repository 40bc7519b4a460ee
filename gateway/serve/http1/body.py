"""Chunked bodies (RFC 9112, 7.1), taken apart without a doubt about where they end.

Nothing is read from a socket, and no body is kept: what comes in goes out as soon as it is known to be content.
Extensions and trailers are ignored and bounded; the strangest of what the grammar allows (white space before an
extension) is refused, because parsers differ over it.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.serve.http1.head import FIELD_LINE, FIELDS, Unreadable

# A size of 16 digits is more than any body; nothing known sends extensions, and a chunk of one octet must not carry
# kilobytes of them (CVE-2023-39326).
SIZE_LINE: Final = 256
EXTENSIONS: Final = 4096
TRAILERS: Final = 8 * 1024

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[\t\x20-\x7e\x80-\xff]*)?)\r\n")
_TRAILER: Final = re.compile(FIELD_LINE)
_BROKEN: Final = "the body's chunks do not follow RFC 9112, 7.1"


class Chunked:
    """One chunked body. `done` once its last octet came; `rest` is what came behind it then."""

    __slots__ = ("_extensions", "_held", "_left", "_lines", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self._held = b""
        # Octets left of a chunk and the CR LF behind it; 0 where a size is expected.
        self._left = 0
        self._extensions = 0
        self._trailers = -1  # octets of the trailer section so far; below 0 before it
        self._lines = 0
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take in what came; gives the content in it. Raises `Unreadable` (400, 413, 431)."""
        data = self._held + data if self._held else data
        self._held = b""
        parts: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            taken = self._take(data, at, parts)
            if taken == at:
                self._held = data[at:]
                break
            at = taken
        if self.done:
            self.rest = data[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _take(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Go one step; gives where the next begins, or `at` where more must come first."""
        if self._trailers >= 0:
            return self._trailer(data, at)
        if self._left > 2:
            part = data[at : at + self._left - 2]
            parts.append(part)
            self._left -= len(part)
            return at + len(part)
        if self._left:
            return self._end_of_chunk(data, at)
        return self._size(data, at)

    def _end_of_chunk(self, data: bytes, at: int) -> int:
        expected = b"\r\n"[2 - self._left :]
        found = data[at : at + self._left]
        if not expected.startswith(found):
            raise Unreadable(400, _BROKEN)
        self._left -= len(found)
        return at + len(found)

    def _size(self, data: bytes, at: int) -> int:
        line = _SIZE.match(data, at, at + SIZE_LINE)
        if line is None:
            if len(data) - at >= SIZE_LINE or b"\n" in data[at:] or not _BEGINS.match(data, at):
                raise Unreadable(400, _BROKEN)
            return at
        self._extensions += len(line[2])
        if self._extensions > EXTENSIONS:
            raise Unreadable(400, "the body's chunks have too many extensions")
        size = int(line[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailers = 0
        return line.end()

    def _trailer(self, data: bytes, at: int) -> int:
        """RFC 9112, 7.1.2: nothing that matters here may stand in trailers; they are read over."""
        end = data.find(b"\n", at, at + TRAILERS)
        if end < 0:
            if len(data) - at + self._trailers >= TRAILERS:
                raise Unreadable(431, "the body's trailers are too long")
            return at
        end += 1
        self._lines += 1
        self._trailers += end - at
        if self._trailers > TRAILERS or self._lines > FIELDS:
            raise Unreadable(431, "the body's trailers are too long")
        if data[at:end] == b"\r\n":
            self.done = True
        elif not _TRAILER.fullmatch(data, at, end):
            raise Unreadable(400, _BROKEN)
        return end


# What a line of a size may look like before all of it has come.
_BEGINS: Final = re.compile(rb"[0-9A-Fa-f]{1,16}(?:;[\t\x20-\x7e\x80-\xff]*)?\r?\Z")
