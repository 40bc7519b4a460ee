"""Who is at the other end of a connection that just came, before TLS and HTTP: a proxy's word for it, or the socket's.

Not a byte beyond the PROXY header is read. From whom the settings do not name, its bytes are nobody's but TLS's or
HTTP's, which refuse them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import trio

from gateway.serve.proxies.prefix import Address, BadPrefix, Prefix, read
from gateway.serve.proxies.trusted import Trusted


@dataclass(frozen=True, slots=True)
class Origin:
    """`client` and `server` as a proxy said them; None: as the socket has them. `heard`: headers may say more.

    `prefixed`: the connection began with a PROXY header, whatever that said.
    """

    client: Address | None = None
    server: Address | None = None
    heard: bool = False
    prefixed: bool = False


DIRECT = Origin()


async def arrive(transport: trio.SocketStream, trusted: Trusted | None) -> Origin:
    """Whose connection it is. It waits for as long as the caller lets it.

    Raises:
        BadPrefix: it is a proxy's, and does not begin as it has to.
        OSError: it has gone.
    """
    if trusted is None or not trusted.ours_by_name(str(transport.socket.getpeername()[0])):
        return DIRECT
    if not trusted.prefixed:
        return Origin(heard=trusted.heard)
    prefix = await _prefix(transport)
    return Origin(prefix.client, prefix.server, heard=trusted.heard, prefixed=True)


async def _prefix(transport: trio.SocketStream) -> Prefix:
    sock = transport.socket
    data = b""
    while True:
        found = read(data)
        if isinstance(found, Prefix):
            return found
        missing = found - len(data)
        if missing == 1 and data.startswith(b"P"):
            # A line of version 1, whose end is not known: look ahead, and take no more than up to there.
            ahead = await sock.recv(_LINE, socket.MSG_PEEK)
            missing = ahead.find(b"\n") + 1 or len(ahead)
        part = await sock.recv(missing) if missing else b""
        if not part:
            if not data:
                raise ConnectionAbortedError  # a probe that looks whether the port is open
            raise BadPrefix("the connection ended within its PROXY header")
        data += part


_LINE = 107
