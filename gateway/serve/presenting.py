"""What HTTPS shows of itself, and how that changes while it runs: names, renewed files, authorities to trust.

Connections that stand keep what they began with. A pair that does not fit changes nothing: what was shown is shown on.
"""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from gateway.serve import pairs
from gateway.serve.pairs import Pair, Shown
from gateway.serve.refusal import CannotStart
from gateway.serve.tls import Conversation, blank_context, server_context

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

logger = logging.getLogger("muster.tls")

# A changed file is looked at twice, so that one that is half written is not read: in force within two seconds.
LOOK_SECONDS: Final = 0.5
# Whoever learns a ticket key reads the sessions that it sealed, so none lasts for ever (RFC 8446, appendix F.1).
RENEW_SECONDS: Final = 24 * 3600.0
# Sessions of TLS 1.2 stay in OpenSSL's memory, 20,480 of them with their certificates; Python has no way to say fewer.
SESSIONS: Final = 4096


class Presented:
    """The listeners' context. `context` is the one for new connections; it is exchanged, never changed.

    Session tickets are sealed by that context, and it shows nothing itself: for each ClientHello it hands over to the
    context that has the name's certificates. So tickets outlive a new certificate, and end with a new trust.
    """

    def __init__(self, chain: Path, key: Path, folder: Path | None, trusted: Iterable[bytes]) -> None:
        """Read the files. Raises `CannotStart` where a pair does not make a server."""
        self._files = (chain, key, folder)
        self._trusted = frozenset(trusted)
        self._stamp = pairs.stamp(*self._files)
        self._refused: pairs.Stamp = ()
        self._shown = pairs.read(*self._files)
        self._contexts = _contexts(self._shown, self._trusted)
        self.context = self._front()
        _pass_over_unspeakable_names()

    @property
    def trusted(self) -> frozenset[bytes]:
        """Whose certificates clients may have, DER."""
        return self._trusted

    def trust(self, trusted: Iterable[bytes]) -> None:
        """Ask clients for certificates of these authorities (DER) from now on, however the files are just then."""
        wanted = frozenset(trusted)
        if wanted != self._trusted:
            self._contexts = _contexts(self._shown, wanted)
            self._trusted = wanted
            self.context = self._front()

    async def watch(self, exchanged: Callable[[], None]) -> None:
        """Look at the files twice a second, for ever; `exchanged` is told of another `context`.

        Ends by cancellation only.
        """
        seen = self._stamp
        since = trio.current_time()
        while True:
            await trio.sleep(LOOK_SECONDS)
            before = self.context
            now = await trio.to_thread.run_sync(partial(pairs.stamp, *self._files))
            if now == seen != self._refused and now != self._stamp:
                await self._reread(now)
            seen = now
            if trio.current_time() - since > RENEW_SECONDS or self.context.session_stats()["number"] > SESSIONS:
                self.context = self._front()
            if self.context is not before:
                since = trio.current_time()
                exchanged()

    async def _reread(self, stamp: pairs.Stamp) -> None:
        trusted = self._trusted
        try:
            shown = await trio.to_thread.run_sync(partial(pairs.read, *self._files))
            contexts = await trio.to_thread.run_sync(_contexts, shown, trusted)
        except CannotStart as trouble:
            self._refused = stamp
            logger.warning("HTTPS shows what it showed: the new files do not fit", extra={"cause": str(trouble)})
            return
        # Where files or trust have changed meanwhile, the next look finds them.
        if pairs.stamp(*self._files) == stamp and trusted is self._trusted:
            self._stamp = stamp
            self._shown, self._contexts = shown, contexts
            logger.info("HTTPS shows new certificates", extra={"names": len(shown.by_name)})

    def _front(self) -> ssl.SSLContext:
        context = blank_context(self._trusted)
        context.sni_callback = self._choose
        return context

    def _choose(self, conversation: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if isinstance(conversation, Conversation):
            conversation.asked = name
        conversation.context = self._contexts[self._shown.group(name)]


def _contexts(shown: Shown, trusted: Iterable[bytes]) -> dict[tuple[Pair, ...], ssl.SSLContext]:
    made: dict[tuple[Pair, ...], ssl.SSLContext] = {}
    for group in shown.groups():
        with ExitStack() as files:
            (chain, key), *more = [files.enter_context(each.files()) for each in group]
            made[group] = server_context(chain, key, trusted, *more)
    return made


def _pass_over_unspeakable_names() -> None:
    """A name that is not ASCII ends its handshake; CPython would print a traceback for each, whoever sends them."""
    before = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        # CPython's _servername_callback decodes the name as ASCII, and says of which bytes it speaks.
        if isinstance(error, UnicodeDecodeError) and error.encoding == "ascii" and error.object == unraisable.object:
            return
        before(unraisable)

    if getattr(before, "__qualname__", "") != hook.__qualname__:
        sys.unraisablehook = hook
