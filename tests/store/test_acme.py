"""ACME's records: every change names the state it starts from, and what belongs together moves together."""

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store import acme
from gateway.store.unit import StateConflict, Store, Unit, open_store
from protocols.acme.states import (
    ACCOUNT_TRANSITIONS,
    AUTHORIZATION_TRANSITIONS,
    CHALLENGE_TRANSITIONS,
    ORDER_TRANSITIONS,
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    ChallengeStatus,
    Identifier,
    IdentifierType,
    Order,
    OrderStatus,
    Problem,
)
from tests.store import things
from tests.store.things import NOW, PAIR

LATER = NOW + timedelta(minutes=1)
PROBLEM = Problem("unauthorized", "not what was expected", 403, Identifier(IdentifierType.DNS, "host.example"))


class Placed:
    """An account with one order over some names."""

    def __init__(self, *names: str, proved: bool = False) -> None:
        status = AuthorizationStatus.VALID if proved else AuthorizationStatus.PENDING
        self.account = things.account()
        self.authorizations = tuple(things.authorization(self.account.id, name, status=status) for name in names)
        self.order = things.order(self.account.id, self.authorizations)

    def place(self, unit: Unit) -> None:
        acme.create_account(unit, self.account)
        acme.create_order(unit, self.order, self.authorizations, PAIR, NOW)

    def prove(self, unit: Unit, index: int, error: Problem | None = None) -> Authorization:
        key = self.authorizations[index].id, "challenge-1"
        acme.begin_challenge(unit, *key)
        return acme.finish_challenge(unit, *key, error=error, at=LATER)


async def order_of(store: Store, order: Order) -> Order:
    found = await store.read(lambda unit: acme.find_order(unit, PAIR, order.id, LATER))
    assert found is not None
    return found


async def authorization_of(store: Store, authorization: Authorization) -> Authorization:
    found = await store.read(lambda unit: acme.find_authorization(unit, PAIR, authorization.id, LATER))
    assert found is not None
    return found


async def test_everything_comes_back_as_it_was_written(store: Store):
    placed = Placed("a.example", "b.example")
    await store.write(placed.place)
    account = placed.account
    assert await store.read(lambda unit: acme.find_account(unit, PAIR, account.id)) == account
    assert await store.read(lambda unit: acme.find_account_by_key(unit, PAIR, account.thumbprint)) == account
    assert await order_of(store, placed.order) == placed.order
    for each in placed.authorizations:
        assert await authorization_of(store, each) == each


async def test_nothing_of_one_pair_is_found_through_another(store: Store):
    placed = Placed("a.example")
    await store.write(placed.place)
    other = "application:other"
    for find in (
        lambda unit: acme.find_account(unit, other, placed.account.id),
        lambda unit: acme.find_account_by_key(unit, other, placed.account.thumbprint),
        lambda unit: acme.find_order(unit, other, placed.order.id, NOW),
        lambda unit: acme.find_authorization(unit, other, placed.authorizations[0].id, NOW),
    ):
        assert await store.read(find) is None


async def test_two_accounts_with_one_key_at_the_same_time_are_one(store: Store, url: str):
    """A32."""
    found: list[tuple[Account, bool]] = []
    async with open_store(url) as other, trio.open_nursery() as nursery:

        async def one(through: Store) -> None:
            account = things.account(thumbprint="the same")
            found.append(await through.write(lambda unit: acme.create_account(unit, account)))

        for number in range(16):
            nursery.start_soon(one, (store, other)[number % 2])
    assert len({account.id for account, _ in found}) == 1
    assert [new for _, new in found].count(True) == 1
    elsewhere = things.account(thumbprint="the same", pair_id="application:other")
    assert await store.write(lambda unit: acme.create_account(unit, elsewhere)) == (elsewhere, True)


async def test_contacts_are_kept_changed_and_cleared(store: Store):
    """A34."""
    account = things.account()
    await store.write(lambda unit: acme.create_account(unit, account))
    for contact, expected in (
        (None, account.contact),
        (("mailto:b@example.com",), ("mailto:b@example.com",)),
        ((), ()),
    ):
        updated = await store.write(
            lambda unit, it=contact: acme.update_account(unit, account.id, contact=it, status=None, at=LATER)
        )
        assert updated == msgspec.structs.replace(account, contact=expected)
    with pytest.raises(StateConflict):
        await store.write(lambda unit: acme.update_account(unit, "nobody", contact=(), status=None, at=LATER))


async def test_a_deactivated_account_takes_its_unfinished_work_with_it(store: Store):
    """A36; what was finalized before stays."""
    account = things.account()
    pending, valid = (
        things.authorization(account.id, status=status)
        for status in (AuthorizationStatus.PENDING, AuthorizationStatus.VALID)
    )
    waiting, ready, running = (things.order(account.id, each) for each in ((pending, valid), (valid,), (valid,)))

    def place(unit: Unit) -> None:
        acme.create_account(unit, account)
        acme.create_order(unit, waiting, (pending, valid), PAIR, NOW)
        acme.create_order(unit, ready, (), PAIR, NOW)
        acme.create_order(unit, running, (), PAIR, NOW)
        acme.claim_order(unit, running.id, b"csr", NOW)

    await store.write(place)
    ended = await store.write(
        lambda unit: acme.update_account(unit, account.id, contact=None, status=AccountStatus.DEACTIVATED, at=LATER)
    )
    assert ended.status is AccountStatus.DEACTIVATED
    assert [(await authorization_of(store, each)).status for each in (pending, valid)] == [
        AuthorizationStatus.DEACTIVATED
    ] * 2
    assert [(await order_of(store, each)).status for each in (waiting, ready, running)] == [
        OrderStatus.INVALID,
        OrderStatus.INVALID,
        OrderStatus.PROCESSING,
    ]
    again = await store.write(
        lambda unit: acme.update_account(unit, account.id, contact=None, status=AccountStatus.REVOKED, at=LATER)
    )
    assert again.status is AccountStatus.DEACTIVATED
    assert ACCOUNT_TRANSITIONS[AccountStatus.DEACTIVATED] == frozenset()


async def test_an_order_is_ready_with_its_last_authorization_and_siblings_stay_pending(store: Store):
    """A47, A63."""
    placed = Placed("a.example", "b.example")
    await store.write(placed.place)
    first = await store.write(lambda unit: placed.prove(unit, 0))
    assert first.status is AuthorizationStatus.VALID
    assert [each.status for each in first.challenges] == [ChallengeStatus.VALID, ChallengeStatus.PENDING]
    assert first.challenges[0].validated == LATER
    assert first == await authorization_of(store, placed.authorizations[0])
    assert (await order_of(store, placed.order)).status is OrderStatus.PENDING
    await store.write(lambda unit: placed.prove(unit, 1))
    assert (await order_of(store, placed.order)).status is OrderStatus.READY


async def test_authorizations_that_end_at_the_same_time_in_two_gateways_make_the_order_ready(store: Store, url: str):
    """Neither transaction sees the other's authorization: the order must not stay pending for that."""
    for _ in range(5):
        placed = Placed(*(f"{letter}.example" for letter in "abcdef"))
        await store.write(placed.place)
        async with open_store(url) as other, trio.open_nursery() as nursery:
            for index in range(6):
                through = (store, other)[index % 2]
                nursery.start_soon(through.write, lambda unit, it=placed, index=index: it.prove(unit, index))
        assert (await order_of(store, placed.order)).status is OrderStatus.READY


@pytest.mark.parametrize("error", [None, PROBLEM])
async def test_a_validation_that_is_over_at_once_ends_as_one_that_took_long(store: Store, error: Problem | None):
    at_once, slow = Placed("a.example"), Placed("a.example")
    await store.write(at_once.place)
    await store.write(slow.place)
    seen = at_once.authorizations[0]
    ended = await store.write(lambda unit: acme.settle_challenge(unit, seen, "challenge-1", error=error, at=LATER))
    after = await store.write(lambda unit: slow.prove(unit, 0, error))
    facts = [[(each.id, each.status, each.validated, each.error) for each in one.challenges] for one in (ended, after)]
    assert (ended.status, facts[0]) == (after.status, facts[1])
    assert ended == await authorization_of(store, seen)
    assert (await order_of(store, at_once.order)).status is (await order_of(store, slow.order)).status


async def test_a_validation_that_others_have_begun_since_it_was_seen_ends_all_the_same(store: Store):
    placed = Placed("a.example")
    await store.write(placed.place)
    seen = placed.authorizations[0]
    await store.write(lambda unit: acme.begin_challenge(unit, seen.id, "challenge-1"))
    ended = await store.write(lambda unit: acme.settle_challenge(unit, seen, "challenge-1", error=None, at=LATER))
    assert ended.status is AuthorizationStatus.VALID
    assert (await order_of(store, placed.order)).status is OrderStatus.READY


async def test_what_has_ended_since_it_was_seen_stays_as_it_is(store: Store):
    """A62: no second outcome."""
    placed = Placed("a.example")
    await store.write(placed.place)
    seen = placed.authorizations[0]
    failed = await store.write(lambda unit: placed.prove(unit, 0, PROBLEM))
    late = await store.write(lambda unit: acme.settle_challenge(unit, seen, "challenge-1", error=None, at=LATER))
    assert late == failed
    again = await store.write(lambda unit: acme.settle_challenge(unit, late, "challenge-1", error=None, at=LATER))
    assert again == failed
    assert (await order_of(store, placed.order)).status is OrderStatus.INVALID


async def test_a_challenge_that_there_is_not_ends_nothing(store: Store):
    placed = Placed("a.example")
    await store.write(placed.place)
    seen = placed.authorizations[0]
    assert await store.write(lambda unit: acme.settle_challenge(unit, seen, "none", error=None, at=LATER)) == seen


async def test_a_failed_challenge_ends_its_authorization_and_its_order_and_says_why(store: Store):
    """A62."""
    placed = Placed("a.example", "b.example")
    await store.write(placed.place)
    failed = await store.write(lambda unit: placed.prove(unit, 0, PROBLEM))
    assert failed.status is AuthorizationStatus.INVALID
    assert (failed.challenges[0].status, failed.challenges[0].error) == (ChallengeStatus.INVALID, PROBLEM)
    order = await order_of(store, placed.order)
    assert (order.status, order.error) == (OrderStatus.INVALID, PROBLEM)
    await store.write(lambda unit: placed.prove(unit, 1))
    assert (await order_of(store, placed.order)).status is OrderStatus.INVALID


async def test_a_challenge_begins_once_and_ends_once(store: Store, url: str):
    """A61: a second POST, or a second gateway, starts nothing."""
    placed = Placed("a.example")
    await store.write(placed.place)
    key = placed.authorizations[0].id, "challenge-1"
    begun: list[bool] = []
    async with open_store(url) as other, trio.open_nursery() as nursery:

        async def begin(through: Store) -> None:
            begun.append(await through.write(lambda unit: acme.begin_challenge(unit, *key)))

        for number in range(8):
            nursery.start_soon(begin, (store, other)[number % 2])
    assert begun.count(True) == 1
    ended = await store.write(lambda unit: acme.finish_challenge(unit, *key, error=None, at=LATER))
    late = await store.write(lambda unit: acme.finish_challenge(unit, *key, error=PROBLEM, at=LATER))
    assert late == ended
    assert (await order_of(store, placed.order)).status is OrderStatus.READY


async def test_a_challenge_that_has_not_begun_is_not_ended(store: Store):
    placed = Placed("a.example")
    await store.write(placed.place)
    key = placed.authorizations[0].id
    untouched = await store.write(lambda unit: acme.finish_challenge(unit, key, "challenge-1", error=None, at=LATER))
    assert untouched == placed.authorizations[0]
    assert await store.write(lambda unit: acme.begin_challenge(unit, key, "no-such-challenge")) is False
    with pytest.raises(StateConflict):
        await store.write(lambda unit: acme.begin_challenge(unit, "nobody", "challenge-1"))


async def test_two_finalizes_at_the_same_time_claim_an_order_once(store: Store, url: str):
    """A82."""
    placed = Placed("a.example", proved=True)
    await store.write(placed.place)
    claimed: list[bool] = []
    async with open_store(url) as other, trio.open_nursery() as nursery:

        async def claim(through: Store) -> None:
            claimed.append(await through.write(lambda unit: acme.claim_order(unit, placed.order.id, b"csr", NOW)))

        for number in range(12):
            nursery.start_soon(claim, (store, other)[number % 2])
    assert claimed.count(True) == 1
    order = await order_of(store, placed.order)
    assert (order.status, order.csr_hash) == (OrderStatus.PROCESSING, b"csr")


async def test_an_order_that_was_claimed_becomes_valid_invalid_or_ready_again(store: Store):
    for move, expected in (
        (lambda unit, it: acme.finish_order(unit, it, certificate_id="c"), OrderStatus.VALID),
        (lambda unit, it: acme.fail_order(unit, it, PROBLEM), OrderStatus.INVALID),
        (acme.release_order, OrderStatus.READY),
    ):
        placed = Placed("a.example", proved=True)
        await store.write(placed.place)
        await store.write(lambda unit, it=placed: acme.claim_order(unit, it.order.id, b"csr", NOW))
        assert await store.write(lambda unit, it=placed, move=move: move(unit, it.order.id)) is True
        order = await order_of(store, placed.order)
        assert order.status is expected
        assert order.certificate_id == ("c" if expected is OrderStatus.VALID else None)
        assert order.error == (PROBLEM if expected is OrderStatus.INVALID else None)
        assert await store.write(lambda unit, it=placed: acme.release_order(unit, it.order.id)) is False


async def test_a_claim_is_given_back_by_whoever_holds_it_alone(store: Store):
    """Whose claim was undone with its batch may find the order claimed by another process."""
    placed = Placed("a.example", proved=True)
    await store.write(placed.place)
    assert await store.write(lambda unit: acme.claim_order(unit, placed.order.id, b"csr", NOW, 2**40))
    for other in (7, None):
        assert await store.write(lambda unit, other=other: acme.release_order(unit, placed.order.id, other)) is False
    assert (await order_of(store, placed.order)).status is OrderStatus.PROCESSING
    assert await store.write(lambda unit: acme.release_order(unit, placed.order.id, 2**40)) is True
    assert (await order_of(store, placed.order)).status is OrderStatus.READY


async def test_an_order_that_was_released_while_it_was_signed_for_gets_its_certificate(store: Store):
    """Else its client would never hear of a certificate that is issued: the next finalize meets the same request."""
    placed = Placed("a.example", proved=True)
    await store.write(placed.place)
    await store.write(lambda unit: acme.claim_order(unit, placed.order.id, b"csr", NOW))
    await store.write(lambda unit: acme.release_order(unit, placed.order.id))
    assert await store.write(lambda unit: acme.finish_order(unit, placed.order.id, certificate_id="c")) is True
    order = await order_of(store, placed.order)
    assert (order.status, order.certificate_id) == (OrderStatus.VALID, "c")


async def test_what_has_passed_its_end_is_invalid_or_expired_and_cannot_be_claimed(store: Store):
    """A46, A47."""
    placed = Placed("a.example", proved=True)
    await store.write(placed.place)
    end = placed.order.expires
    assert (
        await store.read(lambda unit: acme.find_order(unit, PAIR, placed.order.id, end))
    ).status is OrderStatus.INVALID  # type: ignore[union-attr]
    assert await store.write(lambda unit: acme.claim_order(unit, placed.order.id, b"csr", end)) is False
    end = placed.authorizations[0].expires
    key = placed.authorizations[0].id
    found = await store.read(lambda unit: acme.find_authorization(unit, PAIR, key, end))
    assert found is not None
    assert found.status is AuthorizationStatus.EXPIRED
    assert await store.write(lambda unit: acme.deactivate_authorization(unit, key, end)) is None


@pytest.mark.parametrize("status", list(AuthorizationStatus))
async def test_a_deactivated_authorization_ends_the_orders_that_stand_on_it(store: Store, status: AuthorizationStatus):
    """A59: pending and valid ones can be deactivated."""
    account = things.account()
    authorization = things.authorization(account.id, status=status)
    order = things.order(account.id, (authorization,))
    await store.write(lambda unit: acme.create_order(unit, order, (authorization,), PAIR, NOW))
    done = await store.write(lambda unit: acme.deactivate_authorization(unit, authorization.id, LATER))
    if AuthorizationStatus.DEACTIVATED in AUTHORIZATION_TRANSITIONS[status]:
        assert done == msgspec.structs.replace(authorization, status=AuthorizationStatus.DEACTIVATED)
        assert (await order_of(store, order)).status is OrderStatus.INVALID
    else:
        assert done is None
        assert await authorization_of(store, authorization) == authorization
        assert await order_of(store, order) == order


async def test_open_authorizations_are_reused_by_name_wildcard_and_age(store: Store):
    """A50, A51: the proof of a name is no proof of its wildcard."""
    account = things.account()
    valid = things.authorization(account.id, "a.example", status=AuthorizationStatus.VALID)
    pending = things.authorization(account.id, "a.example")
    wild = things.authorization(account.id, "b.example", wildcard=True, status=AuthorizationStatus.VALID)
    ended = things.authorization(account.id, "c.example", status=AuthorizationStatus.INVALID)
    alone = things.authorization(account.id, "d.example")
    mine = (valid, pending, wild, ended, alone)
    order = things.order(account.id, mine)
    await store.write(lambda unit: acme.create_order(unit, order, mine, PAIR, NOW))

    def reusable(
        *names: str, since: timedelta = -timedelta(seconds=1), of: str = account.id
    ) -> Callable[[Unit], object]:
        wanted = tuple(Identifier(IdentifierType.DNS, name) for name in names)
        return lambda unit: acme.reusable_authorizations(unit, of, wanted, since=NOW + since, at=LATER)

    assert await store.write(reusable("a.example", "*.b.example", "c.example", "d.example")) == [valid, wild]
    assert await store.write(reusable("b.example", "*.a.example")) == []
    assert await store.write(reusable("a.example", since=timedelta(0))) == []
    assert await store.write(reusable("a.example", of="somebody")) == []
    again = things.order(account.id, (valid,))
    await store.write(lambda unit: acme.create_order(unit, again, (), PAIR, NOW))
    younger = things.authorization(account.id, "a.example", status=AuthorizationStatus.VALID)
    another = things.order(account.id, (younger,))
    later = NOW + timedelta(milliseconds=1)
    await store.write(lambda unit: acme.create_order(unit, another, (younger,), PAIR, later))
    assert await store.write(reusable("a.example")) == [younger]
    assert (await order_of(store, again)).status is OrderStatus.READY
    await store.write(lambda unit: acme.deactivate_authorization(unit, valid.id, LATER))
    assert (await order_of(store, again)).status is OrderStatus.INVALID


async def test_an_order_cannot_claim_to_be_ready_when_it_is_not(store: Store):
    account = things.account()
    pending = things.authorization(account.id)
    order = things.order(account.id, (pending,), status=OrderStatus.READY)
    with pytest.raises(StateConflict):
        await store.write(lambda unit: acme.create_order(unit, order, (pending,), PAIR, NOW))
    missing = things.order(account.id, (things.authorization(account.id),))
    with pytest.raises(StateConflict):
        await store.write(lambda unit: acme.create_order(unit, missing, (), PAIR, NOW))


async def test_the_list_of_orders_has_pages_and_no_dead_orders(store: Store):
    """A40."""
    placed = [Placed("a.example", proved=True) for _ in range(5)]
    account = placed[0].account
    for each in placed:
        each.order = msgspec.structs.replace(each.order, account_id=account.id)
        await store.write(each.place)
    dead, done, *live = [each.order.id for each in placed]
    await store.write(lambda unit: acme.fail_order(unit, dead, PROBLEM))
    await store.write(lambda unit: acme.claim_order(unit, done, b"csr", NOW))
    await store.write(lambda unit: acme.finish_order(unit, done, certificate_id="c"))
    first, cursor = await store.read(lambda unit: acme.list_orders(unit, account.id, None, 3, LATER))
    assert (first, cursor) == ((done, *live[:2]), live[1])
    rest = await store.read(lambda unit: acme.list_orders(unit, account.id, cursor, 3, LATER))
    assert rest == ((live[2],), None)
    end = placed[0].order.expires
    assert await store.read(lambda unit: acme.list_orders(unit, account.id, None, 3, end)) == ((done,), None)


async def test_a_restart_finds_the_validations_that_were_under_way(store: Store):
    """A87, A114."""
    running, waiting, left = Placed("a.example"), Placed("b.example"), Placed("c.example")
    for each in (running, waiting, left):
        await store.write(each.place)
    for each in (running, left):
        await store.write(lambda unit, it=each: acme.begin_challenge(unit, it.authorizations[0].id, "challenge-2"))
    await store.write(
        lambda unit: acme.update_account(
            unit, left.account.id, contact=None, status=AccountStatus.DEACTIVATED, at=LATER
        )
    )
    (found,) = await store.read(lambda unit: acme.unfinished_challenges(unit, LATER))
    assert (found.pair_id, found.account, found.challenge_id) == (PAIR, running.account, "challenge-2")
    assert found.authorization == await authorization_of(store, running.authorizations[0])
    await store.write(
        lambda unit: acme.finish_challenge(unit, found.authorization.id, found.challenge_id, error=None, at=LATER)
    )
    assert await store.read(lambda unit: acme.unfinished_challenges(unit, LATER)) == []


async def test_what_ended_long_ago_is_collected_in_steps(store: Store):
    """A115."""
    old = [Placed("a.example", "b.example") for _ in range(3)]
    new = Placed("c.example")
    for each in (*old, new):
        await store.write(each.place)
    await store.write(lambda unit: placed_later(unit, new))
    horizon = old[0].authorizations[0].expires + timedelta(seconds=1)
    steps = []
    while count := await store.write(lambda unit: acme.collect(unit, horizon, limit=2)):
        steps.append(count)
    assert sum(steps) == 3 + 6 + 2
    assert max(steps) <= 4
    assert await store.read(lambda unit: acme.find_order(unit, PAIR, old[0].order.id, NOW)) is None


def placed_later(unit: Unit, placed: Placed) -> None:
    account = placed.account
    fresh = things.authorization(account.id, expires=NOW + timedelta(days=300))
    order = things.order(account.id, (fresh,), expires=NOW + timedelta(days=300))
    acme.create_order(unit, order, (fresh,), PAIR, NOW)


EVENTS = ("begin", "prove", "fail", "deactivate", "claim", "finish", "fail-order", "release", "end-account")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1), st.integers(1, 2)), max_size=20))
def test_no_sequence_of_events_moves_a_record_against_its_table(url: str, events: list[tuple[str, int, int]]):
    """A121: states only go where the RFC's pictures lead, and an order is ready only with all its proofs."""

    async def play() -> None:
        placed = Placed("a.example", "b.example")
        async with open_store(url) as store:
            await store.write(placed.place)
            order = placed.order
            authorizations = list(placed.authorizations)
            for event in events:
                await store.write(step(placed, *event))
                after = await order_of(store, order)
                assert after.status is order.status or after.status in ORDER_TRANSITIONS[order.status]
                order = after
                for index, before in enumerate(authorizations):
                    now = authorizations[index] = await authorization_of(store, before)
                    assert now.status is before.status or now.status in AUTHORIZATION_TRANSITIONS[before.status]
                    for old, new in zip(before.challenges, now.challenges, strict=True):
                        assert old.status is new.status or new.status in CHALLENGE_TRANSITIONS[old.status]
                if order.status is OrderStatus.READY:
                    assert all(each.status is AuthorizationStatus.VALID for each in authorizations)

    trio.run(play)


def step(placed: Placed, event: str, index: int, challenge: int) -> Callable[[Unit], object]:
    key = placed.authorizations[index].id, f"challenge-{challenge}"
    order_id = placed.order.id
    steps: dict[str, Callable[[Unit], object]] = {
        "begin": lambda unit: acme.begin_challenge(unit, *key),
        "prove": lambda unit: acme.finish_challenge(unit, *key, error=None, at=LATER),
        "fail": lambda unit: acme.finish_challenge(unit, *key, error=PROBLEM, at=LATER),
        "deactivate": lambda unit: acme.deactivate_authorization(unit, key[0], LATER),
        "claim": lambda unit: acme.claim_order(unit, order_id, b"csr", LATER),
        "finish": lambda unit: acme.finish_order(unit, order_id, certificate_id="c"),
        "fail-order": lambda unit: acme.fail_order(unit, order_id, PROBLEM),
        "release": lambda unit: acme.release_order(unit, order_id),
        "end-account": lambda unit: acme.update_account(
            unit, placed.account.id, contact=None, status=AccountStatus.DEACTIVATED, at=LATER
        ),
    }
    return steps[event]
