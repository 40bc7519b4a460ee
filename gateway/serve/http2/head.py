"""The head of an HTTP/2 request, judged by the rules for one of HTTP/1.1: no door is wider than the other.

h2 has seen to pseudo-fields, names and values (RFC 9113, 8.2 and 8.3). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.serve.http1.head import FIELDS, HOST, LENGTH_DIGITS, METHOD, METHODS, PATH, Unreadable


class Malformed(Exception):
    """RFC 9113, 8.1.1: the stream is reset, and no other is disturbed."""


def require_readable(fields: Sequence[tuple[bytes, bytes]], *, ended: bool) -> None:
    """Judge a head. `ended`: no body follows it.

    Raises:
        Malformed: it is no request, or one for a tunnel, which nobody offers.
        Unreadable: 413, 431 or 501, as HTTP/1.1 has it.
    """
    by_name = dict(fields)
    method, path = by_name.get(b":method", b""), by_name.get(b":path", b"")
    if method == b"CONNECT" or not METHOD.fullmatch(method):
        raise Malformed
    if not (PATH.fullmatch(path) or (path == b"*" and method == b"OPTIONS")):
        raise Malformed
    if not all(HOST.fullmatch(by_name[name]) for name in (b":authority", b"host") if name in by_name):
        raise Malformed
    _require_length([value for name, value in fields if name == b"content-length"], ended=ended)
    if method not in METHODS:
        raise Unreadable(501, "this method is not offered here")
    if sum(not name.startswith(b":") for name, _ in fields) > FIELDS:
        raise Unreadable(431, f"more than {FIELDS} header fields")


def _require_length(lengths: Sequence[bytes], *, ended: bool) -> None:
    # RFC 9113, 8.1.1; h2 compares one length with the DATA that comes, and where there is none, with nothing.
    if len(lengths) > 1 or not all(each.isdigit() for each in lengths):
        raise Malformed
    if any(len(each) > LENGTH_DIGITS for each in lengths):
        raise Unreadable(413, "Content-Length is beyond everything that is accepted here")
    if ended and any(int(each) for each in lengths):
        raise Malformed
