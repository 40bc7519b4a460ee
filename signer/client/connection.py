"""One worker at the other end of a UNIX socket: connect, greet, send a frame, read bytes. No ask is chosen here."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

import trio

from signer.client.waiting import Entry
from signer.contract.framing import MAX_ANSWERS, BadFrame, Frames, decode_answers, encode_batch
from signer.contract.messages import VERSION, Batch, WorkerFigures

# Bytes. Most answers take one or two thousand; from 128 KiB on, malloc would map and unmap pages for each.
_READ: Final = 64 * 1024
_GREETING: Final = 30.0  # seconds; a worker answers the first frame when its keys are open and its batch is done


class Connection:
    """A worker that answers. It has at most one frame in its hands; while `sending` it has not got all of it.

    `greeting` are the figures that it told first.
    """

    __slots__ = ("began", "flying", "frames", "greeting", "path", "sending", "socket", "was_quick")

    def __init__(self, connected: socket.socket, path: str = "") -> None:
        self.socket = connected
        self.path = path
        self.frames = Frames(MAX_ANSWERS)
        self.flying: dict[int, Entry] = {}
        self.sending = False
        self.was_quick = False
        self.began = 0.0
        self.greeting: WorkerFigures | None = None

    async def send(self, frame: bytearray) -> None:
        """Send one whole frame. Raises `OSError`; then the worker never had all of it, and did none of it."""
        self.sending = True
        rest = memoryview(frame)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)
        self.sending = False

    async def receive(self) -> bytes:
        """What the worker has sent, once it has sent something. Raises `OSError` where it went away."""
        await trio.lowlevel.wait_readable(self.socket)
        received = self.socket.recv(_READ)
        if not received:
            raise ConnectionResetError("the worker closed the connection")
        return received


async def connect(path: str) -> Connection:
    """A connection to the worker at `path`, which has answered an empty batch: it accepts, it speaks our version.

    The supervisor's socket accepts before a worker is there; an ask that was sent then would wait where no other worker
    could take it.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        connected.connect(path)
        credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        if uid != os.geteuid():
            raise BadFrame(f"the socket belongs to another user ({uid})")
        connection = Connection(connected, path)
        with trio.fail_after(_GREETING):
            await connection.send(encode_batch(Batch(VERSION, [])))
            while not (payloads := connection.frames.feed(await connection.receive())):
                pass
        connection.greeting = decode_answers(payloads[0]).figures
    except BaseException:
        connected.close()
        raise
    return connection
