"""P15 from rounds of windows: what two workers do, beside what two gateways do that share nothing."""

from __future__ import annotations

import pytest

from bench.load.run import Outcome
from bench.load.tally import Tally
from bench.scaling import Round, cost, figure


def window(finished: int, cpu_ms: float, *, failed: int = 0) -> Outcome:
    """A second in which so much was done at so much each."""
    return Outcome(Tally(finished=finished, failed=failed), 1.0, 0.0, finished * cpu_ms / 1000)


ROUND = Round(window(700, 1.4), window(900, 1.6), (window(600, 1.5), window(400, 1.75)))


def test_what_an_enrollment_costs_of_two_gateways_is_weighed_by_what_each_did():
    assert cost(ROUND.apart) == pytest.approx(1.6)


def test_without_cores_for_both_the_figure_is_two_cores_by_cpu_and_says_what_the_machine_itself_leaves_of_two():
    assert ROUND.by_cpu() == pytest.approx((1.75, 1.75))
    row = figure([ROUND], by_rate=False)
    assert row.figure == pytest.approx(1.75)
    assert "share nothing: 1.75 x" in row.note
    assert "too few cores" in row.note


def test_with_cores_for_both_the_figure_is_what_was_done():
    row = figure([ROUND], by_rate=True)
    assert row.figure == pytest.approx(900 / 700)
    assert row.note == "two gateways that share nothing: 1.43 x"


def test_each_window_is_compared_with_its_own_round_as_a_machine_s_pace_changes():
    slow = Round(window(350, 2.8), window(450, 3.2), (window(300, 3.2), window(200, 3.2)))
    slower = Round(window(100, 9.0), window(100, 18.0), (window(100, 9.0), window(100, 9.0)))
    assert figure([ROUND, slow, slower], by_rate=False).figure == pytest.approx(1.75)


def test_what_fails_in_any_window_is_counted():
    bad = Round(ROUND.one, window(900, 1.6, failed=2), (ROUND.apart[0], window(400, 1.75, failed=1)))
    assert figure([ROUND, bad], by_rate=True).failures == 3
