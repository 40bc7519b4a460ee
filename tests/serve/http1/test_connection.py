"""A connection's life over real sockets: what is kept, in which order answers leave, and what ends it (RFC 9112, 9)."""

from __future__ import annotations

import gc
import re
import socket

import pytest
import trio
import trio.testing
from starlette.types import Message, Receive, Scope, Send

from gateway.fronts.limits import ANSWER
from gateway.serve.http1.connection import IMPATIENT_SECONDS
from gateway.serve.http1.head import Unreadable
from tests.doubles.http1 import GET, HOST, LAST, Remembering, answering, everything, said, served, until


async def test_a_connection_is_kept_and_says_nothing_of_itself():
    """E15: names of fields leave as they were written. RFC 9110, 6.6.1: an answer has its date."""
    headers = ((b"Content-Type", b"text/x"), (b"WWW-Authenticate", b"Basic"))
    async with served(answering(200, b"done", headers=headers)) as server, await server.connect() as stream:
        for _ in range(3):
            await stream.send_all(GET)
            heard = await until(stream, b"done")
            lines = heard.partition(b"\r\n\r\n")[0].split(b"\r\n")
            assert lines[:3] == [b"HTTP/1.1 200 OK", b"Content-Type: text/x", b"WWW-Authenticate: Basic"]
            assert lines[4:] == [b"Content-Length: 4"]
            assert re.fullmatch(rb"Date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", lines[3])


async def test_requests_that_come_together_are_answered_in_their_order():
    """RFC 9112, 9.3.2: pipelining."""
    app = Remembering()
    many = [b"POST /%d HTTP/1.1\r\n" % n + HOST + b"Content-Length: 3\r\n\r\n%03d" % n for n in range(200)]
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, b"".join(many) + LAST)
    assert [path for _, path, _ in app.came] == [b"/%d" % n for n in range(200)] + [b"/last"]
    assert re.findall(rb"\r\n\r\n(/(?:\d+|last))", heard) == [path for _, path, _ in app.came]


async def test_one_request_octet_by_octet_is_one_request():
    app = Remembering()
    data = b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + LAST
    async with served(app) as server, await server.connect() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(data)):
            await stream.send_all(data[index : index + 1])
        await everything(stream)
    assert app.came == [("POST", b"/a", b"abc"), ("GET", b"/last", b"")]


async def test_whoever_sends_many_at_once_keeps_nobody_waiting():
    """The application never waits for anything; another connection is answered long before the many are."""
    app = Remembering()
    async with served(app) as server, await server.connect() as greedy, await server.connect() as modest:
        await greedy.send_all(GET * 1000 + LAST)
        await modest.send_all(b"GET /modest HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(modest, b"/modest")
        await everything(greedy)
    assert [path for _, path, _ in app.came].index(b"/modest") < 900


async def test_http_1_0_ends_with_its_answer_unless_it_asks_to_be_kept():
    app = answering(200, b"done")
    async with served(app) as server:
        async with await server.connect() as stream:
            heard = await said(stream, b"GET / HTTP/1.0\r\n\r\n")
        assert b"\r\nConnection: close\r\n" in heard
        async with await server.connect() as stream:
            for _ in range(2):
                await stream.send_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert b"\r\nConnection: keep-alive\r\n" in await until(stream, b"done")


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_has_none_and_says_nothing_of_its_length(status: int):
    """RFC 9110, 8.6 and 15.3.5."""
    async with served(answering(status, b"none")) as server, await server.connect() as stream:
        heard = await said(stream, GET + LAST)
    assert heard.count(b"HTTP/1.1 %d" % status) == 2
    assert b"Content-Length" not in heard
    assert b"none" not in heard


async def test_a_whole_answer_in_one_message_leaves_as_it_does_in_two():
    messages: list[list[Message]] = []

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["extensions"][ANSWER]
        for each in messages.pop(0):
            await send(each)

    headers = [(b"Content-Length", b"4")]
    body = {"type": "http.response.body", "body": b"done"}
    heard = []
    for request in (LAST, LAST.replace(b"GET", b"HEAD")):
        for said_as in (
            [{"type": ANSWER, "status": 201, "headers": headers, "body": b"done"}],
            [{"type": "http.response.start", "status": 201, "headers": headers}, body],
        ):
            messages.append(said_as)
            async with served(whole) as server, await server.connect() as stream:
                heard.append(re.sub(rb"\r\nDate: [^\r]*", b"", await said(stream, request)))
    assert heard[0] == heard[1] == b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone"
    assert heard[2] == heard[3] == heard[0].removesuffix(b"done")


@pytest.mark.parametrize("parts", [(b"done",), (b"do", b"ne"), (b"",)])
async def test_head_is_answered_with_the_head_alone(parts: tuple[bytes, ...]):
    headers = ((b"Content-Length", b"4"),)
    async with served(answering(200, *parts, headers=headers)) as server, await server.connect() as stream:
        heard = await said(stream, b"HEAD / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert b"\r\nContent-Length: 4\r\n" in heard
    assert heard.endswith(b"\r\n\r\n")


async def test_an_answer_of_unknown_length_is_chunked_and_the_connection_is_kept():
    app = answering(200, b"do", b"", b"ne" * 9, b"")
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, GET + LAST)
    body = b"2\r\ndo\r\n12\r\n" + b"ne" * 9 + b"\r\n0\r\n\r\n"
    assert heard.count(b"\r\nTransfer-Encoding: chunked\r\n") == 2
    assert heard.count(b"\r\n\r\n" + body) == 2


async def test_an_answer_of_unknown_length_ends_with_its_connection_in_http_1_0():
    app = answering(200, b"do", b"ne")
    async with served(app) as server, await server.connect() as stream:
        heard = await said(stream, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"\r\nConnection: close\r\n\r\ndone" in heard
    assert b"Transfer-Encoding" not in heard


EXPECTING = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-Continue\r\n"


async def test_100_is_said_when_the_application_asks_for_the_body():
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        for coded, body in ((b"Content-Length: 3", b"abc"), (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")):
            await stream.send_all(EXPECTING + coded + b"\r\n\r\n")
            assert await until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await stream.send_all(body)
            assert (await until(stream, b"/")).startswith(b"HTTP/1.1 200")
    assert [body for _, _, body in app.came] == [b"abc", b"abc"]


async def test_100_is_not_said_to_whoever_has_sent_already_or_speaks_http_1_0():
    """RFC 9110, 10.1.1."""
    app = Remembering()
    async with served(app) as server:
        async with await server.connect() as stream:
            heard = await said(stream, EXPECTING + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc")
        assert heard.startswith(b"HTTP/1.1 200")
        async with await server.connect() as stream:
            await stream.send_all(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            await trio.sleep(0.05)
            assert (await said(stream, b"abc")).startswith(b"HTTP/1.1 200")
    assert [body for _, _, body in app.came] == [b"abc", b"abc"]


async def test_an_answer_before_100_ends_the_connection_and_is_heard_by_whoever_sends_on():
    """RFC 9110, 10.1.1 and RFC 9112, 9.6: the body may come nevertheless, and must not be a request."""
    refusing = answering(413, b"too long")
    hidden = b"GET /hidden HTTP/1.1\r\n" + HOST + b"\r\n"
    async with served(refusing) as server, await server.connect() as stream:
        await stream.send_all(EXPECTING + b"Content-Length: %d\r\n\r\n" % (len(hidden) * 1000))
        heard = await until(stream, b"too long")
        await stream.send_all(hidden * 1000)
        assert await everything(stream) == b""
    assert heard.startswith(b"HTTP/1.1 413")
    assert b"\r\nConnection: close\r\n" in heard


async def test_a_body_that_nobody_reads_but_came_is_passed_over():
    async with served(answering(404, b"no")) as server, await server.connect() as stream:
        for head, body in (
            (b"Content-Length: 3\r\n\r\n", b"abc"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        ):
            await stream.send_all(b"POST / HTTP/1.1\r\n" + HOST + head + body + GET)
            heard = b""
            while heard.count(b"\r\n\r\nno") < 2:
                heard += await stream.receive_some()
            assert b"Connection" not in heard


async def test_an_application_that_fails_is_500_and_the_failure_stays_here(caplog: pytest.LogCaptureFixture):
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    async with served(failing) as server, await server.connect() as stream:
        heard = await said(stream, GET + GET)
    assert heard.startswith(b"HTTP/1.1 500 ")
    assert b"\r\nConnection: close\r\n" in heard
    assert b"secret" not in heard
    assert "secret" in caplog.text


BROKEN: dict[str, list[Message]] = {
    "no answer": [],
    "a body without a head": [{"type": "http.response.body", "body": b"x"}],
    "a head without a body": [{"type": "http.response.start", "status": 200, "headers": []}],
    "two heads": [{"type": "http.response.start", "status": 200, "headers": []}] * 2,
    "a field that ends the head": [
        {"type": "http.response.start", "status": 200, "headers": [(b"X", b"y\r\n\r\nHTTP/1.1 200 OK")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "a field with LF": [
        {"type": "http.response.start", "status": 200, "headers": [(b"X", b"y\nZ: z")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "a coding of its own": [
        {"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "a length that is none": [
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"x")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "two lengths": [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"Content-Length", b"1"), (b"content-length", b"1")],
        },
        {"type": "http.response.body", "body": b"x"},
    ],
    "less than its length": [
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"3")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "more than its length": [
        {"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"0")]},
        {"type": "http.response.body", "body": b"x"},
    ],
    "a status that is interim": [
        {"type": "http.response.start", "status": 103, "headers": []},
        {"type": "http.response.body", "body": b"x"},
    ],
}


@pytest.mark.parametrize("messages", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_answer_is_500_and_nothing_of_it_leaves(messages: list[Message]):
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with served(broken) as server, await server.connect() as stream:
        heard = await said(stream, GET)
    assert heard.startswith(b"HTTP/1.1 500 ")
    assert len(re.findall(rb"HTTP/1.1 \d", heard)) == 1


@pytest.mark.parametrize("headers", [(), ((b"Content-Length", b"9"),)])
async def test_an_answer_that_breaks_off_does_not_look_whole(headers: tuple[tuple[bytes, bytes], ...]):
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        raise RuntimeError

    async with served(failing) as server, await server.connect() as stream:
        heard = await said(stream, GET + GET)
    assert heard.count(b"HTTP/1.1") == 1
    assert heard.endswith((b"\r\n\r\nsome", b"\r\n\r\n4\r\nsome\r\n"))


async def test_an_answer_longer_than_what_a_socket_takes_arrives_whole():
    async with served(answering(200, b"x" * 8_000_000)) as server, await server.connect() as stream:
        heard = await said(stream, LAST)
    assert len(heard.partition(b"\r\n\r\n")[2]) == 8_000_000


LIMITS: dict[str, tuple[int, bytes]] = {
    "request line": (414, b"GET /" + b"a" * 70_000),
    "fields": (431, b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000),
    "number of fields": (431, b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n"),
}


@pytest.mark.parametrize(("status", "data"), LIMITS.values(), ids=LIMITS)
async def test_a_head_has_its_limits(status: int, data: bytes):
    async with served(Remembering()) as server, await server.connect() as stream:
        heard = await said(stream, data)
    assert heard.startswith(b"HTTP/1.1 %d " % status)


async def test_a_message_of_scep_in_a_query_arrives_whole():
    """S94: RSA-4096, in base64, percent-encoded."""
    app = Remembering()
    query = b"operation=PKIOperation&message=" + b"%2B" * 20_000
    async with served(app) as server, await server.connect() as stream:
        await said(stream, b"GET /scep?" + query + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert app.scopes[0]["query_string"] == query


class Short:
    """Answers what begins with /full, before it is read."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        self.heard.append(data)
        assert (address, secure) == ("127.0.0.1", False)
        return b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n" if data.startswith(b"GET /full") else None


async def test_what_comes_between_two_requests_may_be_answered_before_it_is_read():
    """P16. What comes behind another request in the same read is not looked at."""
    app, early = Remembering(), Short()
    full = b"GET /full HTTP/1.1\r\n" + HOST + b"\r\n"
    async with served(app, early=early) as server, await server.connect() as stream:  # type: ignore[arg-type]
        await stream.send_all(full)
        assert (await until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        await stream.send_all(GET + full)
        assert (await until(stream, b"/full")).count(b"HTTP/1.1 200") == 2
        await stream.send_all(full)
        assert (await until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
    assert early.heard == [full, GET + full, full]


async def test_who_is_told_to_come_later_and_comes_at_once_is_heard_late():
    """P16: a client that does not wait by itself costs two refusals a second, not as many as it can send."""
    app, early = Remembering(), Short()
    full = b"GET /full HTTP/1.1\r\n" + HOST + b"\r\n"
    async with served(app, early=early) as server, await server.connect() as stream:  # type: ignore[arg-type]
        began = trio.current_time()
        for _ in range(3):
            await stream.send_all(full)
            assert (await until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert trio.current_time() - began >= 2 * IMPATIENT_SECONDS - 0.1
        await trio.sleep(IMPATIENT_SECONDS)
        await stream.send_all(GET)  # as it should
        assert b"HTTP/1.1 200" in await until(stream, b"/")
    assert early.heard == [full, full, full, GET]


async def test_a_path_is_decoded_once_and_kept_raw():
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        await said(stream, b"GET /a%20b%252f?x=%20 HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    (scope,) = app.scopes
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b%2f", b"/a%20b%252f", b"x=%20")
    assert scope["scheme"] == "http"
    assert "tls" not in scope["extensions"]
    assert scope["client"][0] == "127.0.0.1"


async def test_an_empty_line_between_requests_begins_none():
    """RFC 9112, 2.2: old clients end a body with one. The connection is idle behind it, and ends as one."""
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        for pieces in ([b"\r\n", GET], [b"\r", b"\n", GET], [b"\r", b"\n" + GET[:5], GET[5:]], [b"\r\n"]):
            for piece in pieces:
                await trio.testing.wait_all_tasks_blocked(0.02)
                await stream.send_all(piece)
        await trio.testing.wait_all_tasks_blocked(0.02)
        (one,) = server.watch.open
        one.due = trio.current_time()
        heard = await everything(stream)
    assert heard.count(b"HTTP/1.1 200") == 3
    assert b"408" not in heard


async def test_a_head_that_breaks_off_is_nothing():
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        await stream.send_all(GET[:9])
        await stream.send_eof()
        assert await everything(stream) == b""
    assert app.came == []


async def test_options_of_the_server_reach_the_application():
    """RFC 9112, 3.2.4."""
    app = Remembering()
    async with served(app) as server, await server.connect() as stream:
        await said(stream, b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert app.came == [("OPTIONS", b"*", b"")]


async def test_an_application_that_waits_no_longer_for_a_body_is_heard():
    """As the fronts do: 408 in their own words."""

    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.move_on_after(0.2):
            while (await receive())["more_body"]:
                pass
        await answering(408, b"mine")(scope, receive, send)

    async with served(impatient) as server, await server.connect() as stream:
        heard = await said(stream, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
    assert b"\r\nConnection: close\r\n" in heard
    assert heard.endswith(b"mine")


async def test_an_application_that_gives_up_sending_ends_the_connection():
    """What was sent of the answer cannot be taken back: nothing may follow it."""
    done = trio.Event()

    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.move_on_after(0.5):
            await answering(200, b"x" * 8_000_000)(scope, receive, send)
        done.set()

    async with served(impatient) as server, await server.connect() as stream:
        await stream.send_all(GET + GET)
        await done.wait()
        heard = await everything(stream)
    assert heard.count(b"HTTP/1.1 200") == 1
    assert len(heard) < 8_000_000


async def test_an_answer_before_100_says_so_to_an_application_that_asks_for_the_body_then():
    """As the fronts do, to let in what is still coming: a client that waits for 100 sends nothing any more."""
    heard: list[str] = []

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"Content-Length", b"2")]})
        await send({"type": "http.response.body", "body": b"no", "more_body": True})
        heard.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b""})

    async with served(refusing) as server, await server.connect() as stream:
        answer = await said(stream, EXPECTING + b"Content-Length: 3\r\n\r\n")
    assert heard == ["http.disconnect"]
    assert answer.endswith(b"\r\n\r\nno")
    assert b"100 Continue" not in answer


async def test_refusals_leave_no_exception_behind():
    """One that is raised again and again grows by a traceback each time; one that is kept with its frames is a cycle."""
    gc.collect()
    gc.disable()
    try:
        async with served(Remembering()) as server:
            for _ in range(20):
                async with await server.connect() as stream:
                    await said(stream, b"GET /" + b"a" * 70_000)
            await server.until(0)
            kept = [each for each in gc.get_objects() if isinstance(each, Unreadable)]
    finally:
        gc.enable()
    assert len(kept) < 5  # the last connections may still be closing
