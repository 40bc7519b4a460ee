"""One worker: one process, one thread, one session with the keys. A frame in, the batch done, one frame out.

No ask is carried out twice, none of them ends the process, and a peer that breaks the contract loses its connection.
Nothing here knows what a verb means; nothing in `desk` knows that there are sockets.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

from signer.contract.framing import (
    MAX_BATCH,
    BadFrame,
    Frames,
    FrameTooLarge,
    decode_batch,
    encode_answers,
)
from signer.contract.messages import Answer, Answers, No, WorkerFigures
from signer.contract.refusal import SignerRefusal
from signer.desk import Desk
from signer.hardening.log import say
from signer.hardening.memory import lock_memory
from signer.hardening.process import close_strangers, harden, leave_folder
from signer.hardening.seccomp import Filter, install, unavailable
from signer.issuance.refused import Refused
from signer.journal.entry import PURPOSE
from signer.journal.failed import JournalFailed
from signer.journal.files import FOLDER as JOURNAL
from signer.journal.journal import Journal
from signer.keystore.failures import KeyStoreError
from signer.keystore.softkey import SoftKeyStore
from signer.keystore.token import LazyTokens, tokens_of
from signer.keystore.watch import Watch, unwatched
from signer.opening import note_token, read_opening, read_orders

_CONNECTIONS: Final = 256  # of 64 gateway workers, while they are exchanged too: each has one for lists beside its own
_READ: Final = 256 * 1024  # bytes
_PATIENCE: Final = 0.001  # seconds; between two looks whether a gateway has read more of a list
_STALLED: Final = 5.0  # seconds; a gateway that reads nothing for so long must not hold up the others


class Figures:
    """What a worker counted, told where it has changed. `ended` is of those before it at its place."""

    def __init__(self, tokens: LazyTokens, ended: dict[str, int]) -> None:
        self._tokens = tokens
        self._ended = ended

    @property
    def changes(self) -> int:
        """Another number whenever the figures are others."""
        return self._tokens.changes

    def told(self) -> WorkerFigures:
        """The figures of this moment."""
        return WorkerFigures(os.getpid(), self._ended, self._tokens.figures(), self._tokens.failovers)


class Worker:
    """The loop around a desk: a listening UNIX socket, the gateways' connections, and two ways to be told to stop.

    `listener` is bound and listens. `figures` go with the answers.
    `lifeline` is a descriptor that reads end of file when the supervisor is gone.
    """

    def __init__(self, desk: Desk, listener: socket.socket, lifeline: int, figures: Figures) -> None:
        self._desk = desk
        self._figures = figures
        self._told_at: dict[socket.socket, int] = {}  # the figures that each connection has
        self._listener = listener
        self._poll = select.epoll()
        self._ready: dict[int, Callable[[], object]] = {}  # what to do when a descriptor can be read
        self._inbox = memoryview(bytearray(_READ))  # to receive into: a new one a frame cost two page faults
        self._connections: dict[socket.socket, Frames] = {}
        self._lists: dict[socket.socket, Generator[float, None, None]] = {}  # one a connection, under way
        self._stopping = False
        listener.setblocking(False)
        self._attend(listener.fileno(), self._accept)
        self._attend(lifeline, self.stop)

    def stop(self) -> None:
        """End after the batch that is being done."""
        self._stopping = True

    def serve(self) -> None:
        """Serve until told to stop."""
        wakeup, signalled = socket.socketpair()
        wakeup.setblocking(False)
        signalled.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGTERM, self._told)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the gateway, which ends its signer in order
        self._attend(wakeup.fileno(), lambda: wakeup.recv(64))
        pause: float | None = None
        while not self._stopping:
            for descriptor, _ in self._poll.poll(pause):
                self._ready[descriptor]()
            pause = self._advance() if self._lists else None

    def _attend(self, descriptor: int, ready: Callable[[], object]) -> None:
        self._ready[descriptor] = ready
        self._poll.register(descriptor, select.EPOLLIN)

    def _told(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it went away between the two calls
            return
        if peer_uid(connection) != os.geteuid() or len(self._connections) >= _CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)  # a socket with a timeout is polled before each call
        self._connections[connection] = Frames(MAX_BATCH)
        self._attend(connection.fileno(), lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            received = connection.recv_into(self._inbox)
            if not received:
                self._drop(connection)
                return
            for payload in self._connections[connection].feed(bytes(self._inbox[:received])):
                began = time.perf_counter_ns()
                batch = decode_batch(payload)
                if connection in self._lists:
                    raise BadFrame("a frame while a list is being made")
                if (work := self._desk.begin(batch)) is not None:
                    self._lists[connection] = _delivered(work, connection)
                    continue
                answers = self._desk.answer(batch).answers
                # Rounded up: the client takes 0 for a worker that does not tell.
                worked = (time.perf_counter_ns() - began) // 1000 + 1
                _send(connection, _encoded(Answers(answers, worked, self._news(connection))))
        except BlockingIOError:  # there was nothing to read
            return
        except (BadFrame, OSError) as error:
            say(f"a connection was closed: {error}")
            self._drop(connection)

    def _news(self, connection: socket.socket) -> WorkerFigures | None:
        """The figures, if this connection has not got them as they are now."""
        changes = self._figures.changes
        if self._told_at.get(connection) == changes:
            return None
        self._told_at[connection] = changes
        return self._figures.told()

    def _advance(self) -> float | None:
        """One slice of each long list: between two of them whoever waits is served, and a busy day delays no list.

        Gives how long the loop may sleep after it, in seconds; None: there are no lists.
        """
        pause = None
        for connection, work in tuple(self._lists.items()):
            try:
                pause = min(_PATIENCE if pause is None else pause, next(work))
            except StopIteration:
                del self._lists[connection]
            except OSError as error:
                say(f"a connection was closed: {error}")
                self._drop(connection)
        return pause

    def _drop(self, connection: socket.socket) -> None:
        self._lists.pop(connection, None)
        self._told_at.pop(connection, None)
        self._poll.unregister(connection)
        del self._ready[connection.fileno()], self._connections[connection]
        connection.close()


def _send(connection: socket.socket, frame: bytearray) -> None:
    """Send a frame to a gateway that reads it, or has nearly always room for it. Raises OSError."""
    try:
        sent = connection.send(frame)
    except BlockingIOError:
        sent = 0
    if sent < len(frame):
        connection.settimeout(_STALLED)
        connection.sendall(memoryview(frame)[sent:])
        connection.setblocking(False)


def _delivered(work: Generator[None, None, Answers], connection: socket.socket) -> Generator[float, None, None]:
    """Make a list and send it, without ever waiting for the reader: it is busy, and so is this worker.

    Each step gives how long the loop may sleep before the next, in seconds. Raises OSError.
    """
    while True:
        try:
            next(work)
        except StopIteration as end:
            rest = memoryview(_encoded(end.value))
            break
        yield 0.0
    until = time.monotonic() + _STALLED
    while rest:
        try:
            rest = rest[connection.send(rest) :]
            until = time.monotonic() + _STALLED
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError("a gateway reads nothing") from None
            yield _PATIENCE


def peer_uid(connection: socket.socket) -> int:
    """The user who holds the other end of a UNIX socket, as the kernel knows it (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _encoded(answers: Answers) -> bytearray:
    try:
        return encode_answers(answers)
    except FrameTooLarge as error:
        no = No(SignerRefusal.UNSUPPORTED, f"the answer is too large: {error}")
        return encode_answers(Answers([Answer(each.id, no) for each in answers.answers]))


def _enclose(*, tokens: bool) -> None:
    """Give up what a worker with opened keys does not need. Without a PIN no token is ever opened."""
    if not tokens:
        leave_folder()
    if not install(Filter.TOKENS if tokens else Filter.STRICT) and unavailable() is None:
        say("system calls of this worker are not filtered: the kernel refused the filter")


def main(folder: str, descriptor: str, orders: str = "") -> int:
    """A worker's life: the key-encryption key and PINs from standard input, `ready` on standard output, then asks.

    `orders` are JSON (`opening.Orders`).

    Gives the exit status: 2, and one sentence on standard error, where the keys cannot be opened.
    """
    told = read_orders(orders)
    harden(follow_parent=True)
    close_strangers(int(descriptor), *([told.note] if told.note >= 0 else []))
    lock_memory()  # where it cannot be, the supervisor has said so
    opening = read_opening(sys.stdin.fileno())
    if opening is None:  # the supervisor went away before it said everything
        return 1
    kek, pins = opening
    watch = Watch(told.stuck, partial(note_token, told.note) if told.note >= 0 else unwatched, told.resting)
    try:
        tokens = tokens_of(Path(folder), kek, pins, files=told.pins, watch=watch)
        store = SoftKeyStore(Path(folder), kek, tokens)
        journal = Journal(Path(folder).absolute() / JOURNAL, store.derived(PURPOSE))
        desk = Desk(store, journal)
        desk.warm(forgiving=told.again)
    except (KeyStoreError, JournalFailed, Refused) as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - a sentence for the operator
        return 2
    _enclose(tokens=bool(pins))
    # What was loaded stays to the end, and is not looked through for garbage any more, least of all under load.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(descriptor)) as listener:
        worker = Worker(desk, listener, sys.stdin.fileno(), Figures(tokens, told.ended))
        os.write(sys.stdout.fileno(), b"ready\n")
        worker.serve()
    journal.close()
    return 0
