"""Refusals before HTTP is read (P16): while there is too much to do, one whole request in its bytes is told so at once.

Only what can mean one thing is answered here: an enrollment whose head is plain, with one length and all of its body.
Everything else takes the ordinary way and is judged there. Nothing is acted upon, and no header decides a right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

from starlette.routing import BaseRoute, Route

from gateway.actions.admit import admitted
from gateway.domain.refusal import Refusal
from gateway.domain.request import Protocol
from gateway.fronts.acme.door import carries_on
from gateway.fronts.admission import TOO_MUCH
from gateway.fronts.endpoint import Endpoint, Wording
from gateway.fronts.front import Front
from gateway.fronts.problem import retry_after
from gateway.fronts.rest import PREFIX
from gateway.store.catalogue import Catalogue
from protocols.exchange import Reply

# RFC 9112, 3 and 5, without what parsers read in more than one way: no folded lines, no bare CR or LF, no blanks before
# a colon. No percent and no query: such paths are judged where they are understood.
_HEAD: Final = re.compile(
    rb"POST (/[A-Za-z0-9/._~-]+) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)+)\r\n"
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


class Early:
    """The short way. `told` counts what it answered, by its caller's means."""

    def __init__(self, front: Front, routes: Iterable[BaseRoute], told: Callable[[int], None]) -> None:
        self._front = front
        self._admission = front.limits.admission
        self._told = told
        # Each door's own words, by the first segment of its addresses.
        self._wordings: dict[str, Wording] = {
            route.path.split("/", 2)[1]: route.endpoint.wording
            for route in reversed(list(routes))
            if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
        }

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        """The whole answer to the one whole request that `data` is, or None where the ordinary way is to be taken."""
        if not data.startswith(_DOORS):
            return None
        if self._admission.crowded and (path := _path_of_whole(data)) is not None:
            seconds = self._judge(path, data, address, secure=secure)
            if seconds:
                self._told(503)
                return _written(self._wordings[path.split("/", 2)[1]](503, TOO_MUCH, retry_after(seconds)))
        self._admission.comes()
        return None

    def _judge(self, path: str, data: bytes, address: str, *, secure: bool) -> int:
        try:
            known = self._lane(path, data, address, secure=secure)
        except Refusal:
            return 0
        return 0 if known is None else self._admission.refusal(known[0], begun=known[1], from_socket=True)

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


def _path_of_whole(data: bytes) -> str | None:
    """The path of the request that `data` is, whole and nothing behind it; None where that is not beyond doubt."""
    head = _HEAD.match(data)
    if head is None:
        return None
    fields = head[2].lower()
    if fields.count(b"content-length") != 1 or not (b"\nhost:" in fields or fields.startswith(b"host:")):
        return None
    length = _LENGTH.search(fields)
    if length is None or head.end() + int(length[1]) != len(data) or any(each in fields for each in _UNUSUAL):
        return None
    return head[1].decode("ascii")


def _written(reply: Reply) -> bytes:
    """The bytes of `reply` in HTTP/1.1, on a connection that goes on."""
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    if reply.media_type is not None:
        lines.append(f"Content-Type: {reply.media_type}")
    lines.append(f"Content-Length: {len(reply.body)}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body
