"""http-01 (RFC 8555, 8.3; RFC 8738, 4 for addresses): fetch the key authorization from the identifier's own host.

The policy is Boulder's, row by row (A66, A73). What a server sends never leaves this file: not in an error, not in a
log; a fetch that shows its content is a hole into whatever network this machine can see.
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from gateway.outbound.challenges.proof import Evidence, Fault, Target, Unproven, chosen
from gateway.outbound.http import Destination, Fetched, FetchFailed, Unconnected, fetch
from gateway.outbound.reach import Address, literal, spelled
from gateway.outbound.resolver import ResolutionFailed, Resolver

_PATH: Final = "/.well-known/acme-challenge/"
_AGENT: Final = "Muster/http-01"

_MOST_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 307, 308})
_LONGEST_URL: Final = 2000

# A key authorization is a token of ours (22 to 43 characters), a dot, and 43 characters of thumbprint.
_BODY_CAP: Final = 128

# An attempt has about 10 s: a silent IPv6 address must leave time for the IPv4 one.
_DIAL_PATIENCE: Final = 4.0

_PORTS: Final = {"http": 80, "https": 443}


class _Hop(msgspec.Struct, frozen=True):
    """One URL on the way, whole and in its parts. `host` is without brackets."""

    scheme: str
    host: str
    port: int
    target: str
    authority: str
    url: str


def _hop(scheme: str, host: str, port: int, target: str) -> _Hop:
    authority = f"[{host}]" if ":" in host else host
    if port != _PORTS[scheme]:
        authority = f"{authority}:{port}"
    return _Hop(scheme, host, port, target, authority, f"{scheme}://{authority}{target}")


class Http01:
    """The http-01 prover."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def prove(self, target: Target) -> Evidence:
        """One attempt, redirects included. See `Prover`."""
        hop = _hop("http", target.host, target.port, _PATH + target.token)
        seen: list[str] = []
        visited: set[str] = set()
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                visited.add(hop.url)
                answer = await self._fetch(hop, target, seen)
                if answer.status not in _REDIRECTS:
                    _judge(answer, target)
                    return Evidence(tuple(seen))
                hop = _redirect(hop, answer.location, target.port)
                if hop.url in visited:
                    raise Unproven(Fault.CONNECTION, "the redirects go round in a circle")
            raise Unproven(Fault.CONNECTION, f"more than {_MOST_REDIRECTS} redirects")
        except Unproven as failure:
            failure.evidence = Evidence(tuple(seen))
            raise

    async def _fetch(self, hop: _Hop, target: Target, seen: list[str]) -> Fetched:
        """The answer of the first of at most two addresses that takes the connection."""
        server_name = hop.host if hop.scheme == "https" else None
        complaint = ""
        for address in await self._addresses(hop.host, target):
            destination = Destination(address, hop.port, hop.authority, hop.target, server_name)
            connected = True
            try:
                return await fetch(destination, patience=_DIAL_PATIENCE, agent=_AGENT, body_cap=_BODY_CAP)
            except Unconnected as failure:
                connected, complaint = False, failure.detail
            except FetchFailed as failure:
                raise Unproven(Fault.CONNECTION, failure.detail, passing=failure.passing) from failure
            finally:
                if connected:
                    seen.append(f"{hop.url} at {spelled(address)}")
        raise Unproven(Fault.CONNECTION, complaint, passing=True)

    async def _addresses(self, host: str, target: Target) -> tuple[Address, ...]:
        """The addresses to dial, each permitted; checked anew at every hop."""
        try:
            every = await self._resolver.addresses(host, target.resolvers)
        except ResolutionFailed as failure:
            raise Unproven(Fault.DNS, failure.detail, passing=failure.passing) from failure
        open_ones = chosen(every, target.allowed_networks)
        if not open_ones:
            # Which addresses they are is not told: a name server inside may know more than the asker should.
            raise Unproven(Fault.CONNECTION, f"{host} has no address that may be validated from here")
        return open_ones


def _judge(answer: Fetched, target: Target) -> None:
    """Whether the answer is the proof (RFC 8555, 8.3: the key authorization, white space at the end allowed)."""
    if answer.status != 200:
        raise Unproven(
            Fault.UNAUTHORIZED, f"the server answered with status {answer.status}", passing=answer.status >= 500
        )
    if len(answer.body) > _BODY_CAP:
        raise Unproven(Fault.UNAUTHORIZED, f"the answer is longer than {_BODY_CAP} bytes")
    # A byte order mark, as Windows editors write it, is no part of the text (A66).
    body = answer.body.removeprefix(b"\xef\xbb\xbf").rstrip()
    if not hmac.compare_digest(body, target.key_authorization.encode("ascii")):
        raise Unproven(Fault.UNAUTHORIZED, "the answer is not the key authorization of this challenge and account")


def _redirect(hop: _Hop, location: str | None, port: int) -> _Hop:
    """Where a redirect leads, if it may.

    Raises:
        Unproven: no or a bad Location, another scheme, or a port beside 80, 443 and the pair's own.
    """
    try:
        url = urljoin(hop.url, _printable(location))
        parts = urlsplit(url)
        host, given = parts.hostname, parts.port
    except ValueError as error:
        raise Unproven(Fault.CONNECTION, "the server redirects to something that is not a URL") from error
    if len(url) > _LONGEST_URL:
        raise Unproven(Fault.CONNECTION, f"the server redirects to a URL of more than {_LONGEST_URL} characters")
    if parts.scheme not in _PORTS:
        raise Unproven(Fault.CONNECTION, "the server redirects to a scheme that is neither http nor https")
    if not host or not _is_host(host) or "@" in parts.netloc:
        raise Unproven(Fault.CONNECTION, "the server redirects to a URL without a proper host")
    port_asked = _PORTS[parts.scheme] if given is None else given
    if port_asked not in {80, 443, port}:
        raise Unproven(Fault.CONNECTION, "the server redirects to a port that is neither 80 nor 443")
    path = parts.path if parts.path.startswith("/") else "/" + parts.path
    target = f"{path}?{parts.query}" if parts.query else path
    return _hop(parts.scheme, host.rstrip("."), port_asked, target)


def _printable(location: str | None) -> str:
    """A Location that can be put into a request line: ASCII without spaces or controls (request splitting)."""
    if not location or any(not "!" <= character <= "~" for character in location):
        raise ValueError(location)
    return location


def _is_host(host: str) -> bool:
    return literal(host) is not None or all(c.isalnum() or c in "-._" for c in host)
