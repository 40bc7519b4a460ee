"""One place where verbs become outcomes: each ask is carried out once, and fails alone. No socket is known here.

Nothing here knows what a verb checks; nothing in `issuance` knows that there are other asks.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator
from typing import assert_never

from signer.contract.entries import ENTRY
from signer.contract.messages import (
    VERSION,
    Answer,
    Answers,
    Batch,
    Certificate,
    GenerateKey,
    IssueCertificate,
    No,
    Outcome,
    RevocationList,
    SignAttributes,
    Signature,
    SignCrl,
    UnwrapKey,
    Unwrapped,
    Verb,
)
from signer.contract.refusal import SignerRefusal
from signer.issuance.crl import SLICE, sign_crl, sign_in_slices
from signer.issuance.issue import issue
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.ra import sign_attributes, unwrap
from signer.issuance.refused import Refused
from signer.issuance.subject_key import generate_key
from signer.issuance.ticket import Tickets
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import KeyKind, KeyStore


class Desk:
    """Carries out verbs with the keys of one store; holds what must be remembered between them."""

    def __init__(self, store: KeyStore, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._issuers: dict[str, Issuer] = {}
        self._tickets = Tickets()
        self._substitutes = os.urandom(32)

    def warm(self) -> None:
        """Open every key, so that no enrollment pays for it. Raises `KeyStoreError` for the first that is damaged."""
        for name in self._store.names():
            if self._store.find(name).kind is KeyKind.ISSUER:
                self._issuer(name)

    def answer(self, batch: Batch) -> Answers:
        """The outcomes of a batch, in its order. Never raises."""
        if batch.version != VERSION:
            no = No(SignerRefusal.UNSUPPORTED, f"this signer speaks version {VERSION}, not {batch.version}")
            return Answers([Answer(each.id, no) for each in batch.asks])
        return Answers([Answer(each.id, self._outcome(each.verb)) for each in batch.asks])

    def begin(self, batch: Batch) -> Generator[None, None, Answers] | None:
        """What `answer` would give to a batch of one long list, a slice at each step; None for any other batch."""
        if batch.version != VERSION or len(batch.asks) != 1:
            return None
        [ask] = batch.asks
        if not isinstance(ask.verb, SignCrl) or len(ask.verb.packed) <= SLICE * ENTRY.size:
            return None
        return self._in_slices(ask.id, ask.verb)

    def _in_slices(self, number: int, verb: SignCrl) -> Generator[None, None, Answers]:
        outcome: Outcome
        try:
            outcome = RevocationList((yield from sign_in_slices(self._issuer(verb.issuer), verb)))
        except Exception as error:  # noqa: BLE001 - as in `_outcome`
            outcome = _no(error)
        return Answers([Answer(number, outcome)])

    def _outcome(self, verb: Verb) -> Outcome:
        try:
            return self._do(verb)
        except Exception as error:  # noqa: BLE001 - a bug or a broken token: one ask fails, and its neighbours go on
            return _no(error)

    def _do(self, verb: Verb) -> Outcome:
        match verb:
            case IssueCertificate():
                return Certificate(issue(self._issuer(verb.issuer), verb, self._tickets, now=int(self._now())))
            case UnwrapKey():
                return Unwrapped(unwrap(self._store.find(verb.ra), verb, substitutes=self._substitutes))
            case SignAttributes():
                return Signature(sign_attributes(self._store.find(verb.ra), verb))
            case SignCrl():
                return RevocationList(sign_crl(self._issuer(verb.issuer), verb))
            case GenerateKey():
                return generate_key(verb.algorithm, self._store)
            case _:
                assert_never(verb)

    def _issuer(self, name: str) -> Issuer:
        key = self._store.find(name)
        found = self._issuers.get(name)
        if found is None or found.key is not key:  # another key object: its file was exchanged, for a renewal
            found = self._issuers[name] = issuer_of(key)
        return found


def _no(error: Exception) -> No:
    match error:
        case Refused():
            return No(error.reason, error.detail)
        case KeyStoreError():
            return No(error.refusal, str(error))
        case _:
            traceback.print_exception(error)
            return No(SignerRefusal.TOKEN, "the signer failed; its log says why")
