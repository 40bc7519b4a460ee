"""HTTP/1.1 answers out of the bytes of a connection: with a length, chunked, until the end, or without a body.

May not happen here: sockets. It reads what servers under test send, not everything that RFC 9112 allows.
"""

from __future__ import annotations

from bench.load.conversation import Answer, Failed

_MOST_OF_A_HEAD = 65536


class Reading:
    """The answers of one connection, in order. `closing`: the last one was the last of this connection."""

    __slots__ = ("_data", "_head", "closing")

    def __init__(self) -> None:
        self._data = b""
        self._head: tuple[int, dict[str, str], int] | None = None  # status, headers, where the body begins
        self.closing = False

    @property
    def begun(self) -> bool:
        """Whether some of an answer is here."""
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """Take in what was received."""
        self._data = self._data + data if self._data else data

    def next(self, *, head_only: bool = False, ended: bool = False) -> Answer | None:
        """The next answer, once it is whole; interim ones (1xx) are passed over. `ended`: no more bytes will come.

        Raises Failed for what is no HTTP.
        """
        while self._head is not None or self._read_head():
            assert self._head is not None
            status, headers, at = self._head
            found: tuple[bytes, int] | None
            if 100 <= status < 200:
                self._data, self._head = self._data[at:], None
                continue
            if head_only or status in {204, 304}:
                found = b"", at
            elif "chunked" in headers.get("transfer-encoding", "").lower():
                found = _chunked(self._data, at)
            elif "content-length" in headers:
                found = self._measured(at, headers["content-length"])
            else:
                self.closing = True
                found = (self._data[at:], len(self._data)) if ended else None
            if found is None:
                return None
            body, end = found
            self._data, self._head = self._data[end:], None
            self.closing = self.closing or headers.get("connection", "").lower() == "close"
            return Answer(status, headers, body)
        return None

    def _measured(self, at: int, written: str) -> tuple[bytes, int] | None:
        end = at + _number(written, 10)
        return None if len(self._data) < end else (self._data[at:end], end)

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > _MOST_OF_A_HEAD:
                raise Failed("the answer's head does not end")
            return False
        line, *lines = self._data[:end].decode("latin-1").split("\r\n")
        version, _, rest = line.partition(" ")
        if not version.startswith("HTTP/1."):
            raise Failed(f"no HTTP: {line[:60]!r}")
        headers: dict[str, str] = {}
        for each in lines:
            name, _, value = each.partition(":")
            headers[name.lower()] = value.strip()
        self._head = _number(rest[:3], 10), headers, end + 4
        self.closing = version == "HTTP/1.0" and headers.get("connection", "").lower() != "keep-alive"
        return True


def _chunked(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The body and where it ends, or None while some of it is missing; extensions and trailers are passed over."""
    parts: list[bytes] = []
    while (end := data.find(b"\r\n", at)) >= 0:
        size = _number(data[at:end].partition(b";")[0].decode("latin-1"), 16)
        at = end + 2
        if not size:
            return _after_trailers(data, at, b"".join(parts))
        if len(data) < at + size + 2:
            return None
        parts.append(data[at : at + size])
        at += size + 2
    return None


def _after_trailers(data: bytes, at: int, body: bytes) -> tuple[bytes, int] | None:
    while (end := data.find(b"\r\n", at)) >= 0:
        if end == at:
            return body, end + 2
        at = end + 2
    return None


def _number(written: str, base: int) -> int:
    """A number of HTTP: digits and nothing else, where `int` would take a sign, spaces and underscores."""
    digits = written.strip()
    if not digits.isalnum():
        raise Failed(f"no number: {written[:20]!r}")
    try:
        return int(digits, base)
    except ValueError:
        raise Failed(f"no number: {written[:20]!r}") from None
