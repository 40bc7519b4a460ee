"""The records' states (RFC 8555, 7.1.6; A47, A121)."""

from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.acme import states
from protocols.acme.states import (
    ACCOUNT_TRANSITIONS,
    AUTHORIZATION_TRANSITIONS,
    CHALLENGE_TRANSITIONS,
    ORDER_TRANSITIONS,
    AccountStatus,
    AuthorizationStatus,
    ChallengeStatus,
    OrderStatus,
)

TABLES = [
    (AccountStatus, ACCOUNT_TRANSITIONS, {"deactivated", "revoked"}),
    (OrderStatus, ORDER_TRANSITIONS, {"valid", "invalid"}),
    (AuthorizationStatus, AUTHORIZATION_TRANSITIONS, {"invalid", "deactivated", "expired", "revoked"}),
    (ChallengeStatus, CHALLENGE_TRANSITIONS, {"valid", "invalid"}),
]
PAIRS = st.sampled_from(TABLES).flatmap(
    lambda row: st.tuples(st.just(row), st.sampled_from(list(row[0])), st.sampled_from(list(row[0])))
)


@pytest.mark.parametrize(("kind", "table", "ended"), TABLES)
def test_each_status_has_a_row_and_what_has_ended_has_no_way_out(kind, table, ended):
    assert set(table) == set(kind)
    assert {status.value for status, after in table.items() if not after} == ended


@given(PAIRS)
def test_every_pair_is_allowed_by_its_table_or_refused(pair):
    (_, table, ended), before, after = pair
    if after in table[before]:
        assert states.advance(table, before, after) is after
        assert before not in ended
    else:
        with pytest.raises(ValueError, match="cannot become"):
            states.advance(table, before, after)


@given(st.sampled_from(TABLES), st.data())
def test_every_walk_ends_and_never_leaves_its_end(row, data):
    kind, table, ended = row
    status: StrEnum = next(iter(kind))
    for _ in range(12):
        after = data.draw(st.sampled_from(sorted(kind)))
        try:
            status = states.advance(table, status, after)
        except ValueError:
            assert after not in table[status]
        if status in ended:
            assert table[status] == frozenset()


def test_the_only_way_to_a_valid_order_is_through_processing():
    # A47, A121: no certificate without a finalize, and no finalize before all is proved
    into = {before for before, after in ORDER_TRANSITIONS.items() if OrderStatus.VALID in after}
    assert into == {OrderStatus.PROCESSING}
    assert {before for before, after in ORDER_TRANSITIONS.items() if OrderStatus.PROCESSING in after} == {
        OrderStatus.READY
    }


def test_a_challenge_is_decided_only_while_it_is_processed():
    for ended in (ChallengeStatus.VALID, ChallengeStatus.INVALID):
        assert [before for before, after in CHALLENGE_TRANSITIONS.items() if ended in after] == [
            ChallengeStatus.PROCESSING
        ]
