"""Counting wrong credentials (E90, S107)."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.actions.throttle import Throttle, guesser

KEY = ("192.0.2.1", "est:a:b")


def test_a_burst_of_wrong_credentials_is_let_through_and_the_next_must_wait():
    throttle = Throttle(burst=3, interval=6.0)
    assert KEY not in throttle
    for _ in range(3):
        assert throttle.wait(KEY, 100.0) == 0
        throttle.fail(KEY, 100.0)
    assert KEY in throttle
    assert throttle.wait(KEY, 100.0) == 7


def test_after_the_interval_one_more_guess_is_free_and_only_one():
    throttle = Throttle(burst=3, interval=6.0)
    for _ in range(3):
        throttle.fail(KEY, 100.0)
    assert throttle.wait(KEY, 105.9) > 0
    assert throttle.wait(KEY, 106.0) == 0
    throttle.fail(KEY, 106.0)
    assert throttle.wait(KEY, 106.0) > 0


def test_one_address_does_not_lock_out_another_nor_the_same_one_elsewhere():
    throttle = Throttle(burst=1)
    throttle.fail(KEY, 0.0)
    assert throttle.wait(KEY, 0.0)
    assert throttle.wait(("192.0.2.2", KEY[1]), 0.0) == 0
    assert throttle.wait((KEY[0], "scep:a:b"), 0.0) == 0


def test_a_flood_of_addresses_cannot_fill_the_memory():
    throttle = Throttle(capacity=100)
    for number in range(10_000):
        throttle.fail((f"192.0.2.{number}", ""), 0.0)
    assert len(throttle) == 100


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=60))
def test_whoever_waits_as_told_may_try_and_the_rate_holds(moments: list[float]):
    burst, interval = 4, 5.0
    throttle = Throttle(burst=burst, interval=interval)
    tried = []
    for now in sorted(moments):
        wait = throttle.wait(KEY, now)
        if wait == 0:
            tried.append(now)
            throttle.fail(KEY, now)
        else:
            assert throttle.wait(KEY, now + wait) == 0
    for first in range(len(tried)):
        within = [each for each in tried if tried[first] <= each < tried[first] + 10 * interval]
        assert len(within) <= burst + 10


def test_guesses_from_one_ipv6_network_are_counted_together():
    assert guesser("2001:db8::1") == guesser("2001:db8::ffff:1") != guesser("2001:db8:0:1::1")
    assert guesser("::ffff:192.0.2.1") == guesser("192.0.2.1") == "192.0.2.1"
    assert guesser("") == ""
    assert guesser("@unix") == "@unix"
