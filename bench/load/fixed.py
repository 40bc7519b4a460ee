"""One request, the same bytes again and again, whatever the protocol: what a front costs. Never here: a meaning."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.load.conversation import Ask, Conversation, expect
from bench.load.loop import Player
from bench.load.trust import Trust


@dataclass(frozen=True, slots=True)
class Fixed:
    """Clients that send `data`, head and body, to the origin of `url`, and want 200."""

    url: str
    trust: Trust
    data: bytes = field(repr=False)
    fresh: bool = False

    def players(self, count: int, ahead: int) -> list[Player]:
        """Clients that have nothing of their own."""
        del ahead
        return [Repeating(Ask(self.data)) for _ in range(count)]


class Repeating:
    """One client."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def introduce(self) -> Conversation[None]:
        """Nothing comes before."""
        yield from ()

    def enroll(self) -> Conversation[None]:
        """The request, once."""
        expect((yield self._ask), 200)
