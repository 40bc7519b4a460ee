"""One HTTP/1.1 connection: reads a request, awaits the application, reads the next. It is one task, and owns no other.

No request is judged here beyond its grammar. Whatever happens ends this connection alone, and leaves it closed.
"""

from __future__ import annotations

import logging
import math
import select
from typing import Final
from urllib.parse import unquote

import trio
from starlette.types import Scope

from gateway.fronts.limits import ANSWER, NO_ROOM, WHOLE
from gateway.serve.http1.answer import refusal
from gateway.serve.http1.hall import Circumstances, Hall
from gateway.serve.http1.head import Head, Known, Unreadable, read, require_head_so_far
from gateway.serve.http1.turn import Turn
from gateway.serve.http1.wire import Gone, Wire

logger = logging.getLogger("muster.http1")

# While the gateway ends: how long a connection may have been idle, and still be given the chance of one more request.
YOUNG_SECONDS: Final = 1.0
# Whoever was told to come again after a second or more is not heard before. Half of one: behind a proxy that keeps
# connections it may be somebody else who comes, and the crowd may be gone.
IMPATIENT_SECONDS: Final = 0.5
# Bytes of answers that may be on their way to a peer when its next request is begun: several short ones, so that
# whoever sends many together is not held up by their way there.
UNHEARD: Final = 8 * 1024

_ASGI: Final = {"spec_version": "2.1", "version": "3.0"}


class Connection:
    """One connection, from its first byte (after TLS) to its last."""

    __slots__ = (
        "_circumstances",
        "_granted",
        "_hall",
        "_head_due",
        "_lingers",
        "_scope",
        "_turn",
        "_verdict",
        "_wire",
        "began",
        "descriptor",
        "due",
    )

    def __init__(self, wire: Wire, hall: Hall, circumstances: Circumstances) -> None:
        self._wire = wire
        self._hall = hall
        self._circumstances = circumstances
        self._scope = trio.CancelScope()
        self._turn: Turn | None = None
        self._verdict: Unreadable | None = None
        self._lingers = True
        self._head_due = False
        self._granted = False
        self.descriptor = wire.descriptor
        self.due = math.inf
        self.began = 0.0

    async def run(self) -> None:
        """Serve it until it ends, and close it."""
        watch = self._hall.watch
        watch.add(self)
        try:
            while True:
                with self._scope:
                    await self._converse()
                if not (self._idle() and self._has_come()):
                    break
                # A request came between the look that found nothing and the end of the wait.
                self._lingers = True
                self._scope = trio.CancelScope()
            if self._verdict is not None:
                await self._refuse(self._verdict)
        except Gone:
            self._lingers = False
        finally:
            watch.remove(self)
            await self._wire.end(linger=self._lingers)

    async def _converse(self) -> None:
        hall, wire = self._hall, self._wire
        data = b""
        known = Known()
        try:
            while True:
                if data == b"\r\n":
                    data = b""  # RFC 9112, 2.2: an empty line before a request; it has not begun yet
                if not data:
                    data = await self._between()
                    if not data:
                        return
                    continue
                head = read(data, secure=wire.secure, known=known) if data[0] != 13 else None
                if head is None:
                    head, data = await self._slow_head(data)
                    if head is None:
                        return
                turn = Turn(wire, hall, head, data)
                data = b""
                await self._answer(head, turn)
                if not turn.keeps:
                    return
                later, data = turn.later, turn.rest
                # Whoever is idle holds nothing of the last request: thousands of them would be its body times as many.
                del head, turn
                if later:
                    await self._be_deaf()
                if data:
                    # Whoever sends many at once must not keep all others waiting.
                    await trio.lowlevel.checkpoint()
                    await self._until_heard()
        except Unreadable as refused:
            self._verdict = refused.unraised()
        finally:
            known.forget()

    async def _between(self) -> bytes:
        """The first bytes of the next request; b"" when the peer has gone."""
        hall, wire = self._hall, self._wire
        while True:
            now = trio.current_time()
            # Whoever connects has something to ask: a first request is as little waited for as the rest of a head.
            seconds = hall.patience.idle if self.began else min(hall.patience.idle, hall.patience.head)
            self.began = now
            self._granted = False
            # Drained while it was at work: its answer said so, and there is no next request. A first one may come.
            self.due = now + (YOUNG_SECONDS if hall.ending.is_set() else seconds)
            data = await wire.read()
            self.due = math.inf
            if not data:
                self._lingers = False
                return b""
            if hall.early is None or hall.ending.is_set():
                return data
            await self._until_heard()
            client = self._circumstances.client
            answer = hall.early.answer(data, client[0] if client else "", secure=wire.secure)
            if answer is None:
                return data
            await wire.write(answer, hall.patience.write)
            await self._be_deaf()

    async def _be_deaf(self) -> None:
        """Read nothing for a while from a client that was just told to come later.

        To be heard late is the cheapest refusal of all: whoever does not wait by itself has two refusals a second for
        each connection, and not thousands; what it sends meanwhile lies in the kernel.
        """
        # Behind proxies whose requests are heard by their headers, a connection is everybody's: nobody waits there.
        if self._hall.early is not None and not self._hall.ending.is_set():
            await self._hall.later.rest(IMPATIENT_SECONDS)

    async def _until_heard(self) -> None:
        """Wait while the peer leaves its answers unread. Raises `Gone` when it has for too long.

        Whoever asks and does not read would be answered until the kernel takes no more: a hundred answers, each
        connection, for a few packets of questions.
        """
        wire = self._wire
        if wire.unsent(UNHEARD) <= UNHEARD:
            return
        until = trio.current_time() + self._hall.patience.write
        pause = 0.005
        while wire.unsent(UNHEARD) > UNHEARD:
            if trio.current_time() > until:
                raise Gone
            await trio.sleep(pause)
            pause = min(2 * pause, 0.25)

    async def _slow_head(self, data: bytes) -> tuple[Head | None, bytes]:
        """A head that comes in pieces. It is to be whole in time, however diligently its pieces come."""
        self.due = trio.current_time() + self._hall.patience.head
        self._head_due = True
        coming = self._hall.coming
        so_far = bytearray(data)
        counted = len(data)
        coming.held += counted
        try:
            looked = 0
            blank = so_far.startswith(b"\r")
            while True:
                if blank and len(so_far) > 1:
                    # RFC 9112, 2.2: one empty line before a request is ignored. Old clients end bodies with one.
                    if so_far.startswith(b"\r\n"):
                        del so_far[:2]
                    blank = False
                if so_far and not blank:
                    require_head_so_far(so_far, looked)
                    if so_far.find(b"\r\n\r\n", max(0, looked - 3)) >= 0:
                        break
                    looked = len(so_far)
                if coming.full(looked):
                    raise Unreadable(503, NO_ROOM)
                data = await self._wire.read()
                if not data:
                    self._lingers = False
                    return None, b""
                so_far += data
                counted += len(data)
                coming.held += len(data)
        finally:
            coming.held -= counted
        self.due = math.inf
        self._head_due = False
        whole = bytes(so_far)
        return read(whole, secure=self._wire.secure), whole

    async def _answer(self, head: Head, turn: Turn) -> None:
        circumstances, watch = self._circumstances, self._hall.watch
        path = head.path.decode("ascii")
        body = turn.whole
        extensions: dict[str, object] = {ANSWER: True} if body is None else {ANSWER: True, WHOLE: body}
        if circumstances.tls is not None:
            extensions["tls"] = circumstances.tls
        scope: Scope = {
            "type": "http",
            "http_version": "1.1" if head.modern else "1.0",
            "asgi": _ASGI,
            "method": head.method,
            "scheme": "https" if circumstances.secure else "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": head.path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": circumstances.client,
            "server": circumstances.server,
            "state": {},
            "extensions": extensions,
        }
        self._turn = turn
        watch.at_work[self] = watch.ticks
        try:
            await self._hall.asgi(scope, turn.receive, turn.send)
        except Exception:
            # The application keeps its failures to itself; this one is of its outermost layer.
            logger.exception("a request failed outside the application")
        finally:
            watch.at_work.pop(self, None)
            self.due = math.inf
            self._turn = None
        if not turn.over:
            turn.keeps = False
            if not turn.begun:
                raise turn.refused.unraised() if turn.refused else Unreadable(500, "something went wrong on this side")
            # A body without its end must not look whole.
            self._lingers = False

    async def _refuse(self, refused: Unreadable) -> None:
        await self._wire.write(refusal(refused, self._hall.watch.date), self._hall.patience.write)

    def overdue(self) -> None:
        """As `Watched.overdue`."""
        # Once: a request is read at once. What stays unread lies behind an answer of TLS itself that the peer does not
        # take (it asked for new keys, thousands of times), or is more of those.
        if self._idle() and not self._granted:
            if self._has_come():
                self._granted = True
                self.due += YOUNG_SECONDS
            else:
                self._end_unless_asked()
            return
        self.due = math.inf
        if self._turn is not None and self._turn.begun:
            self._turn.lose()
            return
        if self._head_due:
            self._verdict = Unreadable(408, "the request's head did not arrive in time")
        else:
            self._lingers = False  # nothing was said that a reset could overtake
        self._scope.cancel()

    def peer_ended(self, *, gone: bool) -> None:
        """As `Watched.peer_ended`.

        Over TLS nobody sends half: whoever ends has gone. Without it, it may be a client that has sent all it had and
        listens for its answer; it is given as long as one that does not read.
        """
        turn = self._turn
        if turn is None:
            return
        if not (gone or self._wire.secure):
            if self.due == math.inf:
                self.due = trio.current_time() + self._hall.patience.write
            return
        if turn.begun:
            turn.lose()
        else:
            # Nobody will read the answer: what has not been begun need not be (a signature in the queue).
            self._lingers = False
            self._scope.cancel()

    def drain(self, now: float) -> None:
        """As `Watched.drain`."""
        if not self._idle():
            return
        if now - self.began <= YOUNG_SECONDS:
            self.due = self.began + YOUNG_SECONDS
        elif self._has_come():
            self.due = now + YOUNG_SECONDS
        else:
            self._end_unless_asked()

    def _end_unless_asked(self) -> None:
        """Idle, and nothing has come: it ends, unless something comes before its task has heard of it."""
        self._lingers = False  # nothing was said that a reset could overtake
        self._scope.cancel()

    def _idle(self) -> bool:
        """Whether it waits for a request of which nothing has been read, or did so until its wait was ended."""
        return self.due != math.inf and self._turn is None and not self._head_due

    def _has_come(self) -> bool:
        """Whether bytes wait to be read: a request that came when the time was up is answered, not reset."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(0))
