"""Heads against h11 as the oracle: whatever is accepted here means the same there, however its bytes come."""

from __future__ import annotations

import gc
import tracemalloc

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.serve.http1.body import Chunked
from gateway.serve.http1.head import (
    FIELDS,
    FIELDS_LIMIT,
    LINE_LIMIT,
    Head,
    Knowing,
    Known,
    Unreadable,
    read,
    require_head_so_far,
)

HOST = b"Host: a\r\n"

# What requests are made of, and what bends them.
METHODS = [b"GET", b"POST", b"OPTIONS", b"HEAD", b"CONNECT", b"get", b"X", b"", b"G(T", b" GET"]
TARGETS = [
    b"/",
    b"/a?b=c+d/e=",
    b"*",
    b"http://a/b",
    b"http://a",
    b"//x",
    b"a:443",
    b"",
    b"/\xff",
    b"/#",
    b"/a b",
    b"/%2f\x7f",
]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"", b"HTTP/1.1 ", b"HTTP/1.11"]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n ", b""]
NAMES = [
    b"Host",
    b"host",
    b"Content-Length",
    b"content-length",
    b"Transfer-Encoding",
    b"Connection",
    b"Expect",
    b"X",
    b"",
    b"X ",
    b" X",
    b"X\0",
]
COLONS = [b": ", b":", b":\t", b" :", b""]
VALUES = [
    b"a",
    b"a:80",
    b"0",
    b"3",
    b"+3",
    b"3, 3",
    b"chunked",
    b"CHUNKED",
    b"x, chunked",
    b"close",
    b"keep-alive, close",
    b"100-continue",
    b"",
    b" x ",
    b"a\rb",
    b"a\nb",
    b"a\0b",
    b"\xff",
    b"[::1]",
]
BODIES = [
    b"",
    b"abc",
    b"abcGET / HTTP/1.1\r\n\r\n",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\nrest",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n",
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Requests, most of them nearly right: wrong in one or two places."""
    wrong = draw(st.integers(0, 3))

    def part(good: bytes, all_of_them: list[bytes]) -> bytes:
        return draw(st.sampled_from(all_of_them)) if wrong and draw(st.integers(0, 4)) == 0 else good

    def end() -> bytes:
        return part(b"\r\n", ENDS)

    line = part(b"POST", METHODS) + b" " + part(b"/", TARGETS) + b" " + part(b"HTTP/1.1", VERSIONS) + end()
    host = part(b"Host", NAMES) + part(b": ", COLONS) + part(b"a", VALUES) + end()
    fields = draw(st.lists(st.tuples(st.sampled_from(NAMES[:8]), st.sampled_from(VALUES[:14])), max_size=3))
    lines = [name + part(b": ", COLONS) + value + end() for name, value in fields]
    return line + host + b"".join(lines) + end() + draw(st.sampled_from(BODIES))


def ours(data: bytes) -> tuple[bytes, bytes, bool, list[tuple[bytes, bytes]], bytes, bytes] | None:
    """Method, target, version, fields, body and remainder; None where it is refused or not complete."""
    try:
        head = read(data, secure=False)
        if head is None:
            return None
        body, rest = data[head.end :], b""
        if head.length is None:
            chunked = Chunked()
            body = chunked.feed(body)
            if not chunked.done:
                return None
            rest = chunked.rest
        else:
            if len(body) < head.length:
                return None
            body, rest = body[: head.length], body[head.length :]
    except Unreadable:
        return None
    target = head.path + (b"?" + head.query if head.query else b"")
    return head.method.encode(), target, head.modern, head.headers, body, rest


def theirs(data: bytes) -> tuple[bytes, bytes, bool, list[tuple[bytes, bytes]], bytes, bytes]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
    connection.receive_data(data)
    request = connection.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        body += bytes(event.data)
    fields = [(bytes(name), bytes(value)) for name, value in request.headers]
    rest = connection.trailing_data[0]
    return request.method, request.target, request.http_version == b"1.1", fields, body, bytes(rest)


@settings(max_examples=500, deadline=None)
@given(requests())
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nrest")
@example(b"POST http://b/c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /")
def test_what_is_accepted_means_the_same_to_h11(data: bytes):
    found = ours(data)
    if found is None:
        return
    method, target, modern, fields, body, rest = found
    other = theirs(data)
    assert (method, modern, body, rest) == (other[0], other[2], other[4], other[5])
    if other[1].startswith(b"http://"):
        # The difference that is meant: h11 leaves an absolute target and its Host to its user (RFC 9112, 3.2.2).
        assert other[1].removeprefix(b"http://").endswith(target.removesuffix(b"/"))
        fields, plain = ([each for each in them if each[0] != b"host"] for them in (fields, other[3]))
        assert fields == plain
    else:
        assert target == other[1].removesuffix(b"?")
        # h11 writes a coding in lower case.
        assert [(n, v.lower() if n == b"transfer-encoding" else v) for n, v in fields] == other[3]


# Deliberate differences from h11, all of them refusals here; each has its place in `test_smuggling` too.
STRICTER = {
    "a bare LF ends no line (RFC 9112, 2.2: it may be taken for one)": b"GET / HTTP/1.1\nHost: a\n\n",
    "equal lengths are one too many (6.3: they may be merged)": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"
    ),
    "a list of equal lengths, too": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n",
    "a length beside a coding (6.1: an attack, and nothing else)": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a folded field (5.2)": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "control characters in a field (5.5)": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
    "a fragment in a target (3.2)": b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a Host that is none (3.2)": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "an unknown method (RFC 9110, 9.1)": b"SMUGGLE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a later minor version (RFC 9110, 2.5)": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", STRICTER.values(), ids=STRICTER)
def test_is_refused_though_h11_takes_it(data: bytes):
    theirs(data)
    with pytest.raises(Unreadable):
        read(data, secure=False)


@settings(max_examples=150, deadline=None)
@given(requests(), st.data())
def test_a_head_in_pieces_is_the_head(data: bytes, draws: st.DataObject):
    """However it is cut, what was seen before never changes what is found at the end."""
    try:
        whole: Head | int | None = read(data, secure=False)
    except Unreadable as refused:
        whole = refused.status
    cuts = sorted(draws.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    so_far, looked = b"", 0
    pieces: Head | int | None = None
    for cut in [*cuts, len(data)]:
        so_far = data[:cut]
        if not so_far:
            continue
        try:
            require_head_so_far(so_far, looked)
            looked = len(so_far)
            if b"\r\n\r\n" in so_far:
                pieces = read(data, secure=False)
                break
        except Unreadable as refused:
            pieces = refused.status
            break
    if isinstance(whole, int) and isinstance(pieces, int):
        return  # both refuse; which of two faults is named depends on which came first
    assert pieces == whole


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for(data: bytes):
    try:
        status = 0 if read(b"G" + data, secure=False) is None else 200
    except Unreadable as refused:
        status = refused.status
    assert status in {0, 400, 501, 505}


def test_the_limits_are_exact_and_say_which_they_are():
    """S94: a GET of SCEP carries a message in its query."""
    query = b"/?" + b"m" * (LINE_LIMIT - len(b"GET /? HTTP/1.1\r\n"))
    assert read(b"GET " + query + b" HTTP/1.1\r\n" + HOST + b"\r\n", secure=False)
    for tail in (b"m HTTP/1.1\r\n" + HOST + b"\r\n", b"m" * 50):
        with pytest.raises(Unreadable) as line:
            read(b"GET " + query + tail, secure=False)
        assert line.value.status == 414
    room = FIELDS_LIMIT - len(HOST) - len(b"X: \r\n\r\n")
    head = b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * room
    assert read(head + b"\r\n\r\n", secure=False)
    for tail in (b"x\r\n\r\n", b"x" * 50):
        with pytest.raises(Unreadable) as fields:
            read(head + tail, secure=False)
        assert fields.value.status == 431
    many = b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * (FIELDS - 1)
    assert read(many + b"\r\n", secure=False)
    with pytest.raises(Unreadable) as number:
        read(many + b"X: y\r\n\r\n", secure=False)
    assert number.value.status == 431


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        (b"", True),
        (b"Connection: close\r\n", False),
        (b"Connection: keep-alive\r\nConnection: Close\r\n", False),
        (b"Connection: x, CLOSE ,y\r\n", False),
        (b"Connection: closed\r\n", True),
    ],
)
def test_whoever_says_close_anywhere_means_it(fields: bytes, keeps: bool):
    """RFC 9112, 9.3 and 9.6."""
    head = read(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n", secure=False)
    assert head is not None
    assert head.keeps is keeps


def test_http_1_0_keeps_a_connection_when_it_asks_for_it_and_needs_no_host():
    plain, kept = (
        read(b"GET / HTTP/1.0\r\n" + each + b"\r\n", secure=False) for each in (b"", b"Connection: Keep-Alive\r\n")
    )
    assert plain is not None
    assert kept is not None
    assert (plain.keeps, kept.keeps, plain.modern) == (False, True, False)


def test_fields_keep_their_order_and_lose_the_blanks_around_them():
    head = read(b"GET / HTTP/1.1\r\nB: \t 1 \t\r\nHost: a\r\nA:\r\nb:2\xff\r\n\r\n", secure=False)
    assert head is not None
    assert head.headers == [(b"b", b"1"), (b"host", b"a"), (b"a", b""), (b"b", b"2\xff")]


@settings(max_examples=300, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=12))
@example([b"POST / HTTP/1.%d\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % minor for minor in (0, 1, 0)])
def test_what_one_connection_said_before_never_changes_how_a_head_is_read(many: list[bytes]):
    """Blocks of fields are known again by all their octets, and nothing done to one head's fields is in another's."""
    known = Known()
    for data in [*many, *many]:
        try:
            alone: Head | str | None = read(data, secure=False)
        except Unreadable as refused:
            alone = str(refused)
        try:
            again: Head | str | None = read(data, secure=False, known=known)
        except Unreadable as refused:
            again = str(refused)
        assert again == alone
        if isinstance(again, Head):
            again.headers.append((b"x", b"of one request"))


def test_few_and_short_blocks_are_known_again():
    """Idle connections are many, and keep what they know."""
    known = Known()
    for length in range(100):
        data = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
        assert read(data, secure=False, known=known)
        assert 0 < len(known.said) <= 8
    known.forget()
    for fields in (b"X: " + b"y" * 600 + b"\r\n", b"X: y\r\n" * 20):
        assert read(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n", secure=False, known=known)
    assert read(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", secure=False, known=known)
    assert known.said == {}


def test_blocks_that_are_known_share_so_much_memory_of_a_process_and_no_more():
    """Ten thousand idle connections with eight blocks each would hold more than all the rest of a worker."""
    heads = [
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"n%d-%d: a value\r\n" % (each, one) for one in range(15)) + b"\r\n"
        for each in range(8)
    ]
    gc.collect()
    tracemalloc.start()
    try:
        knowing = Knowing(300_000)
        many = [Known(knowing) for _ in range(100)]
        for known in many:
            for data in heads:
                assert read(data, secure=False, known=known)
        gc.collect()
        assert 200_000 < tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()
    assert 250_000 < knowing.held <= 300_000
    assert not many[-1].said
    for known in many:
        known.forget()
    assert knowing.held == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_llhttp_takes_every_path_and_query_that_the_grammar_takes(method: str):
    """So what it said of a block of fields holds for another path as well."""
    octets = bytes(each for each in range(0x21, 0x7F) if each != 0x23)
    for minor in (0, 1):
        for each in (*(b"/%c" % one for one in octets), *(b"/?%c" % one for one in octets), b"/" + octets + octets):
            assert read(b"%b %b HTTP/1.%d\r\nHost: a\r\n\r\n" % (method.encode(), each, minor), secure=False)
