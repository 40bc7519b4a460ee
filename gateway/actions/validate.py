"""Validate challenges: who may be asked to prove what, how many at once, how often, and what becomes of the outcome.

Every validation runs in the one nursery of `Validations`, which a job owns; nothing is fired and forgotten. What is
fetched never enters here: a prover says yes or why not.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import trio

from gateway.actions.resources import Resources
from gateway.domain.application import AcmeSettings, Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.outbound.challenges import NOTHING_SEEN, Evidence, Fault, Http01, Prover, Target, Unproven
from gateway.outbound.resolver import NameResolver
from gateway.store import acme as store
from gateway.store.unit import StoreBusy, StoreUnavailable, Unit
from protocols.acme.states import (
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    ChallengeType,
    Problem,
)

log = logging.getLogger(__name__)

# How long a challenge's POST waits for its outcome: most servers answer within a few milliseconds, and a client that
# hears `valid` at once saves its polls. A silent one must not hold the client's connection. With 0.05 s here a gateway
# that was busy gave up half its waits, and paid for each with a commit and a poll more: the busier, the more to do.
PATIENCE: Final = 0.25  # seconds

# A64: one validation takes 10 to 30 s at most; lego gives its whole order 30 s, certbot polls for 90.
DEADLINE: Final = 20.0  # seconds, all attempts together
ATTEMPT_DEADLINE: Final = 10.0  # seconds
PAUSES: Final = (0.5, 2.5)  # seconds before the second and the third attempt, after passing failures only

AT_ONCE: Final = 256  # validations that talk at the same time: each holds one socket
AT_ONE_TARGET: Final = 8  # of them with one host: a slow one cannot take all, and nobody is flooded in our name
MOST_WAITING: Final = 4096
# Of them for one host. Eight at a time, 20 s each: a stranger's silent host would hold all 4096 places for three hours.
MOST_AT_ONE_TARGET: Final = 64

# Tasks that stay for the next validation: to start one and to end it costs a tenth of all that a validation does.
_MOST_IDLE: Final = 64

_GLANCE: Final = 0.01  # seconds, while another process validates: its commit takes about as long

# The store may be away for a moment just when a proof has been seen; a proof is worth repeating the write.
_RECORD_PAUSES: Final = (0.1, 0.5, 2.0, 5.0)  # seconds


class Validation(msgspec.Struct, frozen=True):
    """One challenge to be validated. `source` and `http_request_id` are those of the POST that asked."""

    pair: Pair
    thumbprint: str
    authorization: Authorization
    challenge: Challenge
    source: str = ""
    http_request_id: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What makes two validations the same."""
        return (self.authorization.id, self.challenge.id)


class Claims(Protocol):
    """Keeps processes apart that may be asked for the same work; a claim ends with its process."""

    def take(self, name: str) -> bool:
        """Whether it is this process's from now on."""
        ...

    def give_back(self, name: str, *, ended: bool) -> None:
        """It is nobody's; where the work has `ended`, only when whoever looked before that has come to claim it."""
        ...


@dataclass(slots=True, eq=False)
class _Running:
    """A validation under way, in this process. `outcome` is set before it is `over`, if it could be recorded.

    `told` are set when it is over, for who waits for that.
    """

    resources: Resources
    asked: Validation
    just_seen: bool
    told: list[trio.Event] = field(default_factory=list)
    over: bool = False
    outcome: Authorization | None = None

    def will_tell(self) -> trio.Event:
        """What is set when it is over. It must not be over."""
        end = trio.Event()
        self.told.append(end)
        return end


class _Patience:
    """Ends waits of one length, one task for all: of a hundred waits hardly one lasts to its end.

    A cancel scope with a deadline for each costs twenty microseconds, a twentieth of all that a validation does.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waits: deque[tuple[float, trio.Event]] = deque()  # the oldest first
        self._some = trio.Event()

    def limit(self, wait: trio.Event) -> trio.Event:
        """`wait`, which will be set after that time if nobody has done so before."""
        self._waits.append((trio.current_time() + self._seconds, wait))
        self._some.set()
        return wait

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            if not self._waits:
                self._some = trio.Event()
                await self._some.wait()
            end, wait = self._waits.popleft()
            if not wait.is_set():
                await trio.sleep_until(end)
                wait.set()


@dataclass(slots=True, eq=False)
class _Turns:
    """Whose turn it is at one target; kept only as long as somebody is there."""

    turns: trio.Semaphore
    present: int = 0


class Validations:
    """All validations of this process.

    `http01` proves http-01 challenges, by default over the real network. `patience` and `pauses` are in seconds.
    `claims` keeps apart the processes that may be asked for the same ones.
    """

    def __init__(
        self,
        http01: Prover | None = None,
        *,
        patience: float = PATIENCE,
        pauses: tuple[float, ...] = PAUSES,
        claims: Claims | None = None,
    ) -> None:
        self._claims = claims
        self._http01 = http01 or Http01(NameResolver(secrets.token_bytes))
        self._patience = patience
        self._patient = _Patience(patience)
        self._pauses = pauses
        self._running: dict[tuple[str, str], _Running] = {}
        self._idle: list[trio.lowlevel.Task] = []  # tasks that wait for work
        self._given: deque[_Running] = deque()  # what has been given to those that have been woken
        self._targets: dict[str, _Turns] = {}
        self._slots = trio.Semaphore(AT_ONCE)
        self._nursery: trio.Nursery | None = None

    @property
    def under_way(self) -> list[str]:
        """The ids of the authorizations that this process validates."""
        return [authorization_id for authorization_id, _ in self._running]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the validations until cancelled. What is cut off stays `processing` in the store, for the next start."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._patient.run)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def begin(self, resources: Resources, asked: Validation) -> Authorization:
        """Start validating, once, and give the authorization as it is a moment later (A60, A61).

        A validation that is over within the wait costs one commit: pending to its end. Only one that takes longer is
        made durable as `processing`, so that a restart takes it up again, even if the asker has gone (A123).

        Raises:
            Refusal: BUSY, too many are waiting; UNAVAILABLE, the store is away or the gateway is stopping.
        """
        if (
            asked.authorization.status is not AuthorizationStatus.PENDING
            or asked.challenge.status is not ChallengeStatus.PENDING
        ):
            return asked.authorization
        running = self._running.get(asked.key)
        if running is None:
            target = self._targets.get(asked.authorization.identifier.value)
            if target is not None and target.present >= MOST_AT_ONE_TARGET:
                raise Refusal(RefusalReason.BUSY, "too many validations of this name are waiting", retry_after=10)
            running = self.start(resources, asked, just_seen=True)
        if running is None:
            return await self._elsewhere(resources, asked)
        try:
            await self._patient.limit(running.will_tell()).wait()
        finally:
            if not running.over:
                with trio.CancelScope(shield=True):
                    await _mark_processing(resources, asked)
        return running.outcome or _processing(asked)

    def start(self, resources: Resources, asked: Validation, *, just_seen: bool = False) -> _Running | None:
        """Start validating in the nursery; None where another process does. Raises Refusal as `begin` does.

        Unless it was `just_seen` to be pending, another process may have ended it long ago, and that is looked at.
        """
        if self._nursery is None:
            raise Refusal(RefusalReason.UNAVAILABLE, "the gateway is not validating now", retry_after=5)
        if len(self._running) >= MOST_WAITING:
            raise Refusal(RefusalReason.BUSY, "too many validations are waiting", retry_after=10)
        if self._claims is not None and not self._claims.take(_claim(asked)):
            return None
        running = self._running[asked.key] = _Running(resources, asked, just_seen)
        if self._idle:
            self._given.append(running)
            trio.lowlevel.reschedule(self._idle.pop())
        else:
            self._nursery.start_soon(self._work, running)
        return running

    async def take_up(self, resources: Resources, asked: Validation) -> None:
        """Start a validation that was under way when the gateway stopped, as soon as there is room for it."""
        while len(self._running) >= MOST_WAITING:
            await next(iter(self._running.values())).will_tell().wait()
        if asked.key not in self._running:
            self.start(resources, asked)

    async def _work(self, running: _Running) -> None:
        """Carry out this validation, then those that it is woken for; a task that enough others wait beside ends."""
        task = trio.lowlevel.current_task()

        def leave(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await self._validate(running)
        while len(self._idle) < _MOST_IDLE:
            self._idle.append(task)
            await trio.lowlevel.wait_task_rescheduled(leave)
            await self._validate(self._given.popleft())

    async def _validate(self, running: _Running) -> None:
        asked = running.asked
        try:
            if not running.just_seen and self._claims is not None:
                running.outcome = await self._ended_elsewhere(running.resources, asked)
            if running.outcome is None:
                running.outcome = await self._outcome(running.resources, asked)
        except Exception:
            # A bug must end neither the other validations nor, by leaving it processing for ever, this one unseen.
            log.exception("validating %s failed", asked.authorization.id)
        finally:
            running.over = True
            del self._running[asked.key]
            if self._claims is not None:
                self._claims.give_back(_claim(asked), ended=running.outcome is not None)
            for each in running.told:
                each.set()

    async def _ended_elsewhere(self, resources: Resources, asked: Validation) -> Authorization | None:
        """What another process made of it between our caller's look and our claim."""
        found = await _now(resources, asked)
        return None if found is None or found.status is AuthorizationStatus.PENDING else found

    async def _elsewhere(self, resources: Resources, asked: Validation) -> Authorization:
        """What another process made of it, if it has done so within the wait."""
        with trio.move_on_after(self._patience):
            while True:
                found = await _now(resources, asked)
                if found is not None and found.status is not AuthorizationStatus.PENDING:
                    return found
                await trio.sleep(_GLANCE)
        return _processing(asked)

    async def _outcome(self, resources: Resources, asked: Validation) -> Authorization | None:
        evidence = NOTHING_SEEN
        error: Problem | None = None
        try:
            evidence = await self._prove(asked)
        except Unproven as failure:
            evidence = failure.evidence
            error = Problem(failure.fault.value, failure.detail, 403 if failure.fault.value == "unauthorized" else 400)
        except Exception:
            log.exception("proving %s failed", asked.authorization.id)
            error = Problem("serverInternal", "the validation failed on this side; order again", 500)
        return await _record(resources, asked, evidence, error)

    async def _prove(self, asked: Validation) -> Evidence:
        """Take a turn, then try until there is an answer that will not change."""
        host = asked.authorization.identifier.value
        turns = self._targets.get(host) or self._targets.setdefault(host, _Turns(trio.Semaphore(AT_ONE_TARGET)))
        turns.present += 1
        try:
            # The target's turn first: who waits for a slow target holds none of the places that all share.
            if not _taken(turns.turns):
                await turns.turns.acquire()
            try:
                if not _taken(self._slots):
                    await self._slots.acquire()
                try:
                    return await self._attempts(asked)
                finally:
                    self._slots.release()
            finally:
                turns.turns.release()
        finally:
            turns.present -= 1
            if not turns.present:
                del self._targets[host]

    async def _attempts(self, asked: Validation) -> Evidence:
        prover, target = self._prover(asked.challenge.type), _target(asked)
        end = trio.current_time() + DEADLINE
        pauses = iter(self._pauses)
        while True:
            try:
                with trio.CancelScope(deadline=min(end, trio.current_time() + ATTEMPT_DEADLINE)):
                    return await prover.prove(target)
                raise Unproven(Fault.CONNECTION, "the server took too long to answer", passing=True)
            except Unproven as failure:
                pause = next(pauses, math.inf)
                if not failure.passing or trio.current_time() + pause >= end:
                    raise
            await trio.sleep(pause)

    def _prover(self, kind: ChallengeType) -> Prover:
        match kind:
            case ChallengeType.HTTP_01:
                return self._http01


def _taken(turn: trio.Semaphore) -> bool:
    """Whether a turn was free, and is ours: to wait for one gives up the loop even where nobody is before us."""
    try:
        turn.acquire_nowait()
    except trio.WouldBlock:
        return False
    return True


async def unfinished_ids(resources: Resources) -> set[str]:
    """The authorizations whose validation is marked as under way, whoever has it. Raises `StoreUnavailable`."""
    at = resources.now()
    found = await resources.store.read(lambda unit: store.unfinished_challenges(unit, at))
    return {each.authorization.id for each in found}


async def resume(resources: Resources, validations: Validations, only: Collection[str] | None = None) -> int:
    """Take up every validation that a stop cut off, or `only` those; how many. One whose pair is gone stays as it is.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    at = resources.now()
    found = await resources.store.read(lambda unit: store.unfinished_challenges(unit, at))
    unfinished = [each for each in found if only is None or each.authorization.id in only]
    pairs = {pair.id: pair for pair in resources.catalogue().pairs}
    for each in unfinished:
        pair = pairs.get(each.pair_id)
        if pair is not None:
            challenge = next(one for one in each.authorization.challenges if one.id == each.challenge_id)
            await validations.take_up(
                resources, Validation(pair, each.account.thumbprint, each.authorization, challenge)
            )
    return len(unfinished)


def _claim(asked: Validation) -> str:
    return f"validation {asked.authorization.id} {asked.challenge.id}"


async def _now(resources: Resources, asked: Validation) -> Authorization | None:
    at = resources.now()
    return await resources.store.read(
        lambda unit: store.find_authorization(unit, asked.pair.id, asked.authorization.id, at)
    )


def _target(asked: Validation) -> Target:
    settings = asked.pair.settings.acme or AcmeSettings()
    token = asked.challenge.token
    return Target(
        host=asked.authorization.identifier.value,
        token=token,
        key_authorization=f"{token}.{asked.thumbprint}",
        port=settings.http01_port,
        allowed_networks=settings.allowed_networks,
        resolvers=settings.resolvers,
    )


def _processing(asked: Validation) -> Authorization:
    """The authorization as it stands while its challenge is being validated."""
    challenges = tuple(
        msgspec.structs.replace(each, status=ChallengeStatus.PROCESSING) if each.id == asked.challenge.id else each
        for each in asked.authorization.challenges
    )
    return msgspec.structs.replace(asked.authorization, challenges=challenges)


async def _mark_processing(resources: Resources, asked: Validation) -> None:
    """Make it durable that this is under way. Nothing is lost if the store is away: the outcome will say it all."""
    try:
        await resources.store.write(lambda unit: store.begin_challenge(unit, *asked.key))
    except (StoreBusy, StoreUnavailable) as error:
        log.warning("validating %s is not marked: %s", asked.authorization.id, error)


async def _record(
    resources: Resources, asked: Validation, evidence: Evidence, error: Problem | None
) -> Authorization | None:
    """Store the outcome with its audit event; None if the store stayed away, and then a restart validates again."""
    at = resources.now()
    seen = "; ".join(evidence.hops)
    event = AuditEvent(
        at=at,
        actor=f"acme-account:{asked.authorization.account_id}",
        action="challenge.validate",
        target=f"{asked.authorization.id} {asked.authorization.identifier.value}",
        outcome="success" if error is None else "failed",
        application_id=asked.pair.application.id,
        detail=f"{asked.challenge.type}: {error.detail + ' ' if error else ''}[{seen}]",
        source=asked.source,
        request_id=asked.http_request_id,
    )

    def unit(unit: Unit) -> Authorization:
        # Where the outcome came at once the challenge is still pending; a restart or a slow one left it processing.
        authorization = store.settle_challenge(unit, asked.authorization, asked.challenge.id, error=error, at=at)
        unit.audit(event)
        return authorization

    for pause in (*_RECORD_PAUSES, None):
        try:
            return await resources.store.write(unit)
        except (StoreBusy, StoreUnavailable) as away:
            if pause is None:
                log.warning("the outcome of %s is lost, the store is away: %s", asked.authorization.id, away)
                break
            await trio.sleep(pause)
    return None
