"""OCSP over HTTP (RFC 6960, appendix A; RFC 5019, 5 and 6): GET and POST, plain as the URLs in certificates say.

What goes wrong is said in OCSP's own words under HTTP's 200, as clients read no others; limits speak HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from gateway.actions.vouch import LIFETIME, Key, Vouched, vouch
from gateway.domain.authority import Authority, AuthorityStatus
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.carry import ReplyResponse, send_whole
from gateway.fronts.endpoint import Endpoint
from gateway.fronts.front import Front
from gateway.fronts.limits import header, read_body
from gateway.fronts.peer import Peer
from gateway.fronts.problem import NO_STORE, text
from gateway.store.catalogue import Catalogue
from protocols.exchange import Malformed, Refused, Reply
from protocols.pkix.ocsp import RESPONSE_TYPE, ResponseStatus, StatusRequest, failure, from_path, read_request

# An hour: caches spare us the crowd, and a revocation gets about within it. Never beyond nextUpdate.
FRESH: Final = 3600  # seconds
KNOWN: Final = 512  # bytes of a question, at most, that is remembered with its meaning; RFC 5019, 5: most are shorter
MOST_KNOWN: Final = 4096  # of them

WRONG_METHOD: Final = text(405, "only GET, HEAD and POST", (("Allow", "GET, HEAD, POST"),))
# RFC 5019, 6.2: nobody keeps what is not authoritative.
_FAILED: Final = {each: Reply(200, failure(each), RESPONSE_TYPE, (NO_STORE,)) for each in ResponseStatus}
MALFORMED: Final = _FAILED[ResponseStatus.MALFORMED_REQUEST]
UNAUTHORIZED: Final = _FAILED[ResponseStatus.UNAUTHORIZED]


class Ocsp:
    """OCSP for every authority of the catalogue: an application at `/ocsp/{authority}` and below it.

    What was asked is remembered by the bytes that asked it, where the answer lasts: stapling servers repeat themselves,
    and to read a question costs more than to answer it.
    """

    def __init__(self, front: Front) -> None:
        self._front = front
        self._endpoint = Endpoint(front, self._answer, _wording, counted=False)
        self._snapshot: Catalogue | None = None
        self._asked: dict[tuple[bytes, bytes | None], Key] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a GET whose answer is known by its path needs nothing else of what others need."""
        told = self._told(scope) if scope["method"] == "GET" else None
        if told is None:
            await self._endpoint(scope, receive, send)
        else:
            await send_whole(scope, send, 200, _lines(told), told.der)

    def _told(self, scope: Scope) -> Vouched | None:
        key = self._known(scope["raw_path"], None)
        if key is None or header(scope, b"if-none-match") is not None:
            return None
        return self._front.statuses.remembered(key, self._front.resources.now())

    def _known(self, path: bytes, body: bytes | None) -> Key | None:
        """Whom these bytes ask about what, as long as the catalogue stays as it was; a GET's have no body."""
        snapshot = self._front.resources.catalogue()
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._asked.clear()
        return self._asked.get((path, body))

    async def _answer(self, scope: Scope, receive: Receive, who: Peer) -> Reply:  # noqa: ARG002, an endpoint's shape
        posted = scope["method"] == "POST"
        if not posted and scope["method"] not in {"GET", "HEAD"}:
            return WRONG_METHOD
        front, path = self._front, scope["raw_path"]
        snapshot = front.resources.catalogue()
        body: bytes | None = None
        authority = _authority(front, scope["path_params"]["rest"].partition("/")[0])
        if authority is None:
            return UNAUTHORIZED
        try:
            if posted:
                limits = front.limits
                body = await read_body(scope, receive, cap=limits.ocsp_body, seconds=limits.body_seconds)
            key = self._known(path, body)
            asked = StatusRequest((key[1],)) if key else None
            request = asked or read_request(from_path(_segment(path)) if body is None else body)
            vouched = await vouch(front.resources, front.statuses, authority, request)
        except Malformed:
            return MALFORMED
        except Refused:
            return UNAUTHORIZED
        except Refusal as refusal:
            if refusal.reason is RefusalReason.EXPIRED:
                return UNAUTHORIZED
            raise
        # The catalogue may have been changed while it was read or signed: whose the name is now was not looked at.
        if vouched.lasting and key is None and self._snapshot is snapshot and len(path) + len(body or b"") <= KNOWN:
            self._asked[path, body] = authority.id, request.ids[0]
            if len(self._asked) > MOST_KNOWN:
                del self._asked[next(iter(self._asked))]
        return _reply(vouched, scope, front.resources.now())


def ocsp_routes(front: Front) -> list[BaseRoute]:
    """`/ocsp/{authority}` for POST, and with the request in base64 behind it for GET."""
    # One route for both: every other request looks at each that stands before its own.
    return [Route("/ocsp/{rest:path}", Ocsp(front), methods=None)]


def _segment(path: bytes) -> bytes:
    """What follows the authority, as it came: decoded, a slash of base64 looks like one of the path."""
    parts = path.split(b"/", 3)
    return parts[3] if len(parts) > 3 else b""


def _authority(front: Front, name: str) -> Authority | None:
    for authority in front.resources.catalogue().authorities:
        if authority.name == name and authority.status is not AuthorityStatus.PENDING_CERTIFICATE:
            return authority
    return None


def _reply(vouched: Vouched, scope: Scope, now: datetime) -> Reply:
    if not vouched.lasting:
        return Reply(200, vouched.der, RESPONSE_TYPE, (NO_STORE,))
    known = header(scope, b"if-none-match")
    if known is not None and scope["method"] != "POST":
        had = vouched if known.strip() == "*" else _had(vouched, known, now)
        if had is not None:
            return Reply(304, headers=_headers(had) if had is vouched else _spelled(had))
    return _whole(vouched)


def _whole(vouched: Vouched) -> Reply:
    return Reply(200, vouched.der, RESPONSE_TYPE, _headers(vouched))


def _had(vouched: Vouched, known: str, now: datetime) -> Vouched | None:
    """Which answer of this edition they have, that is good for as long as one of ours; only its dates and tag are told.

    Each worker signs its own. A cache that asks another than the last time would be sent the same in other bytes.
    """
    for tag, until in re.findall(rf'"([0-9a-f]{{40}})\.{vouched.edition}\.([0-9a-f]{{1,9}})"', known):
        renew_at = datetime.fromtimestamp(int(until, 16), UTC)
        if now < renew_at < now + LIFETIME:
            life = vouched.next_update - vouched.renew_at
            began = renew_at - (vouched.renew_at - vouched.this_update)
            return replace(vouched, tag=tag, renew_at=renew_at, next_update=renew_at + life, this_update=began)
    return None


@lru_cache(maxsize=4096)
def _headers(vouched: Vouched) -> tuple[tuple[str, str], ...]:
    """The same, for an answer that is kept and handed out again."""
    return _spelled(vouched)


@lru_cache(maxsize=4096)
def _lines(vouched: Vouched) -> Sequence[tuple[bytes, bytes]]:
    """The head of the whole answer, as it is sent."""
    return tuple(ReplyResponse(_whole(vouched)).raw_headers)


def _spelled(vouched: Vouched) -> tuple[tuple[str, str], ...]:
    """RFC 5019, 6.2: dates are those of the response; how long it is fresh is ours.

    The tag begins with what the RFC recommends; what follows lets any worker see whether it would say the same.
    """
    fresh = min(FRESH, vouched.fresh)
    return (
        ("Cache-Control", f"max-age={fresh}, public, no-transform, must-revalidate"),
        ("ETag", f'"{vouched.tag}.{vouched.edition}.{int(vouched.renew_at.timestamp()):x}"'),
        ("Last-Modified", format_datetime(vouched.this_update, usegmt=True)),
        ("Expires", format_datetime(vouched.next_update, usegmt=True)),
    )


def _wording(status: int, sentence: str, headers: tuple[tuple[str, str], ...]) -> Reply:
    match status:
        case 503 | 429:  # the store or the signer cannot, for the moment (RFC 6960, 2.3)
            later = _FAILED[ResponseStatus.TRY_LATER]
            return Reply(later.status, later.body, later.media_type, (*later.headers, *headers))
        case 500:
            return _FAILED[ResponseStatus.INTERNAL_ERROR]
        case _:
            return text(status, sentence, headers)
