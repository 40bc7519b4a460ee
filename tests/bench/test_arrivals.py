"""Schedules of an open loop: as many as were asked for, in order, and the same for the same seed."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from bench.load.arrivals import Open


def test_even_arrivals_do_not_drift():
    times = list(islice(Open(30.0, even=True).due(1), 30_001))
    assert times[0] == 0.0
    assert times[30_000] == pytest.approx(1000.0, abs=1e-6)


def test_arrivals_by_chance_come_in_order_and_at_the_rate_over_time():
    times = list(islice(Open(200.0).due(7), 20_000))
    assert all(one <= other for one, other in pairwise(times))
    assert times[-1] == pytest.approx(100.0, rel=0.05)


def test_arrivals_by_chance_come_in_clusters_as_independent_clients_do():
    gaps = [other - one for one, other in pairwise(islice(Open(100.0).due(3), 10_000))]
    # Exponential: a share of 1 - 1/e of all gaps is below their mean, where even arrivals have none.
    assert sum(gap < 0.01 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.03)


def test_the_same_seed_gives_the_same_times_and_another_gives_others():
    assert list(islice(Open(5.0).due(1), 9)) == list(islice(Open(5.0).due(1), 9))
    assert list(islice(Open(5.0).due(1), 9)) != list(islice(Open(5.0).due(2), 9))


def test_processes_together_have_the_rate_of_one():
    whole = Open(90.0, even=True)
    shares = [[each + whole.offset(number, 3) for each in islice(whole.part(3).due(number), 30)] for number in range(3)]
    merged = sorted(each for share in shares for each in share)
    assert merged == pytest.approx(list(islice(whole.due(0), 90)))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_is_more_than_nothing(rate: float):
    with pytest.raises(ValueError, match="more than nothing"):
        Open(rate)
