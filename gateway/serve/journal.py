"""The signer's journal, as its program shows it: a stream, however long. Nothing is proved here, the program does that.

The unlock secret goes by standard input, never by an argument or a variable that others could read.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from gateway.actions.reconcile import Signed, moment
from gateway.serve.folder import Folder
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.signer_process import command, environment

_READ: Final = 64 * 1024  # bytes; about 150 entries


class Entry(msgspec.Struct, frozen=True, tag="entry"):
    """One signature, as the program says it."""

    at: float
    verb: str
    issuer: str
    serial: str
    tbs: str


class Fault(msgspec.Struct, frozen=True, tag="fault"):
    """The journal is not as it was written."""

    sentence: str


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Nothing to mind."""

    sentence: str


class End(msgspec.Struct, frozen=True, tag="end"):
    """The last line."""

    entries: int
    faults: int
    begun: float | None


_shown: Final = msgspec.json.Decoder(Entry | Fault | Note | End)


class Shown:
    """The program's output, page by page; `end` is there when the last page was read."""

    def __init__(self, output: trio.abc.ReceiveStream, tell: Callable[[Fault | Note], None]) -> None:
        self.end: End | None = None
        self._output = output
        self._tell = tell

    async def pages(self) -> AsyncIterator[list[Signed]]:
        """The entries, some at a time. Raises `CannotStart` where the output ends before its end."""
        rest = b""
        while received := await self._output.receive_some(_READ):
            *lines, rest = (rest + received).split(b"\n")
            page = [each for each in map(self._read, lines) if each is not None]
            if page:
                yield page
        if self.end is None:
            raise CannotStart("the journal cannot be read; the signer's program has said why")

    def _read(self, line: bytes) -> Signed | None:
        try:
            shown = _shown.decode(line)
        except msgspec.DecodeError as error:
            raise CannotStart(f"the signer's program is of another version: {error}") from None
        match shown:
            case Entry():
                return Signed(shown.verb, shown.issuer, shown.serial, shown.tbs, moment(shown.at))
            case End():
                self.end = shown
            case _:
                self._tell(shown)
        return None


@asynccontextmanager
async def shown_journal(settings: Settings, secret: str, tell: Callable[[Fault | Note], None]) -> AsyncIterator[Shown]:
    """The journal of a gateway's folder, being read by the signer's program. `tell` hears what is said besides."""
    process = await trio.lowlevel.open_process(
        command("journal", "--keys", str(Folder(settings.data).keys)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(settings),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin:
            await process.stdin.send_all(secret.encode() + b"\n")
        yield Shown(process.stdout, tell)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.stdout.aclose()
            await process.wait()
