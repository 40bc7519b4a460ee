"""The bytes of an answer's head. Names are written as the application wrote them: small clients compare them (E15).

Nothing leaves here that would end a head early: a CR, LF or NUL in a field is the application's bug, and raises.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, NamedTuple

from gateway.fronts.limits import COMING_AGAIN
from gateway.serve.http1.head import Unreadable

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_LINES: Final = {each.value: b"HTTP/1.1 %d %b\r\n" % (each.value, each.phrase.encode()) for each in HTTPStatus}
# What an answer says that the connection has to know; a coding is not the application's to choose.
_HEARD: Final = frozenset({b"content-length", b"connection", b"transfer-encoding"})
# RFC 9110, 6.4.1 and 8.6: no content, and no word of its length.
BODILESS: Final = frozenset({204, 304})


class Lead(NamedTuple):
    """An answer's head without its end, and what it says itself of its body's length and of the connection."""

    lines: bytes
    length: int | None
    closes: bool


def date_line(at: float) -> bytes:
    """The Date field (RFC 9110, 6.6.1) of a POSIX time."""
    return b"Date: %b\r\n" % formatdate(at, usegmt=True).encode("ascii")


def lead(status: int, headers: Iterable[tuple[bytes, bytes]], date: bytes) -> Lead:
    """Status line and fields. Raises ValueError for what cannot be sent."""
    parts = [_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
    length: int | None = None
    closes = False
    for name, value in headers:
        parts.append(b"%b: %b\r\n" % (name, value))
        small = name.lower()
        if small not in _HEARD:
            continue
        if small == b"content-length":
            if length is not None:
                raise ValueError("an answer has one length")
            length = int(value)  # raises ValueError for what is no number
        elif small == b"connection":
            closes = closes or value.lower() == b"close"
        else:
            raise ValueError("the connection decides on transfer codings")
    parts.append(date)
    lines = b"".join(parts)
    # Each part ends with one CR LF: one more of these octets, wherever it stands, is the application's. A pass over the
    # bytes in one call: to count them apart, and to look for names among them, took three times as long as this.
    if len(lines) - len(lines.translate(None, b"\r\n\0")) != 2 * len(parts) or not 200 <= status <= 999:
        raise ValueError("an answer's field holds what would end it")
    return Lead(lines, length, closes)


def refusal(refused: Unreadable, date: bytes) -> bytes:
    """A whole answer to what is no request; the connection ends with it."""
    body = refused.sentence.encode("ascii") + b"\n"
    return b"".join(
        (
            _LINES[refused.status],
            b"Content-Type: text/plain; charset=us-ascii\r\nContent-Length: %d\r\n" % len(body),
            date,
            b"Retry-After: %d\r\n" % COMING_AGAIN if refused.status == 503 else b"",
            b"Connection: close\r\n\r\n",
            body,
        )
    )
