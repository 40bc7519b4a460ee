"""What a worker remembers of its own last doings for the request that follows, and that nobody is told wrong by it."""

import pytest
import trio
from starlette.routing import Router

from gateway.fronts.acme import acme_routes, door
from gateway.fronts.acme.host import SEEN
from gateway.fronts.acme.lately import Lately
from gateway.serve.workers.claims import LINGER
from gateway.store import acme
from gateway.store.unit import StoreUnavailable
from protocols.acme.states import Authorization, Problem
from tests.doubles.acme_client import csr
from tests.doubles.town import Counting, town


@pytest.fixture
async def here(tmp_path, monkeypatch):
    """A town whose gateway remembers for as long as a test may take, however busy the machine is."""
    monkeypatch.setattr(door, "SEEN", 3600.0)
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
    brief = Lately(clock, lifetime=0.5)
    brief.put(("d",), "D")
    clock.now += 0.6
    assert brief.take(("d",)) is None


async def remembered(here):
    """An order that is ready, and was read as such."""
    await here.client.register()
    order = await here.ready_order("localhost")
    assert (await here.client.post(order.location)).json["status"] == "ready"
    return order, order.location.rpartition("/")[2]


def unreadable(here):
    """From now on the store takes what is written and gives nothing to read; the one that does is handed back."""

    async def away(_):
        raise StoreUnavailable("away")

    store = here.house.store
    unread = Counting(store, store.write)
    unread.read = away
    object.__setattr__(here.house.resources, "store", unread)
    return store


async def test_what_follows_at_once_is_not_read_again(here):
    order, _ = await remembered(here)

    store = unreadable(here)
    final = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"
    first = await here.client.post(final.json["certificate"])
    assert first.body.count(b"BEGIN CERTIFICATE") >= 1
    # Once: the second time the store is asked, which is away.
    assert (await here.client.post(final.json["certificate"])).status == 503
    object.__setattr__(here.house.resources, "store", store)
    assert (await here.client.post(final.json["certificate"])).body == first.body


async def challenge(here, *names):
    """An order that waits, and the URLs of its first authorization, which was read as pending, and of its challenge."""
    await here.client.register()
    order = await here.client.order(*names)
    url = order.json["authorizations"][0]
    return order, url, (await here.client.post(url)).json["challenges"][0]["url"]


async def test_a_name_that_is_proved_at_once_needs_no_look_at_its_authorization_or_its_order(here):
    order, _, url = await challenge(here, "localhost")
    unreadable(here)
    assert (await here.client.post(url, {})).json["status"] == "valid"
    final = await here.client.post(order.json["finalize"], {"csr": csr("localhost")})
    assert final.json["status"] == "valid"
    assert (await here.client.post(url, {})).status == 503, "what it was read as is believed once"


async def test_a_challenge_is_answered_for_once_whatever_is_read_meanwhile(here):
    # A61: the authorization was read as pending while it was being validated.
    _, authorization, url = await challenge(here, "localhost")
    here.hold = trio.Event()
    first, answers = await here.client.fresh_nonce(), []

    async def answer():
        answers.append(await here.client.post(url, {}, nonce=first))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            while not here.server.seen:
                await trio.sleep(0.001)
            await here.client.post(authorization)
            here.hold.set()
        while (again := await here.client.post(url, {})).json["status"] == "processing":
            await trio.sleep(0.01)
    assert again.json["status"] == "valid"
    assert answers[0].status == 200
    assert len(here.server.seen) == 1


async def test_an_authorization_that_another_worker_has_ended_is_not_made_valid(here):
    # A59: the outcome counts only where all is as it was read.
    order, authorization, url = await challenge(here, "localhost")
    at = here.house.resources.now()
    ended = authorization.rpartition("/")[2]
    await here.house.store.write(lambda unit: acme.deactivate_authorization(unit, ended, at))
    assert (await here.client.post(url, {})).json["status"] == "pending"
    assert (await here.client.post(authorization)).json["status"] == "deactivated"
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).type == "orderNotReady"
    assert here.house.signer.signed == []


async def test_what_a_slow_read_saw_is_as_old_as_the_read(tmp_path, monkeypatch):
    # A61: another worker may have validated it since the read began, and its claim on it be over.
    monkeypatch.setattr(door, "SEEN", brief := 0.1)
    async with town(tmp_path) as here:
        await here.client.register()
        order = await here.client.order("localhost")
        store, seen = here.house.store, []

        async def slow(work):
            found = await store.read(work)
            if isinstance(found, Authorization):
                seen.append(found)
                await trio.sleep(brief + 0.1)
            return found

        counted = Counting(store, store.write)
        counted.read = slow
        object.__setattr__(here.house.resources, "store", counted)
        url = (await here.client.post(order.json["authorizations"][0])).json["challenges"][0]["url"]
        assert len(seen) == 1
        assert (await here.client.post(url, {})).json["status"] == "valid"
        assert len(seen) == 2


async def test_an_authorization_that_was_deactivated_here_is_not_validated(here):
    _, authorization, url = await challenge(here, "localhost")
    await here.client.post(authorization, {"status": "deactivated"})
    await here.client.post(url, {})
    assert here.server.seen == []


async def test_an_order_that_waits_for_another_name_is_not_ready(here):
    # A81, RFC 8555, 7.1.6.
    order, _, url = await challenge(here, "localhost", "a.localhost")
    assert (await here.client.post(url, {})).json["status"] == "valid"
    request = {"csr": csr("localhost", "a.localhost")}
    assert (await here.client.post(order.json["finalize"], request)).type == "orderNotReady"
    assert here.house.signer.signed == []


async def test_an_order_that_was_proved_here_and_ended_elsewhere_is_not_finalized(here):
    # A81: the claim in the store decides here too.
    order, _, url = await challenge(here, "localhost")
    assert (await here.client.post(url, {})).json["status"] == "valid"
    order_id = order.location.rpartition("/")[2]
    problem = Problem("unauthorized", "elsewhere", 403)
    await here.house.store.write(lambda unit: acme.fail_order(unit, order_id, problem))
    assert (await here.client.post(order.json["finalize"], {"csr": csr("localhost")})).type == "orderNotReady"
    assert here.house.signer.signed == []


def test_what_was_seen_to_be_open_is_believed_for_less_time_than_a_claim_stays():
    # A61: what another worker has ended since then is claimed still.
    assert SEEN < LINGER


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
