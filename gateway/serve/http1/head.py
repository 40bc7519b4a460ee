"""The head of a request: judged whole by one grammar, split by llhttp, and the place where its body ends.

Nothing is read from a socket here, and nothing is guessed: what RFC 9112 leaves a choice in, between reading a strange
message and refusing it, is refused. llhttp never has the last word: it splits what the grammar has passed.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import httptools
import msgspec

# SCEP puts whole messages into a query (S94): an RSA-4096 one takes 20 KiB. The fields hold a chain of certificates
# where a proxy hands it over (RFC 9440).
LINE_LIMIT: Final = 64 * 1024
FIELDS_LIMIT: Final = 64 * 1024
FIELDS: Final = 100

# More digits than any body that could ever be sent.
LENGTH_DIGITS: Final = 15

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
METHOD: Final = re.compile(_TOKEN + rb"++")
_TARGET: Final = rb"[\x21\x22\x24-\x7e]++"
FIELD_LINE: Final = _TOKEN + rb"++:[\t\x20-\x7e\x80-\xff]*+\r\n"
# RFC 9112, 3 and 5, with possessive repeats: one pass, no way back. A target has no fragment (RFC 9112, 3.2), and only
# SP stands between the parts: white space that others fold is how two parsers come to see two targets (RFC 9112, 3).
_HEAD: Final = re.compile(
    rb"(" + _TOKEN + rb"++) (" + _TARGET + rb") HTTP/1\.([01])\r\n((?:" + FIELD_LINE + rb")*+)\r\n"
)
_VERSION: Final = re.compile(_TOKEN + rb"++ [^\r\n]*? HTTP/[0-9]\.[0-9]\r\n")
_STRAY: Final = re.compile(rb"(?:\A|[^\r])\n|\r[^\n]|\0")
# Legal and unheard of: whoever takes the blanks for a part of the coding sees another body than we do.
_TRAILED: Final = re.compile(rb"(?:\A|\n)transfer-encoding:[^\r]*[\t\x20]\r", re.IGNORECASE)
_FIRST: Final = re.compile(_TOKEN)

PATH: Final = re.compile(rb"(?=/)" + _TARGET)
_AUTHORITY: Final = rb"(?:\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9._~!$&'()*+,;=%-]*+)(?::[0-9]{0,5}+)?"
HOST: Final = re.compile(_AUTHORITY)
# An empty host is none in a URI (RFC 9110, 4.2.1 and 4.2.2), though it is one in a Host field.
_ABSOLUTE: Final = re.compile(rb"(https?)://(?=[^:/?])(" + _AUTHORITY + rb")((?:/[^?]*+)?)((?:\?.*+)?)", re.IGNORECASE)

# RFC 9110, 9.1: what is not recognized is 501. CONNECT asks for a tunnel and TRACE for an echo; nobody offers either.
METHODS: Final = {each.encode(): each for each in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")}

_SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})

# A client sends the same few blocks of fields over and over: with its program's name, its token, and the length of one
# kind of request. To know one again costs a tenth of judging it. Bounded, since idle connections keep them.
_KNOWN: Final = 8
_KNOWN_OCTETS: Final = 512
_KNOWN_FIELDS: Final = 16
# Of a process: ten thousand strangers, each with eight of the largest blocks, would have it hold 250 MB.
_KNOWN_BYTES: Final = 16 * 1024 * 1024
# What a block takes of it: twice its octets, in the key and cut in two, and Python's own for that and for each field.
_BLOCK_COSTS: Final = 256
_FIELD_COSTS: Final = 136


class Unreadable(Exception):
    """What came is no request that is taken; `status` and `sentence` are the answer, and the connection ends."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def unraised(self) -> Unreadable:
        """The same, to be kept or raised: one that was raised has frames that hold whoever keeps it, and a flood of
        refusals would leave as many cycles.
        """
        return Unreadable(self.status, self.sentence)


class Head(msgspec.Struct, frozen=True):
    """One request's head. Names of fields are in lower case; `path` and `query` are raw bytes of the target.

    `length` is the body's in octets, None where it is chunked. `keeps` says whether the peer would go on with the
    connection, `waits` whether it waits for 100 (Continue), `end` how many octets the head took.
    """

    method: str
    path: bytes
    query: bytes
    modern: bool
    headers: list[tuple[bytes, bytes]]
    length: int | None
    keeps: bool
    waits: bool
    end: int


class Said(msgspec.Struct, frozen=True):
    """What a block of fields says by itself; as in `Head`."""

    headers: list[tuple[bytes, bytes]]
    length: int | None
    keeps: bool
    waits: bool


Block: TypeAlias = tuple[bytes, bytes, bytes]
"""Method, minor version and the block's own octets, every one of them."""


class Knowing:
    """Bytes that all connections of a process hold of blocks they know."""

    __slots__ = ("held", "most")

    def __init__(self, most: int = _KNOWN_BYTES) -> None:
        self.most = most
        self.held = 0


# The process's own, since its memory is what is bounded.
KNOWING: Final = Knowing()


class Known:
    """What one connection's blocks said. Whoever made it calls `forget` at the end."""

    __slots__ = ("_held", "_knowing", "said")

    def __init__(self, knowing: Knowing = KNOWING) -> None:
        self._knowing = knowing
        self._held = 0
        self.said: dict[Block, Said] = {}

    def keep(self, block: Block, said: Said) -> None:
        """Know it again, if it is short and there is room."""
        octets, fields = len(block[2]), len(said.headers)
        if octets > _KNOWN_OCTETS or fields > _KNOWN_FIELDS:
            return
        if len(self.said) == _KNOWN:
            self.forget()
        costs = _BLOCK_COSTS + 2 * octets + _FIELD_COSTS * fields
        if self._knowing.held + costs <= self._knowing.most:
            self._knowing.held += costs
            self._held += costs
            self.said[block] = said

    def forget(self) -> None:
        """Know none of them any more."""
        self.said.clear()
        self._knowing.held -= self._held
        self._held = 0


class _Fields:
    """What llhttp calls back: all fields, and by name, where the last one of a name stands for all."""

    __slots__ = ("by_name", "found")

    def __init__(self) -> None:
        self.found: list[tuple[bytes, bytes]] = []
        self.by_name: dict[bytes, bytes] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        # llhttp leaves blanks behind a value. Of all that this would strip the grammar has let in SP and HTAB alone.
        self.by_name[name] = value = value.strip()
        self.found.append((name, value))


def read(data: bytes, *, secure: bool, known: Known | None = None) -> Head | None:
    """The head that `data` begins with, or None where it is not complete yet.

    `secure` says whether TLS carries it: an absolute-form target must name the scheme it came by. `known` is kept by
    the caller for one connection, from its first head on.

    Raises:
        Unreadable: 400, 414, 417, 431, 501 or 505.
    """
    match = _HEAD.match(data)
    if match is None:
        require_head_so_far(data, 0)
        if b"\r\n\r\n" in data:
            raise _broken(data)
        return None
    method, target, minor, block = match.groups()
    end, line = match.end(), match.start(4)
    if line > LINE_LIMIT:
        raise _line_too_long()
    if end - line > FIELDS_LIMIT:
        raise _fields_too_long()
    name = METHODS.get(method)
    if name is None:
        raise Unreadable(501, "this method is not offered here")
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        key = (method, minor, block)
        said = None if known is None else known.said.get(key)
        if said is None:
            said = _said(*_split(data, end, block), block, modern=minor == b"1")
            if known is not None:
                known.keep(key, said)
    else:
        headers, fields = _split(data, end, block)
        path, query = _target(target, name, headers, fields, secure=secure)
        said = _said(headers, fields, block, modern=minor == b"1")
    # A list of its own each time: what one request's application does with it is not the next one's affair.
    return Head(name, path, query, minor == b"1", said.headers.copy(), said.length, said.keeps, said.waits, end)


def _said(headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], block: bytes, *, modern: bool) -> Said:
    _require_host(fields, modern=modern)
    if b"transfer-encoding" in fields and _TRAILED.search(block):
        raise Unreadable(400, "blanks behind a transfer coding, which others do not strip")
    length = _length(fields, modern=modern)
    waits = b"expect" in fields and _waits(fields[b"expect"], modern=modern) and length != 0
    connection = fields.get(b"connection")
    keeps = modern if connection is None else _keeps(connection, modern=modern)
    return Said(headers, length, keeps, waits)


def require_head_so_far(data: bytes | bytearray, looked: int) -> None:
    """Refuse the beginning of a head that can come to nothing; the first `looked` octets have been looked at.

    Raises:
        Unreadable: 400, 414, 431: at once, and not when somebody's patience ends.
    """
    if not _FIRST.match(data):
        raise Unreadable(400, "this is no HTTP request")
    # By one octet: it is searched from the start each time, and for two it would take thirty times as long, which adds
    # up where a long line comes octet by octet. A bare LF is refused below.
    line = data.find(b"\n") - 1
    if (line if line >= 0 else len(data)) > LINE_LIMIT:
        raise _line_too_long()
    if line >= 0:
        end = data.find(b"\r\n\r\n", max(line, looked - 4))
        if (end if end >= 0 else len(data)) - line > FIELDS_LIMIT:
            raise _fields_too_long()
        if end >= 0:
            return  # the grammar judges it
    if _STRAY.search(data, max(0, looked - 1), len(data)):
        raise Unreadable(400, "lines end with CR LF, and hold no NUL (RFC 9112, 2.2)")


def _split(data: bytes, end: int, block: bytes) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """Names in lower case and values without the blanks around them (RFC 9112, 5.1); and the same as a dictionary."""
    if block.count(b"\n") > FIELDS:
        raise Unreadable(431, f"more than {FIELDS} header fields")
    fields = _Fields()
    try:
        # A parser of its own for each head: no state of one request reaches the next. Only the head goes in.
        httptools.HttpRequestParser(fields).feed_data(data if len(data) == end else data[:end])
    except httptools.HttpParserUpgrade:
        pass  # RFC 9110, 7.8: an upgrade may be ignored
    except httptools.HttpParserError:
        raise Unreadable(400, "the header fields contradict each other") from None
    if len(fields.found) != block.count(b"\n"):
        raise Unreadable(400, "the header fields cannot be told apart")
    found, by_name = fields.found, fields.by_name
    return found, by_name if len(by_name) == len(found) else _joined(found)


def _joined(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The fields by name; lists that came in several lines are one (RFC 9110, 5.3). What is single must be single."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in fields:
            fields[name] = value
        elif name in _SINGLE:
            raise Unreadable(400, f"more than one {name.decode('ascii').title()} (RFC 9112, 3.2 and 6.3)")
        else:
            fields[name] += b", " + value
    return fields


def _target(
    target: bytes, method: str, headers: list[tuple[bytes, bytes]], fields: dict[bytes, bytes], *, secure: bool
) -> tuple[bytes, bytes]:
    """Path and query of a target that is no path (RFC 9112, 3.2). An absolute-form one replaces Host (3.2.2), for the
    application too.
    """
    if target == b"*" and method == "OPTIONS":
        return target, b""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Unreadable(400, "the request target is none of RFC 9112, 3.2")
    if (absolute[1].lower() == b"https") is not secure:
        raise Unreadable(400, "the request target names a scheme that this connection does not speak")
    headers[:] = [(b"host", absolute[2]), *(each for each in headers if each[0] != b"host")]
    # The Host that came with it must be one, and is otherwise ignored.
    if b"host" in fields:
        fields[b"host"] = absolute[2]
    return absolute[3] or b"/", absolute[4][1:]


def _require_host(fields: dict[bytes, bytes], *, modern: bool) -> None:
    """RFC 9112, 3.2: exactly one, and a valid one; HTTP/1.0 knew none."""
    host = fields.get(b"host")
    if host is None:
        if modern:
            raise Unreadable(400, "Host is missing (RFC 9112, 3.2)")
    elif not HOST.fullmatch(host):
        raise Unreadable(400, "Host names no host (RFC 9112, 3.2)")


def _length(fields: dict[bytes, bytes], *, modern: bool) -> int | None:
    """Where the body ends (RFC 9112, 6.3), or a refusal: whatever could be read in two ways is."""
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise Unreadable(400, "both Transfer-Encoding and Content-Length (RFC 9112, 6.1)")
        if not modern:
            raise Unreadable(400, "Transfer-Encoding in HTTP/1.0 (RFC 9112, 6.1)")
        if coding.lower() != b"chunked":
            *before, last = (each.strip(b" \t") for each in coding.lower().split(b","))
            if b"chunked" in before:
                raise Unreadable(400, "chunked more than once, or not last (RFC 9112, 6.1)")
            if last == b"chunked":
                raise Unreadable(501, "of transfer codings only chunked is known here (RFC 9112, 6.1)")
            raise Unreadable(400, "the last transfer coding is not chunked (RFC 9112, 6.3)")
        return None
    if length is None:
        return 0
    # bytes.isdigit knows ASCII's digits alone: no sign, no underscore, no list.
    if not length.isdigit():
        raise Unreadable(400, "Content-Length is no number (RFC 9112, 6.3)")
    if len(length) > LENGTH_DIGITS:
        raise Unreadable(413, "Content-Length is beyond everything that is accepted here")
    return int(length)


def _waits(expectation: bytes, *, modern: bool) -> bool:
    """RFC 9110, 10.1.1: HTTP/1.0's expectations are ignored, unknown ones are 417."""
    if not modern:
        return False
    if expectation.lower() != b"100-continue":
        raise Unreadable(417, "of expectations only 100-continue is known here (RFC 9110, 10.1.1)")
    return True


def _keeps(connection: bytes, *, modern: bool) -> bool:
    """RFC 9112, 9.3."""
    options = {each.strip(b" \t") for each in connection.lower().split(b",")}
    return b"close" not in options and (modern or b"keep-alive" in options)


def _line_too_long() -> Unreadable:
    return Unreadable(414, f"the request line is longer than {LINE_LIMIT} bytes")


def _fields_too_long() -> Unreadable:
    return Unreadable(431, f"the header fields are longer than {FIELDS_LIMIT} bytes")


def _broken(data: bytes) -> Unreadable:
    """Why a whole head is none, in the words of the first thing that is wrong with it."""
    if _VERSION.match(data) and not re.match(rb"[^\r\n]* HTTP/1\.[01]\r", data):
        return Unreadable(505, "HTTP/1.1 and HTTP/1.0 are spoken here")
    return Unreadable(400, "the request does not follow the grammar of RFC 9112")
