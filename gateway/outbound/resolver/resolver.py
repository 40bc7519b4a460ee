"""The resolver: a literal needs none, `localhost` needs none, everything else asks. Never caches, never filters."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol, Self

import trio

from gateway.outbound.reach import Address, literal, spelled
from gateway.outbound.resolver.messages import Answer, BadAnswer, RecordType, answer, question

# RFC 6761, 6.3: name resolution answers these itself, always with loopback; nothing of them may leave the machine.
_LOOPBACK: Final[tuple[Address, ...]] = (IPv6Address("::1"), IPv4Address("127.0.0.1"))

# RFC 1035, 4.2.1 suggests 5 s for a first try; a validation of 10 s must survive one lost packet, so 2 s.
_PATIENCE: Final = 2.0
_ROUNDS: Final = 2

_NO_ERROR: Final = 0
_NO_SUCH_NAME: Final = 3


class ResolutionFailed(Exception):
    """There is no address. `passing` says that asking again may help: a server was silent or failing."""

    def __init__(self, detail: str, *, passing: bool) -> None:
        super().__init__(detail)
        self.detail = detail
        self.passing = passing


class Resolver(Protocol):
    """Anything that knows the addresses of names."""

    async def addresses(self, name: str, servers: Sequence[str]) -> tuple[Address, ...]:
        """All addresses of `name`, IPv6 first, at least one; `servers` empty means the system's resolver.

        Raises:
            ResolutionFailed: no such name, no address, or nobody answered.
        """
        ...


class NameResolver:
    """The resolver that serves. `dice` gives query identifiers."""

    def __init__(self, dice: Callable[[int], bytes]) -> None:
        self._dice = dice

    async def addresses(self, name: str, servers: Sequence[str]) -> tuple[Address, ...]:
        """See `Resolver`."""
        spelled = literal(name)
        if spelled is not None:
            return (spelled,)
        if name == "localhost" or name.endswith(".localhost"):
            return _LOOPBACK
        if servers:
            return await self._ask(name, servers)
        return await _system(name)

    async def _ask(self, name: str, servers: Sequence[str]) -> tuple[Address, ...]:
        """Both kinds of address from the first server that gives a straight answer.

        One kind missing is an answer; one kind failing is not: an attacker who can drop AAAA answers must not choose
        which of two machines is validated.
        """
        complaint = "no server answered"
        for _ in range(_ROUNDS):
            for server in servers:
                try:
                    six, four = await self._query(server, name)
                except (OSError, trio.TooSlowError, trio.BrokenResourceError, BadAnswer):
                    continue
                codes = {six.code, four.code}
                if codes == {_NO_SUCH_NAME}:
                    raise ResolutionFailed(f"there is no name {name}", passing=False)
                if codes != {_NO_ERROR}:
                    complaint = "the servers failed to answer"
                    continue
                if not (six.addresses or four.addresses):
                    raise ResolutionFailed(f"{name} has no address", passing=False)
                return (*six.addresses, *four.addresses)
        raise ResolutionFailed(f"looking up {name}: {complaint}", passing=True)

    async def _query(self, server: str, name: str) -> tuple[Answer, Answer]:
        """One server's answers about IPv6 and IPv4. Both questions are under way before either answer is awaited."""
        host, port = _endpoint(server)
        with (
            _Asked(_Ask(host, port, int.from_bytes(self._dice(2)), name, RecordType.AAAA)) as six,
            _Asked(_Ask(host, port, int.from_bytes(self._dice(2)), name, RecordType.A)) as four,
            trio.fail_after(_PATIENCE),
        ):
            return await six.answer(), await four.answer()


@dataclass(frozen=True, slots=True)
class _Ask:
    """One question to one server."""

    host: Address
    port: int
    ident: int
    name: str
    kind: RecordType

    def encode(self) -> bytes:
        return question(self.ident, self.name, self.kind)

    def read(self, message: bytes) -> Answer:
        return answer(message, self.ident, self.name, self.kind)


class _Asked:
    """A question that has been sent, in a connected datagram socket of its own.

    So each has a port of its own that a forger must guess (RFC 5452, 9.2), and strangers' datagrams never arrive.
    Raises OSError where it cannot be sent.
    """

    def __init__(self, ask: _Ask) -> None:
        self._ask = ask
        family = socket.AF_INET if ask.host.version == 4 else socket.AF_INET6
        asked = ask.encode()
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect((spelled(ask.host), ask.port))
            self._socket.send(asked)
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    async def answer(self) -> Answer:
        """The answer; by TCP where a datagram was too small for it. Raises OSError, or BadAnswer from TCP."""
        given: Answer | None = None
        while given is None:
            await trio.lowlevel.wait_readable(self._socket)
            # RFC 5452, 9.1: a wrong answer may be a forger's; the right one may still come.
            with suppress(BadAnswer, BlockingIOError):
                given = self._ask.read(self._socket.recv(65535))
        return await _over_tcp(self._ask) if given.truncated else given


async def _over_tcp(ask: _Ask) -> Answer:
    """The same over TCP (RFC 7766), where a datagram was too small."""
    asked = ask.encode()
    stream = await trio.open_tcp_stream(str(ask.host), ask.port)
    async with stream:
        await stream.send_all(struct.pack("!H", len(asked)) + asked)
        received = bytearray()
        while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2]):
            more = await stream.receive_some(65537)
            if not more:
                raise BadAnswer("the server hung up")
            received += more
    return ask.read(bytes(received[2 : 2 + int.from_bytes(received[:2])]))


@lru_cache
def _endpoint(server: str) -> tuple[Address, int]:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353`."""
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return ip_address(host), int(port.removeprefix(":") or 53)
    host, colon, port = server.partition(":")
    if colon and ":" not in port:
        return ip_address(host), int(port)
    return ip_address(server), 53


async def _system(name: str) -> tuple[Address, ...]:
    # No dot is added to the name, though it would keep search domains out: it keeps /etc/hosts out as well, where
    # small sites keep their names. Who wants neither names servers of their own in the pair's settings.
    try:
        infos = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        passing = error.errno in {socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM}
        what = f"looking up {name}: the resolver failed" if passing else f"{name} has no address"
        raise ResolutionFailed(what, passing=passing) from error
    except UnicodeError as error:
        raise ResolutionFailed(f"{name} is not a host name", passing=False) from error
    found = dict.fromkeys(ip_address(str(info[4][0])) for info in infos)
    return tuple(sorted(found, key=lambda address: -address.version))
