"""Who begins next while more come than can begin at once: addresses take turns, whoever sends the most.

Nothing of a request is read, nothing is refused, and nobody waits while few come. Nothing here is awaited but a turn.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

import trio
from outcome import Value
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.actions.throttle import guesser

# Requests that begin in one round of the loop. What is under way goes on in each round: an enrollment takes five or six
# of them (store, signer, store), and whatever begins between two of them makes it wait once more. With all beginning
# at once, 300 connections that send one cheap request after another make a round of a tenth of a second. Those that
# begin together stay together, in the store's batches and the signer's frames: with 8 an enrollment took a fiftieth
# more CPU than with 16.
AT_ONCE: Final = 16
# A handshake costs a signature and a key exchange: as much as so many cheap requests.
HANDSHAKE: Final = 4
_PRESSED: Final = 0.25  # seconds
# Whoever watches over this process ends it when it does not hear from it.
_WATCHED: Final = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class _Waiting:
    task: trio.lowlevel.Task
    weight: int


class _Lines:
    """Who waits, an address after the other."""

    def __init__(self) -> None:
        self._lines: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def append(self, whose: str, waiting: _Waiting) -> None:
        line = self._lines.get(whose)
        if line is None:
            line = self._lines[whose] = deque()
        line.append(waiting)

    def remove(self, whose: str, waiting: _Waiting) -> None:
        line = self._lines[whose]
        line.remove(waiting)
        if not line:
            del self._lines[whose]

    def pop(self) -> _Waiting:
        """Whose turn it is; their address goes behind all others."""
        whose, line = self._lines.popitem(last=False)
        waiting = line.popleft()
        if line:
            self._lines[whose] = line
        return waiting


class Rotation:
    """Turns to begin, an address after the other; an IPv6 address stands for its network of `prefix` bits.

    Those who ask for what enrolls nobody yet (a nonce, a list, a handshake) have a quarter of the turns while others
    wait: a storm of such questions from everywhere is as many addresses as it likes.
    `run` gives the turns; while it does not run, nobody waits. `round_begins` is to be called once a round of the loop.
    """

    def __init__(self, at_once: int = AT_ONCE, prefix: int = 64) -> None:
        self._at_once = at_once
        self._prefix = prefix
        self._left = at_once
        self._first = _Lines()
        self._then = _Lines()
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
        if not self.waiting:
            self._left = self._at_once

    async def turn(self, address: str, weight: int = 1, *, first: bool = False) -> None:
        """Wait until it is the turn of this address. Cancelled, it has had none. `first`: it goes before questions."""
        lines = self._first if first else self._then
        # Who goes first need not wait for those who do not, only for their own.
        if not self._running or (self._left > 0 and not (self._first if first else self.waiting)):
            self._left -= weight
            return
        whose = guesser(address, self._prefix)
        waiting = _Waiting(trio.lowlevel.current_task(), weight)
        lines.append(whose, waiting)
        self._pressed_until = trio.current_time() + _PRESSED
        self.waiting += 1
        if self._usher is not None:
            trio.lowlevel.reschedule(self._usher, Value(None))
            self._usher = None

        def leave(_: object) -> trio.lowlevel.Abort:
            lines.remove(whose, waiting)
            self.waiting -= 1
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)

    async def run(self) -> None:
        """Give the turns, until it is cancelled; whoever waits then begins at once."""
        self._running = True
        try:
            while True:
                if self.waiting:
                    await trio.lowlevel.checkpoint()  # one round of the loop
                    self._admit(self._at_once)
                else:
                    await self._rest()
        finally:
            self._running = False
            while self.waiting:
                self._admit(self._at_once)

    def around(self, asgi: ASGIApp) -> ASGIApp:
        """The application, each of whose requests waits for its address's turn."""

        async def waited(scope: Scope, receive: Receive, send: Send) -> None:
            client: tuple[str, int] | None = scope.get("client")
            await self.turn(client[0] if client else "", first=not _asks(scope))
            await asgi(scope, receive, send)

        # No coroutine of its own where nobody waits: each in a request's way is a hundredth of what a small one costs.
        def in_turn(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            if self._left <= 0 or self.waiting:
                return waited(scope, receive, send)
            self._left -= 1
            return asgi(scope, receive, send)

        return in_turn

    def _admit(self, room: int) -> None:
        room -= self._admit_of(self._then, max(1, room // 4) if self._first else room)
        self._left = room - self._admit_of(self._first, room)

    def _admit_of(self, lines: _Lines, room: int) -> int:
        """Let as many begin; gives what they weigh."""
        weight = 0
        while weight < room and lines:
            waiting = lines.pop()
            self.waiting -= 1
            weight += waiting.weight
            trio.lowlevel.reschedule(waiting.task, Value(None))
        return weight

    async def _rest(self) -> None:
        self._usher = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._usher = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave)


def _asks(scope: Scope) -> bool:
    """Whether it is a question of a kind that any stranger may ask and that is dearer than health is."""
    path: str = scope.get("path", "")
    return scope.get("method") != "POST" and path not in _WATCHED
