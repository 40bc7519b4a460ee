"""Keeps the signer's supervisor alive: reads what it says, waits for its end, starts another one.

While it is away asks wait for it, and are told to come again when their time is up. Nothing is signed or answered here.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from subprocess import Popen
from typing import Final

import trio

from gateway.serve import signer_process
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.signer_process import READY_SECONDS

logger = logging.getLogger("muster.signer")

FIRST_PAUSE: Final = 0.1  # seconds
LONGEST_PAUSE: Final = 10.0  # seconds
# A supervisor that stood so long was healthy: the next pause is a short one again.
HEALTHY: Final = 60.0  # seconds
_POLL: Final = 0.2  # seconds, where the system has no pidfd


async def ready(supervisor: Popen[bytes], runtime: Path) -> tuple[str, ...]:
    """Wait until the workers listen, and give their sockets. Raises `CannotStart`, with the signer's own sentence."""
    with trio.move_on_after(READY_SECONDS):
        return await trio.to_thread.run_sync(signer_process.await_ready, supervisor, runtime, abandon_on_cancel=True)
    supervisor.kill()
    raise CannotStart(f"the signer was not ready within {READY_SECONDS:g} seconds")


async def guard(settings: Settings, secret: str, runtime: Path, first: Popen[bytes]) -> None:
    """Watch `first` and all that follow it, for ever. On cancellation the one that stands is ended."""
    supervisor, pause = first, FIRST_PAUSE
    try:
        while True:
            began = trio.current_time()
            await _attend(supervisor)
            logger.error("the signer ended and is started again", extra={"status": supervisor.returncode})
            if trio.current_time() - began > HEALTHY:
                pause = FIRST_PAUSE
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            signer_process.end(supervisor)
            supervisor = await _again(settings, secret, runtime)
            try:
                await ready(supervisor, runtime)
            except CannotStart as trouble:
                logger.error("the signer does not come back", extra={"cause": str(trouble)})  # noqa: TRY400 - a sentence
    finally:
        # A second or two at most: it ends by itself, workers included, when its standard input closes.
        signer_process.end(supervisor)


async def _again(settings: Settings, secret: str, runtime: Path) -> Popen[bytes]:
    while True:
        try:
            return signer_process.start(settings, secret, runtime)
        except OSError as trouble:  # no memory, no process, no space for the runtime folder just now
            logger.error("the signer cannot be started", extra={"cause": str(trouble)})  # noqa: TRY400 - a sentence
            await trio.sleep(LONGEST_PAUSE)


async def _attend(supervisor: Popen[bytes]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_relay, supervisor)
        await _ended(supervisor)
        nursery.cancel_scope.cancel()


async def _relay(supervisor: Popen[bytes]) -> None:
    assert supervisor.stderr is not None
    async with trio.lowlevel.FdStream(os.dup(supervisor.stderr.fileno())) as stream:
        rest = b""
        async for part in stream:
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                # What its workers do without on this machine is nobody's fault, and said at each start.
                level = logging.INFO if line.startswith(b"signer: note: ") else logging.WARNING
                logger.log(level, line.decode("utf-8", "replace"))


async def _ended(process: Popen[bytes]) -> None:
    if hasattr(os, "pidfd_open"):
        handle = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(handle)
        finally:
            os.close(handle)
    while process.poll() is None:  # noqa: ASYNC110 - a child's end is no event of ours where there is no pidfd
        await trio.sleep(_POLL)
