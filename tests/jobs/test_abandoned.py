"""Validations that a dead worker left are taken up by another, once, and nobody else's are (A123)."""

from functools import partial

import trio

from gateway.jobs.validations import take_up_abandoned
from gateway.store import acme
from protocols.acme.states import AuthorizationStatus
from tests.actions.test_validate import Prover, bench

GLANCE = 0.02  # seconds


async def test_what_nobody_validates_any_more_is_taken_up_and_what_another_worker_has_is_not(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover) as here, trio.open_nursery() as nursery:
        left, others, pending = [await here.asked(f"{name}.example") for name in ("left", "others", "pending")]
        for each in (left, others):
            await here.house.store.write(lambda unit, key=each.key: acme.begin_challenge(unit, *key))

        async def elsewhere():
            return [others.authorization.id]

        job = partial(take_up_abandoned, here.resources, here.validations, elsewhere, glance=GLANCE)
        nursery.start_soon(job)
        assert (await here.end(left)).status is AuthorizationStatus.VALID
        await trio.sleep(5 * GLANCE)
        for each in (others, pending):
            assert (await here.now(each.authorization.id)).status is AuthorizationStatus.PENDING
        nursery.cancel_scope.cancel()
    assert [target.host for target in prover.targets] == ["left.example"], "once"


async def test_where_other_machines_may_have_it_a_validation_is_left_for_longer_than_any_takes(tmp_path):
    prover = Prover()
    async with bench(tmp_path, prover) as here, trio.open_nursery() as nursery:
        asked = await here.asked()
        await here.house.store.write(lambda unit: acme.begin_challenge(unit, *asked.key))

        async def elsewhere():
            return []

        job = partial(take_up_abandoned, here.resources, here.validations, elsewhere, patience=3600, glance=GLANCE)
        nursery.start_soon(job)
        await trio.sleep(10 * GLANCE)
        nursery.cancel_scope.cancel()
    assert prover.targets == []
