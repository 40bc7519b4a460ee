"""Listening sockets: bound before anything is created, so that a port in use changes nothing.

Nothing here speaks a protocol, and nothing heavy is imported: this runs before the gateway's modules are loaded.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, split_address

# A burst of devices that wake together should wait in the kernel, not be refused; Linux caps it at somaxconn (4096).
BACKLOG: Final = 4096
# What the kernel keeps of answers that a peer does not read, each connection; Linux takes twice as much. The longest
# answers, revocation lists, still go at two megabytes a second to a peer that is a tenth of a second away.
UNREAD: Final = 128 * 1024
# A URL without a port means these.
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_REASONS: Final = {
    errno.EADDRINUSE: "the port is in use by another program",
    errno.EACCES: "this user may not listen on that port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def bind(address: str, flag: str) -> list[socket.socket]:
    """Bind `HOST:PORT` on every address that the host name has, not yet accepting. The caller closes them.

    Port 0 takes any free port, the same on each address. Raises `CannotStart`, naming `flag`, where one cannot be had.
    """
    host, port = split_address(address, flag)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise CannotStart(
            f"cannot listen on {address}: the host name is unknown; choose another with {flag} HOST:PORT"
        ) from None
    bound: list[socket.socket] = []
    missing: OSError | None = None
    for family, _, _, _, where in found:
        try:
            bound.append(_bind_one(family, str(where[0]), port))
        except OSError as error:
            # localhost may have an address of a family that is switched off here; one that works is enough.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                close(bound)
                raise _cannot(address, flag, error) from None
            missing = error
            continue
        port = bound[0].getsockname()[1]
    if missing is not None and not bound:
        raise _cannot(address, flag, missing)
    return bound


def _cannot(address: str, flag: str, error: OSError) -> CannotStart:
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return CannotStart(f"cannot listen on {address}: {reason}; choose another with {flag} HOST:PORT")


def close(sockets: Sequence[socket.socket]) -> None:
    """Close them all."""
    for one in sockets:
        one.close()


def refuse(sockets: Sequence[socket.socket]) -> None:
    """Let nobody connect any more, at once and in every process that has inherited them. The caller closes them.

    Closing would be the end of one copy: for as long as another stands, in a worker that starts, drains or hangs, the
    kernel would take connections that nobody accepts. Whoever waits to be accepted is reset.
    """
    for one in sockets:
        one.shutdown(socket.SHUT_RDWR)


def may_listen(port: int) -> bool:
    """Whether this user may listen on a port at all; it may be taken for the moment."""
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except PermissionError:
            return False
        except OSError:
            pass
        return True


def origin(scheme: str, address: str, bound: Sequence[socket.socket], name: str | None = None) -> str:
    """The URL of a listener: its scheme, its host and the port that it really has.

    A wildcard address has no URL of its own: `name` stands in for it, or this machine's.
    """
    host, _ = split_address(address, scheme)
    port = int(bound[0].getsockname()[1])
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        host = name or socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"


def plain_url(settings: Settings, bound: Sequence[socket.socket]) -> str:
    """How clients reach plain HTTP: as the settings say, else the address itself."""
    # An address that is every address has no URL: the name that clients know stands in, if they were given one.
    name = urlsplit(settings.external_url).hostname
    return settings.external_http_url or origin("http", settings.http, bound, name)


def _bind_one(family: int, host: str, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart within a minute of the last one would find its own port taken (TIME_WAIT).
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it: answers are small and must not wait for the peer's delayed ACK.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # So are these bounds: an answer that nobody reads is in the kernel's memory, which would grow to megabytes.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD)
        one.bind((host, port))
        # Two binds with SO_REUSEADDR succeed; only listening finds out that another program has the port.
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError:
        one.close()
        raise
    return one
