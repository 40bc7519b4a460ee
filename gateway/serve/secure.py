"""One TLS connection over two memory buffers: each flight of the handshake and each answer is one write.

Against `trio.SSLStream` it saves a write of the handshake that EST devices do for every enrollment (P6), and locks,
shielded scopes and waits before what a socket can take at once (`python -m bench.handshake`). No certificate is judged
here.
"""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from typing import Final

import trio

from gateway.serve.tls import Conversation

# A record's largest plaintext (RFC 8446, 5.1); OpenSSL hands out no more than one at a time.
RECORD: Final = 16 * 1024
# OpenSSL's buffers stay as large as they were once, for as long as the connection: whoever fetched a list of a megabyte
# and kept its connection would hold a megabyte here.
READ: Final = 2 * RECORD
WRITE: Final = 2 * RECORD


class SecureStream(trio.abc.Stream):
    """The server's side of TLS on an accepted socket.

    One task may receive while another sends. Errors are trio's: `BrokenResourceError` (its cause says why),
    `ClosedResourceError`, and `BusyResourceError` for a second sender. A peer that closes without saying so has closed:
    HTTP has lengths of its own.
    """

    def __init__(self, transport: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.transport_stream = transport
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        conversation = context.wrap_bio(self._in, self._out, server_side=True)
        assert isinstance(conversation, Conversation)
        self.conversation = conversation
        self._rest = b""
        self._later: memoryview | bytes = b""
        self._sending = False
        self._broken = False
        self._ended = False
        self._patient = RECORD

    async def do_handshake(self, *, spoken: bool = False) -> None:
        """Shake hands. Raises `BrokenResourceError`, once the peer was sent the alert that tells it why.

        The client speaks first; `spoken`: its first bytes are known to be here.
        """
        await self._fill(here=spoken)
        while True:
            try:
                self.conversation.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                self._say()
                raise self._break(error) from error
            else:
                # After a handshake of TLS 1.3 only its session ticket is to be sent, which goes with the first answer:
                # to write to a socket costs as much as a signature.
                if self.conversation.version() != "TLSv1.3":
                    self._patient = 0
                    await self._flush()
                return

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What came, at most one record of it, or so many together; empty where the peer has closed."""
        most = RECORD if max_bytes is None else max_bytes
        if self._ended:
            self._check()
            return b""
        if not self._in.pending and not self.conversation.pending():
            # After an answer nothing is here yet. OpenSSL would say so too, by an exception as dear as the reading.
            # Waited for here and not in `_fill`: each coroutine between the loop and this is passed twice a request.
            try:
                await trio.lowlevel.wait_readable(self._check())
            except OSError as error:
                raise self._break(error) from error
            if not self._take_in():
                await self._fill()
        else:
            # More than was asked for had come: whoever sends much must not keep the others waiting.
            await trio.lowlevel.checkpoint()
            self._check()
        while True:
            try:
                data: bytes = self.conversation.read(min(most, RECORD))
            except ssl.SSLWantReadError:
                # What waits to be sent on TLS 1.3 (a ticket, the answer to a key update) goes with the next answer, as
                # RFC 8446, 4.6.3 allows. On TLS 1.2 it is the alert that refuses a renegotiation, one for each attempt:
                # the peer waits for it, and one that never rests would have them kept here.
                if self._out.pending > self._patient:
                    await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                self._say()
                raise self._break(error) from error
            else:
                return self._together(data, most) if self._in.pending and data else data

    def _together(self, first: bytes, most: int) -> bytes:
        """`first`, and what is in other records that came with it, `most` bytes in all.

        A record may hold one byte. Each by itself would be a round of the loop: twenty times what its parsing costs.
        """
        parts, left = [first], most - len(first)
        try:
            while left > 0 and self._in.pending and not self._ended:
                part = self.conversation.read(min(left, RECORD))
                # A goodbye comes as no bytes, and once: who asks again would wait for the socket first.
                self._ended = not part
                parts.append(part)
                left -= len(part)
        except ssl.SSLWantReadError:
            pass  # the beginning of one
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        except ssl.SSLError as error:
            self._say()
            self._break(error)
        return b"".join(parts)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. It waits only where the socket cannot take it at once."""
        self._check()
        if self._sending:
            raise trio.BusyResourceError("another task sends on this connection")
        later, self._later = self._later, b""
        for each in (later, data):
            await self._send_in_parts(each)
        await self._flush()

    async def _send_in_parts(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                self.conversation.write(view[:WRITE])
                view = view[WRITE:]
                await self._flush()
        except ssl.SSLError as error:
            raise self._break(error) from error
        except trio.Cancelled:
            # What was not written yet is lost, and nothing may follow the gap.
            self._broken = self._broken or bool(view)
            raise

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket may take something."""
        self._check()
        await self.transport_stream.wait_send_all_might_not_block()

    def send_now(self, data: bytes) -> bool:
        """Send what the socket takes of it at once; False where `send_all(b"")` has to send the rest."""
        descriptor = self._check()
        if self._sending or self._rest or self._later:
            raise trio.BusyResourceError("another task sends on this connection")
        if len(data) > WRITE:
            self._later = data
            return False
        try:
            self.conversation.write(data)
            self._rest = self._out.read()
            self._rest = self._rest[os.write(descriptor, self._rest) :]
        except BlockingIOError:
            return False
        except OSError as error:  # ssl.SSLError is one
            raise self._break(error) from error
        return not self._rest

    async def aclose(self) -> None:
        """Say goodbye, if the socket takes it at once, and close (RFC 8446, 6.1: a peer need not be waited for)."""
        self.say_goodbye()
        await self.transport_stream.aclose()

    def say_goodbye(self) -> None:
        """Say that no more will be sent, if the socket takes it at once. Nothing can be sent or received then."""
        if not self._broken and not self._sending and not self._rest and self.fileno() >= 0:
            # It has written its alert when it raises that it wants to read the peer's.
            with suppress(ssl.SSLError, OSError, ValueError):
                self.conversation.unwrap()
            self._say()
        self._broken = True

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self.transport_stream.socket.fileno()

    def selected_alpn_protocol(self) -> str | None:
        """What the two sides agreed to speak (RFC 7301)."""
        return self.conversation.selected_alpn_protocol()

    async def _fill(self, *, here: bool = False) -> None:
        """Wait for bytes, unless some are `here`, and take them in. Raises as `_check` does."""
        if here and self._take_in():
            return
        while True:
            try:
                await trio.lowlevel.wait_readable(self._check())
            except OSError as error:
                raise self._break(error) from error
            if self._take_in():
                return

    def _take_in(self) -> bool:
        """Take in what is here, if anything is. Raises as `_check` does.

        It is asked again: while this task was about to run, another may have closed the socket, and its number may be a
        stranger's by now.
        """
        try:
            data = os.read(self._check(), READ)
        except BlockingIOError:
            return False
        except OSError as error:
            raise self._break(error) from error
        if data:
            self._in.write(data)
        else:
            self._in.write_eof()
        return True

    async def _flush(self) -> None:
        if self._sending:
            return  # the task that sends takes this along
        self._sending = True
        try:
            while True:
                if not self._rest:
                    if not self._out.pending:
                        return
                    self._rest = self._out.read()
                try:
                    self._rest = self._rest[os.write(self.fileno(), self._rest) :]
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self.fileno())
        except OSError as error:
            raise self._break(error) from error
        finally:
            self._sending = False

    def _say(self) -> None:
        """Send an alert as far as the socket takes it now."""
        with suppress(OSError):
            if self._out.pending and not self._sending:
                os.write(self.fileno(), self._rest + self._out.read())

    def _check(self) -> int:
        """The socket's descriptor. Raises `ClosedResourceError` or `BrokenResourceError` where it is of no use."""
        descriptor = self.transport_stream.socket.fileno()
        if descriptor < 0:
            raise trio.ClosedResourceError
        if self._broken:
            raise trio.BrokenResourceError
        return descriptor

    def _break(self, cause: Exception) -> trio.BrokenResourceError:
        self._broken = True
        return trio.BrokenResourceError(str(cause))
