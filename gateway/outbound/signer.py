"""The one door to the signer: plans out, certificates in. The gateway's process holds no key.

Imports `signer.client` and `signer.contract` only; the import contracts hold it to that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from operator import add

import msgspec
import trio

from gateway.domain.application import Pair
from gateway.domain.issuance import Plan
from gateway.domain.request import SUBJECT_OIDS, Protocol
from gateway.domain.revocation import SerialState
from protocols.pkix.ocsp import CertId
from signer.client import BATCHES, Busy, SignerClient, Statistics, Unreachable, WorkerLost
from signer.contract import entries, messages
from signer.contract.refusal import SignerRefusal

# Longer than any healthy batch and shorter than the clients' patience (lego waits 30 s for a certificate).
DEADLINE = 10.0  # seconds
# A list of half a million entries, in slices between the frames of a busy worker. Nobody waits for it but a job.
LIST_DEADLINE = 30.0  # seconds
LIST_QUEUE = 1024  # lists that wait; one an authority, or a partition of it, is signed at a time


__all__ = ["BATCHES", "Statistics"]  # whom the figures come from, for those who show them

ENTRY = entries.ENTRY
"""An entry of a revocation list: serial (20 bytes, big-endian), when (seconds since the epoch), reason (its code)."""


class SignerFailure(Exception):
    """The signer gave no result; the subclasses say what that means for what was asked."""


class SignerBusy(SignerFailure):
    """The queue is full: nothing was signed. `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the signer's queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class SignerLost(SignerFailure):
    """The worker died with the ask in its hands: it may have signed, and its serial must never be used again."""


class SignerUnreachable(SignerFailure):
    """No worker took the ask before its deadline: nothing was signed."""


class SignerRefused(SignerFailure):
    """The signer decided against. `retry_after` is in seconds, 0 where nobody knows.

    Nothing was handed out. For the reason JOURNAL it may have been signed: a serial is given up for any of them.
    """

    def __init__(self, reason: SignerRefusal, detail: str, retry_after: int = 0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after

    @property
    def about_the_request(self) -> bool:
        """Whether the request itself is at fault, so that asking again unchanged cannot help."""
        return self.reason in {SignerRefusal.CEILING, SignerRefusal.LINT}

    @property
    def about_the_list(self) -> bool:
        """Whether it is this list that cannot be signed: too long for a frame, say. A ceiling is the issuer's."""
        return self.reason in {SignerRefusal.LINT, SignerRefusal.UNSUPPORTED}

    @property
    def about_the_term(self) -> bool:
        """Whether the authority has a certificate with other dates than those that were planned with."""
        return self.reason is SignerRefusal.TERM


class Status(msgspec.Struct, frozen=True):
    """What is to be said of one CertID; `state` is None where it is another issuer's."""

    asked: CertId
    state: SerialState | None


class Signer:
    """The signer's verbs in the product's nouns.

    Every verb raises `SignerBusy`, `SignerLost`, `SignerUnreachable` or `SignerRefused`. `share` names whose fair
    share of the pool an ask uses: an application's id, or the authority's name for the product's own work.
    """

    def __init__(self, client: SignerClient, *, lists: SignerClient | None = None, deadline: float = DEADLINE) -> None:
        self._client = client
        self._lists = lists or client
        self._deadline = deadline
        self._token_rests_until = 0.0

    @property
    def reachable(self) -> bool:
        """Whether any worker is there to be asked, and its keys with it.

        While a token is left alone, and no other key has served since, asks would be refused: a load balancer sends
        them elsewhere. Then the next of them finds out whether it works again.
        """
        return self._client.reachable and trio.current_time() >= self._token_rests_until

    def statistics(self) -> Statistics:
        """The figures of this moment, those of the lists' own connections included."""
        known = self._client.statistics()
        if self._lists is self._client:
            return known
        lists = self._lists.statistics()
        return replace(
            known,
            frames=known.frames + lists.frames,
            asks=known.asks + lists.asks,
            waiting=known.waiting + lists.waiting,
            in_flight=known.in_flight + lists.in_flight,
            sizes=tuple(map(add, known.sizes, lists.sizes)),
            outcomes=Counter(known.outcomes) + Counter(lists.outcomes),
        )

    def require_room(self, share: str) -> None:
        """Raises `SignerBusy` if a certificate that is asked for now could not be signed in time."""
        try:
            self._client.require_room(share, seconds=self._deadline)
        except Busy as busy:
            raise SignerBusy(busy.retry_after) from None

    async def issue(self, plan: Plan, pair: Pair, *, ticket: bytes) -> bytes:
        """Sign the certificate of `plan`; gives its DER. `ticket` is 16 random bytes, good for one signature.

        Cancelled while it waits for a worker, it is not signed; once a worker has it, it is not cancelled any more.
        """
        ask = issue_certificate(plan, pair, ticket, self._deadline)
        return _certificate(await self._ask(ask, pair.application.id, told=True))

    async def unwrap(self, ra_key: str, wrapped: bytes, algorithm: str, length: int, *, share: str) -> bytes:
        """Unwrap a content-encryption key of `length` bytes; for PKCS#1 v1.5, random bytes if it is not ours."""
        outcome = await self._ask(messages.UnwrapKey(ra_key, wrapped, algorithm, length), share)
        if not isinstance(outcome, messages.Unwrapped):
            raise _unexpected(outcome)
        return outcome.key

    async def sign_attributes(self, ra_key: str, attributes: bytes, digest: str, *, share: str) -> bytes:
        """Sign the SET OF signed attributes of a CMS message."""
        outcome = await self._ask(messages.SignAttributes(ra_key, attributes, digest), share)
        if not isinstance(outcome, messages.Signature):
            raise _unexpected(outcome)
        return outcome.signature

    async def sign_crl(
        self,
        issuer: str,
        *,
        number: int,
        this_update: int,
        next_update: int,
        entries: bytes,
        names: Sequence[str] = (),
        base_number: int | None = None,
        freshest: Sequence[str] = (),
    ) -> bytes:
        """Sign a CRL of packed `entries` (see `ENTRY`). Gives its DER; with `names`, its distribution point's.

        With `base_number` it is a delta to the complete list of that number; `freshest` is where a complete list's
        delta is found (RFC 5280, 5.2.4 and 5.2.6).

        It travels apart from all else: a worker makes a long list in slices, between the frames of other connections.
        """
        verb = messages.SignCrl(
            issuer, number, this_update, next_update, [], list(names), base_number, list(freshest), entries
        )
        outcome = await self._ask(verb, issuer, self._lists, LIST_DEADLINE)
        if not isinstance(outcome, messages.RevocationList):
            raise _unexpected(outcome)
        return outcome.der

    async def sign_ocsp(
        self,
        issuer: str,
        statuses: Sequence[Status],
        *,
        produced_at: int,
        this_update: int,
        next_update: int,
        nonce: bytes,
        share: str,
    ) -> bytes:
        """Sign an OCSP response with the responder of `issuer`; times are seconds since the epoch. Gives its DER."""
        entries = [entry(each) for each in statuses]
        verb = messages.SignOcsp(issuer, produced_at, this_update, next_update, entries, nonce)
        outcome = await self._ask(verb, share)
        if not isinstance(outcome, messages.OcspResponse):
            raise _unexpected(outcome)
        return outcome.der

    async def generate_key(self, algorithm: str, *, share: str) -> messages.GeneratedKey:
        """Generate a subject's key, for an enrollment with a managed key."""
        outcome = await self._ask(messages.GenerateKey(algorithm), share)
        if not isinstance(outcome, messages.GeneratedKey):
            raise _unexpected(outcome)
        return outcome

    async def _ask(
        self,
        verb: messages.Verb,
        share: str,
        client: SignerClient | None = None,
        deadline: float | None = None,
        *,
        told: bool = False,
    ) -> messages.Outcome:
        until = trio.current_time() + (self._deadline if deadline is None else deadline)
        try:
            outcome = await (client or self._client).ask(verb, share=share, deadline=until, told=told)
        except Busy as busy:
            raise SignerBusy(busy.retry_after) from None
        except WorkerLost:
            raise SignerLost("a signer worker died with this ask") from None
        except Unreachable:
            raise SignerUnreachable("no signer worker answers") from None
        if isinstance(outcome, messages.No):
            if outcome.reason is SignerRefusal.TOKEN and outcome.retry_after:
                self._token_rests_until = trio.current_time() + outcome.retry_after
            raise SignerRefused(outcome.reason, outcome.detail, outcome.retry_after)
        if not isinstance(verb, messages.GenerateKey):  # which takes no key of the store's
            self._token_rests_until = 0.0
        return outcome


@asynccontextmanager
async def open_signer(sockets: Sequence[str], *, queue: int) -> AsyncIterator[Signer]:
    """The signer behind these UNIX sockets, one for each worker; `queue` bounds the asks that wait.

    Connections are opened again whenever a worker comes back. At the end they close, and asks under way are lost.
    """
    client = SignerClient(sockets, queue=queue)
    lists = SignerClient(sockets, queue=LIST_QUEUE)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        await nursery.start(lists.run)
        yield Signer(client, lists=lists)
        nursery.cancel_scope.cancel()


def issue_certificate(plan: Plan, pair: Pair, ticket: bytes, deadline: float) -> messages.IssueCertificate:
    """The frame that asks for `plan`. The ticket outlives the ask's deadline by a margin for the worker's clock."""
    authority = pair.authority
    proof = plan.proof
    return messages.IssueCertificate(
        issuer=authority.key,
        ticket=ticket,
        deadline=int(plan.judged_at.timestamp() + deadline) + 60,
        serial=plan.serial.to_bytes((plan.serial.bit_length() + 8) // 8, "big"),
        spki=plan.key.spki,
        subject=[(SUBJECT_OIDS[each.type], each.value) for each in plan.subject],
        sans=[messages.GeneralName(each.type, each.value) for each in plan.sans],
        san_critical=plan.san_critical,
        key_usages=list(plan.key_usages),
        extended_key_usages=list(plan.extended_key_usages),
        not_before=int(plan.not_before.timestamp()),
        not_after=int(plan.not_after.timestamp()),
        proof=messages.Proof(
            proof.protocol, proof.kind, proof.subject, proof.request_hash, _sorted(pair.settings.enabled())
        ),
        ca=plan.basic_constraints.ca,
        path_length=plan.basic_constraints.path_length,
        crl_urls=list(authority.crl_addresses(authority.partition(plan.serial))),
        issuer_urls=list(authority.issuer_urls),
        ocsp_urls=list(authority.ocsp_urls),
    )


@cache
def _sorted(enabled: frozenset[Protocol]) -> list[str]:
    """One of sixteen lists; nobody changes them."""
    return sorted(enabled)


def entry(status: Status) -> messages.OcspEntry:
    """What the signer is told of one CertID."""
    asked, state = status.asked, status.state
    if state is None:
        return messages.OcspEntry(
            asked.digest,
            asked.serial,
            "unknown",
            parameters=asked.parameters,
            name_hash=asked.name_hash,
            key_hash=asked.key_hash,
        )
    return messages.OcspEntry(
        asked.digest,
        asked.serial,
        state.kind.value,
        int(state.revoked_at.timestamp()) if state.revoked_at is not None else 0,
        state.reason.code if state.reason is not None else 0,
        parameters=asked.parameters,
    )


def _certificate(outcome: messages.Outcome) -> bytes:
    if not isinstance(outcome, messages.Certificate):
        raise _unexpected(outcome)
    return outcome.der


def _unexpected(outcome: messages.Outcome) -> SignerRefused:
    return SignerRefused(SignerRefusal.UNSUPPORTED, f"the signer answered {type(outcome).__name__} to another verb")
