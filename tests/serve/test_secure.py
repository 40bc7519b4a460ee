"""TLS over two buffers: what a peer can make the gateway hold, gaps in what is sent, a socket that was closed meanwhile."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
import trio.testing

from bench.front import certificate
from gateway.serve.secure import WRITE, SecureStream
from gateway.serve.tls import server_context
from tests.doubles.programs import installed

LONG = 4_000_000


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_context(*certificate(tmp_path_factory.mktemp("tls")), ())


@asynccontextmanager
async def pair(context: ssl.SSLContext) -> AsyncIterator[tuple[SecureStream, trio.SSLStream[trio.SocketStream]]]:
    """A connection's two ends, hands shaken."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in _connected())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server, peer = SecureStream(ours, context), trio.SSLStream(theirs, client, https_compatible=True)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            await peer.do_handshake()
        try:
            yield server, peer
        finally:
            await trio.aclose_forcefully(server)
            await trio.aclose_forcefully(peer)


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other = listening.accept()[0]
    for each in (one, other):
        each.setblocking(False)
    return other, one


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_unread_answer_is_not_sealed_before_it_can_be_sent(context: ssl.SSLContext, at_once: bool) -> None:
    """OpenSSL's buffers never shrink: a list of revoked certificates would stay in memory for each open connection."""
    async with pair(context) as (server, peer):
        heard = bytearray()

        async def send() -> None:
            data = b"y" * LONG
            if not at_once:
                await server.send_all(data)
            elif not server.send_now(data):
                with pytest.raises(trio.BusyResourceError):
                    server.send_now(b"more")
                await server.send_all(b"")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert 0 < len(server._rest) + server._out.pending < 2 * WRITE
            while len(heard) < LONG:
                heard += await peer.receive_some()
        assert heard == b"y" * LONG


async def test_nothing_follows_a_gap(context: ssl.SSLContext) -> None:
    async with pair(context) as (server, _):
        with trio.move_on_after(0.2) as scope:
            await server.send_all(b"y" * 16 * LONG)
        assert scope.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"and more")
        with pytest.raises(trio.BrokenResourceError):
            server.send_now(b"and more")


async def test_a_socket_closed_at_the_last_moment_is_not_read_by_its_number(context: ssl.SSLContext) -> None:
    """The number may be that of another peer's connection by then, whose bytes are nobody else's."""
    for _ in range(24):  # who runs first is tossed each time
        async with pair(context) as (server, peer):
            number = server.fileno()
            taken = trio.Event()

            async def read(server: SecureStream = server, taken: trio.Event = taken) -> None:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    while await server.receive_some():
                        pass
                taken.set()

            ours, theirs = socket.socketpair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await trio.testing.wait_all_tasks_blocked()
                os.write(peer.transport_stream.socket.fileno(), b"hello")
                await trio.sleep(0)
                server.transport_stream.socket.close()
                os.dup2(ours.fileno(), number)
                theirs.send(b"a stranger's")
                await taken.wait()
            assert ours.recv(64) == b"a stranger's"
            os.close(number)
            ours.close()
            theirs.close()


async def test_a_renegotiation_is_refused_at_once(context: ssl.SSLContext) -> None:
    """RFC 5746, RFC 9113, 9.2.1. Whoever asks again and again must not have all the alerts kept in memory."""
    installed("openssl")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2"]
        with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=subprocess.STDOUT) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            accepted = await trio.to_thread.run_sync(lambda: listening.accept()[0])
            accepted.setblocking(False)
            server = SecureStream(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)), context)
            with trio.fail_after(60):
                await server.do_handshake()
                client.stdin.write(b"R\n")
                client.stdin.flush()
                with pytest.raises(trio.BrokenResourceError, match="handshake failure"):
                    await server.receive_some()  # openssl takes the refusal badly, and says so
                said = await trio.to_thread.run_sync(client.stdout.read)
            await trio.aclose_forcefully(server)
    assert b"no renegotiation" in said


def test_what_the_parent_loads_before_its_children_is_light() -> None:
    """P14: the loop and the certificates' library load beside the signer's start, and not before it."""
    look = "import sys, gateway.serve.start; sys.exit(' '.join({'trio', 'cryptography'} & set(sys.modules)) or 0)"
    ran = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


async def test_bytes_that_were_promised_and_are_not_here_are_waited_for(context: ssl.SSLContext) -> None:
    """Whoever saw the socket readable says so; what it saw may have been nothing, and the handshake stands it."""
    ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in _connected())
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server, peer = SecureStream(ours, context), trio.SSLStream(theirs, client, https_compatible=True)
    with trio.fail_after(60):
        async with server, peer, trio.open_nursery() as nursery:
            nursery.start_soon(partial(server.do_handshake, spoken=True))
            await trio.testing.wait_all_tasks_blocked()
            await peer.do_handshake()
