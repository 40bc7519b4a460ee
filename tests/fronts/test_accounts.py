"""Accounts that were read a moment ago: for how long they are believed, and how many of them."""

from __future__ import annotations

import pytest

from gateway.fronts.acme.accounts import Accounts
from tests.store import things


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("answered", "asked", "believed"), [(0.5, 0.8, True), (0.5, 0.95, False), (1.0, 1.0, False)])
def test_an_account_is_believed_for_less_than_a_second_from_when_it_was_asked_for(answered, asked, believed) -> None:
    """Deactivated elsewhere while a slow store answered, it is obeyed within a second all the same."""
    clock = Clock()
    accounts, account = Accounts(clock), things.account()
    since = accounts.now()
    clock.now = since + answered
    accounts.put(account, since)
    clock.now = since + asked
    assert accounts.get(account.pair_id, account.id) is (account if believed else None)


def test_one_that_is_being_changed_is_forgotten_and_few_are_kept() -> None:
    accounts, account, other = Accounts(Clock(), most=1), things.account(), things.account()
    accounts.put(account, accounts.now())
    accounts.forget(account.pair_id, account.id)
    assert accounts.get(account.pair_id, account.id) is None
    accounts.put(account, accounts.now())
    accounts.put(other, accounts.now())
    kept = [accounts.get(each.pair_id, each.id) for each in (account, other)]
    assert kept == [None, other]
