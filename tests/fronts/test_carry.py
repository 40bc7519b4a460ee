"""The driver of exchanges: answers in, refusals thrown at the place that asked, bugs out; replies byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.carry import ReplyResponse, carry, refused
from gateway.fronts.limits import ANSWER
from protocols.exchange import Exchange, Need, Reason, Refused, Reply, ask


@dataclass(frozen=True, slots=True)
class Double(Need[int]):
    """Twice a number."""

    number: int


async def answer(need: Need[object]) -> object:
    match need:
        case Double(number) if number < 0:
            raise Refusal(RefusalReason.BUSY, "not now", violations=("a", "b"), retry_after=7)
        case Double(number):
            return number * 2
    raise TypeError(type(need).__name__)


def test_reasons_have_the_same_names_on_both_sides():
    assert {reason.name: reason.value for reason in RefusalReason} == {reason.name: reason.value for reason in Reason}
    for reason in RefusalReason:
        assert refused(Refusal(reason, "x")).reason.name == reason.name


async def test_every_need_gets_its_answer_in_turn():
    def exchange() -> Exchange[int]:
        first = yield from ask(Double(1))
        second = yield from ask(Double(first))
        return first + second

    assert await carry(exchange(), answer) == 6


async def test_an_exchange_without_needs_is_carried_too():
    def exchange() -> Exchange[str]:
        return "done"
        yield Double(0)

    assert await carry(exchange(), answer) == "done"


async def test_a_refusal_arrives_where_it_was_asked_for_with_all_that_it_says():
    seen: list[Refused] = []

    def exchange() -> Exchange[str]:
        try:
            yield from ask(Double(-1))
        except Refused as refusal:
            seen.append(refusal)
        return f"{(yield from ask(Double(2)))}"

    assert await carry(exchange(), answer) == "4"
    (refusal,) = seen
    assert (refusal.reason, refusal.detail, refusal.violations, refusal.retry_after) == (
        Reason.BUSY,
        "not now",
        ("a", "b"),
        7,
    )


async def test_a_bug_propagates_and_the_exchange_is_closed():
    closed: list[bool] = []

    def exchange() -> Exchange[int]:
        try:
            return (yield from ask(Need[int]()))
        finally:
            closed.append(True)

    with pytest.raises(TypeError):
        await carry(exchange(), answer)
    assert closed == [True]


async def sent(reply: Reply, method: str = "POST") -> tuple[dict, bytes]:
    messages: list[dict] = []

    async def send(message) -> None:
        messages.append(message)

    async def receive():
        raise AssertionError("a whole reply needs nothing from the peer")

    await ReplyResponse(reply, (("Replay-Nonce", "n"),))({"type": "http", "method": method}, receive, send)
    head, body = messages
    return head, body["body"]


async def test_a_reply_leaves_as_it_is_written_with_an_exact_length():
    """E15, E16, S14."""
    head, body = await sent(Reply(200, b"abc", "application/x-pki-message", (("Retry-After", "5"),)))
    assert head["status"] == 200
    assert head["headers"] == [
        (b"Content-Type", b"application/x-pki-message"),
        (b"Content-Length", b"3"),
        (b"Retry-After", b"5"),
        (b"Replay-Nonce", b"n"),
    ]
    assert body == b"abc"


async def test_head_tells_the_length_and_leaves_the_body_out():
    head, body = await sent(Reply(200, b"abc", "text/plain"), method="HEAD")
    assert (b"Content-Length", b"3") in head["headers"]
    assert body == b""


async def test_a_reply_that_may_have_no_body_tells_no_length():
    """RFC 9110, 8.6."""
    head, body = await sent(Reply(204))
    assert head["headers"] == [(b"Replay-Nonce", b"n")]
    assert body == b""


@pytest.mark.parametrize(("method", "body"), [("POST", b"abc"), ("HEAD", b"")])
async def test_a_listener_that_takes_answers_whole_gets_one_message(method: str, body: bytes):
    messages: list[dict] = []

    async def send(message) -> None:
        messages.append(message)

    async def receive():
        raise AssertionError("a whole reply needs nothing from the peer")

    scope = {"type": "http", "method": method, "extensions": {ANSWER: True}}
    await ReplyResponse(Reply(200, b"abc"))(scope, receive, send)
    assert messages == [{"type": ANSWER, "status": 200, "headers": [(b"Content-Length", b"3")], "body": body}]
