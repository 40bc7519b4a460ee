"""Addresses take turns while more come than can begin at once; nobody waits while few come."""

import trio
from trio.testing import wait_all_tasks_blocked

from gateway.fronts.rotation import Rotation


async def begin(rotation: Rotation, address: str, order: list[str], weight: int = 1) -> None:
    await rotation.turn(address, weight)
    order.append(address)


async def test_few_begin_at_once_without_waiting():
    rotation = Rotation(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        for _ in range(100):
            rotation.round_begins()
            for address in "abcd":
                await rotation.turn(address)
            assert rotation.waiting == 0
        nursery.cancel_scope.cancel()


async def test_while_nobody_gives_turns_nobody_waits():
    rotation = Rotation(1)
    for _ in range(100):
        await rotation.turn("a")


async def test_who_sends_the_most_begins_as_often_as_who_sends_one():
    """A storm of a hundred came first; the others wait for two turns of it at most."""
    rotation, order = Rotation(2), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as coming:
            for _ in range(2):
                await begin(rotation, "storm", order)
            for _ in range(100):
                coming.start_soon(begin, rotation, "storm", order)
            await wait_for_queue(rotation, 1)
            for address in ("honest", "too", "2001:db8::1", "2001:db8::2"):
                coming.start_soon(begin, rotation, address, order)
        nursery.cancel_scope.cancel()
    assert len(order) == 106
    assert order.index("honest") < 40
    assert order.index("too") < 40


async def wait_for_queue(rotation: Rotation, least: int) -> None:
    while rotation.waiting < least:
        await trio.lowlevel.checkpoint()


async def test_addresses_take_turns_in_the_order_in_which_they_came():
    rotation, order = Rotation(1), []
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as coming:
            nursery.start_soon(rotation.run)
            await wait_all_tasks_blocked()
            await rotation.turn("first")
            for address in ("a", "a", "a", "b", "c", "c"):
                coming.start_soon(begin, rotation, address, order)
                while rotation.waiting == 0 and not order:
                    await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert sorted(order) == ["a", "a", "a", "b", "c", "c"]
    assert rotation.waiting == 0


async def test_a_round_admits_no_more_than_fit_and_what_costs_more_takes_more():
    rotation = Rotation(8)
    began: list[int] = []
    rounds = 0

    async def handshake() -> None:
        await rotation.turn("a", 4)
        began.append(rounds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as coming:
            for _ in range(40):
                coming.start_soon(handshake)
            while len(began) < 40:
                rounds += 1
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert max(began.count(each) for each in set(began)) <= 4  # two, were rounds of ours and of the rotation's the same
    assert len(set(began)) >= 10


async def test_who_goes_away_leaves_the_line():
    rotation, order = Rotation(1), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        await rotation.turn("a")
        with trio.CancelScope() as scope:
            scope.cancel()
            await rotation.turn("a")
        assert scope.cancelled_caught
        assert rotation.waiting == 0
        await begin(rotation, "b", order)
        nursery.cancel_scope.cancel()
    assert order == ["b"]


async def test_when_the_turns_end_whoever_waits_begins():
    """A gateway that drains answers what it has."""
    rotation, order = Rotation(1), []
    async with trio.open_nursery() as nursery, trio.open_nursery() as giving:
        giving.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        await rotation.turn("a")
        for _ in range(10):
            nursery.start_soon(begin, rotation, "a", order)
        await wait_for_queue(rotation, 5)
        giving.cancel_scope.cancel()
    assert len(order) == 10


async def test_every_request_of_an_application_waits_for_its_turn():
    rotation = Rotation(2)
    served: list[str] = []

    async def asgi(scope, receive, send) -> None:
        served.append(scope["client"][0])

    app = rotation.around(asgi)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as coming:
            for address in ["storm"] * 50 + ["honest"]:
                coming.start_soon(app, {"type": "http", "client": (address, 1)}, None, None)
        nursery.cancel_scope.cancel()
    assert len(served) == 51


async def test_questions_leave_room_for_enrollments_from_however_many_addresses_they_come():
    """P16: a storm of newNonce from everywhere is as many addresses as it likes, each with its turn."""
    rotation, order = Rotation(8), []

    async def asgi(scope, receive, send) -> None:
        order.append(scope["method"])

    app = rotation.around(asgi)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as coming:
            for number in range(400):
                nonce = {"type": "http", "method": "HEAD", "path": "/acme/a/b/new-nonce", "client": (f"s{number}", 1)}
                coming.start_soon(app, nonce, None, None)
            await wait_for_queue(rotation, 300)
            began = len(order)
            for _ in range(30):
                enrollment = {"type": "http", "method": "POST", "path": "/est/a/b/simpleenroll", "client": ("one", 1)}
                coming.start_soon(app, enrollment, None, None)
        nursery.cancel_scope.cancel()
    assert len(order) == 430
    last = max(at for at, method in enumerate(order) if method == "POST")
    # Six of eight turns are theirs, and they stand in the line of one address.
    assert last - began < 100
    assert order[began : last + 1].count("HEAD") > 5  # and questions are answered


async def test_whoever_watches_over_the_process_is_heard_in_a_storm_of_questions():
    rotation, order = Rotation(2), []

    async def asgi(scope, receive, send) -> None:
        order.append(scope["path"])

    app = rotation.around(asgi)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rotation.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as coming:
            for number in range(200):
                directory = {"type": "http", "method": "GET", "path": "/acme/a/b/directory", "client": (str(number), 1)}
                coming.start_soon(app, directory, None, None)
            await wait_for_queue(rotation, 150)
            began = len(order)
            coming.start_soon(
                app, {"type": "http", "method": "GET", "path": "/healthz", "client": ("w", 1)}, None, None
            )
        nursery.cancel_scope.cancel()
    assert order.index("/healthz") - began < 20
