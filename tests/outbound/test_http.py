"""The HTTP client for strangers' servers: whatever arrives, it is an answer or a failure with a name (A76, A120)."""

import socket
from contextlib import ExitStack
from ipaddress import ip_address

import pytest
import trio

from gateway.outbound import http
from gateway.outbound.http import Fetched, FetchFailed
from tests.doubles.mutation import mutations
from tests.doubles.webserver import plain

CORPUS = [
    plain(b"token.thumbprint"),
    plain(b"", status="302 Found", headers=("Location: http://a.example/b",)),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
]


class Pieces:
    """What a connection gives: the data in small pieces, then its end."""

    def __init__(self, data, size):
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]

    async def receive_some(self, _):
        return self._pieces.pop(0) if self._pieces else b""


async def read(data, cap=128, size=64):
    return await http._read(Pieces(data, size), cap)


@pytest.mark.parametrize("seed", [b"one", b"two", b"three"])
async def test_damaged_answers_are_answers_or_named_failures(seed):
    for number, data in enumerate(mutations(seed, 1000, CORPUS)):
        try:
            fetched = await read(data, size=number % 70 + 1)
        except (FetchFailed, http.httptools.HttpParserError):
            continue
        assert isinstance(fetched, Fetched)
        assert len(fetched.body) <= 129
        assert 200 <= fetched.status <= 599


async def test_the_first_answer_counts_and_what_follows_it_does_not():
    two = plain(b"first") + plain(b"second", status="500 No", headers=("Location: /x",))
    assert await read(two) == Fetched(200, None, b"first")


async def test_a_body_is_cut_one_byte_after_its_cap():
    assert await read(plain(b"x" * 5000), cap=10) == Fetched(200, None, b"x" * 11)


async def test_chunk_extensions_do_not_get_around_the_cap():
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"e" * 2000 + b"\r\nx\r\n") * 100
    with pytest.raises((FetchFailed, http.httptools.HttpParserError)):
        await read(endless)


async def test_a_peer_that_does_not_take_the_connection_is_given_up_in_time():
    with ExitStack() as open_ones:
        deaf = open_ones.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = deaf.getsockname()[1]
        for _ in range(4):  # until its queue is full, and what comes then is left without an answer
            waiting = open_ones.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with trio.fail_after(60), pytest.raises(FetchFailed) as failed:
            await http.connect(ip_address("127.0.0.1"), port, patience=0.05)
    assert "timed out" in failed.value.detail
    assert failed.value.passing


async def test_a_peer_that_takes_the_connection_late_is_told_all_the_same():
    with ExitStack() as open_ones:
        late = open_ones.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        late.setblocking(False)
        port = late.getsockname()[1]
        for _ in range(4):
            waiting = open_ones.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        heard = []

        async def take():
            await trio.sleep(0.1)
            while True:
                await trio.lowlevel.wait_readable(late)
                taken = open_ones.enter_context(late.accept()[0])
                taken.setblocking(False)
                nursery.start_soon(hear, taken)

        async def hear(taken):
            await trio.lowlevel.wait_readable(taken)
            heard.append(taken.recv(100))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(take)
                line = await http.connect(ip_address("127.0.0.1"), port, patience=50, opening=b"question")
                while not heard:
                    await trio.sleep(0.01)
                line.close()
                nursery.cancel_scope.cancel()
    assert heard == [b"question"]


@pytest.mark.parametrize("opening", [b"", b"question"])
async def test_a_refused_connection_is_told_apart_from_an_answer_that_is_none(opening):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(http.Unconnected) as failed:
        await http.connect(ip_address("127.0.0.1"), port, patience=5, opening=opening)
    assert failed.value.detail == f"connection to 127.0.0.1:{port} failed: connection refused"


async def test_what_does_not_fit_the_kernels_buffer_waits_until_it_does():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    said = bytes(range(256)) * 20_000
    line, heard = http.Line(ours), bytearray()

    async def hear():
        other = http.Line(theirs)
        theirs.setblocking(False)
        while data := await other.receive_some():
            heard.extend(data)
            await other.wait_send_all_might_not_block()
        await other.aclose()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear)
            await line.send_all(said)
            await line.aclose()
    assert heard == said


async def test_a_connection_that_is_torn_down_is_a_broken_one():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.close()
        with pytest.raises(trio.BrokenResourceError):
            await http.Line(ours).send_all(b"x")
        listening = socket.create_server(("127.0.0.1", 0))
        with listening:
            line = await http.connect(ip_address("127.0.0.1"), listening.getsockname()[1], patience=5)
            taken, _ = listening.accept()
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            taken.close()
            with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
                await line.receive_some()
            line.close()
