"""DER, written by hand where cryptography's builders cost too much: in lists, leaves, OCSP. Nothing is read here."""

from __future__ import annotations

from time import gmtime
from typing import Final

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OID: Final = 0x06
ENUMERATED: Final = 0x0A
UTF8_STRING: Final = 0x0C
SEQUENCE: Final = 0x30

TRUE: Final = b"\x01\x01\xff"

_LAST_UTC_TIME: Final = 2_524_607_999  # 2049-12-31 23:59:59 (RFC 5280, 4.1.2.5)


def tagged(tag: int, content: bytes) -> bytes:
    """One value: tag, length, content."""
    length = len(content)
    return (bytes((tag, length)) if length < 0x80 else header(tag, length)) + content


def header(tag: int, length: int) -> bytes:
    """Tag and length of a content of `length` bytes."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def sequence(*members: bytes) -> bytes:
    """A SEQUENCE of values that are DER already; however long they are, they are copied once."""
    return b"".join((header(SEQUENCE, sum(map(len, members))), *members))


def integer(value: int) -> bytes:
    """An INTEGER that is not negative."""
    return tagged(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER (X.690, 8.19): two arcs in the first number, and each number to the base 128."""
    first, second, *others = map(int, dotted.split("."))
    content = bytearray()
    for number in (40 * first + second, *others):
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        content += bytes(reversed(digits))
    return tagged(OID, bytes(content))


def bit_string(content: bytes) -> bytes:
    """A BIT STRING of whole bytes."""
    return tagged(BIT_STRING, b"\0" + content)


def time(seconds: int) -> bytes:
    """Seconds since the epoch as RFC 5280 wants a Time: UTCTime until 2049, GeneralizedTime from 2050."""
    year, month, day, hour, minute, second = gmtime(seconds)[:6]  # a third of what datetime and strftime take
    if seconds <= _LAST_UTC_TIME:
        return b"\x17\x0d%02d%02d%02d%02d%02d%02dZ" % (year % 100, month, day, hour, minute, second)
    return b"\x18\x0f%04d%02d%02d%02d%02d%02dZ" % (year, month, day, hour, minute, second)


def extension(oid: bytes, value: bytes, *, critical: bool) -> bytes:
    """An Extension; `oid` and `value` are DER."""
    return tagged(SEQUENCE, oid + (TRUE if critical else b"") + tagged(OCTET_STRING, value))
