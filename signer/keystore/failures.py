"""Why a key store fails: six reasons, and one table from them to what a worker answers. No text here leaks a secret."""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from signer.contract.refusal import SignerRefusal


@unique
class StoreFailure(StrEnum):
    """Everything that can be wrong with a store of keys, a folder or a token alike."""

    MISSING = "missing"  # no key of that name
    LOCKED = "locked"  # the secret or PIN is wrong
    DAMAGED = "damaged"  # what is stored cannot be what was stored
    UNSUPPORTED = "unsupported"  # an algorithm or a format of a newer version
    SESSION = "session"  # this session failed: throw it away, open another
    UNAVAILABLE = "unavailable"  # the folder or the token cannot be reached


REFUSALS: Final[dict[StoreFailure, SignerRefusal]] = {
    StoreFailure.MISSING: SignerRefusal.UNKNOWN_KEY,
    StoreFailure.LOCKED: SignerRefusal.TOKEN,
    StoreFailure.DAMAGED: SignerRefusal.TOKEN,
    StoreFailure.UNSUPPORTED: SignerRefusal.UNSUPPORTED,
    StoreFailure.SESSION: SignerRefusal.TOKEN,
    StoreFailure.UNAVAILABLE: SignerRefusal.TOKEN,
}


class KeyStoreError(Exception):
    """A key store failed. The text is one clear sentence for an operator."""

    def __init__(self, failure: StoreFailure, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = failure

    @property
    def refusal(self) -> SignerRefusal:
        """What a worker answers for it."""
        return REFUSALS[self.failure]


class KeyExists(Exception):
    """A key of that name is stored already; keys are never overwritten."""
