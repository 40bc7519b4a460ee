"""Bytes to and from one peer: one system call a read, one an answer, and no wait that the kernel does not ask for.

Nothing of HTTP is known here. A wire is used by one task at a time, and whoever made it closes it.
"""

from __future__ import annotations

import fcntl
import os
import sys
import termios
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Final

import trio

from gateway.serve.http1.outgoing import TOGETHER, Outgoing
from gateway.serve.secure import SecureStream

READ: Final = 64 * 1024

# What may still come in while a connection ends, and for how long. Closing on bytes that nobody read resets the
# connection, and a reset overtakes the answer: the client would never hear it (RFC 9112, 9.6).
LINGER_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
_INT: Final = bytes(4)
_UNSENT: Final = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)


class Gone(Exception):
    """The peer takes no more bytes: it has gone, or has not read for too long."""


class Wire(ABC):
    """One connection's bytes."""

    __slots__ = ("_ended", "_gone", "_late", "_outgoing", "_seconds", "_unheard", "_written", "descriptor", "secure")

    def __init__(self, descriptor: int, outgoing: Outgoing, *, secure: bool) -> None:
        self.descriptor = descriptor
        self.secure = secure
        self._outgoing = outgoing
        self._written = b""
        self._seconds = 0.0
        self._late: trio.Event | None = None
        self._ended = False
        self._gone = False
        self._unheard = 0

    @abstractmethod
    async def read(self) -> bytes:
        """Wait for bytes; b"" when none will come any more. Others run before it returns."""

    async def write(self, data: bytes, seconds: float) -> None:
        """Send `data`: what is short at the end of this round, together with others', else now.

        What the kernel does not take at once may take `seconds`. Raises `Gone`; where it shows at the end of the round,
        no more is read.
        """
        self._unheard += len(data)
        self._seconds = seconds
        if self._late is not None:
            await self._late.wait()
        if self._gone:
            raise Gone  # some of an answer is missing: what comes behind it would be taken for the rest
        if self._unheard <= TOGETHER:
            if not self._written:
                self._outgoing.add(self)
            self._written += data
        else:
            await self._send(self._written + data)

    def leave(self) -> bool:
        """As `Written.leave`."""
        try:
            if not self._written or self._send_now(self._taken()):
                return True
        except Gone:
            self._gone = True
            return True  # whoever waits for this peer hears it from the kernel
        self._late = trio.Event()
        return False

    async def leave_slowly(self) -> None:
        """As `Written.leave_slowly`."""
        assert self._late is not None
        try:
            await self._send_rest(self._seconds)
        except Gone:
            self._gone = True
            if not self._ended:
                trio.lowlevel.notify_closing(self.descriptor)  # its task waits for it to say something
        finally:
            self._late.set()
            self._late = None

    async def _send(self, data: bytes) -> None:
        self._written = b""
        if not self._send_now(data):
            await self._send_rest(self._seconds)

    async def _settle(self) -> None:
        """Before the connection ends: what was written is sent, or cannot be."""
        self._ended = True
        with suppress(Gone):
            if self._late is not None:
                await self._late.wait()
            if self._written and not self._gone:
                await self._send(self._written)

    def _taken(self) -> bytes:
        written, self._written = self._written, b""
        return written

    @abstractmethod
    def _send_now(self, data: bytes) -> bool:
        """Send what the kernel takes of it at once; False where `_send_rest` has to send the rest. Raises `Gone`."""

    @abstractmethod
    async def _send_rest(self, seconds: float) -> None:
        """Send the rest, for which there is so much time. Raises `Gone`."""

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

    __slots__ = ("_rest", "_stream")

    def __init__(self, stream: trio.SocketStream, outgoing: Outgoing) -> None:
        super().__init__(stream.socket.fileno(), outgoing, secure=False)
        self._stream = stream
        self._rest = memoryview(b"")

    async def read(self) -> bytes:
        """As `Wire.read`. After an answer nothing is there yet: to wait first saves the call that would say so."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self.descriptor)
                return os.read(self.descriptor, READ)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return b""

    def _send_now(self, data: bytes) -> bool:
        try:
            sent = os.write(self.descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise Gone from None
        self._rest = memoryview(data)[sent:]
        return not self._rest

    async def _send_rest(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            while True:
                try:
                    await trio.lowlevel.wait_writable(self.descriptor)
                    self._rest = self._rest[os.write(self.descriptor, self._rest) :]
                except BlockingIOError:
                    continue
                except (OSError, trio.ClosedResourceError):
                    raise Gone from None
                if not self._rest:
                    return
        raise Gone

    async def end(self, *, linger: bool) -> None:
        """As `Wire.end`."""
        try:
            await self._settle()
            if linger:
                await _linger(self._stream.socket)
        finally:
            # As `trio.aclose_forcefully`, without its two scopes and the cancellation that it raises and catches: they
            # cost as much as a write.
            self._stream.socket.close()


class Tls(Wire):
    """A TCP connection under TLS, its handshake done."""

    __slots__ = ("_stream",)

    def __init__(self, stream: SecureStream, outgoing: Outgoing) -> None:
        super().__init__(stream.transport_stream.socket.fileno(), outgoing, secure=True)
        self._stream = stream

    async def read(self) -> bytes:
        """As `Wire.read`."""
        try:
            return await self._stream.receive_some(READ)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    # Records and their tags are a part in a hundred more than what is written, which is not counted.
    def _send_now(self, data: bytes) -> bool:
        try:
            return self._stream.send_now(data)
        except _UNSENT:
            raise Gone from None

    async def _send_rest(self, seconds: float) -> None:
        try:
            with trio.fail_after(seconds):
                await self._stream.send_all(b"")
        except (*_UNSENT, trio.TooSlowError):
            raise Gone from None

    async def end(self, *, linger: bool) -> None:
        """As `Wire.end`."""
        try:
            await self._settle()
            self._stream.say_goodbye()
            if linger:
                await _linger(self._stream.transport_stream.socket)
        finally:
            self._stream.transport_stream.socket.close()


async def _linger(sock: trio.socket.SocketType) -> None:
    taken = 0
    try:
        sock.shutdown(trio.socket.SHUT_WR)
        with trio.move_on_after(LINGER_SECONDS):
            while taken < LINGER_BYTES and (part := await sock.recv(READ)):
                taken += len(part)
    except (OSError, trio.ClosedResourceError):
        pass  # it has gone already
