"""Waits are kept in cells: no value is lost, none is made shorter, and processes can be added up."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bench.load.histogram import Histogram

waits = st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=200)


@given(waits, st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_quantile_is_never_too_short_and_at_most_a_sixtieth_too_long(seconds: list[float], share: float):
    exact = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    found = Histogram.of(seconds).quantile(share)
    assert int(exact * 1e6) / 1e6 <= found + 1e-12
    assert found <= exact * (1 + 1 / 60) + 2e-6


@given(waits, waits)
def test_two_histograms_added_up_are_the_histogram_of_all(ones: list[float], others: list[float]):
    together = Histogram.of(ones)
    together.add(Histogram.of(others))
    whole = Histogram.of(ones + others)
    assert list(together.cells()) == list(whole.cells())
    assert (together.count, together.largest) == (whole.count, whole.largest)


@given(waits)
def test_every_wait_is_in_a_cell_whose_bound_it_does_not_exceed(seconds: list[float]):
    cells = list(Histogram.of(seconds).cells())
    assert sum(count for _, count in cells) == len(seconds)
    for each in seconds:
        assert any(each <= bound + 1e-6 for bound, _ in cells)


def test_the_largest_is_exact_and_nothing_is_above_it():
    histogram = Histogram.of([0.001, 1.2345678])
    assert histogram.largest == 1.2345678
    assert histogram.quantile(1.0) == 1.2345678


def test_of_nothing_there_is_no_quantile():
    assert math.isnan(Histogram().quantile(0.5))
    assert math.isnan(Histogram().mean)


def test_a_clock_that_went_back_counts_as_no_wait():
    histogram = Histogram()
    histogram.note(-0.5)
    assert histogram.count == 1
    assert next(histogram.cells())[0] <= 1e-6
