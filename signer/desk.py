"""One place where verbs become outcomes: each ask is carried out once, and fails alone. No socket is known here.

Nothing here knows what a verb checks; nothing in `issuance` knows that there are other asks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from typing import Final, TypeAlias, assert_never

import msgspec

from signer.contract.entries import ENTRY
from signer.contract.messages import (
    VERSION,
    Answer,
    Answers,
    Batch,
    Certificate,
    GeneratedKey,
    GenerateKey,
    IssueCertificate,
    No,
    OcspResponse,
    Outcome,
    RevocationList,
    SignAttributes,
    Signature,
    SignCrl,
    SignOcsp,
    UnwrapKey,
    Unwrapped,
    Verb,
)
from signer.contract.refusal import SignerRefusal
from signer.hardening.log import say, tell
from signer.issuance.crl import SLICE, check_present, sign_crl, sign_in_slices
from signer.issuance.issue import Prepared, certificate, prepared
from signer.issuance.issuer import Issuer, issuer_of
from signer.issuance.ocsp import Speaker, sign_ocsp
from signer.issuance.ra import SUBSTITUTES, sign_attributes, unwrap
from signer.issuance.refused import Refused
from signer.issuance.responder import Responders
from signer.issuance.subject_key import generate_key
from signer.journal.entry import ISSUED, LISTED, RESPONDS, Signed
from signer.journal.failed import JournalFailed
from signer.journal.journal import Journal
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import KeyKind, KeyStore

_encode: Final = msgspec.msgpack.Encoder().encode


_Work: TypeAlias = Verb | Prepared | No


class Desk:
    """Carries out verbs with the keys of one store; holds what must be remembered between them.

    A batch is checked, then claimed at once for all workers, then signed, then written into the journal, and then its
    answers may leave.
    """

    def __init__(self, store: KeyStore, journal: Journal, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._journal = journal
        self._now = now
        self._issuers: dict[str, Issuer] = {}
        self._speakers: dict[str, Speaker] = {}
        self._responders = Responders(os.urandom, self._certified)
        self._substitutes = store.derived(SUBSTITUTES)

    def warm(self, *, forgiving: bool = False) -> None:
        """Open every key, so that no enrollment pays for it. Raises `KeyStoreError` for the first that is damaged.

        With `forgiving` a key that is out of reach now is looked for again when it is asked for.
        """
        for name in self._store.names():
            try:
                if self._store.find(name).kind is KeyKind.ISSUER:
                    self._issuer(name)
            except KeyStoreError:
                if not forgiving:
                    raise

    def answer(self, batch: Batch) -> Answers:
        """The outcomes of a batch, in its order. Never raises."""
        if batch.version != VERSION:
            no = No(SignerRefusal.UNSUPPORTED, f"this signer speaks version {VERSION}, not {batch.version}")
            return Answers([Answer(each.id, no) for each in batch.asks])
        works = self._claimed([self._checked(each.verb) for each in batch.asks])
        outcomes = self._written([self._outcome(each) for each in works])
        return Answers([Answer(each.id, outcome) for each, outcome in zip(batch.asks, outcomes, strict=True)])

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
            issuer = self._issuer(verb.issuer)
            check_present(verb, int(self._now()))
            outcome = self._listed(verb, (yield from sign_in_slices(issuer, verb)))
        except Exception as error:  # noqa: BLE001 - as in `_outcome`
            outcome = _no(error)
        return Answers([Answer(number, each) for each in self._written([outcome])])

    def _checked(self, verb: Verb) -> _Work:
        if not isinstance(verb, IssueCertificate):
            return verb
        try:
            return prepared(self._issuer(verb.issuer), verb)
        except Exception as error:  # noqa: BLE001 - as in `_outcome`
            return _no(error)

    def _claimed(self, works: list[_Work]) -> list[_Work]:
        """`works` with a refusal for each certificate whose ticket or serial was used up, by whichever worker."""
        places = [place for place, each in enumerate(works) if isinstance(each, Prepared)]
        if not places:
            return works
        claims = [each.claim for each in works if isinstance(each, Prepared)]
        refusals: Sequence[Exception | None]
        try:
            refusals = self._journal.claim(claims)
        except JournalFailed as error:
            refusals = [error] * len(claims)
        for place, refused in zip(places, refusals, strict=True):
            if refused is not None:
                works[place] = _no(refused)
        return works

    def _written(self, outcomes: list[Outcome]) -> list[Outcome]:
        """`outcomes`, once all that an issuer's key signed for them is in the journal; nothing of it leaves before."""
        try:
            self._journal.write()
        except JournalFailed as error:
            no = _no(error)
            return [each if isinstance(each, _BY_OTHERS) else no for each in outcomes]
        return outcomes

    def _outcome(self, work: _Work) -> Outcome:
        try:
            return self._do(work)
        except Exception as error:  # noqa: BLE001 - a bug or a broken token: one ask fails, and its neighbours go on
            return _no(error)

    def _do(self, verb: _Work) -> Outcome:
        match verb:
            case No():
                return verb
            case Prepared():
                return self._issued(verb)
            case IssueCertificate():  # none is left unchecked
                raise Refused(SignerRefusal.TICKET, "the ticket was not claimed")
            case UnwrapKey():
                return Unwrapped(unwrap(self._store.find(verb.ra), verb, substitutes=self._substitutes))
            case SignAttributes():
                return Signature(sign_attributes(self._store.find(verb.ra), verb))
            case SignCrl():
                issuer = self._issuer(verb.issuer)
                check_present(verb, int(self._now()))
                return self._listed(verb, sign_crl(issuer, verb))
            case SignOcsp():
                return OcspResponse(self._vouched(verb))
            case GenerateKey():
                return generate_key(verb.algorithm, self._store)
            case _:
                assert_never(verb)

    def _issued(self, made: Prepared) -> Certificate:
        der, ask = certificate(made), made.ask
        self._journal.record(
            Signed(
                ISSUED,
                made.issuer.key.name,
                int.from_bytes(ask.serial, "big"),
                der,
                ticket=made.claim.ticket,
                request=ask.proof.request_hash if ask.proof is not None else b"",
                asked=sha256(_encode(ask)).digest(),
            )
        )
        return Certificate(der)

    def _listed(self, ask: SignCrl, der: bytes) -> RevocationList:
        self._journal.record(Signed(LISTED, self._issuer(ask.issuer).key.name, ask.number, der))
        return RevocationList(der)

    def _vouched(self, verb: SignOcsp) -> bytes:
        issuer = self._issuer(verb.issuer)
        speaker = self._speakers.get(verb.issuer)
        if speaker is None or speaker.issuer is not issuer:
            speaker = self._speakers[verb.issuer] = Speaker(issuer)
        now = int(self._now())
        return sign_ocsp(speaker, self._responders.of(issuer, now), verb, now=now)

    def _certified(self, issuer: str, serial: int, der: bytes) -> None:
        self._journal.record(Signed(RESPONDS, issuer, serial, der))

    def _issuer(self, name: str) -> Issuer:
        key = self._store.find(name)
        found = self._issuers.get(name)
        if found is None or found.key is not key:  # another key object: its file was exchanged, for a renewal
            found = self._issuers[name] = issuer_of(key)
        return found


# What no issuer's key had a part in: it is not in the journal, and does not wait for it.
_BY_OTHERS: Final = (Unwrapped, Signature, GeneratedKey, No)


def _no(error: Exception) -> No:
    match error:
        case JournalFailed():
            say(str(error))
            return No(SignerRefusal.JOURNAL, str(error))
        case Refused():
            return No(error.reason, error.detail)
        case KeyStoreError():
            return No(error.refusal, str(error), error.retry_after)
        case _:
            tell(error)
            return No(SignerRefusal.TOKEN, "the signer failed; its log says why")
