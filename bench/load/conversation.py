"""What a client says next, given the last answer: one description of a protocol, driven by every kind of loop.

A conversation is a generator: it yields whole requests as bytes and receives answers, so that an open loop, a closed
loop and a blocking socket play the same one. May not happen here: sockets, clocks, waiting.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Ask:
    """One HTTP request, head and body. `head_only`: its answer has no body whatever its head says (HEAD)."""

    __slots__ = ("data", "head_only")

    def __init__(self, data: bytes, *, head_only: bool = False) -> None:
        self.data = data
        self.head_only = head_only


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds; the answer to it is `NOTHING`."""

    seconds: float


Step: TypeAlias = Ask | Pause
Conversation: TypeAlias = Generator[Step, Answer, R]
_AGENT: Final = "User-Agent: muster-load"  # which RFC 8555, 6.1 asks of every ACME client
NOTHING: Final = Answer(0, {}, b"")


class Told(RuntimeError):
    """The server said not now (429 or 503): an answer, not a failure. `after` is its Retry-After in seconds, or 0."""

    def __init__(self, answer: Answer) -> None:
        after = answer.headers.get("retry-after", "")
        self.status = answer.status
        self.after = float(after) if after.isdigit() else 0.0
        super().__init__(f"{answer.status} {answer.body[:200]!r}")


class Failed(RuntimeError):
    """What came back is not what the protocol promises for this request."""


def expect(answer: Answer, *statuses: int) -> Answer:
    """The answer, if its status is one of `statuses`. Raises Told for 429 and 503, Failed for any other."""
    if answer.status in statuses:
        return answer
    if answer.status in {429, 503}:
        raise Told(answer)
    raise Failed(f"{answer.status} {answer.body[:300]!r}")


_PORTS: Final = {"http": 80, "https": 443}


class Origin:
    """Scheme, host and port of a server, and the requests that are written to it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no http or https URL")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or _PORTS[parts.scheme]
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._prefix = f"{self.url}/"
        self._place = (parts.scheme, self.host, self.port)
        self._authority = parts.netloc

    def target(self, url: str) -> str:
        """The request target of a URL of this origin. Raises Failed for one of another origin."""
        if url.startswith("/"):
            return url
        if url.startswith(self._prefix):
            return url[len(self.url) :]
        # What stands for the same (RFC 3986, 6.2.3): no path, the scheme's own port, a host in other letters.
        parts = urlsplit(url)
        try:
            same = self._place == (parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme))
        except ValueError:
            same = False
        if not same:
            raise Failed(f"{url!r} is at another origin than {self.url}")
        return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"

    def ask(self, method: str, url: str, body: bytes | None = None, *headers: str) -> Ask:
        """One request, whole. `headers` are lines without their end."""
        return Ask(self.head(method, url, *headers).with_body(body).data, head_only=method == "HEAD")

    def head(self, method: str, url: str, *headers: str) -> Head:
        """The part of a request that stays the same, to be completed by many bodies."""
        lines = "".join(f"{line}\r\n" for line in (f"Host: {self._authority}", _AGENT, *headers))
        return Head(f"{method} {self.target(url)} HTTP/1.1\r\n{lines}".encode("latin-1"))


class Head:
    """A request line and headers, written once."""

    __slots__ = ("_start",)

    def __init__(self, start: bytes) -> None:
        self._start = start

    def with_body(self, body: bytes | None) -> Ask:
        """The whole request; None is a request that has no body, and says nothing about one."""
        if body is None:
            return Ask(self._start + b"\r\n")
        return Ask(b"%bContent-Length: %d\r\n\r\n%b" % (self._start, len(body), body))
