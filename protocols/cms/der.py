"""Writing DER: tag, length, contents. Nothing is read here, and nothing but definite, minimal lengths comes out."""

from __future__ import annotations

from typing import Final

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
TELETEX_STRING: Final = 0x14
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
SEQUENCE: Final = 0x30
SET: Final = 0x31

NULL: Final = b"\x05\x00"


def tlv(tag: int, contents: bytes) -> bytes:
    """One element, its length in the shortest form (X.690, 10.1)."""
    length = len(contents)
    if length < 0x80:
        return bytes((tag, length)) + contents
    if length < 0x100:
        return bytes((tag, 0x81, length)) + contents
    if length < 0x10000:
        return bytes((tag, 0x82, length >> 8, length & 0xFF)) + contents
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + contents


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of parts that are encoded already."""
    return tlv(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """SET OF parts that are encoded already, in DER's order (X.690, 11.6)."""
    return tlv(SET, b"".join(sorted(parts)))


def octet_string(value: bytes) -> bytes:
    """OCTET STRING, primitive."""
    return tlv(OCTET_STRING, value)


def integer(value: int) -> bytes:
    """INTEGER, in two's complement and the fewest octets."""
    bits = value.bit_length() if value >= 0 else (~value).bit_length()  # -128 fits into one octet
    return tlv(INTEGER, value.to_bytes(bits // 8 + 1, "big", signed=True))


def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form; for constants, not for hot paths."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    contents = bytearray()
    for arc in (first * 40 + second, *rest):
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(0x80 | arc & 0x7F)
        contents += bytes(reversed(octets))
    return tlv(OBJECT_IDENTIFIER, bytes(contents))
