"""What was read a moment ago, and for how long that is (D10)."""

from datetime import UTC, datetime, timedelta

from gateway.actions.recent import LIFETIME, Recent

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_was_read_lately_is_known_for_less_than_a_second():
    recent: Recent[str, int] = Recent(clock=lambda: 0.0)
    assert recent.get("one", NOW) is None
    recent.put("one", 1, NOW)
    assert recent.get("one", NOW) == 1
    assert recent.get("one", NOW + LIFETIME - timedelta(microseconds=1)) == 1
    assert recent.get("one", NOW + LIFETIME) is None
    assert timedelta(seconds=1) > LIFETIME


def test_a_clock_that_is_set_back_keeps_nothing_alive():
    passed = 0.0
    recent: Recent[str, int] = Recent(clock=lambda: passed)
    recent.put("one", 1, NOW)
    assert recent.get("one", NOW - timedelta(microseconds=1)) is None
    # An hour later it is the same time again, as far as that clock goes.
    passed += 3600
    assert recent.get("one", NOW) is None
    recent.put("one", 2, NOW)
    assert recent.get("one", NOW) == 2


def test_the_oldest_is_forgotten_and_what_is_read_again_is_new():
    recent: Recent[str, int] = Recent(most=2, clock=lambda: 0.0)
    for name in ("one", "two", "one", "three"):
        recent.put(name, len(name), NOW)
    assert [recent.get(name, NOW) for name in ("one", "two", "three")] == [3, None, 5]
