"""One end of the pair between parent and worker: lines out, lines in, in order. No message is understood here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from socket import socket

import trio

_READ = 65536


class Channel:
    """Lines over a stream socket. Its owner closes it; many tasks may send, one receives."""

    def __init__(self, ours: socket, before: bytes = b"") -> None:
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._turn = trio.Lock()
        self._rest = before

    async def send(self, line: bytes) -> bool:
        """Send a line that ends with its LF; false where nobody is there any more."""
        # Shielded: half a line would be the end of all that follow.
        with trio.CancelScope(shield=True):
            async with self._turn:
                try:
                    await self._stream.send_all(line)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return False
        return True

    async def lines(self) -> AsyncIterator[bytes]:
        """Every line, without its LF, until the other end is gone."""
        while True:
            *whole, self._rest = self._rest.split(b"\n")
            for line in whole:
                yield line
            try:
                part = await self._stream.receive_some(_READ)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not part:
                return
            self._rest += part

    async def close(self) -> None:
        """Close it."""
        await self._stream.aclose()
