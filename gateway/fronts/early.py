"""Refusals before HTTP is read (P16): while there is too much to do, one whole request in its bytes is told so at once.

Whoever asks too often is told here, too. Only what can mean one thing is answered: a head that is plain, with one
length and all of its body.
Everything else takes the ordinary way and is judged there. Nothing is acted upon, and no header decides a right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from starlette.routing import BaseRoute, Route

from gateway.actions.admit import admitted
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol
from gateway.fronts.acme.door import carries_on
from gateway.fronts.admission import TOO_MUCH
from gateway.fronts.endpoint import Endpoint, Wording
from gateway.fronts.front import Front
from gateway.fronts.problem import retry_after
from gateway.fronts.rates import TOO_MANY, TOO_OFTEN
from gateway.fronts.rest import PREFIX
from gateway.fronts.rotation import HANDSHAKE
from gateway.store.catalogue import Catalogue
from protocols.exchange import Reply

# RFC 9112, 3 and 5, without what parsers read in more than one way: no folded lines, no bare CR or LF, no blanks before
# a colon. No percent and no query: such paths are judged where they are understood.
_HEAD: Final = re.compile(
    rb"(POST|GET|HEAD) (/[A-Za-z0-9/._~-]+) HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
)
_LENGTH: Final = re.compile(rb"(?:^|\n)content-length:[\t ]*([0-9]{1,7})[\t ]*\r")
_AUTHORIZATION: Final = re.compile(rb"(?:^|\n)authorization:[\t ]*([^\r]*?)[\t ]*\r", re.IGNORECASE)
# What changes where a message ends or what follows it; whoever says so is heard by the whole parser.
_UNUSUAL: Final = (b"transfer-encoding", b"expect:", b"upgrade", b"connection: close", b"trailer")

_CREATE: Final = f"{PREFIX}/certificates"
# What may be an enrollment, at a glance.
_DOORS: Final = tuple(
    b"POST " + each.encode() for each in ("/acme/", "/est/", "/.well-known/est/", "/scep/", f"{_CREATE} ")
)
# What counts as an address's request and may be answered here: the same, and what is only asked there.
_COUNTED: Final = tuple(
    method + each
    for method in (b"POST ", b"GET ", b"HEAD ")
    for each in (b"/acme/", b"/est/", b"/.well-known/est/", b"/scep/", b"/api/")
)
_GO_ON: Final = (0, "", 0)


class Early:
    """The short way. `told` counts what it answered, by its caller's means."""

    def __init__(self, front: Front, routes: Iterable[BaseRoute], told: Callable[[int], None]) -> None:
        self._front = front
        self._admission = front.limits.admission
        self._rates = front.limits.rates
        self._told = told
        # Each door's own words, by the first segment of its addresses.
        self._wordings: dict[str, Wording] = {
            route.path.split("/", 2)[1]: route.endpoint.wording
            for route in reversed(list(routes))
            if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
        }

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        """The whole answer to the one whole request that `data` is, or None where the ordinary way is to be taken."""
        enrolls = data.startswith(_DOORS)
        judged = (enrolls and self._admission.crowded) or (data.startswith(_COUNTED) and self._rates.alert)
        if judged and (whole := _whole(data)) is not None:
            method, path = whole
            status, sentence, seconds = self._judge(path, data, address, enrolls=enrolls, secure=secure)
            if seconds:
                reply = self._wordings[path.split("/", 2)[1]](status, sentence, retry_after(seconds))
                self._told(reply.status)
                return _written(reply, b"" if method == "HEAD" else reply.body)
        if enrolls:
            self._admission.comes()
        return None

    async def greet(self, address: str) -> bool:
        """Wait for this address's turn to shake hands; whether it may. Its first bytes have come already."""
        if not self._front.limits.rates.connection(address):
            return False
        await self._front.limits.rotation.turn(address, HANDSHAKE)
        return True

    def _judge(self, path: str, data: bytes, address: str, *, enrolls: bool, secure: bool) -> tuple[int, str, int]:
        """Status and sentence of a refusal, and after how many seconds to come again: 0 for what may go on."""
        if self._rates.alert and (seconds := self._rates.early(address)):
            return (503 if self._rates.reason is RefusalReason.BUSY else 429), TOO_OFTEN, seconds
        try:
            known = self._lane(path, data, address, secure=secure) if enrolls else None
        except Refusal:
            known = None
        if known is None:
            return _GO_ON
        lane, begun = known
        if not begun and (seconds := self._rates.early_enrollment(lane)):
            return 429, TOO_MANY, seconds
        if self._admission.crowded:
            return 503, TOO_MUCH, self._admission.refusal(lane, begun=begun, from_socket=True)
        return _GO_ON

    def _lane(self, path: str, data: bytes, address: str, *, secure: bool) -> tuple[str, bool] | None:
        """Whose share a request uses and whether it carries on, or None for what is no enrollment of ours."""
        match path.split("/"):
            case ["", "acme", application, profile, *rest] if secure:
                pair = admitted(self._catalogue.pair(application, profile), Protocol.ACME)
                return pair.application.id, carries_on("/".join(rest))
            case ["", "est", application, profile, _, *_] if secure:
                return admitted(self._catalogue.pair(application, profile), Protocol.EST).application.id, False
            case ["", ".well-known", "est", label, _, *_] if secure:
                return admitted(self._catalogue.pair_by_label(label), Protocol.EST).application.id, False
            case ["", "scep", application, profile, *_]:
                return admitted(self._catalogue.pair(application, profile), Protocol.SCEP).application.id, False
            case _ if path == _CREATE and secure:
                found = _AUTHORIZATION.search(data, 0, data.find(b"\r\n\r\n") + 2)
                authorization = None if found is None else found[1].decode("latin-1")
                return self._front.limits.spenders.lane(authorization, address), False
        return None

    @property
    def _catalogue(self) -> Catalogue:
        return self._front.resources.catalogue()


def _whole(data: bytes) -> tuple[str, str] | None:
    """Method and path of the request that `data` is, whole and nothing behind it; None where that is not beyond doubt.

    A GET or HEAD has no body.
    """
    head = _HEAD.match(data)
    if head is None:
        return None
    fields = head[3].lower()
    if not (b"\nhost:" in fields or fields.startswith(b"host:")) or any(each in fields for each in _UNUSUAL):
        return None
    lengths = fields.count(b"content-length")
    said = 0
    if head[1] == b"POST" or lengths:
        length = _LENGTH.search(fields)
        if length is None or lengths != 1:
            return None
        said = int(length[1])
    if head.end() + said != len(data) or (said and head[1] != b"POST"):
        return None
    return head[1].decode("ascii"), head[2].decode("ascii")


def _written(reply: Reply, body: bytes) -> bytes:
    """The bytes of `reply` in HTTP/1.1, on a connection that goes on; `body` is empty for HEAD."""
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    if reply.media_type is not None:
        lines.append(f"Content-Type: {reply.media_type}")
    lines.append(f"Content-Length: {len(reply.body)}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
