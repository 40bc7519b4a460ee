"""Who begins next while more come than can begin at once: addresses take turns, whoever sends the most.

Nothing of a request is read, nothing is refused, and nobody waits while few come. Nothing here is awaited but a turn.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

import trio
from outcome import Value
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.actions.throttle import guesser

# Requests that begin in one round of the loop. What is under way goes on in each round: an enrollment takes five or six
# of them (store, signer, store), and whatever begins between two of them makes it wait once more. With all beginning
# at once, 300 connections that send one cheap request after another make a round of a tenth of a second.
AT_ONCE: Final = 8
# A handshake costs a signature and a key exchange: as much as so many cheap requests.
HANDSHAKE: Final = 4
_PRESSED: Final = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class _Waiting:
    task: trio.lowlevel.Task
    weight: int


class Rotation:
    """Turns to begin, an address after the other; an IPv6 address stands for its network of `prefix` bits.

    `run` gives the turns; while it does not run, nobody waits. `round_begins` is to be called once a round of the loop.
    """

    def __init__(self, at_once: int = AT_ONCE, prefix: int = 64) -> None:
        self._at_once = at_once
        self._prefix = prefix
        self._left = at_once
        self._lines: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._usher: trio.lowlevel.Task | None = None
        self._running = False
        self._pressed_until = -math.inf
        self.waiting = 0

    @property
    def pressed(self) -> bool:
        """Whether somebody had to wait for a turn just now."""
        return trio.current_time() < self._pressed_until

    def round_begins(self) -> None:
        """The loop begins another round: as many may begin again."""
        if not self._lines:
            self._left = self._at_once

    async def turn(self, address: str, weight: int = 1) -> None:
        """Wait until it is the turn of this address. Cancelled, it has had none."""
        if not self._running or (self._left > 0 and not self._lines):
            self._left -= weight
            return
        whose = guesser(address, self._prefix)
        line = self._lines.get(whose)
        if line is None:
            line = self._lines[whose] = deque()
        waiting = _Waiting(trio.lowlevel.current_task(), weight)
        line.append(waiting)
        self._pressed_until = trio.current_time() + _PRESSED
        self.waiting += 1
        if self._usher is not None:
            trio.lowlevel.reschedule(self._usher, Value(None))
            self._usher = None

        def leave(_: object) -> trio.lowlevel.Abort:
            line.remove(waiting)
            self.waiting -= 1
            if not line:
                del self._lines[whose]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    async def run(self) -> None:
        """Give the turns, until it is cancelled; whoever waits then begins at once."""
        self._running = True
        try:
            while True:
                if self._lines:
                    await trio.lowlevel.checkpoint()  # one round of the loop
                    self._admit(self._at_once)
                else:
                    await self._rest()
        finally:
            self._running = False
            while self._lines:
                self._admit(self._at_once)

    def around(self, asgi: ASGIApp) -> ASGIApp:
        """The application, each of whose requests waits for its address's turn."""

        async def in_turn(scope: Scope, receive: Receive, send: Send) -> None:
            if self._left <= 0 or self._lines:
                client: tuple[str, int] | None = scope.get("client")
                await self.turn(client[0] if client else "")
            else:
                self._left -= 1
            await asgi(scope, receive, send)

        return in_turn

    def _admit(self, room: int) -> None:
        while room > 0 and self._lines:
            whose, line = self._lines.popitem(last=False)
            waiting = line.popleft()
            if line:
                self._lines[whose] = line  # behind all others
            self.waiting -= 1
            room -= waiting.weight
            trio.lowlevel.reschedule(waiting.task, Value(None))
        self._left = room

    async def _rest(self) -> None:
        self._usher = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._usher = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)
