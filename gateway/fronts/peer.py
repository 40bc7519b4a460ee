"""Who is at the other end, as the transport knows it. No header is read here, and none could change the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from starlette.types import Scope

# What must not stand in a path, encoded or not (E7): a slash or a NUL that only appears after decoding, a second round
# of encoding, and steps to other folders. Some proxy in front reads such a path otherwise than we do.
_ENCODED = (b"%2f", b"%5c", b"%00", b"%25")

# An extension of the scope, where a proxy's word of a client came before the connection's first byte: what the address
# says is then that word, and the connection is the proxy's. A scope without it may have come through one all the same.
RELAYED: Final = "muster.relayed"


class Peer(NamedTuple):
    """Where a request comes from. A tuple, since each request makes one.

    `address` is the socket's; `certificate` (DER) was proved in the TLS handshake; `id` names the request in logs and
    audit.
    """

    address: str
    secure: bool
    certificate: bytes | None
    id: str


def peer(scope: Scope, dice: Callable[[int], bytes]) -> Peer:
    """The facts of this request's connection, from the listener's part of the scope (`extensions.tls`)."""
    client: tuple[str, int] | None = scope.get("client")
    tls: Mapping[str, object] | None = (scope.get("extensions") or {}).get("tls")
    der = None if tls is None else tls.get("client_cert_der")
    given: object = scope.get("request_id")
    return Peer(
        client[0] if client else "",
        scope["scheme"] == "https",
        der if isinstance(der, bytes) else None,
        given if isinstance(given, str) else dice(8).hex(),
    )


def relayed(scope: Scope) -> bool:
    """Whether the request's connection began with a proxy's word of whose it is, even if that names nobody."""
    return RELAYED in (scope.get("extensions") or ())


def plain_path(scope: Scope) -> bool:
    """Whether the path means to everyone what it means to us: decoded once, no `..`, `%2f`, NUL or backslash (E7)."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%" in raw and any(each in raw.lower() for each in _ENCODED):
        return False
    path: str = scope["path"]
    if "\0" in path or "\\" in path:
        return False
    return "/." not in path or not {".", ".."}.intersection(path.split("/"))
