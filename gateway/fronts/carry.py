"""Drive a protocol's exchange: each need goes to the front, each answer back into the protocol.

Nothing here knows which protocol it carries, and nothing else drives an exchange in production.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.domain.refusal import Refusal
from protocols.exchange import Exchange, Need, R, Reason, Refused, Reply


async def carry(exchange: Exchange[R], answer: Callable[[Need[object]], Awaitable[object]]) -> R:
    """Run `exchange` to its end, asking `answer` for every need.

    A `Refusal` raised by `answer` enters the exchange as `Refused`, at the place that asked. Anything else closes the
    exchange and propagates: it is a bug, and stays anonymous to the peer.
    """
    try:
        need = next(exchange)
        while True:
            try:
                given = await answer(need)
            except Refusal as refusal:
                need = exchange.throw(refused(refusal))
            else:
                need = exchange.send(given)
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        exchange.close()


def refused(refusal: Refusal) -> Refused:
    """The product's refusal in the protocols' words; the reasons have the same names."""
    return Refused(
        Reason(refusal.reason.value),
        refusal.detail,
        violations=refusal.violations,
        retry_after=refusal.retry_after,
    )


class ReplyResponse(Response):
    """A protocol's reply as an HTTP answer: names and values of headers exactly as written, and their order.

    Small clients compare header names byte for byte (E15) and want one header block with an exact length (E16).
    """

    def __init__(self, reply: Reply, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status_code = reply.status
        self.body = reply.body
        self.background = None
        raw: list[tuple[bytes, bytes]] = []
        if reply.media_type is not None:
            raw.append((b"Content-Type", reply.media_type.encode("ascii")))
        if reply.status not in {204, 304}:
            raw.append((b"Content-Length", b"%d" % len(reply.body)))
        for name, value in (*reply.headers, *headers):
            raw.append((name.encode("ascii"), value.encode("latin-1")))
        self.raw_headers = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002, what ASGI passes
        """Send the head and the body; HEAD gets the head alone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = b"" if scope["method"] == "HEAD" else self.body
        await send({"type": "http.response.body", "body": body})
