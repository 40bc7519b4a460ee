"""The PROXY protocol, versions 1 and 2, as HAProxy's `proxy-protocol.txt` says. Pure: bytes in, addresses out.

Who may send one is not asked here, and nothing is guessed: what can be read in two ways is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

Address: TypeAlias = tuple[str, int]

# Section 2.1: the longest line of version 1, and the shortest, `PROXY UNKNOWN`.
LINE: Final = 107
_SHORTEST: Final = 15
_WORD: Final = b"PROXY "
# Section 2.2.
SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
HEAD: Final = 16
# Addresses and TLVs together. HAProxy's own are below 1 KiB; 64 KiB, which the field allows, would let every connection
# hold as much before it said who it is.
MOST: Final = 4096

_FAMILIES: Final = {0x11: 12, 0x21: 36}  # TCP over IPv4, over IPv6: the length of two addresses and two ports
_NAMELESS: Final = frozenset({0x00, 0x31})  # unspecified, and UNIX sockets, whose paths are no addresses
_CHECKSUM: Final = 0x03  # PP2_TYPE_CRC32C


class BadPrefix(ValueError):
    """It does not begin as a proxy's connection begins."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What was said: `client` has connected to `server`. Both None: the connection is the proxy's own, or of no name.

    `length` is how many bytes it took.
    """

    client: Address | None
    server: Address | None
    length: int


def read(data: bytes) -> Prefix | int:
    """The prefix with which `data` begins, or how many bytes are to be there before it is asked again.

    That number never goes beyond the prefix's end. Raises `BadPrefix` as soon as it can be none.
    """
    if data[:1] == SIGNATURE[:1]:
        return _second(data)
    return _first(data)


def _first(data: bytes) -> Prefix | int:
    if not data.startswith(_WORD[: len(data)]):
        raise BadPrefix("the connection does not begin with a PROXY header")
    if len(data) < _SHORTEST:
        return _SHORTEST
    end = data.find(b"\r\n", 0, LINE)
    if end < 0:
        if len(data) >= LINE or b"\n" in data:
            raise BadPrefix(f"a PROXY line that does not end within {LINE} bytes")
        # Where it ends is not known: the next byte is its own at least.
        return len(data) + 1
    words = data[:end].split(b" ")
    match words[1:]:
        case [b"UNKNOWN", *_]:
            return Prefix(None, None, end + 2)
        case [b"TCP4" | b"TCP6" as family, source, destination, source_port, destination_port]:
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            client = (_address(source, kind), _port(source_port))
            return Prefix(client, (_address(destination, kind), _port(destination_port)), end + 2)
        case _:
            raise BadPrefix("a PROXY line of no known family, or of other than six words")


def _address(word: bytes, kind: type[IPv4Address | IPv6Address]) -> str:
    try:
        found = kind(word.decode("ascii"))
    except ValueError:
        raise BadPrefix("a PROXY line with an address that is none") from None
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        raise BadPrefix("a PROXY line with a scoped address")
    return _written(found)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 65535:
        raise BadPrefix("a PROXY line with a port that is none")
    return int(word)


def _second(data: bytes) -> Prefix | int:
    if not data.startswith(SIGNATURE[: len(data)]):
        raise BadPrefix("the connection does not begin with a PROXY header")
    if len(data) < HEAD:
        return HEAD
    version, command = data[12] >> 4, data[12] & 0x0F
    if version != 2 or command > 1:
        raise BadPrefix("a PROXY header of another version, or with an unknown command")
    family = data[13]
    length = int.from_bytes(data[14:16], "big")
    if length > MOST:
        raise BadPrefix(f"a PROXY header of more than {MOST} bytes")
    whole = HEAD + length
    if len(data) < whole:
        return whole
    body = data[HEAD:whole]
    if command == 0:
        # LOCAL: a health check of the proxy's own. Its addresses are to be ignored; a checksum still holds.
        _look_at_tlvs(data[:whole], HEAD + min(_FAMILIES.get(family, length), length))
        return Prefix(None, None, whole)
    if family in _NAMELESS:
        return Prefix(None, None, whole)
    taken = _FAMILIES.get(family)
    if taken is None or taken > length:
        raise BadPrefix("a PROXY header of an unknown family, or too short for its addresses")
    _look_at_tlvs(data[:whole], HEAD + taken)
    size = (taken - 4) // 2
    kind = IPv4Address if size == 4 else IPv6Address
    source, destination = (_written(kind(body[at : at + size])) for at in (0, size))
    ports = [int.from_bytes(body[at : at + 2], "big") for at in (2 * size, 2 * size + 2)]
    return Prefix((source, ports[0]), (destination, ports[1]), whole)


def _look_at_tlvs(header: bytes, at: int) -> None:
    """They must fill the rest, and a checksum must be right; what else they say is not used."""
    checked = False
    while at < len(header):
        if at + 3 > len(header):
            raise BadPrefix("a PROXY header whose TLVs do not fit")
        kind, length = header[at], int.from_bytes(header[at + 1 : at + 3], "big")
        value, at = at + 3, at + 3 + length
        if at > len(header):
            raise BadPrefix("a PROXY header whose TLVs do not fit")
        if kind == _CHECKSUM:
            blank = header[:value] + bytes(length) + header[at:]
            if checked or length != 4 or crc32c(blank) != int.from_bytes(header[value:at], "big"):
                raise BadPrefix("a PROXY header whose checksum is wrong")
            checked = True


def _written(address: IPv4Address | IPv6Address) -> str:
    # An IPv4 client of a proxy that listens on IPv6 is the same client.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        rest = byte
        for _ in range(8):
            rest = (rest >> 1) ^ (0x82F63B78 if rest & 1 else 0)
        found.append(rest)
    return tuple(found)


# Castagnoli's polynomial, reflected (RFC 3720, appendix B.4); zlib's is another one.
_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = (rest >> 8) ^ _TABLE[(rest ^ byte) & 0xFF]
    return rest ^ 0xFFFFFFFF
