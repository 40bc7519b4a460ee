"""What a driver process is given: a description of the clients that it plays, which can be sent to it.

May not happen here: sockets. A fleet holds secrets in memory, hands them to its own processes through their pipes, and
writes them nowhere.
"""

from __future__ import annotations

from typing import Protocol

from bench.load.loop import Player
from bench.load.trust import Trust


class Fleet(Protocol):
    """Clients of one protocol at one server."""

    @property
    def url(self) -> str:
        """A URL of the origin that every request goes to."""

    @property
    def trust(self) -> Trust:
        """How TLS is done there."""

    @property
    def fresh(self) -> bool:
        """Whether each piece of work has a connection, and a full handshake, of its own."""

    def players(self, count: int, ahead: int) -> list[Player]:
        """So many clients; together they prepare `ahead` pieces of work, as far as the protocol lets them."""
