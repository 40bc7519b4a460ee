"""The signer's calibration, row by row as it is measured. No key comes near this process."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
import trio

from gateway.serve.folder import Folder
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.signer_process import command, environment, last_sentence, pin_source


class Row(msgspec.Struct, frozen=True):
    """How so many processes sign. `token` is empty for software; `p50` and `p99` in microseconds.

    `trouble` says why there are no figures.
    """

    algorithm: str
    token: str
    workers: int
    per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    trouble: str = ""


_ROW: Final = msgspec.json.Decoder(Row)


async def rows(settings: Settings, secret: str, *, most: int) -> AsyncGenerator[Row, None]:
    """Each row as soon as it is there. Raises `CannotStart` with the signer's own sentence."""
    words = ["calibrate", "--keys", str(Folder(settings.data).keys), "--most", str(most), *pin_source(settings)]
    process = await trio.lowlevel.open_process(
        command(*words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with process.stdin:
            await process.stdin.send_all("".join(f"{line}\n" for line in (secret, settings.pin) if line).encode())
        rest = b""
        async for part in process.stdout:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield _ROW.decode(line)
        if await process.wait() != 0:
            said = b"".join([part async for part in process.stderr])
            raise CannotStart(f"the signer does not calibrate: {last_sentence(said)}")
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
