"""When a token is left alone: a circuit breaker as a table of states. No clock, no token, no log here.

closed   asks go to the token; so many troubles within a window open it, a token that is away opens it at once
open     every ask is refused at once, until the rest is over
probing  one ask is with the token: success closes the circuit, trouble opens it again for twice as long
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final, assert_never


@unique
class State(StrEnum):
    """What a circuit does with an ask."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(frozen=True, slots=True)
class Limits:
    """What opens a circuit, and for how long; all times are in seconds.

    One trouble alone is a session's, and heals with the next; three in ten seconds are the token's. An operation of two
    seconds is a trouble: with five asks waiting behind it the last one's client has gone (`gateway.outbound.signer`).
    """

    troubles: int = 3
    window: float = 10.0
    slow: float = 2.0
    rest: float = 1.0
    longest: float = 8.0


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Circuit:
    """One token's circuit. `troubles` are the times of those that count; `until` is when the rest is over.

    Times are those of a monotonic clock, and come in as arguments.
    """

    limits: Limits = LIMITS
    state: State = State.CLOSED
    troubles: tuple[float, ...] = ()
    until: float = 0.0
    rest: float = 0.0

    def asked(self, now: float) -> Circuit | None:
        """The circuit with an ask on its way to the token; None if the ask is refused."""
        match self.state:
            case State.CLOSED:
                return self
            case (
                State.OPEN | State.PROBING
            ):  # a probe of which nothing was heard does not keep the circuit open for ever
                if now < self.until:
                    return None
                return replace(self, state=State.PROBING, until=now + self.rest)
            case _:
                assert_never(self.state)

    def worked(self, now: float, took: float) -> Circuit:
        """The circuit after an operation that succeeded."""
        if took > self.limits.slow:
            return self.troubled(now)
        match self.state:
            case State.CLOSED:
                return self
            case State.PROBING:
                return Circuit(self.limits)
            case State.OPEN:  # begun before it opened: what was seen since counts
                return self
            case _:
                assert_never(self.state)

    def troubled(self, now: float) -> Circuit:
        """The circuit after an operation that failed for a reason of the token's, or took too long."""
        match self.state:
            case State.CLOSED:
                troubles = (*(each for each in self.troubles if now - each < self.limits.window), now)
                if len(troubles) >= self.limits.troubles:
                    return self.opened(now)
                return replace(self, troubles=troubles)
            case State.PROBING:
                return self.opened(now)
            case State.OPEN:
                return self
            case _:
                assert_never(self.state)

    def opened(self, now: float, rest: float = 0.0) -> Circuit:
        """The circuit, open from now on: for `rest` seconds, or twice as long as the last time."""
        if self.state is State.OPEN and self.until - now >= rest:
            return self
        longer = max(rest, min(max(self.limits.rest, 2 * self.rest), self.limits.longest))
        return Circuit(self.limits, State.OPEN, (), now + longer, longer)
