"""Nobody keeps others out by holding connections; who has them alone may have nearly all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.serve.places import Places


class Listener:
    def __init__(self, most: int) -> None:
        self.free = most
        self.places = Places(most, lambda: self.free)

    def come(self, address: str) -> str | None:
        self.free -= 1
        whose = self.places.take(address)
        self.free += whose is None
        return whose

    def go(self, whose: str) -> None:
        self.places.leave(whose)
        self.free += 1


def test_one_address_has_nine_tenths_and_no_more():
    listener = Listener(1000)
    had = [listener.come("192.0.2.1") for _ in range(2000)]
    assert sum(each is not None for each in had) == 900


def test_whoever_has_few_finds_a_place_beside_one_who_has_nearly_all():
    listener = Listener(1000)
    for _ in range(2000):
        listener.come("192.0.2.1")
    assert all(listener.come(f"198.51.100.{number}") for number in range(50))


def test_few_places_are_as_many_as_there_are():
    """A listener of a single connection, or of nine."""
    for most in (1, 9):
        listener = Listener(most)
        assert all(listener.come(f"198.51.100.{number}") for number in range(most))


@pytest.mark.parametrize("first", ["2001:db8::1", "::ffff:192.0.2.1"])
def test_a_network_of_ipv6_is_one(first: str):
    listener = Listener(100)
    other = "2001:db8::2:1" if first.startswith("2001") else "192.0.2.1"
    for _ in range(100):
        listener.come(first)
    assert listener.come(other) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200))
def test_every_place_is_given_back(steps: list[tuple[str, bool]]):
    listener = Listener(20)
    held: list[str] = []
    for address, leaves in steps:
        if leaves and held:
            listener.go(held.pop())
        elif listener.free and (whose := listener.come(address)) is not None:
            held.append(whose)
    for each in held:
        listener.go(each)
    assert listener.free == 20
    assert not listener.places._taken
