"""Bytes to and from one peer: one system call a read, one a write, and no wait that the kernel does not ask for.

Nothing of HTTP is known here. A wire is used by one task at a time, and whoever made it closes it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from abc import ABC, abstractmethod
from typing import Final

import trio

from gateway.serve.secure import SecureStream

READ: Final = 64 * 1024

# What may still come in while a connection ends, and for how long. Closing on bytes that nobody read resets the
# connection, and a reset overtakes the answer: the client would never hear it (RFC 9112, 9.6).
LINGER_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
_INT: Final = bytes(4)


class Gone(Exception):
    """The peer takes no more bytes: it has gone, or has not read for too long."""


class Wire(ABC):
    """One connection's bytes."""

    __slots__ = ("_unheard", "descriptor", "secure")

    def __init__(self, descriptor: int, *, secure: bool) -> None:
        self.descriptor = descriptor
        self.secure = secure
        self._unheard = 0

    @abstractmethod
    async def read(self) -> bytes:
        """Wait for bytes; b"" when none will come any more. Others run before it returns."""

    @abstractmethod
    async def write(self, data: bytes, seconds: float) -> None:
        """Send `data`; what the kernel does not take at once may take `seconds`. Raises `Gone`."""

    def unsent(self, few: int) -> int:
        """Bytes of answers that the peer has not taken yet, at most. Where they may be more than a `few`, the kernel is
        asked.
        """
        if self._unheard > few:
            # All that was written since it was asked before is the most that can lie there: after short answers it need
            # not be asked each time, which costs as much as a read.
            try:
                told = fcntl.ioctl(self.descriptor, termios.TIOCOUTQ, _INT)
                self._unheard = int.from_bytes(told, sys.byteorder)
            except OSError:
                self._unheard = 0
        return self._unheard

    @abstractmethod
    async def end(self, *, linger: bool) -> None:
        """Close. With `linger` the peer is told first, and may finish what it is sending."""


class Plain(Wire):
    """A TCP connection as it is."""

    __slots__ = ("_stream",)

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream.socket.fileno(), secure=False)
        self._stream = stream

    async def read(self) -> bytes:
        """As `Wire.read`. After an answer nothing is there yet: to wait first saves the call that would say so."""
        while True:
            await trio.lowlevel.wait_readable(self.descriptor)
            try:
                return os.read(self.descriptor, READ)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    async def write(self, data: bytes, seconds: float) -> None:
        """As `Wire.write`."""
        self._unheard += len(data)
        await write_all(self.descriptor, data, seconds)

    async def end(self, *, linger: bool) -> None:
        """As `Wire.end`."""
        try:
            if linger:
                await _linger(self._stream.socket)
        finally:
            # As `trio.aclose_forcefully`, without its two scopes and the cancellation that it raises and catches: they
            # cost as much as a write.
            self._stream.socket.close()


class Tls(Wire):
    """A TCP connection under TLS, its handshake done."""

    __slots__ = ("_stream",)

    def __init__(self, stream: SecureStream) -> None:
        super().__init__(stream.transport_stream.socket.fileno(), secure=True)
        self._stream = stream

    async def read(self) -> bytes:
        """As `Wire.read`."""
        try:
            return await self._stream.receive_some(READ)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    async def write(self, data: bytes, seconds: float) -> None:
        """As `Wire.write`. Records and their tags are a part in a hundred more, which is not counted."""
        self._unheard += len(data)
        try:
            # A scope with a deadline costs as much as the encryption: only what has to wait gets one.
            if not self._stream.send_now(data):
                with trio.fail_after(seconds):
                    await self._stream.send_all(b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError, trio.TooSlowError):
            raise Gone from None

    async def end(self, *, linger: bool) -> None:
        """As `Wire.end`."""
        self._stream.say_goodbye()
        try:
            if linger:
                await _linger(self._stream.transport_stream.socket)
        finally:
            self._stream.transport_stream.socket.close()


async def write_all(descriptor: int, data: bytes, seconds: float) -> None:
    """Send `data` on a socket that does not block. Raises `Gone`."""
    try:
        sent = os.write(descriptor, data)
    except BlockingIOError:
        sent = 0
    except OSError:
        raise Gone from None
    if sent < len(data):
        await _write_rest(descriptor, memoryview(data)[sent:], seconds)


async def _write_rest(descriptor: int, data: memoryview, seconds: float) -> None:
    with trio.move_on_after(seconds):
        while True:
            await trio.lowlevel.wait_writable(descriptor)
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Gone from None
            if not data:
                return
    raise Gone


async def _linger(sock: trio.socket.SocketType) -> None:
    taken = 0
    try:
        sock.shutdown(trio.socket.SHUT_WR)
        with trio.move_on_after(LINGER_SECONDS):
            while taken < LINGER_BYTES and (part := await sock.recv(READ)):
                taken += len(part)
    except (OSError, trio.ClosedResourceError):
        pass  # it has gone already
