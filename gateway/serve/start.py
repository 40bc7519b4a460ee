"""From settings to a running gateway, in the order that keeps a refusal harmless: look, bind, hold, make, start.

Nothing is created before everything that can be refused has been looked at. Only light modules are imported here, and
by the parent that this becomes: the heavy ones load in the first worker while the signer's processes come up.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Final

from gateway.serve import ceremony, folder, signer_process, sockets, telemetry, tls
from gateway.serve import softhsm as soft_token
from gateway.serve.ceremony import Manifest
from gateway.serve.folder import Folder, State
from gateway.serve.proxies.trusted import require_consistent
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings
from gateway.serve.workers import process, slots

DESCRIPTORS: Final = 65536

logger = logging.getLogger("muster.serve")


def serve(settings: Settings, reload: Callable[[], Settings], *, softhsm: bool = False) -> None:
    """Run a gateway until SIGTERM or SIGINT. Raises `CannotStart`, having changed nothing, where it cannot start.

    `reload` reads the settings again, at SIGHUP.
    `softhsm`: authorities that are made from now on have their keys on a SoftHSM2 token of the data folder's own.
    """
    if softhsm:
        soft_token.check(settings)
    state = folder.inspect(settings)
    folder.refuse_if_held(Folder(settings.data))
    secret = folder.read_secret(settings)
    if settings.tls_certificate is not None or state is State.COMPLETE:
        tls.require_pair(*folder.listener_pair(settings))
    tls.require_folder(settings.tls_folder)
    require_consistent(settings)
    https = sockets.bind(settings.https, "--https")
    try:
        http = sockets.bind(settings.http, "--http")
        try:
            _start(settings, reload, state, secret, softhsm=softhsm, https=https, http=http)
        finally:
            sockets.close(http)
    finally:
        sockets.close(https)


def _start(
    settings: Settings,
    reload: Callable[[], Settings],
    state: State,
    secret: str | None,
    *,
    softhsm: bool,
    https: Sequence[socket.socket],
    http: Sequence[socket.socket],
) -> None:
    place = Folder(settings.data)
    # Until the loop runs there is nothing to drain: a signal unwinds from here, children and folders with it; from
    # before anything is made, so that whoever sees the folder may end its maker in an orderly way.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _unwind)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if state is not State.COMPLETE:
        folder.make(place)
    with folder.held(place):
        telemetry.start(settings)
        _allow_descriptors()
        made: Manifest | None = None
        if softhsm:
            settings = soft_token.make(settings)
        if secret is None:
            secret = ceremony.make_secret(place)
        if state is not State.COMPLETE:
            logger.info("first start: keys, authorities and certificates are made", extra={"folder": str(place.path)})
            made = ceremony.first(settings, secret, sockets.plain_url(settings, http))
        with signer_process.runtime_folder() as runtime:
            memory = slots.make()
            supervisor = signer_process.start(settings, secret, runtime)
            early = process.start([*(one.fileno() for one in (*https, *http)), memory])
            try:
                import trio

                from gateway.serve.parent import House, live

                house = House(settings, place, https, http, memory, supervisor, early, runtime, secret, made, reload)
                trio.run(partial(live, house), strict_exception_groups=True)
            except BaseExceptionGroup as group:
                raise _sentence(group) from None
            finally:
                early.kill()
                signer_process.end(supervisor)
                os.close(memory)


def _allow_descriptors() -> None:
    """Every connection is a descriptor, and shells allow 1024 of them unless a process asks for what it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wished:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wished, hard))


def _sentence(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Nurseries wrap what they raise; a refusal to start is one sentence however deep it stands."""
    refusals, others = group.split(CannotStart)
    if refusals is None or others is not None:
        return group
    refusal: BaseException = refusals
    while isinstance(refusal, BaseExceptionGroup):
        refusal = refusal.exceptions[0]
    return refusal


def _unwind(number: int, frame: FrameType | None) -> None:  # noqa: ARG001, the shape of a signal's receiver
    raise SystemExit(0)
