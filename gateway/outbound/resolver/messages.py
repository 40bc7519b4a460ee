"""DNS messages (RFC 1035, 4), as far as a stub asks for addresses. Pure; never trusts a length that it reads."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, unique
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.outbound.reach import Address

_HEADER: Final = struct.Struct("!HHHHHH")
_QUESTION: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")

_IN: Final = 1
_CNAME: Final = 5
_OPT: Final = 41
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100

# RFC 9715, 3.2: 1232 bytes pass every path unfragmented; fragments are how answers get forged (Fragmented DNS attacks).
_PAYLOAD: Final = 1232
_OPT_RECORD: Final = b"\x00" + struct.pack("!HHIH", _OPT, _PAYLOAD, 0, 0)

# RFC 1035, 2.3.4: 255 octets, so at most 127 labels; every pointer must also lead backwards, so a loop cannot be.
_MOST_LABELS: Final = 127
_MOST_ALIASES: Final = 16


@unique
class RecordType(IntEnum):
    """Types that are asked for."""

    A = 1
    AAAA = 28


class BadAnswer(Exception):
    """The bytes are not an answer to the question: forged, damaged, or of another conversation."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. `code` is the RCODE (RFC 1035, 4.1.1: 0 no error, 2 server failure, 3 no such name)."""

    code: int
    truncated: bool
    addresses: tuple[Address, ...]


def question(ident: int, name: str, kind: RecordType) -> bytes:
    """A recursive query for `name`'s addresses of one kind.

    Raises:
        ValueError: `name` does not fit DNS (RFC 1035, 2.3.4).
    """
    header = _HEADER.pack(ident, _RECURSION_DESIRED, 1, 0, 0, 1)
    return header + _encode(name) + _QUESTION.pack(kind, _IN) + _OPT_RECORD


def answer(message: bytes, ident: int, name: str, kind: RecordType) -> Answer:
    """Read the answer to `question(ident, name, kind)`, following aliases inside it.

    Raises:
        BadAnswer: another identifier or question (RFC 5452, 9: both must match), or bytes that do not parse.
    """
    try:
        return _answer(message, ident, name, kind)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadAnswer("damaged") from error


def _answer(message: bytes, ident: int, name: str, kind: RecordType) -> Answer:
    got, flags, questions, records, _, _ = _HEADER.unpack_from(message)
    if got != ident or not flags & _RESPONSE or questions != 1:
        raise BadAnswer("not the answer to this question")
    asked, position = _name(message, _HEADER.size)
    if asked != name.lower() or _QUESTION.unpack_from(message, position) != (kind, _IN):
        raise BadAnswer("the answer to another question")
    position += _QUESTION.size
    aliases: dict[str, str] = {}
    found: list[tuple[str, Address]] = []
    for _ in range(records):
        owner, position = _name(message, position)
        record, space, _, length = _RECORD.unpack_from(message, position)
        position += _RECORD.size
        data = message[position : position + length]
        if len(data) != length:
            raise BadAnswer("a record runs past the end")
        if space == _IN and record == kind:
            found.append((owner, _address(kind, data)))
        elif space == _IN and record == _CNAME:
            aliases[owner], _ = _name(message, position)
        position += length
    target = asked
    for _ in range(_MOST_ALIASES):
        if target not in aliases:
            break
        target = aliases[target]
    addresses = tuple(address for owner, address in found if owner == target)
    return Answer(flags & 0xF, bool(flags & _TRUNCATED), addresses)


def _address(kind: RecordType, data: bytes) -> Address:
    if len(data) != (4 if kind is RecordType.A else 16):
        raise BadAnswer("an address of the wrong length")
    return IPv4Address(data) if kind is RecordType.A else IPv6Address(data)


def _encode(name: str) -> bytes:
    out = bytearray()
    for label in name.rstrip(".").split("."):
        raw = label.encode("ascii")
        if not 1 <= len(raw) <= 63:
            raise ValueError("a label of a name has 1 to 63 characters")
        out.append(len(raw))
        out += raw
    out.append(0)
    if len(out) > 255:
        raise ValueError("a name has at most 253 characters")
    return bytes(out)


def _name(message: bytes, position: int) -> tuple[str, int]:
    """The name at `position`, in lower case, and where it ends (RFC 1035, 4.1.4)."""
    labels: list[str] = []
    end = None
    while len(labels) <= _MOST_LABELS:
        length = message[position]
        if length == 0:
            return ".".join(labels), position + 1 if end is None else end
        if length & 0xC0 == 0xC0:
            target = ((length & 0x3F) << 8) | message[position + 1]
            if target >= position:
                raise BadAnswer("a pointer that does not lead backwards")
            end = position + 2 if end is None else end
            position = target
            continue
        if length & 0xC0:
            raise BadAnswer("an unknown kind of label")
        labels.append(message[position + 1 : position + 1 + length].decode("ascii").lower())
        position += 1 + length
    raise BadAnswer("a name of too many labels")
