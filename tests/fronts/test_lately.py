"""What a worker remembers of its own last doings for the request that follows, and that nobody is told wrong by it."""

import pytest
from starlette.routing import Router

from gateway.fronts.acme import acme_routes
from gateway.fronts.acme.lately import Lately
from gateway.store import acme
from gateway.store.unit import StoreUnavailable
from protocols.acme.states import Problem
from tests.doubles.acme_client import csr
from tests.doubles.town import Counting, town


@pytest.fixture
async def here(tmp_path):
    async with town(tmp_path) as place:
        yield place


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_thing_is_given_out_once_for_half_a_minute_and_the_oldest_goes_first():
    clock = Clock()
    lately = Lately(clock, most=2)
    for name in ("a", "b", "c"):
        lately.put((name,), name.upper())
    assert [lately.take((name,)) for name in ("a", "b", "b")] == [None, "B", None]
    clock.now = 31.0
    assert lately.take(("c",)) is None


async def remembered(here):
    """An order that is ready, and was read as such."""
    await here.client.register()
    order = await here.ready_order("localhost")
    assert (await here.client.post(order.location)).json["status"] == "ready"
    return order, order.location.rpartition("/")[2]


async def test_what_follows_at_once_is_not_read_again(here):
    order, _ = await remembered(here)

    async def away(_):
        raise StoreUnavailable("away")

    store = here.house.store
    unread = Counting(store, store.write)
    unread.read = away
    object.__setattr__(here.house.resources, "store", unread)
    final = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"
    first = await here.client.post(final.json["certificate"])
    assert first.body.count(b"BEGIN CERTIFICATE") >= 1
    # Once: the second time the store is asked, which is away.
    assert (await here.client.post(final.json["certificate"])).status == 503
    object.__setattr__(here.house.resources, "store", store)
    assert (await here.client.post(final.json["certificate"])).body == first.body


async def test_an_order_that_another_worker_has_ended_is_not_finalized(here):
    # A81: the claim in the store decides, not what is remembered.
    order, order_id = await remembered(here)
    problem = Problem("unauthorized", "elsewhere", 403)
    await here.house.store.write(lambda unit: acme.fail_order(unit, order_id, problem))
    answer = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert (answer.status, answer.type) == (403, "orderNotReady")
    assert here.house.signer.signed == []


async def test_an_order_that_another_worker_has_finalized_shows_what_became_of_it(here):
    # A82, A90: both workers remember that it was ready.
    order, _ = await remembered(here)
    house, first_door = here.house, here.house.app
    other_door = Router(acme_routes(house.front))

    async def by(door, payload, url):
        house.app, here.client.nonce = door, None
        return await here.client.post(url, payload)

    assert (await by(other_door, None, order.location)).json["status"] == "ready"
    request = {"csr": csr("localhost")}
    first = await by(first_door, request, order.json["finalize"])
    assert (await by(other_door, request, order.json["finalize"])).json == first.json
    assert len(house.signer.signed) == 1


async def test_an_order_that_another_worker_has_finalized_is_not_finalized_for_another_key(here):
    order, _ = await remembered(here)
    house, first_door = here.house, here.house.app
    house.app, here.client.nonce = Router(acme_routes(house.front)), None
    assert (await here.client.post(order.location)).json["status"] == "ready"
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).json["status"] == "valid"
    house.app, here.client.nonce = first_door, None
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).type == "orderNotReady"
    assert len(house.signer.signed) == 1


async def test_a_certificate_is_given_to_nobody_else_by_what_is_remembered(here):
    # A93, A94
    await here.client.register()
    final = await here.issue("localhost")
    own, here.client.kid, here.client.key = here.client.kid, None, type(here.client.key)()
    await here.client.register()
    assert here.client.kid != own
    assert (await here.client.post(final.json["certificate"])).status == 404
