"""Store and signer out of reach, in the product's words: nothing was done, and when to ask again. One table."""

from __future__ import annotations

from typing import Final, TypeAlias

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.outbound.signer import SignerBusy, SignerFailure, SignerRefused
from gateway.store.unit import StoreBusy, StoreUnavailable, SurveyTooLong

Outage: TypeAlias = StoreBusy | StoreUnavailable | SurveyTooLong | SignerFailure

OUTAGES: Final = (StoreBusy, StoreUnavailable, SurveyTooLong, SignerFailure)


def outage(error: Outage) -> Refusal:
    """The refusal that tells a client to come back; details are for the log."""
    match error:
        case StoreBusy():
            return Refusal(RefusalReason.BUSY, "the store is busy; nothing was done", retry_after=1)
        case SurveyTooLong():  # and it would again: no time to come back
            return Refusal(
                RefusalReason.UNAVAILABLE,
                f"this search took longer than {error.seconds:g} seconds and was ended; "
                "ask for less: one application, profile or status, or without a name",
            )
        case SignerBusy():
            return Refusal(RefusalReason.BUSY, "the signer is busy; nothing was done", retry_after=error.retry_after)
        case SignerRefused() if error.retry_after:  # a token is left alone for so long
            sentence = "the signer is out of reach; nothing was done"
            return Refusal(RefusalReason.UNAVAILABLE, sentence, retry_after=error.retry_after)
        case StoreUnavailable():
            return Refusal(RefusalReason.UNAVAILABLE, "the store is out of reach; nothing was done", retry_after=5)
        case _:
            return Refusal(RefusalReason.UNAVAILABLE, "the signer is out of reach; nothing was done", retry_after=5)
