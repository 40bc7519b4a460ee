"""Refusals before HTTP is read (P16): while there is too much to do, one whole request in its bytes is told so at once.

Whoever asks too often is told here, too. Only what can mean one thing is answered: a head that is plain, with one
length and all of its body.
Everything else takes the ordinary way and is judged there. Nothing is acted upon, and no header decides a right.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from starlette.routing import BaseRoute, Route

from gateway.actions.admit import admitted
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.domain.request import Protocol
from gateway.fronts.acme.door import carries_on
from gateway.fronts.admission import TOO_MUCH, Spenders
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
_UNUSUAL: Final = (b"transfer-encoding", b"expect:", b"upgrade", b"close", b"trailer")

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
_LONGEST_HEAD: Final = 4096
# Heads that are known again, and answers that are: a flood of others makes them be read anew, and holds no more.
_HEADS: Final = 2048
_ANSWERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Plain:
    """What a head says: `path` by its segments, `door` the first of them, `authorization` as `Spenders` knows it."""

    method: str
    door: str
    path: list[str]
    length: int
    authorization: int


class Heads:
    """Heads that were read. Clients on kept connections send one over and over: to know it again costs a tenth.

    Kept are hashes under this process's own random key, since heads hold tokens and passphrases.
    """

    def __init__(self) -> None:
        self._known: dict[int, Plain] = {}

    def plain(self, data: bytes) -> Plain | None:
        """What the head says of the request that `data` is, whole and nothing behind it; None where that is not so
        beyond doubt.
        """
        end = data.find(b"\r\n\r\n") + 4
        if not 4 <= end <= _LONGEST_HEAD:
            return None
        head = data[:end]
        key = hash(head)
        plain = self._known.get(key)
        if plain is None:
            plain = _read(head)
            if plain is None:
                return None
            if len(self._known) >= _HEADS:
                self._known.clear()
            self._known[key] = plain
        return plain if end + plain.length == len(data) else None


class Early:
    """The short way. `told` counts what it answered, by its caller's means."""

    def __init__(self, front: Front, routes: Iterable[BaseRoute], told: Callable[[int], None]) -> None:
        self._front = front
        self._admission = front.limits.admission
        self._rates = front.limits.rates
        self._told = told
        self._heads = Heads()
        self._ended = False
        self._written: dict[tuple[str, str, int, str, int], tuple[int, bytes]] = {}
        # Each door's own words, by the first segment of its addresses.
        self._wordings: dict[str, Wording] = {
            route.path.split("/", 2)[1]: route.endpoint.wording
            for route in reversed(list(routes))
            if isinstance(route, Route) and isinstance(route.endpoint, Endpoint)
        }
        # ACME has a nonce in each of its answers.
        self._constant = {
            door for door, wording in self._wordings.items() if wording(503, "", ()) == wording(503, "", ())
        }

    def behind_tls(self) -> Early:
        """The same for connections on which a proxy ended TLS: there everything is secure, and wrongly so at worst what
        is refused.
        """
        other = copy.copy(self)
        other._ended = True  # noqa: SLF001 - its own kind
        return other

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        """The whole answer to the one whole request that `data` is, or None where the ordinary way is to be taken."""
        enrolls = data.startswith(_DOORS)
        judged = (enrolls and self._admission.crowded) or (data.startswith(_COUNTED) and self._rates.alert)
        if judged and (plain := self._heads.plain(data)) is not None:
            secure = secure or self._ended
            status, sentence, seconds = self._judge(plain, address, enrolls=enrolls, secure=secure)
            if seconds:
                status, answer = self._answer(plain, status, sentence, seconds)
                self._told(status)
                return answer
        if enrolls:
            self._admission.comes()
        return None

    async def greet(self, address: str) -> bool:
        """Wait for this address's turn to shake hands; whether it may. Its first bytes have come already."""
        if not self._front.limits.rates.connection(address):
            return False
        await self._front.limits.rotation.turn(address, HANDSHAKE)
        return True

    def _answer(self, plain: Plain, status: int, sentence: str, seconds: int) -> tuple[int, bytes]:
        """Status and bytes of a refusal. Where the wording is the same each time, they are written once."""
        key = plain.door, plain.method, status, sentence, seconds
        known = self._written.get(key)
        if known is None:
            reply = self._wordings[plain.door](status, sentence, retry_after(seconds))
            known = reply.status, _written(reply, b"" if plain.method == "HEAD" else reply.body)
            if plain.door in self._constant and len(self._written) < _ANSWERS:
                self._written[key] = known
        return known

    def _judge(self, plain: Plain, address: str, *, enrolls: bool, secure: bool) -> tuple[int, str, int]:
        """Status and sentence of a refusal, and after how many seconds to come again: 0 for what may go on."""
        if self._rates.alert and (seconds := self._rates.early(address)):
            return (503 if self._rates.reason is RefusalReason.BUSY else 429), TOO_OFTEN, seconds
        try:
            known = self._lane(plain, address, secure=secure) if enrolls else None
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

    def _lane(self, plain: Plain, address: str, *, secure: bool) -> tuple[str, bool] | None:
        """Whose share a request uses and whether it carries on, or None for what is no enrollment of ours."""
        match plain.path:
            case ["", "acme", application, profile, *rest] if secure:
                pair = admitted(self._catalogue.pair(application, profile), Protocol.ACME)
                return pair.application.id, carries_on("/".join(rest))
            case ["", "est", application, profile, _, *_] if secure:
                return admitted(self._catalogue.pair(application, profile), Protocol.EST).application.id, False
            case ["", ".well-known", "est", label, _, *_] if secure:
                return admitted(self._catalogue.pair_by_label(label), Protocol.EST).application.id, False
            case ["", "scep", application, profile, *_]:
                return admitted(self._catalogue.pair(application, profile), Protocol.SCEP).application.id, False
            case ["", "api", "v1", "cert-manager", "certificates"] if secure:
                return self._front.limits.spenders.lane_of(plain.authorization, address), False
        return None

    @property
    def _catalogue(self) -> Catalogue:
        return self._front.resources.catalogue()


def _read(data: bytes) -> Plain | None:
    """What a head says, its last line included; None where that is not beyond doubt. A GET or HEAD has no body."""
    head = _HEAD.fullmatch(data)
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
    if said and head[1] != b"POST":
        return None
    path = head[2].decode("ascii").split("/")
    found = _AUTHORIZATION.search(head[3])
    spender = Spenders.key(None if found is None else found[1].decode("latin-1"))
    return Plain(head[1].decode("ascii"), path[1], path, said, spender)


def _written(reply: Reply, body: bytes) -> bytes:
    """The bytes of `reply` in HTTP/1.1, on a connection that goes on; `body` is empty for HEAD."""
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    if reply.media_type is not None:
        lines.append(f"Content-Type: {reply.media_type}")
    lines.append(f"Content-Length: {len(reply.body)}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
