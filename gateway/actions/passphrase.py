"""Passphrases: hashed with argon2id at rest, and checked without stopping the loop.

A hash costs tens of milliseconds on purpose, while an enrollment may cost half of one. So a success is remembered for a
while, as a MAC under a key that this process made for itself: neither the passphrase nor anything that could be
tried offline stays in memory. A failure is never remembered, so guessing always pays the full price; counting failures
is the caller's part. Nothing here logs, and no text of a passphrase may get into an exception.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import argon2
import trio
from outcome import Outcome, capture

from gateway.domain.refusal import Refusal, RefusalReason

# argon2-cffi's defaults are RFC 9106's second recommendation (64 MiB, 3 passes, 4 lanes); half the memory is kept to,
# since several checks may run at once in a gateway of 150 MiB (P12). OWASP asks for at least 19 MiB and 2 passes.
_HASHER: Final = argon2.PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)

# Each check holds the memory above; two at a time keep a flood of guesses from taking the machine.
MOST_AT_ONCE: Final = 2

# More wait for nobody's good: a right one is through in the time of the first, wrong ones take each its own. Requests
# that wait count as under way, so that a storm of guesses would have everyone else refused (P16).
MOST_WAITING: Final = 8

# A check has what the loop leaves over: two of them would take two thirds of a single core from all enrollments.
_NICE: Final = 10

MOST_REMEMBERED: Final = 10_000
REMEMBERED_FOR: Final = 900.0  # seconds

# Beyond this argon2 would be fed whatever a peer sends; people and generators stay far below.
LONGEST_PASSPHRASE: Final = 1024  # bytes
SHORTEST_PASSPHRASE: Final = 8  # characters; est.md, enrollment settings


def hash_passphrase(text: str) -> str:
    """The argon2id hash of a passphrase, in PHC string form, with a salt of its own. Costs tens of milliseconds."""
    return _HASHER.hash(text)


def check_passphrase(phc: str, text: str) -> bool:
    """Whether `text` is the passphrase of this hash. Costs tens of milliseconds; blocks. False for a damaged hash."""
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST_PASSPHRASE:
        return False
    try:
        return _HASHER.verify(phc, text.encode("utf-8", "surrogatepass"))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


class PassphraseCheck:
    """Checks passphrases for one process: a success costs a hash once, then a few microseconds while remembered.

    A changed passphrase has another hash, so what was remembered of the old one can no longer be found.
    """

    def __init__(
        self,
        *,
        verify: Callable[[str, str], bool] = check_passphrase,
        clock: Callable[[], float] = time.monotonic,
        most: int = MOST_REMEMBERED,
        seconds: float = REMEMBERED_FOR,
    ) -> None:
        self._verify = verify
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        self._limiter = trio.CapacityLimiter(MOST_AT_ONCE)
        # MAC of hash and passphrase, to the time at which it is forgotten; the oldest first.
        self._remembered: OrderedDict[bytes, float] = OrderedDict()

    def known(self, phc: str, text: str) -> bool:
        """Whether `text` was the passphrase of the hash `phc` not long ago. Costs microseconds; never blocks.

        A lookup by a MAC under a secret key tells nobody how much of a guess was right, so it needs no constant-time
        compare of its own.
        """
        until = self._remembered.get(self._mark(phc, text))
        return until is not None and self._clock() < until

    async def matches(self, phc: str, text: str) -> bool:
        """Whether `text` is the passphrase of the hash `phc`. What is not remembered is checked in a thread.

        Raises `Refusal` BUSY where many wait for theirs: guesses are not to hold what enrollments wait for.
        """
        if self.known(phc, text):
            return True
        if self._limiter.statistics().tasks_waiting >= MOST_WAITING:
            raise Refusal(RefusalReason.BUSY, "too many passphrases to check at the moment", retry_after=1)
        async with self._limiter:
            # After a start a fleet comes with one passphrase: the first that was checked speaks for those who wait.
            if self.known(phc, text):
                return True
            if not await _aside(partial(self._verify, phc, text)):
                return False
            self._remember(self._mark(phc, text))
            return True

    def _mark(self, phc: str, text: str) -> bytes:
        # Keyed BLAKE2 is a MAC (RFC 7693, 2.9), at a third of HMAC's cost here.
        both = phc.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(both, key=self._key, digest_size=32).digest()

    def _remember(self, mark: bytes) -> None:
        now = self._clock()
        self._remembered.pop(mark, None)
        self._remembered[mark] = now + self._seconds
        while len(self._remembered) > self._most or next(iter(self._remembered.values())) <= now:
            self._remembered.popitem(last=False)


async def _aside(work: Callable[[], bool]) -> bool:
    """Do `work` in a thread of its own, of low priority; one of trio's would keep that priority for what comes after.

    Not cancelled: what has begun is waited for.
    """
    done = trio.Event()
    token = trio.lowlevel.current_trio_token()
    came: list[Outcome[bool]] = []

    def thread() -> None:
        if sys.platform == "linux":  # where it is the thread's alone
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        came.append(capture(work))
        with suppress(trio.RunFinishedError):
            token.run_sync_soon(done.set)

    threading.Thread(target=thread, name="passphrase", daemon=True).start()
    with trio.CancelScope(shield=True):
        await done.wait()
    return came[0].unwrap()


_check: Final = PassphraseCheck()


def known(phc: str, text: str) -> bool:
    """Whether this passphrase of this hash was right not long ago; see `PassphraseCheck.known`."""
    return _check.known(phc, text)


async def verify_passphrase(phc: str, text: str) -> bool:
    """Whether `text` is the passphrase of the hash `phc`; see `PassphraseCheck.matches`. False for a damaged hash."""
    return await _check.matches(phc, text)
