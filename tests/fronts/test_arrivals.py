"""The table of arrivals: GCRA in a fixed memory that others write to, and that nobody can fill against another."""

import random
import struct
import subprocess
import sys
from mmap import mmap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fronts.arrivals import ENTRY, WAYS, Arrivals, Pace

PACE = Pace(interval=0.5, tolerance=2.0)  # five at once, then two a second


def table(sets: int = 64) -> Arrivals:
    return Arrivals(bytearray(sets * WAYS * ENTRY), b"a key")


def test_a_burst_may_come_at_once_and_then_one_each_interval():
    arrivals = table()
    place = arrivals.place("a")
    assert [arrivals.take(place, PACE, 100.0) <= 0 for _ in range(6)] == [True] * 5 + [False]
    assert arrivals.take(place, PACE, 100.0) == pytest.approx(0.5)
    assert arrivals.take(place, PACE, 100.5) <= 0
    assert arrivals.take(place, PACE, 100.5) > 0


def test_a_look_counts_nothing():
    arrivals = table()
    place = arrivals.place("a")
    for _ in range(20):
        assert arrivals.early(place, PACE, 100.0) == -2.0
    while arrivals.take(place, PACE, 100.0) <= 0:
        pass
    assert arrivals.early(place, PACE, 100.0) == arrivals.take(place, PACE, 100.0)


def test_names_do_not_share_a_count():
    arrivals = table()
    while arrivals.take(arrivals.place("a"), PACE, 100.0) <= 0:
        pass
    assert arrivals.take(arrivals.place("b"), PACE, 100.0) <= 0


@given(st.lists(st.floats(0, 60), min_size=1, max_size=80))
def test_the_rate_holds_over_every_span_of_time(moments: list[float]):
    """What comes within any `t` seconds is at most the burst and `t / interval`."""
    arrivals = table(1)
    place = arrivals.place("a")
    came = [now for now in sorted(moments) if arrivals.take(place, PACE, now) <= 0]
    for first, begins in enumerate(came):
        for last in range(first, len(came)):
            assert last - first + 1 <= 5 + (came[last] - begins) / PACE.interval + 1e-6


def test_a_flood_of_names_uses_no_more_memory_and_forgets_who_asked_least():
    """An attacker with many addresses cannot make their busiest one forgotten, nor lock anybody out."""
    arrivals = table(4)
    storm = arrivals.place("storm")
    while arrivals.take(storm, PACE, 100.0) <= 0:
        pass
    for number in range(10_000):
        arrivals.take(arrivals.place(f"one of many {number}"), PACE, 100.0)
    assert arrivals.take(storm, PACE, 100.0) > 0
    assert arrivals.take(arrivals.place("somebody else"), PACE, 100.0) <= 0


def test_places_are_chosen_by_the_key():
    names = [f"10.0.0.{number}" for number in range(200)]
    one, other = Arrivals(bytearray(1 << 16), b"one"), Arrivals(bytearray(1 << 16), b"other")
    assert [one.place(name)[1] for name in names] != [other.place(name)[1] for name in names]
    assert len({one.place(name)[1] for name in names}) > 100


def test_another_process_sees_the_count(tmp_path: Path):
    """Two gateways over one shared memory: what one has counted, the other has too."""
    path = tmp_path / "shared"
    path.write_bytes(bytes(1 << 12))
    take = (
        "import mmap, sys\nfrom gateway.fronts.arrivals import Arrivals, Pace\n"
        "file = open(sys.argv[1], 'r+b')\narrivals = Arrivals(memoryview(mmap.mmap(file.fileno(), 0)), b'a key')\n"
        "print([arrivals.take(arrivals.place('a'), Pace(0.5, 2.0), 100.0) <= 0 for _ in range(4)])"
    )
    said = subprocess.run([sys.executable, "-c", take, str(path)], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[True, True, True, True]"
    with path.open("r+b") as file:
        arrivals = Arrivals(memoryview(mmap(file.fileno(), 0)), b"a key")
        assert arrivals.take(arrivals.place("a"), PACE, 100.0) <= 0
        assert arrivals.take(arrivals.place("a"), PACE, 100.0) > 0


@given(st.binary(min_size=WAYS * ENTRY, max_size=WAYS * ENTRY), st.integers(0, 7), st.floats(0, 1e9))
def test_whatever_the_memory_holds_nobody_waits_longer_than_an_interval(rubbish: bytes, way: int, now: float):
    """A torn write, another setting's time, not a number: it counts for one interval, and is gone."""
    memory = bytearray(rubbish)
    arrivals = Arrivals(memory, b"a key")
    place = arrivals.place("a")
    memory[way * 8 : way * 8 + 8] = place[0].to_bytes(8, sys.byteorder)
    assert arrivals.take(place, PACE, now) <= PACE.interval + 1e-6
    assert arrivals.take(place, PACE, now + PACE.interval * 1.01 + 1e-6) <= 1e-6


@pytest.mark.parametrize("time", [float("inf"), float("nan"), -float("inf")])
def test_no_time_is_for_ever(time: float):
    memory = bytearray(struct.pack("8Q8d", *[0] * 8, *[time] * 8))
    arrivals = Arrivals(memory, b"a key")
    place = arrivals.place("a")
    memory[:8] = place[0].to_bytes(8, sys.byteorder)
    took = sum(arrivals.take(place, PACE, 100.0) <= 0 for _ in range(20))
    assert took <= 5
    assert arrivals.take(place, PACE, 101.0) <= 0


def test_there_is_no_table_without_room():
    with pytest.raises(ValueError, match="at least 128 bytes"):
        Arrivals(bytearray(127), b"")


def test_a_count_is_rarely_lost_by_collisions():
    """65,536 names would fill it; half as many leave room for nearly all of them."""
    arrivals = table(1024)
    dice = random.Random(1)
    names = [f"{dice.getrandbits(32)}" for _ in range(4096)]
    for _ in range(5):
        for name in names:
            arrivals.take(arrivals.place(name), PACE, 100.0)
    refused = sum(arrivals.take(arrivals.place(name), PACE, 100.0) > 0 for name in names)
    assert refused > 0.95 * len(names)
