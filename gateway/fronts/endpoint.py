"""One HTTP request in, one whole reply out; what goes wrong on the way is said in the protocol's own form.

No detail of an unexpected failure reaches the peer: it is logged under the request's id.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.types import Receive, Scope, Send

from gateway.actions.outage import OUTAGES, outage
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.carry import ReplyResponse
from gateway.fronts.front import Front
from gateway.fronts.limits import BodyRefused, Disconnected, Incoming
from gateway.fronts.peer import Peer, peer
from gateway.fronts.problem import retry_after
from protocols.exchange import Reply

log = logging.getLogger(__name__)

Answer: TypeAlias = Callable[[Scope, Receive, Peer], Awaitable[Reply]]
Wording: TypeAlias = Callable[[int, str, tuple[tuple[str, str], ...]], Reply]

# Refusals that arise before an exchange begins: is there such a thing, may it be used, can it be used now?
STATUS: dict[RefusalReason, int] = {
    RefusalReason.POLICY: 403,
    RefusalReason.BAD_KEY: 400,
    RefusalReason.BAD_CSR: 400,
    RefusalReason.NAME_MISMATCH: 403,
    RefusalReason.UNAUTHENTICATED: 401,
    RefusalReason.FORBIDDEN: 403,
    RefusalReason.NOT_FOUND: 404,
    RefusalReason.CONFLICT: 409,
    RefusalReason.REVOKED: 403,
    RefusalReason.EXPIRED: 403,
    RefusalReason.RATE_LIMITED: 429,
    RefusalReason.BUSY: 503,
    RefusalReason.UNAVAILABLE: 503,
}

# What a client can only be told by looking at signatures, secrets and grammar.
_WRONG = frozenset({400, 401, 403})
# Told before the body was read, and to come again: over the same connection, if its body is short.
_LATER = frozenset({RefusalReason.BUSY, RefusalReason.RATE_LIMITED})


class Endpoint:
    """An ASGI application for one kind of address: `answer` gives the reply, `wording` the form of everything else."""

    def __init__(self, front: Front, answer: Answer, wording: Wording, *, counted: bool = True) -> None:
        self._dice = front.resources.dice
        # What is answered for less than a refusal costs is not `counted`: statuses, lists, health.
        self._rates = front.limits.rates if counted else None
        self._answer = answer
        self.wording = wording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        who = peer(scope, self._dice)
        incoming = Incoming(scope, receive)
        try:
            if self._rates is not None:
                self._rates.require(who.address)
            reply = await self._answer(scope, incoming.receive, who)
        except Disconnected:
            return
        except BodyRefused as refused:
            reply = self.wording(refused.status, refused.sentence, ())
        except Refusal as refusal:
            reply = self._refused(refusal)
            if refusal.reason in _LATER:
                await incoming.let_in()
        except OUTAGES as error:
            log.warning("request %s: %s", who.id, error)
            reply = self._refused(outage(error))
        except Exception:
            log.exception("request %s failed", who.id)
            reply = self.wording(500, "something went wrong on this side; nothing of it is your doing", ())
        if self._rates is not None and (reply.wrong or reply.status in _WRONG):
            self._rates.failed(who.address)
        if incoming.unread:
            await _answer_early(reply, incoming, scope, send)
        else:
            await ReplyResponse(reply)(scope, receive, send)

    def _refused(self, refusal: Refusal) -> Reply:
        return self.wording(STATUS[refusal.reason], refusal.detail, retry_after(refusal.retry_after))


async def _answer_early(reply: Reply, incoming: Incoming, scope: Scope, send: Send) -> None:
    """Answer while the body is still on its way: the whole answer first, its end when the body has been let in."""
    response = ReplyResponse(reply, _last_answer(scope))
    body = b"" if scope["method"] == "HEAD" else response.body
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await incoming.discard()
    await send({"type": "http.response.body", "body": b""})


def _last_answer(scope: Scope) -> tuple[tuple[str, str], ...]:
    """HTTP/1.1: the client may still be sending, so the connection is of no more use (RFC 9112, 9.3 and 9.6)."""
    return (("Connection", "close"),) if scope["http_version"] in {"1.0", "1.1"} else ()
