"""Drive a protocol's exchange: each need goes to the front, each answer back into the protocol.

Nothing here knows which protocol it carries, and nothing else drives an exchange in production.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import Receive, Scope, Send

from gateway.domain.refusal import Refusal
from gateway.fronts.limits import ANSWER
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


class ReplyResponse:
    """A protocol's reply as an HTTP answer: names and values of headers exactly as written, and their order.

    Small clients compare header names byte for byte (E15) and want one header block with an exact length (E16).
    """

    __slots__ = ("body", "raw_headers", "status_code")

    def __init__(self, reply: Reply, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status_code = reply.status
        self.body = reply.body
        raw: list[tuple[bytes, bytes]] = []
        if reply.media_type is not None:
            raw.append((b"Content-Type", reply.media_type.encode("ascii")))
        if reply.status not in {204, 304}:
            raw.append((b"Content-Length", b"%d" % len(reply.body)))
        for name, value in (*reply.headers, *headers):
            raw.append((name.encode("ascii"), value.encode("latin-1")))
        self.raw_headers = raw

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # noqa: ARG002, what ASGI passes
        """Send the head and the body; HEAD gets the head alone."""
        return send_whole(scope, send, self.status_code, self.raw_headers, self.body)


def send_whole(
    scope: Scope, send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> Awaitable[None]:
    """Send an answer, in one message where the listener takes it so; of one to HEAD the body stays here."""
    if scope["method"] == "HEAD":
        body = b""
    if ANSWER in scope.get("extensions", ()):
        return send({"type": ANSWER, "status": status, "headers": headers, "body": body})
    return _in_two(send, status, headers, body)


async def _in_two(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
