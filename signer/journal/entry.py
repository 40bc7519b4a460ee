"""The lines of a journal's file: how they are written, sealed to one another, and read. No file is opened here.

One line of JSON for each write: a heading, a batch of entries, or an end. Its last member, `mac`, is a keyed BLAKE2b
(RFC 7693) over the `mac` of the line before and everything in front of itself. The key comes from the store's sealing
key: without the unlock secret nobody can write a line, change one, or leave one out of the middle. One line a batch,
so that its cost is a batch's and not an ask's, and so that a write that was cut short leaves one line cut short.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from typing import Final

import msgspec

PURPOSE: Final = b"muster issuance journal"
ISSUED: Final = "issue-certificate"
LISTED: Final = "sign-crl"
RESPONDS: Final = "certify-responder"
CEREMONY: Final = "hold-ceremony"
LISTENER: Final = "certify-listener"
TOGETHER: Final = 64  # entries in a line at most, so that a reader can bound its memory
LONGEST_LINE: Final = 256 * 1024  # bytes
_MAC: Final = b',"mac":"'
_TAIL: Final = len(_MAC) + 64 + 2  # the last member, its closing quote and brace
NOTHING: Final = b""


class Signed(msgspec.Struct, frozen=True, gc=False):  # a frozen dataclass takes six times as long to make
    """Something that an issuer's key signed. `number` is a certificate's serial, or a list's number.

    `ticket` is the mark of the ticket; `request` is the proof's hash of what the client sent, `asked` the SHA-256 of
    the whole ask; empty where there was none.
    """

    verb: str
    issuer: str
    number: int
    der: bytes
    ticket: bytes = b""
    request: bytes = b""
    asked: bytes = b""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry as it is read. `serial` is lower-case hex without leading zeros, as in the store; the hashes are hex.

    `tbs` is the SHA-256 of what the signature covers.
    """

    verb: str
    issuer: str
    serial: str
    tbs: str
    ticket: str = ""
    request: str = ""
    asked: str = ""


class Ended(msgspec.Struct, frozen=True):
    """What was found in a file whose worker was gone: how many entries, and the last `mac`."""

    file: int
    entries: int
    head: str


class Line(msgspec.Struct, frozen=True):
    """Any line. A heading has `file`; a batch has `signed`; `through` counts the file's entries up to this line.

    In a heading, `previous` is the `mac` of the heading before it, `ended` tells of files that ended since, and `open`
    names those that had not. `at` is in seconds since the epoch.
    """

    at: float
    mac: str
    file: int = 0
    pid: int = 0
    previous: str = ""
    ended: list[Ended] = []
    open: list[int] = []
    through: int = 0
    signed: list[Entry] = []
    end: bool = False


class Heading(msgspec.Struct, frozen=True):
    """The first line of a file, without its `mac`."""

    at: float
    file: int
    pid: int
    previous: str
    ended: list[Ended]
    open: list[int]


_lines = msgspec.json.Decoder(Line)


def spelled(signed: Signed) -> bytes:
    """An entry's JSON. Names of keys and hex have no character that JSON would spell otherwise."""
    more = f',"ticket":"{signed.ticket.hex()}"' if signed.ticket else ""
    if signed.request:
        more += f',"request":"{signed.request.hex()}"'
    if signed.asked:
        more += f',"asked":"{signed.asked.hex()}"'
    digest = sha256(tbs(signed.der)).hexdigest()
    return (
        f'{{"verb":"{signed.verb}","issuer":"{signed.issuer}","serial":"{signed.number:x}","tbs":"{digest}"{more}}}'
    ).encode()


def tbs(der: bytes) -> memoryview:
    """What a certificate's or a list's signature covers: the first member of its SEQUENCE. `der` is our own."""
    view = memoryview(der)
    if view[1] == view[5] == 0x82:  # two bytes of length for both, as nearly always
        return view[4 : 8 + (view[6] << 8 | view[7])]
    start = _content(view, 0)[0]
    return view[start : _content(view, start)[1]]


def batch(at: float, through: int, entries: list[bytes]) -> bytes:
    """The body of a line of entries; `seal` completes it."""
    return b'{"at":%.3f,"through":%d,"signed":[%b]' % (at, through, b",".join(entries))


def end(at: float, through: int) -> bytes:
    """The body of the line that a worker writes when it ends in order."""
    return b'{"at":%.3f,"through":%d,"end":true' % (at, through)


def heading(told: Heading) -> bytes:
    """The body of a file's first line."""
    return msgspec.json.encode(told)[:-1]


def seal(key: bytes, previous: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A whole line, and its `mac` (32 bytes)."""
    mac = blake2b(previous + body, key=key, digest_size=32).digest()
    return b'%b,"mac":"%b"}\n' % (body, mac.hex().encode()), mac


def read(key: bytes, previous: bytes, line: bytes) -> tuple[Line, bytes] | None:
    """What a line (without its end) says, and its `mac`; None if the key did not write it behind `previous`."""
    body = line[:-_TAIL]
    mac = blake2b(previous + body, key=key, digest_size=32).digest()
    if line[-_TAIL:] != b'%b%b"}' % (_MAC, mac.hex().encode()):
        return None
    return _lines.decode(line), mac


def _content(view: memoryview, at: int) -> tuple[int, int]:
    """Where the content of the value at `at` begins and ends."""
    length, start = view[at + 1], at + 2
    if length >= 0x80:
        octets = length & 0x7F
        length = int.from_bytes(view[start : start + octets], "big")
        start += octets
    return start, start + length
