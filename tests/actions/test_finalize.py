"""Finalizing an order whose client goes away: nothing is signed and the order is ready, or it is valid (A82, A87, A89)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import trio

from gateway.actions.finalize import finalize
from gateway.domain.refusal import Refusal
from gateway.store import acme, issuance
from gateway.store.unit import Unit
from protocols.acme.states import Account, AuthorizationStatus, Order, OrderStatus
from protocols.pkix import csr as reader
from tests.doubles.house import NOW, House, open_house
from tests.doubles.requests import csr
from tests.store import things


class Counter:
    """A house with one order that is ready."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.account: Account = things.account(pair_id=house.pair.id)
        self.wanted = reader.parse(csr(common_name=None, dns=("host.example",)))
        valid = things.authorization(self.account.id, status=AuthorizationStatus.VALID, expires=NOW + timedelta(days=9))
        self.order: Order = things.order(self.account.id, (valid,), expires=NOW + timedelta(days=9), not_after=None)

        def unit(unit: Unit) -> None:
            acme.create_account(unit, self.account)
            acme.create_order(unit, self.order, (valid,), house.pair.id, NOW)

        self.prepare = unit

    async def finalize(self) -> Order:
        return await finalize(self.house.resources, self.house.pair, self.account, self.order, self.wanted)

    async def stands(self) -> tuple[OrderStatus, list[str]]:
        def read(unit: Unit) -> tuple[OrderStatus, list[str]]:
            found = acme.find_order(unit, self.house.pair.id, self.order.id, self.house.now)
            assert found is not None
            return found.status, sorted(each.status for each in issuance.serials(unit, "authority"))

        return await self.house.store.read(read)


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with open_house(tmp_path, lambda front: []) as house:
        counter = Counter(house)
        await house.store.write(counter.prepare)
        yield counter


@pytest.mark.parametrize("begun", [False, True])
async def test_an_order_whose_client_goes_away_is_ready_again_or_valid(counter: Counter, begun: bool):
    """Once a worker has the ask, it is carried out and recorded, whoever listens."""
    waiting, whole = trio.Event(), counter.house.signer.issue

    async def issue(plan, pair, *, ticket):
        waiting.set()
        with trio.CancelScope(shield=begun):
            await trio.sleep(0.02 if begun else 60)
        return await whole(plan, pair, ticket=ticket)

    counter.house.signer.issue = issue  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counter.finalize)
        await waiting.wait()
        nursery.cancel_scope.cancel()
    counter.house.signer.issue = whole  # type: ignore[method-assign]
    expected = (OrderStatus.VALID, ["issued"]) if begun else (OrderStatus.READY, ["burnt"])
    assert await counter.stands() == expected
    again = await counter.finalize()
    assert again.status is OrderStatus.VALID
    assert (await counter.stands())[1].count("issued") == 1


async def test_a_serial_given_up_while_an_order_is_signed_leaves_the_order_ready(counter: Counter):
    """An operator revoked the serial, or the clock jumped ahead and it was taken for overdue."""
    whole = counter.house.signer.issue

    async def issue(plan, pair, *, ticket):
        der = await whole(plan, pair, ticket=ticket)
        await counter.house.store.write(lambda unit: issuance.recover(unit, at=NOW))
        return der

    counter.house.signer.issue = issue  # type: ignore[method-assign]
    with pytest.raises(Refusal, match="given up meanwhile"):
        await counter.finalize()
    assert await counter.stands() == (OrderStatus.READY, ["burnt"])
    counter.house.signer.issue = whole  # type: ignore[method-assign]
    assert (await counter.finalize()).status is OrderStatus.VALID


class _Undone(Exception):
    """A neighbour in the batch failed."""


async def test_an_order_that_ends_before_its_claim_is_run_again_is_not_issued_for(counter: Counter):
    """A82: a batch is undone and run again where a neighbour fails; what was claimed at first may have ended by then."""
    store, whole = counter.house.store, counter.house.store.write

    async def write(work, *, shielded=False):
        store.write = whole  # type: ignore[method-assign]

        def undone(unit: Unit) -> None:
            work(unit)
            raise _Undone

        with pytest.raises(_Undone):
            await whole(undone)
        [proof] = counter.order.authorization_ids
        assert await whole(lambda unit: acme.deactivate_authorization(unit, proof, NOW)) is not None
        return await whole(work, shielded=shielded)

    store.write = write  # type: ignore[method-assign]
    with pytest.raises(Refusal, match="not ready"):
        await counter.finalize()
    assert await counter.stands() == (OrderStatus.INVALID, [])
