"""Validations: how many at once, how often, and what becomes of the outcome (A61, A64, A66, A112, A123)."""

from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest
import trio
import trio.testing

from gateway.actions import order, validate
from gateway.actions.validate import Validation, Validations, resume
from gateway.domain.application import AcmeSettings
from gateway.domain.refusal import Refusal, RefusalReason
from gateway.outbound.challenges import Evidence, Fault, Unproven
from gateway.store import acme
from gateway.store.unit import StoreUnavailable
from protocols.acme.states import (
    Account,
    AccountStatus,
    AuthorizationStatus,
    ChallengeStatus,
    Identifier,
    IdentifierType,
)
from tests.doubles.house import open_house


class Prover:
    """Says what it is told, in turn, the last for ever; `hold` keeps it waiting; `busy` is how many are inside."""

    def __init__(self, *said):
        self.said = list(said) or [None]
        self.targets = []
        self.busy = 0
        self.most_busy = 0
        self.hold = None

    async def prove(self, target):
        self.targets.append(target)
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        try:
            if self.hold is not None:
                await self.hold.wait()
            said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
            if said is not None:
                raise said
            return Evidence((f"http://{target.host} at 127.0.0.1",))
        finally:
            self.busy -= 1


class Bench:
    def __init__(self, house, account, validations):
        self.house = house
        self.resources = house.resources
        self.account = account
        self.validations = validations

    async def asked(self, host="localhost"):
        """A new order's validation."""
        ask = order.Ask(self.account, (Identifier(IdentifierType.DNS, host),))
        made = await order.create(self.resources, self.house.pair, ask)
        authorization = await self.now(made.authorization_ids[0])
        (challenge,) = authorization.challenges
        return Validation(self.house.pair, self.account.thumbprint, authorization, challenge, "192.0.2.9", "request")

    async def now(self, authorization_id):
        return await self.resources.store.read(
            lambda unit: acme.find_authorization(unit, self.house.pair.id, authorization_id, self.resources.now())
        )

    async def end(self, asked):
        """The authorization when it is no longer pending."""
        with trio.fail_after(60):
            while (found := await self.now(asked.authorization.id)).status is AuthorizationStatus.PENDING:
                await trio.sleep(0.005)
        return found


@asynccontextmanager
async def bench(folder, prover, *, running=True, **named):
    async with open_house(folder, lambda _: []) as house, trio.open_nursery() as nursery:
        await house.change(acme=AcmeSettings(skip_eab_binding=True, http01_port=5002, resolvers=("192.0.2.53",)))
        account = Account("account", house.pair.id, b"{}", "thumb", AccountStatus.VALID, (), house.now)
        await house.store.write(lambda unit: acme.create_account(unit, account))
        validations = Validations(prover, **{"pauses": (0.01, 0.01), **named})
        if running:
            await nursery.start(validations.run)
        yield Bench(house, account, validations)
        nursery.cancel_scope.cancel()


async def test_a_proof_makes_the_authorization_valid_at_once(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover) as here:
        asked = await here.asked()
        authorization = await here.validations.begin(here.resources, asked)
        assert authorization.status is AuthorizationStatus.VALID
        assert authorization.challenges[0].status is ChallengeStatus.VALID
        assert authorization == await here.now(asked.authorization.id)
    (target,) = prover.targets
    assert target.key_authorization == f"{asked.challenge.token}.thumb"  # RFC 8555, 8.1
    assert (target.port, target.resolvers, target.allowed_networks) == (5002, ("192.0.2.53",), ())  # A132


async def test_a_failure_that_may_pass_is_tried_again_three_times_in_all(tmp_path):
    # A64.
    flaky = Unproven(Fault.CONNECTION, "refused", passing=True)
    prover = Prover(flaky, flaky, None)
    async with bench(tmp_path, prover) as here:
        asked = await here.asked()
        await here.validations.begin(here.resources, asked)
        assert (await here.end(asked)).status is AuthorizationStatus.VALID
        prover.said = [flaky]
        prover.targets.clear()
        asked = await here.asked("b.example")
        await here.validations.begin(here.resources, asked)
        failed = await here.end(asked)
    assert len(prover.targets) == 3
    assert failed.status is AuthorizationStatus.INVALID
    error = failed.challenges[0].error
    assert (error.type, error.detail, error.status) == ("connection", "refused", 400)


async def test_a_final_failure_is_not_tried_again(tmp_path):
    prover = Prover(Unproven(Fault.UNAUTHORIZED, "wrong"))
    async with bench(tmp_path, prover) as here:
        authorization = await here.validations.begin(here.resources, await here.asked())
    assert authorization.status is AuthorizationStatus.INVALID
    assert authorization.challenges[0].error.status == 403
    assert len(prover.targets) == 1


async def test_a_silent_server_is_a_connection_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "ATTEMPT_DEADLINE", 0.05)
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=0.01) as here:
        asked = await here.asked()
        waiting = await here.validations.begin(here.resources, asked)
        assert waiting.challenges[0].status is ChallengeStatus.PROCESSING
        failed = await here.end(asked)
    assert failed.challenges[0].error.type == "connection"
    assert len(prover.targets) == 3


async def test_all_attempts_together_have_a_deadline(tmp_path, monkeypatch):
    # A64: 10 to 30 s.
    assert 10 <= validate.DEADLINE <= 30
    monkeypatch.setattr(validate, "DEADLINE", 0.05)
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, pauses=(10.0,)) as here:
        asked = await here.asked()
        await here.validations.begin(here.resources, asked)
        assert (await here.end(asked)).status is AuthorizationStatus.INVALID
    assert len(prover.targets) == 1


async def test_a_challenge_is_validated_once_however_often_it_is_asked_for(tmp_path):
    # A61.
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=0.01) as here:
        asked = await here.asked()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(here.validations.begin, here.resources, asked)
        prover.hold.set()
        ended = await here.end(asked)
        again = msgspec.structs.replace(asked, authorization=ended, challenge=ended.challenges[0])
        assert await here.validations.begin(here.resources, again) == ended
    assert len(prover.targets) == 1


async def test_what_takes_long_is_durable_as_processing_even_if_the_asker_has_gone(tmp_path):
    # A123: cancellation leaves no half state.
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=60) as here:
        asked = await here.asked()
        async with trio.open_nursery() as asker:
            asker.start_soon(here.validations.begin, here.resources, asked)
            with trio.fail_after(60):
                while not prover.targets:
                    await trio.sleep(0.005)
            asker.cancel_scope.cancel()
        found = await here.now(asked.authorization.id)
        assert found.challenges[0].status is ChallengeStatus.PROCESSING
        prover.hold.set()
        assert (await here.end(asked)).status is AuthorizationStatus.VALID


async def test_one_who_waits_in_vain_is_told_though_another_was_answered_before_him(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover, patience=0.5) as here:
        quick = await here.validations.begin(here.resources, await here.asked("quick.example"))
        prover.hold = trio.Event()
        with trio.fail_after(60):
            slow = await here.validations.begin(here.resources, await here.asked("slow.example"))
            joined = await here.asked("slow.example")
            async with trio.open_nursery() as nursery:  # two who wait for the same, each for as long
                nursery.start_soon(here.validations.begin, here.resources, joined)
                told = await here.validations.begin(here.resources, joined)
        prover.hold.set()
    assert quick.status is AuthorizationStatus.VALID
    assert slow.challenges[0].status is told.challenges[0].status is ChallengeStatus.PROCESSING


async def test_one_task_validates_after_another_and_too_many_do_not_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "_MOST_IDLE", 2)
    tasks = []

    class Watched(Prover):
        async def prove(self, target):
            tasks.append(trio.lowlevel.current_task())
            return await super().prove(target)

    prover = Watched()
    async with bench(tmp_path, prover) as here:
        for _ in range(3):
            await here.validations.begin(here.resources, await here.asked())
        assert len(set(tasks)) == 1
        owner = tasks[0].parent_nursery
        prover.hold = trio.Event()
        every = [await here.asked(f"{n}.example") for n in range(5)]
        async with trio.open_nursery() as nursery:
            for each in every:
                nursery.start_soon(here.validations.begin, here.resources, each)
            with trio.fail_after(60):
                while prover.busy < 5:
                    await trio.sleep(0.005)
            assert len(set(tasks)) == 5
            prover.hold.set()
        await trio.testing.wait_all_tasks_blocked()
        assert len(owner.child_tasks.intersection(tasks)) == 2


async def test_an_owner_that_comes_back_validates_with_tasks_of_its_own(tmp_path):
    async with bench(tmp_path, Prover(), running=False) as here:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                await nursery.start(here.validations.run)
                told = await here.validations.begin(here.resources, await here.asked())
                assert told.status is AuthorizationStatus.VALID
                nursery.cancel_scope.cancel()


async def test_one_slow_target_leaves_room_for_others(tmp_path):
    # A64: per-target limit; the slow one's queue holds none of the places that all share.
    slow, quick = Prover(), Prover()

    class Both:
        async def prove(self, target):
            return await (slow if target.host == "slow.example" else quick).prove(target)

    slow.hold = trio.Event()
    async with bench(tmp_path, Both(), patience=0.01) as here:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(here.validations.begin, here.resources, await here.asked("slow.example"))
        authorization = await here.validations.begin(here.resources, await here.asked("quick.example"))
        assert authorization.status is AuthorizationStatus.VALID
        assert slow.busy == slow.most_busy == validate.AT_ONE_TARGET
        slow.hold.set()


async def test_too_many_are_refused_with_a_time_to_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "MOST_WAITING", 2)
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=0.001) as here:
        for _ in range(2):
            await here.validations.begin(here.resources, await here.asked())
        with pytest.raises(Refusal) as refused:
            await here.validations.begin(here.resources, await here.asked())
    assert refused.value.reason is RefusalReason.BUSY
    assert refused.value.retry_after


async def test_one_silent_host_does_not_take_every_place_to_wait_in(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "MOST_AT_ONE_TARGET", 2)
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=0.001) as here:
        first = await here.asked("silent.example")
        await here.validations.begin(here.resources, first)
        await here.validations.begin(here.resources, await here.asked("silent.example"))
        with pytest.raises(Refusal) as refused:
            await here.validations.begin(here.resources, await here.asked("silent.example"))
        await here.validations.begin(here.resources, first)  # which is under way, and asks for no more room
        await here.validations.begin(here.resources, await here.asked("other.example"))
        assert len(prover.targets) == 3
    assert refused.value.reason is RefusalReason.BUSY
    assert refused.value.retry_after


async def test_a_bug_in_a_prover_ends_its_own_validation_and_no_other(tmp_path):
    prover = Prover(ZeroDivisionError("secret"), None)
    async with bench(tmp_path, prover) as here:
        broken = await here.validations.begin(here.resources, await here.asked())
        sound = await here.validations.begin(here.resources, await here.asked())
    assert broken.challenges[0].error.type == "serverInternal"
    assert "secret" not in broken.challenges[0].error.detail
    assert sound.status is AuthorizationStatus.VALID


async def test_an_outcome_waits_for_a_store_that_is_away_for_a_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "_RECORD_PAUSES", (0.01, 0.01))
    async with bench(tmp_path, Prover()) as here:
        asked = await here.asked()
        write, away = here.house.store.write, [1, 1]

        async def flaky(work):
            if away:
                away.pop()
                raise StoreUnavailable("away")
            return await write(work)

        store = type("Flaky", (), {"read": here.house.store.read, "write": staticmethod(flaky)})
        authorization = await here.validations.begin(replace(here.resources, store=store), asked)
        assert authorization.status is AuthorizationStatus.VALID


async def test_an_outcome_that_cannot_be_stored_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "_RECORD_PAUSES", (0.001,))
    async with bench(tmp_path, Prover()) as here:
        asked = await here.asked()

        async def away(_):
            raise StoreUnavailable("away")

        store = type("Away", (), {"read": here.house.store.read, "write": staticmethod(away)})
        told = await here.validations.begin(replace(here.resources, store=store), asked)
        assert told.challenges[0].status is ChallengeStatus.PROCESSING
        assert (await here.now(asked.authorization.id)).status is AuthorizationStatus.PENDING
        # Nothing is stuck: the next POST validates again.
        assert (await here.validations.begin(here.resources, asked)).status is AuthorizationStatus.VALID


async def test_an_authorization_that_was_deactivated_meanwhile_stays_so(tmp_path):
    prover = Prover()
    prover.hold = trio.Event()
    async with bench(tmp_path, prover, patience=0.01) as here:
        asked = await here.asked()
        await here.validations.begin(here.resources, asked)
        at = here.resources.now()
        await here.house.store.write(lambda unit: acme.deactivate_authorization(unit, asked.authorization.id, at))
        prover.hold.set()
        await trio.sleep(0.05)
        assert (await here.now(asked.authorization.id)).status is AuthorizationStatus.DEACTIVATED


async def test_what_a_stop_cut_off_is_taken_up_and_nothing_else(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover) as here:
        cut_off, untouched = await here.asked("a.example"), await here.asked("b.example")
        await here.house.store.write(lambda unit: acme.begin_challenge(unit, *cut_off.key))
        assert await resume(here.resources, here.validations) == 1
        assert (await here.end(cut_off)).status is AuthorizationStatus.VALID
        assert (await here.now(untouched.authorization.id)).status is AuthorizationStatus.PENDING
    assert [target.host for target in prover.targets] == ["a.example"]


async def test_more_than_fit_are_taken_up_one_after_another(tmp_path, monkeypatch):
    prover = Prover()
    async with bench(tmp_path, prover) as here:
        every = [await here.asked(f"{n}.example") for n in range(5)]
        for each in every:
            await here.house.store.write(lambda unit, key=each.key: acme.begin_challenge(unit, *key))
        monkeypatch.setattr(validate, "MOST_WAITING", 1)
        assert await resume(here.resources, here.validations) == 5
        for each in every:
            assert (await here.end(each)).status is AuthorizationStatus.VALID


async def test_nothing_begins_where_nobody_owns_the_nursery(tmp_path):
    async with bench(tmp_path, Prover(), running=False) as here:
        with pytest.raises(Refusal) as refused:
            await here.validations.begin(here.resources, await here.asked())
    assert refused.value.reason is RefusalReason.UNAVAILABLE


class SharedClaims:
    """What the kernel keeps for several processes."""

    taken: set[str]

    def __init__(self, taken):
        self.taken = taken

    def take(self, name):
        if name in self.taken:
            return False
        self.taken.add(name)
        return True

    def give_back(self, name, *, ended):
        assert ended
        self.taken.remove(name)


async def test_two_workers_that_are_asked_for_the_same_validation_do_it_once(tmp_path):
    # A61.
    taken: set[str] = set()
    prover, other = Prover(), Prover()
    async with bench(tmp_path, prover, claims=SharedClaims(taken)) as here, trio.open_nursery() as nursery:
        second = Validations(other, claims=SharedClaims(taken), patience=60)
        await nursery.start(second.run)
        prover.hold = trio.Event()
        asked = await here.asked()
        told = []

        async def ask_second():
            told.append(await second.begin(here.resources, asked))

        processing = await here.validations.begin(here.resources, asked)
        assert processing.challenges[0].status is ChallengeStatus.PROCESSING
        nursery.start_soon(ask_second)
        await trio.sleep(0.05)
        assert told == []
        prover.hold.set()
        assert (await here.end(asked)).status is AuthorizationStatus.VALID
        with trio.fail_after(60):
            while not told:
                await trio.sleep(0.01)
        assert told[0].status is AuthorizationStatus.VALID, "the second says what came of it at the first"
        nursery.cancel_scope.cancel()
    assert (len(prover.targets), other.targets, taken) == (1, [], set())


async def test_what_another_worker_validates_for_long_is_processing_here_too(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover, claims=SharedClaims(taken := set()), patience=0.05) as here:
        asked = await here.asked()
        taken.add(f"validation {asked.authorization.id} {asked.challenge.id}")
        told = await here.validations.begin(here.resources, asked)
        assert told.challenges[0].status is ChallengeStatus.PROCESSING
    assert prover.targets == []
