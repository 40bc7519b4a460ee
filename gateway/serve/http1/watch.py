"""What looks after all connections of a process: timers that have run out, and peers that have gone.

One task, a few times a second, instead of a deadline and a reader for each request: those would cost more than a small
request does. Nothing is read from a socket here.
"""

from __future__ import annotations

import select
import time
from typing import Final, Protocol

import trio

from gateway.serve.http1.answer import date_line

TICK_SECONDS: Final = 0.1
# Timers are told in seconds: to look at every connection ten times a second would be for nothing.
_TICKS_A_SWEEP: Final = 5
# Requests that are answered within a whole tick are not looked at: there would be nothing left to save.
_LONG_TICKS: Final = 2

_HALF: Final = select.POLLRDHUP
_GONE: Final = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Watched(Protocol):
    """A connection, as the watch sees it."""

    descriptor: int
    due: float
    began: float

    def overdue(self) -> None:
        """Its time `due` has come."""

    def peer_ended(self, *, gone: bool) -> None:
        """Its peer sends no more, or is `gone` altogether, while a request of it is being worked on."""

    def drain(self, now: float) -> None:
        """The gateway is ending."""


class Watch:
    """The connections of one listening process, and the Date of their answers."""

    def __init__(self) -> None:
        self.open: set[Watched] = set()
        # Since which tick: whoever begins a request need not ask for the time.
        self.at_work: dict[Watched, int] = {}
        self.ticks = 0
        self.date = date_line(time.time())
        self._second = 0
        self._stirred = trio.Event()
        self._every_tick = False

    def add(self, one: Watched) -> None:
        """Look after `one` from now on."""
        if not self.open:
            self._tell_time()
            self._stirred.set()
        self.open.add(one)

    def remove(self, one: Watched) -> None:
        """It has ended."""
        self.open.discard(one)
        self.at_work.pop(one, None)

    def drain(self) -> None:
        """Connections that wait for nothing end, soon."""
        self._every_tick = True
        now = trio.current_time()
        for each in tuple(self.open):
            each.drain(now)

    async def keep(self) -> None:
        """Look, until cancelled."""
        while True:
            if not self.open:
                self._stirred = trio.Event()
                await self._stirred.wait()
            await trio.sleep(TICK_SECONDS)
            self._tell_time()
            now = trio.current_time()
            self.ticks += 1
            if self.at_work:
                self._look()
            if self._every_tick or self.ticks % _TICKS_A_SWEEP == 0:
                for each in [each for each in self.open if each.due <= now]:
                    each.overdue()

    def _look(self) -> None:
        """One system call for all requests that take long."""
        before = self.ticks - _LONG_TICKS
        long = {each.descriptor: each for each, since in self.at_work.items() if since <= before}
        if not long:
            return
        poll = select.poll()
        for descriptor in long:
            poll.register(descriptor, _HALF)
        for descriptor, found in poll.poll(0):
            long[descriptor].peer_ended(gone=bool(found & _GONE))

    def _tell_time(self) -> None:
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self.date = date_line(now)
