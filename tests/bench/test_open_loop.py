"""The open loop's counts: each arrival of the time that counts is answered, late or lost, and never two of them."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.load import open_loop
from bench.load.open_loop import Connections

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


@contextmanager
def server(answer: Callable[[int], bytes | None]) -> Iterator[str]:
    """One that answers its n-th request with `answer(n)`; None breaks the connection, nothing leaves it waiting."""
    with socket.create_server(("127.0.0.1", 0)) as listener, serving(listener, answer):
        yield address(listener)


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(listener: socket.socket, answer: Callable[[int], bytes | None]) -> Iterator[None]:
    """The same for connections that have not been accepted yet."""
    count, lock = 0, threading.Lock()

    def serve(connection: socket.socket) -> None:
        nonlocal count
        with connection:
            while connection.recv(65536):
                with lock:
                    count += 1
                    said = answer(count)
                if said is None:
                    return
                connection.sendall(said)

    def listen() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def reset(kept: Connections, listener: socket.socket) -> None:
    """End all connections from the server's side, and wait until it is known on this one."""
    for _ in kept.idle:
        connection, _ = listener.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    for each in kept.idle:
        poll = select.poll()
        poll.register(each.socket, 0)
        assert poll.poll(30_000)


def test_what_is_answered_is_not_lost() -> None:
    with server(lambda _: ANSWER) as url:
        kept = Connections(url, "", 4)
        came = kept.run([REQUEST], rate=50.0, seconds=0.5, warm_up=0.3)
        kept.close()
    assert (came.late, came.lost) == (0, 0)
    assert came.statuses[201] > 0
    assert came.statuses.keys() == {201}


def test_broken_connections_of_the_time_that_counts_are_lost() -> None:
    with server(lambda number: None if 20 <= number < 25 else ANSWER) as url:
        kept = Connections(url, "", 4)
        came = kept.run([REQUEST], rate=50.0, seconds=0.5, warm_up=0.3)
        kept.close()
    assert came.late == 0
    assert came.lost == 5


def test_what_nobody_answers_is_lost_and_who_finds_no_connection_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "LAST", 1.5)
    with server(lambda _: b"") as url:
        kept = Connections(url, "", 4)
        came = kept.run([REQUEST], rate=20.0, seconds=0.5, warm_up=0.0)
        kept.close()
    assert came.lost == 4
    assert came.late == came.arrived - 4 > 0
    assert came.statuses.total() == 0


def test_what_was_lost_while_it_warmed_up_does_not_count() -> None:
    with server(lambda number: None if number <= 4 else ANSWER) as url:
        kept = Connections(url, "", 4)
        came = kept.run([REQUEST], rate=40.0, seconds=0.3, warm_up=0.5)
        kept.close()
    assert (came.late, came.lost) == (0, 0)


@pytest.mark.parametrize(("rate", "warm_up", "lost"), [(None, 0.0, 4), (2.0, 0.0, 1), (None, 0.5, 0)])
def test_what_is_sent_on_a_connection_that_was_closed_before_is_lost_and_the_next_is_answered(
    rate: float | None, warm_up: float, lost: int
) -> None:
    """At a rate the others are heard to be closed before anything is sent on them, and lose nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = Connections(address(listener), "", 4)
        reset(kept, listener)
        with serving(listener, lambda _: ANSWER):
            came = kept.run([REQUEST], rate=rate, seconds=1.0, warm_up=warm_up)
            kept.close()
    assert (came.late, came.lost) == (0, lost)
    assert came.statuses[201] > 0
