"""The loop of a driver against servers that are slow, full, or gone: nothing is hidden, nothing is counted twice."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bench.load.arrivals import Arrivals, Closed, Open
from bench.load.conversation import Conversation, Failed, Origin, Pause, expect
from bench.load.loop import Loop, Span
from bench.load.tally import Tally

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

Answering = Callable[[socket.socket, int], bool]


class Asking:
    """One request a piece of work; `pause` before each."""

    def __init__(self, origin: Origin, pause: float = 0.0, introduction: bytes = b"") -> None:
        self._ask = origin.ask("GET", f"{origin.url}/")
        self._pause = pause
        self._introduction = introduction

    def introduce(self) -> Conversation[None]:
        yield from ()

    def enroll(self) -> Conversation[None]:
        if self._pause:
            yield Pause(self._pause)
        expect((yield self._ask), 200)


@contextlib.contextmanager
def server(answering: Answering) -> Iterator[tuple[str, list[int]]]:
    """A server that calls `answering` for each request with its number; it closes where that gives False.

    Gives its URL and how many connections there have been.
    """
    connections: list[int] = []
    numbers = iter(range(1_000_000))

    def serve(taken: socket.socket) -> None:
        with taken, contextlib.suppress(OSError):
            while taken.recv(65536):
                if not answering(taken, next(numbers)):
                    return

    def accept(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listening.accept()
                connections.append(1)
                threading.Thread(target=serve, args=(taken,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        threading.Thread(target=accept, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", connections
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def sending(answer: bytes) -> Answering:
    def send(taken: socket.socket, _: int) -> bool:
        taken.sendall(answer)
        return b"close" not in answer

    return send


def ran(url: str, arrivals: Arrivals, seconds: float = 0.5, clients: int = 8, *, fresh: bool = False) -> Tally:
    origin = Origin(url)
    loop = Loop([Asking(origin) for _ in range(clients)], origin, None, fresh=fresh)
    loop.introduce()
    now = time.perf_counter()
    tally = loop.run(arrivals, Span(now, now, now + seconds), seed=1)
    loop.close()
    return tally


def test_every_arrival_is_in_exactly_one_outcome():
    def answer(taken: socket.socket, number: int) -> bool:
        taken.sendall(FULL if number % 3 == 0 else GOOD)
        return number % 7 != 6

    with server(answer) as (url, _):
        tally = ran(url, Open(200.0, even=True))
    assert tally.arrived == 100
    assert tally.done + tally.not_now + tally.wrong == tally.arrived
    assert tally.told[503] >= 20
    assert tally.failed == 0


def test_a_server_that_stands_still_is_not_hidden():
    # Coordinated omission: in the half second in which nothing is answered, arrivals go on, and each has waited.
    still = threading.Event()

    def answer(taken: socket.socket, number: int) -> bool:
        if number == 20:
            time.sleep(0.5)
            still.set()
        elif number > 20:
            still.wait()
        taken.sendall(GOOD)
        return True

    with server(answer) as (url, _):
        tally = ran(url, Open(100.0, even=True), seconds=1.0, clients=2)
    assert tally.done == tally.arrived == 100
    # A closed loop of two would have noted two long waits; here every arrival of the pause is one.
    assert tally.waits.quantile(0.6) > 0.01
    assert tally.waits.quantile(0.9) > 0.2


def test_a_closed_loop_notes_no_more_than_its_clients_can_have():
    with server(sending(GOOD)) as (url, connections):
        tally = ran(url, Closed(), clients=3)
    assert tally.done == tally.finished > 0
    assert tally.wrong == 0
    assert len(connections) == 3


def test_what_a_closed_loop_waited_for_in_vain_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.load.loop.PATIENCE", 0.5)

    with server(lambda _, __: True) as (url, _):
        tally = ran(url, Closed(), seconds=0.2, clients=3)  # the patience of all three ends after the span
    assert (tally.arrived, tally.done, tally.lost) == (3, 0, 3)
    assert "no answer" in tally.first_failure


def test_what_a_closed_loop_is_answered_too_late_is_not_counted():
    ended = threading.Event()

    def answer(taken: socket.socket, _: int) -> bool:
        ended.wait()
        taken.sendall(GOOD)
        return True

    with server(answer) as (url, _):
        timer = threading.Timer(0.6, ended.set)
        timer.start()
        tally = ran(url, Closed(), seconds=0.2, clients=3)
        timer.join()
    assert (tally.arrived, tally.done, tally.wrong, tally.all_done) == (0, 0, 0, 3)


def test_a_server_that_closes_after_each_answer_loses_nothing():
    with server(sending(LAST)) as (url, connections):
        tally = ran(url, Open(50.0, even=True))
    assert tally.done == tally.arrived == 25
    assert len(connections) == 25


def test_a_kept_connection_that_has_ended_is_opened_again_and_that_is_counted():
    def answer(taken: socket.socket, number: int) -> bool:
        if number >= 4:
            return False  # it ends the connection instead of answering
        taken.sendall(GOOD)
        return True

    with server(answer) as (url, _):
        tally = ran(url, Open(20.0, even=True), clients=1)
    assert tally.done == 4
    assert tally.again == 1  # the kept one was tried again; a new one that breaks is lost
    assert tally.lost == 6
    assert "closed the connection" in tally.first_failure


def test_fresh_connections_are_one_for_each_piece_of_work():
    with server(sending(GOOD)) as (url, connections):
        tally = ran(url, Open(40.0, even=True), fresh=True)
    assert tally.done == len(connections) == 20


def test_a_server_that_is_gone_is_counted_and_the_run_ends():
    with socket.socket() as deaf:  # bound, so that nobody else gets the port, and not listening
        deaf.bind(("127.0.0.1", 0))
        tally = ran(f"http://127.0.0.1:{deaf.getsockname()[1]}", Open(40.0, even=True))
    assert tally.lost == tally.arrived == 20
    assert "connecting to" in tally.first_failure


def test_arrivals_that_find_no_client_free_are_late(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bench.load.loop.PATIENCE", 0.3)

    def answer(_: socket.socket, __: int) -> bool:
        time.sleep(1.0)
        return True

    with server(answer) as (url, _):
        tally = ran(url, Open(40.0, even=True), clients=2)
    assert tally.lost >= 2
    assert tally.late > 0
    assert tally.late + tally.lost == tally.arrived == 20


def test_a_client_that_cannot_introduce_itself_ends_the_preparation():
    class Stranger(Asking):
        def introduce(self) -> Conversation[None]:
            raise Failed("who are you?")
            yield from ()

    origin = Origin("http://127.0.0.1:1")
    loop = Loop([Stranger(origin)], origin, None, fresh=False)
    with pytest.raises(Failed, match="introduce itself: who are you"):
        loop.introduce()


def test_more_clients_than_are_introduced_at_once_are_all_introduced():
    introduced: list[int] = []

    class Polite(Asking):
        def introduce(self) -> Conversation[None]:
            introduced.append(1)
            expect((yield self._ask), 200)

    with server(sending(GOOD)) as (url, _):
        origin = Origin(url)
        loop = Loop([Polite(origin) for _ in range(150)], origin, None, fresh=False)
        loop.introduce()
        loop.close()
    assert len(introduced) == 150


def test_a_pause_of_a_conversation_is_kept_without_holding_up_the_others():
    with server(sending(GOOD)) as (url, _):
        origin = Origin(url)
        loop = Loop([Asking(origin, 0.2), Asking(origin)], origin, None, fresh=False)
        now = time.perf_counter()
        tally = loop.run(Closed(), Span(now, now, now + 0.7))
        loop.close()
    assert tally.waits.largest >= 0.2
    assert tally.waits.quantile(0.5) < 0.2
