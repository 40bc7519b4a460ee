"""Bodies under a cap, while they stream (E20, S11, S12)."""

import pytest
import trio

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.limits import (
    COMING_SHORT,
    DISCARD_BYTES,
    DISCARD_SECONDS,
    WHOLE,
    BodyRefused,
    Coming,
    Disconnected,
    Incoming,
    header,
    read_body,
)


def stream(*pieces: bytes, end: bool = True):
    left = list(pieces)
    taken = []

    async def receive():
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        taken.append(piece)
        return {"type": "http.request", "body": piece, "more_body": bool(left) or not end}

    return receive, taken


SCOPE: dict[str, object] = {"headers": []}


async def test_a_body_in_pieces_is_read_whole():
    receive, _ = stream(b"ab", b"", b"cd")
    assert await read_body(SCOPE, receive, cap=4, seconds=1) == b"abcd"


async def test_a_declared_length_above_the_cap_is_refused_without_reading():
    receive, taken = stream(b"x")
    with pytest.raises(BodyRefused) as refused:
        await read_body({"headers": [(b"content-length", b"5")]}, receive, cap=4, seconds=1)
    assert refused.value.status == 413
    assert taken == []


async def test_a_stream_that_passes_the_cap_is_refused_there_and_not_read_on():
    receive, taken = stream(b"xxx", b"xxx", b"xxx")
    with pytest.raises(BodyRefused) as refused:
        await read_body(SCOPE, receive, cap=4, seconds=1)
    assert refused.value.status == 413
    assert len(taken) == 2


async def test_a_length_that_is_no_number_does_not_matter():
    receive, _ = stream(b"x")
    assert await read_body({"headers": [(b"content-length", b"-1")]}, receive, cap=4, seconds=1) == b"x"


async def test_a_body_that_takes_too_long_is_refused(autojump_clock: trio.abc.Clock):
    async def receive():
        await trio.sleep_forever()

    with pytest.raises(BodyRefused) as refused:
        await read_body(SCOPE, receive, cap=4, seconds=30)
    assert refused.value.status == 408


async def test_a_body_that_the_listener_has_is_not_waited_for_and_under_the_same_cap():
    receive, taken = stream()
    whole = {"headers": [], "extensions": {WHOLE: b"abcd"}}
    assert await read_body(whole, receive, cap=4, seconds=1) == b"abcd"
    with pytest.raises(BodyRefused) as refused:
        await read_body(whole, receive, cap=3, seconds=1)
    assert refused.value.status == 413
    assert not taken


def test_of_a_body_that_the_listener_has_nothing_is_on_its_way():
    scope = {"method": "POST", "http_version": "1.1", "headers": [(b"content-length", b"4")]}
    receive, _ = stream(b"abcd")
    assert Incoming(scope, receive).unread
    assert not Incoming({**scope, "extensions": {WHOLE: b"abcd"}}, receive).unread


async def test_a_peer_that_goes_away_is_not_answered():
    receive, _ = stream(b"x", end=False)
    with pytest.raises(Disconnected):
        await read_body(SCOPE, receive, cap=4, seconds=1)


def test_the_first_header_of_a_name_counts():
    scope = {"headers": [(b"accept", b"x"), (b"content-type", b"a"), (b"content-type", b"b")]}
    assert header(scope, b"content-type") == "a"
    assert header(scope, b"authorization") is None


def request(method: str = "POST", version: str = "1.1", **headers: str) -> dict[str, object]:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"method": method, "http_version": version, "headers": raw}


@pytest.mark.parametrize(
    ("scope", "announced"),
    [
        (request(content_length="3"), True),
        (request(content_length="0"), False),
        (request(), False),
        (request(transfer_encoding="chunked"), True),
        (request(version="2"), True),
        (request("GET", content_length="3"), False),
        (request("HEAD", version="2"), False),
    ],
)
def test_a_body_is_expected_where_the_head_announces_one(scope: dict[str, object], announced: bool):
    """RFC 9112, 6.3; RFC 9113, 8.1."""
    receive, _ = stream(b"x")
    assert Incoming(scope, receive).unread is announced


async def test_what_is_left_of_a_body_is_let_in_and_forgotten():
    receive, taken = stream(b"a", b"b", b"c")
    incoming = Incoming(request(content_length="3"), receive)
    await incoming.receive()
    assert incoming.unread
    await incoming.discard()
    assert taken == [b"a", b"b", b"c"]
    assert not incoming.unread


async def test_a_body_without_an_end_is_let_in_within_bounds(autojump_clock: trio.abc.Clock):
    part = b"x" * 100_000
    receive, taken = stream(*[part] * 100)
    await Incoming(request(content_length="10000000"), receive).discard()
    assert len(taken) == DISCARD_BYTES // len(part) + 1

    async def nothing():
        await trio.sleep_forever()

    began = trio.current_time()
    await Incoming(request(content_length="3"), nothing).discard()
    assert trio.current_time() - began == pytest.approx(DISCARD_SECONDS)


async def test_bodies_that_do_not_end_share_so_much_memory_and_no_more():
    """P16: a stranger may open thousands of requests. What is whole in one piece never waits for room."""
    coming = Coming(2 * COMING_SHORT)
    long = b"x" * (COMING_SHORT + 1)
    cap = 10 * COMING_SHORT
    with pytest.raises(Refusal) as refused:
        await read_body(SCOPE, stream(long, b"x")[0], cap=cap, seconds=1, coming=coming)
    assert refused.value.reason is RefusalReason.BUSY
    assert refused.value.retry_after is not None
    assert coming.held == 0
    assert await read_body(SCOPE, stream(b"x" * 100, b"x")[0], cap=cap, seconds=1, coming=coming) == b"x" * 101
    coming.held = 10 * COMING_SHORT
    with pytest.raises(Refusal):
        await read_body(SCOPE, stream(b"x" * 100, b"x")[0], cap=cap, seconds=1, coming=coming)
    assert await read_body(SCOPE, stream(long)[0], cap=cap, seconds=1, coming=coming) == long
    assert coming.held == 10 * COMING_SHORT
