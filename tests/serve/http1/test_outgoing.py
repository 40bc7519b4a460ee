"""Short answers leave at the end of their round; whatever a peer does, all of them come in order, or the wire ends."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import pytest
import trio

from bench.front import certificate
from gateway.serve.http1.outgoing import TOGETHER, Outgoing
from gateway.serve.http1.wire import Gone, Plain, Tls, Wire
from gateway.serve.secure import SecureStream
from gateway.serve.tls import server_context
from tests.doubles.http1 import everything

LONG = 15.0  # seconds
CRAMPED = 1024  # octets that a socket's buffer is asked to hold; the kernel makes it some KiB

Meeting: TypeAlias = AbstractAsyncContextManager[tuple[Wire, trio.abc.Stream]]
Meet: TypeAlias = Callable[..., Meeting]


@asynccontextmanager
async def meeting(
    context: ssl.SSLContext | None, outgoing: Outgoing, *, room: int | None = None
) -> AsyncIterator[tuple[Wire, trio.abc.Stream]]:
    """A wire and its peer, between which there is little `room` if so said."""
    here, there = trio.socket.socketpair()
    if room is not None:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
    ours, theirs = trio.SocketStream(here), trio.SocketStream(there)
    async with outgoing.sending(), theirs:
        if context is None:
            yield Plain(ours, outgoing), theirs
            return
        secure = SecureStream(ours, context)
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
        peer = trio.SSLStream(theirs, asking, https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(secure.do_handshake)
            await peer.do_handshake()
        yield Tls(secure, outgoing), peer


@pytest.fixture(params=["plain", "secure"])
def meet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Meet:
    if request.param == "plain":
        return partial(meeting, None)
    return partial(meeting, server_context(*certificate(tmp_path_factory.mktemp("tls")), ()))


def here_already(peer: trio.abc.Stream) -> bool:
    """Whether anything lies in the peer's socket."""
    stream = peer.transport_stream if isinstance(peer, trio.SSLStream) else peer
    assert isinstance(stream, trio.SocketStream)
    with socket.socket(fileno=socket.dup(stream.socket.fileno())) as looking:
        try:
            return bool(looking.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


async def test_a_short_answer_leaves_at_the_end_of_its_round(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing) as (wire, peer):
        await wire.write(b"first ", LONG)
        await wire.write(b"second", LONG)
        assert not here_already(peer)
        await trio.lowlevel.cancel_shielded_checkpoint()
        assert here_already(peer)
        with trio.fail_after(LONG):
            assert await peer.receive_some() == b"first second"
        await wire.end(linger=False)


async def test_what_a_long_answer_follows_is_sent_before_it(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing) as (wire, peer), trio.open_nursery() as nursery:
        heard: list[bytes] = []

        async def hear() -> None:
            heard.append(await everything(peer))

        nursery.start_soon(hear)
        await wire.write(b"short", LONG)
        await wire.write(b"l" * 3 * TOGETHER, LONG)
        await wire.end(linger=False)
    assert heard == [b"short" + b"l" * 3 * TOGETHER]


async def test_an_answer_that_its_socket_has_no_room_for_comes_whole_and_the_next_one_behind_it(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing, room=CRAMPED) as (wire, peer), trio.open_nursery() as nursery:
        await wire.write(b"a" * TOGETHER, LONG)
        await trio.lowlevel.cancel_shielded_checkpoint()

        async def follow() -> None:
            await wire.write(b"b" * 100, LONG)
            await wire.end(linger=False)

        nursery.start_soon(follow)
        await trio.sleep(0.05)
        assert await everything(peer) == b"a" * TOGETHER + b"b" * 100


async def test_a_wire_that_ends_waits_for_what_is_still_on_its_way(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing, room=CRAMPED) as (wire, peer), trio.open_nursery() as nursery:
        await wire.write(b"a" * TOGETHER, LONG)
        await trio.lowlevel.cancel_shielded_checkpoint()
        nursery.start_soon(partial(wire.end, linger=False))
        await trio.sleep(0.05)
        assert await everything(peer) == b"a" * TOGETHER


async def test_whoever_reads_nothing_is_given_up_and_its_task_hears_of_it(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing, room=CRAMPED) as (wire, _):
        await wire.write(b"a" * TOGETHER, 0.1)
        with trio.fail_after(LONG):
            assert await wire.read() == b""
        await wire.end(linger=False)


async def test_nothing_follows_an_answer_of_which_some_is_missing(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing, room=CRAMPED) as (wire, peer):
        await wire.write(b"a" * TOGETHER, 0.1)
        assert await wire.read() == b""  # given up
        with pytest.raises(Gone):
            await wire.write(b"b", LONG)
        await wire.end(linger=False)
        assert len(await everything(peer)) < TOGETHER


async def test_a_wire_that_is_closed_while_the_rest_is_on_its_way_ends_nothing_else(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing, room=CRAMPED) as (wire, _):
        await wire.write(b"a" * TOGETHER, LONG)
        await trio.lowlevel.cancel_shielded_checkpoint()
        with trio.move_on_after(0.05) as ending:
            await wire.end(linger=False)
        assert ending.cancelled_caught
        with trio.fail_after(LONG), pytest.raises(Gone):
            await wire.write(b"b", LONG)


async def test_what_was_written_in_the_round_in_which_its_wire_ends_is_sent_first(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing) as (wire, peer):
        await wire.write(b"goodbye", LONG)
        await wire.end(linger=False)
        assert await everything(peer) == b"goodbye"


async def test_a_peer_that_has_gone_by_the_end_of_the_round_ends_its_wire_alone(meet: Meet) -> None:
    outgoing = Outgoing()
    async with meet(outgoing) as (wire, peer), meeting(None, Outgoing()) as (other, listening):
        await wire.write(b"to nobody", LONG)
        await other.write(b"to somebody", LONG)
        await trio.aclose_forcefully(peer)
        with trio.fail_after(LONG):
            assert await listening.receive_some() == b"to somebody"
            assert await wire.read() == b""
            with pytest.raises(Gone):
                await wire.write(b"x" * 2 * TOGETHER, LONG)
        await wire.end(linger=False)
        await other.end(linger=False)


async def test_a_failure_at_one_wire_leaves_all_others_their_answers(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def leave(self) -> bool:
            raise ZeroDivisionError

        async def leave_slowly(self) -> None:
            raise AssertionError

    outgoing = Outgoing()
    async with meeting(None, outgoing) as (wire, peer):
        for word in (b"one", b"two"):
            outgoing.add(Failing())
            await wire.write(word, LONG)
            with trio.fail_after(LONG):
                assert await peer.receive_some() == word
        await wire.end(linger=False)
    assert [each.levelno for each in caplog.records if each.name == "muster.http1"] == [logging.ERROR] * 2
