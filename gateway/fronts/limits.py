"""Limits before parsing: bytes, seconds, and guesses at secrets. Nothing here knows a protocol or believes a header.

Everything kept in memory here is bounded, whoever sends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
from starlette.types import Message, Receive, Scope

from gateway.actions.authenticate import Guesses
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.admission import Admission, Spenders
from gateway.fronts.rates import Rates
from gateway.fronts.rotation import Rotation
from gateway.fronts.stages import READING

KIB = 1024

# What may still come in after a refusal: a client that reads has stopped by then, and nobody listens to another.
DISCARD_BYTES = 1024 * KIB
DISCARD_SECONDS = 2.0

# What is let in before an answer that keeps the connection: it has come with its head, or follows at once.
SHORT_BYTES = 64 * KIB
SHORT_SECONDS = 0.5


# An extension of the scope: the body, where all of it came with its head. Nobody waits for it, and none of it is on its
# way; to be given it by a message costs as much as to split the head.
WHOLE = "muster.whole"

# Another, and a kind of message: where the scope has it, an answer may come whole, with status, headers and body at
# once. Two messages through all layers cost a small request a twentieth.
ANSWER = "muster.answer"


# What is held of heads and bodies that are still coming, of a process: a stranger opens thousands of connections, 128
# requests on each, and lets none of them come to its end. Above half of it only what is short goes on.
COMING_BYTES = 64 * 1024 * KIB
COMING_SHORT = 16 * KIB
COMING_AGAIN = 2  # seconds until a body that found no room may be sent again
NO_ROOM = "too much is on its way to this gateway just now; try again in a moment"


class Coming:
    """Octets of heads and bodies that are here, and wait for their ends. Whoever adds to `held` takes it off again."""

    __slots__ = ("_most", "held")

    def __init__(self, most: int = COMING_BYTES) -> None:
        self._most = most
        self.held = 0

    def full(self, length: int) -> bool:
        """Whether one of which `length` octets are here may not go on."""
        return self.held > (self._most if length <= COMING_SHORT else self._most // 2)


# The process's own, since its memory is what is bounded.
COMING = Coming()


class BodyRefused(Exception):
    """The body was not read to its end; `status` and `sentence` say why, in HTTP's words."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Disconnected(Exception):
    """The peer went away before its body was complete. Nobody is left to be answered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Body caps in bytes, the time a body may take in seconds, and the counters of wrong credentials.

    `admission` refuses what could not be answered in a useful time, before it is read; `rates` who asks too often;
    `rotation` says who begins next. The caps: EST E20, SCEP S12; no
    ACME or REST request comes near theirs.
    """

    acme_body: int = 64 * KIB
    est_body: int = 64 * KIB
    scep_body: int = 256 * KIB
    rest_body: int = 64 * KIB
    ocsp_body: int = 8 * KIB
    body_seconds: float = 30.0
    guesses: Guesses = field(default_factory=Guesses)
    admission: Admission = field(default_factory=Admission)
    spenders: Spenders = field(default_factory=Spenders)
    rates: Rates = field(default_factory=Rates)
    rotation: Rotation = field(default_factory=Rotation)

    def admit(self, lane: str, *, begun: bool = False) -> None:
        """Before a body is read: raises `Refusal` RATE_LIMITED or BUSY where the lane is to come again later.

        `begun`: it carries on what earlier requests began.
        """
        if not begun:
            self.rates.enrollment(lane)
        self.admission.require(lane, begun=begun)

    def round_took(self, seconds: float, idle: float) -> None:
        """A round of the loop took so long, and began after so long a rest."""
        self.admission.round_took(seconds, idle, self.rotation.waiting)
        self.rotation.round_begins()
        READING.round_begins()


class Incoming:
    """The receiving side of one request, which knows whether a body is still on its way."""

    __slots__ = ("_receive", "unread")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.unread = whole(scope) is None and _announces_body(scope)

    async def receive(self) -> Message:
        """The next message from the peer."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self.unread = False
        return message

    async def discard(self) -> None:
        """Let the rest of the body come in and forget it, within bounds.

        A connection that is closed on bytes that nobody read is reset, and a reset overtakes the answer: the client
        would never hear why it was refused.
        """
        await self._drain(DISCARD_BYTES, DISCARD_SECONDS)

    async def let_in(self) -> None:
        """Let a short body in before the answer: the connection then serves the next request.

        Whoever is told to come back would else have to shake hands again, which costs more than the refusal saves.
        """
        if self.unread:
            await self._drain(SHORT_BYTES, SHORT_SECONDS)

    async def _drain(self, most: int, seconds: float) -> None:
        length = 0
        with trio.move_on_after(seconds):
            while self.unread and length <= most:
                message = await self.receive()
                length += len(message.get("body", b""))


def _announces_body(scope: Scope) -> bool:
    if scope["method"] in {"GET", "HEAD"}:
        return False
    declared = header(scope, b"content-length")
    # Without a length HTTP/1.1 has a body only if it is chunked; HTTP/2 may have one unannounced.
    return declared != "0" and (
        declared is not None
        or header(scope, b"transfer-encoding") is not None
        or scope["http_version"] not in {"1.0", "1.1"}
    )


def whole(scope: Scope) -> bytes | None:
    """The body, where the listener says that all of it is here."""
    extensions = scope.get("extensions")
    return None if extensions is None else extensions.get(WHOLE)


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this lower-case name, or None. A scope's names are in lower case, as ASGI has them."""
    value: bytes
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


async def read_body(scope: Scope, receive: Receive, *, cap: int, seconds: float, coming: Coming = COMING) -> bytes:
    """The whole body, if it is no longer than `cap` bytes and complete within `seconds`.

    A Content-Length above the cap is refused before anything is read (E20), a chunked body as soon as it passes it.

    Raises:
        BodyRefused: 413 too long, 408 too slow.
        Disconnected: the peer went away.
        Refusal: BUSY, where too much of too many bodies is here already.
    """
    body = whole(scope)
    if body is not None:
        if len(body) > cap:
            raise _too_long(cap)
        return body
    declared = header(scope, b"content-length")
    if declared is not None and declared.isdecimal() and int(declared) > cap:
        raise _too_long(cap)
    with trio.move_on_after(seconds):
        return await _read(receive, cap, coming)
    raise BodyRefused(408, f"the body did not arrive within {seconds:g} seconds")


async def _read(receive: Receive, cap: int, coming: Coming) -> bytes:
    # One buffer: as many small parts as a stranger likes would take twenty times their size.
    so_far = bytearray()
    counted = 0
    try:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            part: bytes = message.get("body", b"")
            length = len(so_far) + len(part)
            if length > cap:
                raise _too_long(cap)
            if not message.get("more_body", False):
                return bytes(so_far + part) if so_far else part
            so_far += part
            counted += len(part)
            coming.held += len(part)
            if coming.full(length):
                raise Refusal(RefusalReason.BUSY, NO_ROOM, retry_after=COMING_AGAIN)
    finally:
        coming.held -= counted


def _too_long(cap: int) -> BodyRefused:
    return BodyRefused(413, f"the body is longer than {cap} bytes, the most that is accepted here")
