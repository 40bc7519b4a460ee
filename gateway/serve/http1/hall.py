"""What connections are told when they begin, and what all of them share. Nothing of a peer's bytes is kept here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import trio
from starlette.types import ASGIApp

from gateway.fronts.early import Early
from gateway.fronts.limits import COMING, Coming
from gateway.serve.http1.later import Later
from gateway.serve.http1.outgoing import Outgoing
from gateway.serve.http1.watch import Watch

Address: TypeAlias = tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: between two requests, for a whole head, for the next bytes of a body, for a whole body, and `write`.

    A new connection has as long as a head to begin its first. `write` is for a peer that does not read its answer, or
    has stopped sending while it waits for one.
    """

    idle: float = 75.0
    head: float = 30.0
    progress: float = 120.0
    body: float = 600.0
    write: float = 30.0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a connection before its first byte: who, where, and what TLS says (None without it)."""

    client: Address
    server: Address
    secure: bool
    tls: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Hall:
    """What all connections of a listening process share. `early` answers what overload refuses before it is read.

    `outgoing` is sent at the end of each round. `coming` counts what is held of heads that are not whole, together with
    the bodies that are not. `later` are those who were told to come later, and rest.
    """

    asgi: ASGIApp
    watch: Watch
    patience: Patience
    ending: trio.Event
    outgoing: Outgoing
    early: Early | None = None
    coming: Coming = COMING
    later: Later = field(default_factory=Later)
