"""Reading DER element by element, where cryptography gives no access (X.690, 8 and 10.1). Reads only; never builds.

The peer's bytes are untrusted: every length is checked against what contains it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from protocols.exchange import Malformed

SEQUENCE: Final = 0x30
SET: Final = 0x31
OBJECT_IDENTIFIER: Final = 0x06
OCTET_STRING: Final = 0x04
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13

# Decoders of the string types that DirectoryString and its relatives offer (RFC 5280, 4.1.2.4). T61String is read
# as Latin-1, which is what writers of certificates have always put there.
_TEXT: Final = {
    UTF8_STRING: "utf-8",
    0x12: "ascii",  # NumericString
    PRINTABLE_STRING: "ascii",
    0x14: "latin-1",  # T61String
    0x16: "ascii",  # IA5String
    0x1A: "ascii",  # VisibleString
    0x1C: "utf-32-be",  # UniversalString
    0x1E: "utf-16-be",  # BMPString
}


def read(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The element at `at`: its tag's byte, and where its contents start and stop, inside `end`.

    Raises:
        Malformed: cut short, a tag above 30, a length that is indefinite or not the shortest.
    """
    if at + 2 > end or data[at] & 0x1F == 0x1F:
        raise Malformed("The DER is cut short or has a tag that does not belong here.")
    length, start = data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        start += octets
        # Four octets hold any length under our caps; zero would be BER's indefinite form.
        if not 1 <= octets <= 4 or start > end:
            raise Malformed("The DER has a length that cannot be.")
        length = int.from_bytes(data[at + 2 : start], "big")
        if length < 0x80 or length >> (8 * (octets - 1)) == 0:
            raise Malformed("The DER has a length that is not in its shortest form.")
    if start + length > end:
        raise Malformed("The DER is cut short.")
    return data[at], start, start + length


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the contents of the element at `at` start and stop; its tag must be `tag`.

    Raises:
        Malformed: as `read`, or another tag.
    """
    found, start, stop = read(data, at, end)
    if found != tag:
        raise Malformed(f"The DER has tag {found:#04x} where {tag:#04x} belongs.")
    return start, stop


def elements(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Every element between `start` and `stop`, as `read` gives them."""
    while start < stop:
        tag, first, last = read(data, start, stop)
        yield tag, first, last
        start = last


def text(tag: int, contents: bytes) -> str:
    """The text of a character string, whatever its type.

    Raises:
        Malformed: no string type, or bytes that its type does not allow.
    """
    encoding = _TEXT.get(tag)
    if encoding is None:
        raise Malformed(f"The DER has tag {tag:#04x} where a character string belongs.")
    try:
        return contents.decode(encoding)
    except UnicodeDecodeError:
        raise Malformed("The DER has a character string with bytes that its type does not allow.") from None
