"""Ports for programs that a test starts; none may be given to anybody else between its choice and its use."""

from __future__ import annotations

import socket

_KEPT: list[socket.socket] = []


def kept_port() -> int:
    """A port of 127.0.0.1 at which nobody listens, for a program that sets SO_REUSEADDR, as servers do.

    It stays bound here until the tests end, so that the kernel gives it to nobody who asks for whichever is free, be it
    a listener or a client (bind(2), connect(2)); who names it gets it, as often as it is wanted (socket(7)).
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _KEPT.append(kept)
    port: int = kept.getsockname()[1]
    return port
