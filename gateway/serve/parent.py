"""The parent at work: guards the signer, keeps the workers, obeys signals. Reads no request, opens no store.

SIGTERM, SIGINT: nobody connects any more, all drain and end; a second one does not wait.
SIGHUP: settings are read again.
"""

from __future__ import annotations

import logging
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from socket import socket
from subprocess import Popen
from typing import Final

import trio

from gateway.serve import ceremony, folder, sockets, telemetry, tls
from gateway.serve.ceremony import Manifest
from gateway.serve.folder import Folder
from gateway.serve.guard import guard, ready
from gateway.serve.proxies.trusted import require_consistent
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.workers.count import workers
from gateway.serve.workers.crew import Crew, Ground
from gateway.serve.workers.process import Started

logger = logging.getLogger("muster.serve")

# What the parent or the signer was started with. Everything else is a worker's, and a new worker has it anew.
FIXED: Final = {
    "data": "data",
    "https": "https",
    "http": "http",
    "external_url": "external-url",
    "external_http_url": "external-http-url",
    "acme_http01_port": "acme-http01-port",
    "store_url": "store.url",
    "signer_workers": "signer.workers",
    "stuck_seconds": "signer.stuck-seconds",
    "unlock_secret_file": "signer.unlock-secret-file",
    "unlock_secret": "signer.unlock-secret",
    "pkcs11_module": "signer.pkcs11-module",
    "token": "signer.token",
    "pin_file": "signer.pin-file",
    "pin": "signer.pin",
    "pins_file": "signer.pins-file",
}
_KEY: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class House:
    """What has been made ready: bound sockets, a folder that is ours, shared memory, children that come up.

    `early` is a worker that waits for its orders; `made` is what the ceremony of a first start made, None on a folder
    that is complete. `reload` reads the settings again; it raises `CannotStart`.
    """

    settings: Settings
    folder: Folder
    https: Sequence[socket]
    http: Sequence[socket]
    memory: int
    supervisor: Popen[bytes]
    early: Started
    runtime: Path
    secret: str
    made: Manifest | None
    reload: Callable[[], Settings]


async def live(house: House) -> None:
    """Serve until SIGTERM or SIGINT. Raises `CannotStart`."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            crews: list[Crew] = []
            nursery.start_soon(_obey, house, signals, crews, nursery)
            await _serve(house, crews)
            nursery.cancel_scope.cancel()


async def _serve(house: House, crews: list[Crew]) -> None:
    signer = await ready(house.supervisor, house.runtime)
    ground = Ground(
        https=[one.fileno() for one in house.https],
        http=[one.fileno() for one in house.http],
        memory=house.memory,
        signer=list(signer),
        nonces=(secrets.token_bytes(16), time.monotonic()),
        rates=secrets.token_bytes(_KEY),
    )
    crew = Crew(ground, house.settings, workers(house.settings), partial(renew, house.settings, house.secret))
    crews.append(crew)
    async with trio.open_nursery() as signers:
        signers.start_soon(guard, house.settings, house.secret, house.runtime, house.supervisor)
        await crew.serve(house.early, house.made, partial(_announce, house))
        signers.cancel_scope.cancel()
    logger.info("ended")


async def _obey(house: House, signals: AsyncIterator[int], crews: list[Crew], nursery: trio.Nursery) -> None:
    ending = False
    async for number in signals:
        if number == signal.SIGHUP:
            if crews and not ending:
                nursery.start_soon(_reload, house, crews[0])
            continue
        logger.info("ending", extra={"signal": signal.Signals(number).name})
        if not ending:
            # Workers that drain may take a while: whoever connects meanwhile is to hear that another machine must do.
            sockets.refuse([*house.https, *house.http])
        if ending or not crews:
            nursery.cancel_scope.cancel()
        ending = True
        for crew in crews:
            crew.end()


async def _reload(house: House, crew: Crew) -> None:
    """Read settings and certificates again. A mistake is told and changes nothing."""
    try:
        wished = await trio.to_thread.run_sync(house.reload)
        settings = replace(wished, **{name: getattr(house.settings, name) for name in FIXED})
        tls.require_pair(*folder.listener_pair(settings))
        tls.require_folder(settings.tls_folder)
        require_consistent(settings)
        count = workers(settings)
    except CannotStart as mistake:
        logger.error("the settings stay as they were", extra={"cause": str(mistake)})  # noqa: TRY400 - a sentence
        return
    for name, dotted in FIXED.items():
        if getattr(wished, name) != getattr(house.settings, name):
            logger.warning("this setting waits for a restart", extra={"setting": dotted})
    before = crew.settings
    changed = [each.name for each in fields(settings) if getattr(settings, each.name) != getattr(before, each.name)]
    telemetry.start(settings)
    logger.info("the settings were read again", extra={"changed": ",".join(changed) or "nothing"})
    await crew.exchange(settings, count)


async def renew(settings: Settings, secret: str, issuer: str) -> bool:
    """Make the listener's next certificate; whether there is one."""
    try:
        await trio.to_thread.run_sync(ceremony.renew_tls, settings, secret, issuer)
    except (CannotStart, OSError, ValueError) as trouble:
        logger.warning("the listener's certificate was not renewed", extra={"cause": str(trouble)})
        return False
    logger.info("the listener has a new certificate")
    return True


def _announce(house: House, greeting: str) -> None:
    """Close a first start, and print the greeting with the line that scripts wait for."""
    folder.note_holder(house.folder)
    sys.stdout.write(greeting)
    sys.stdout.flush()
