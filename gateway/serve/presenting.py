"""What HTTPS shows of itself, and how that changes while it runs: names, renewed files, authorities to trust.

Connections that stand keep what they began with. A pair that does not fit changes nothing: what was shown is shown on.
"""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Callable, Iterable
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
        self._trusted = self._wanted = frozenset(trusted)
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
        """Ask clients for certificates of these authorities (DER): in force now, or when the files fit again."""
        self._wanted = frozenset(trusted)
        if self._wanted == self._trusted:
            return
        try:
            contexts = _contexts(self._shown, self._wanted)
        except CannotStart:
            return  # they are in the midst of a change, to which `watch` looks
        self._exchange(self._shown, contexts, self._wanted)

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
            if now == seen != self._refused and (now != self._stamp or self._wanted != self._trusted):
                await self._reread(now)
            seen = now
            if trio.current_time() - since > RENEW_SECONDS or self.context.session_stats()["number"] > SESSIONS:
                self.context = self._front()
            if self.context is not before:
                since = trio.current_time()
                exchanged()

    async def _reread(self, stamp: pairs.Stamp) -> None:
        wanted = self._wanted
        try:
            shown = await trio.to_thread.run_sync(partial(pairs.read, *self._files))
            contexts = await trio.to_thread.run_sync(_contexts, shown, wanted)
        except CannotStart as trouble:
            self._refused = stamp
            logger.warning("HTTPS shows what it showed: the new files do not fit", extra={"cause": str(trouble)})
            return
        if pairs.stamp(*self._files) == stamp and wanted is self._wanted:
            self._stamp = stamp
            self._exchange(shown, contexts, wanted)
            logger.info("HTTPS shows new certificates", extra={"names": len(shown.by_name)})

    def _exchange(
        self, shown: Shown, contexts: dict[tuple[Pair, ...], ssl.SSLContext], trusted: frozenset[bytes]
    ) -> None:
        self._shown, self._contexts = shown, contexts
        if trusted != self._trusted:
            self._trusted = trusted
            self.context = self._front()

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
        (chain, key), *more = ((each.chain, each.key) for each in group)
        made[group] = server_context(chain, key, trusted, *more)
    return made


def _pass_over_unspeakable_names() -> None:
    """A name that is not ASCII ends its handshake; CPython would print a traceback for each, whoever sends them."""
    before = sys.unraisablehook

    def hook(unraisable: UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
            return
        before(unraisable)

    if getattr(before, "__qualname__", "") != hook.__qualname__:
        sys.unraisablehook = hook
