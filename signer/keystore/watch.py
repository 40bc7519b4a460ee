"""A bound on each call into a token's module, which nothing else can interrupt. No token and no key is known here.

The kernel ends the process when the bound is over (SIGALRM, whose default is that), even while the module holds the
interpreter. Which token it was the supervisor is told before the first call, and it lets that one rest.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import Final

STUCK: Final = 10.0  # seconds for an operation; a gateway waits no longer (`gateway.outbound.signer.DEADLINE`)
OPENING: Final = 2  # times as long: a network HSM dials, and a gateway waits 30 s for a start


def unwatched(_token: str) -> None:
    """Nobody listens."""


class Watch:
    """Around calls into modules, in a process of one thread.

    `stuck` is in seconds, 0 for no bound (ceremonies: a person is there to judge). `tell` hears a token's name whenever
    it is another one than before. `resting` says of tokens by name for how many seconds they are left alone from now.
    """

    def __init__(
        self,
        stuck: float = 0.0,
        tell: Callable[[str], None] = unwatched,
        resting: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stuck = stuck
        self._tell = tell
        self._last = ""
        self._resting = {name: clock() + seconds for name, seconds in (resting or {}).items()}
        self._clock = clock

    def rest(self, token: str) -> float:
        """For how many seconds a token is still left alone because of what it did to an earlier process."""
        return max(0.0, self._resting.get(token, 0.0) - self._clock())

    def begin(self, token: str, *, opening: bool = False) -> None:
        """A call into the module of that token begins, or the next of several."""
        if token != self._last:
            self._last = token
            self._tell(token)
        if self._stuck:
            signal.setitimer(signal.ITIMER_REAL, self._stuck * OPENING if opening else self._stuck)

    def end(self) -> None:
        """It is over."""
        if self._stuck:
            signal.setitimer(signal.ITIMER_REAL, 0)
