"""Overload told early (P16): how long the next would wait, and who is refused first. Time is what the test says."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.refusal import Refusal, RefusalReason
from gateway.fronts.admission import Admission, Spenders, UnderWay
from protocols.exchange import Reply


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(2.0, clock)


def fill(admission: Admission, lane: str, count: int) -> list:
    return [admission.under_way(lane).__enter__() for _ in range(count)]


def finish(entries: list) -> None:
    for each in entries:
        each.__exit__(None, None, None)


def learn(admission: Admission, clock: Clock, *, pace: float) -> None:
    """Let it see that each request costs so many seconds, one after another."""
    for _ in range(500):
        entries = fill(admission, "teacher", 8)
        clock.now += pace * 8
        finish(entries)


def test_a_first_burst_is_let_in(admission: Admission):
    """Nobody knows yet how long they take: a guess refuses none of a thousand."""
    for _ in range(1000):
        admission.comes()
        assert admission.refusal("a", from_socket=True) == 0


def test_few_are_never_refused_however_slow_they_are(admission: Admission, clock: Clock):
    fill(admission, "a", 15)
    clock.now += 60
    assert admission.refusal("a") == 0


def test_what_would_wait_longer_than_is_useful_is_refused_at_once_with_a_time(admission: Admission, clock: Clock):
    """Little's law: so many under way, each taking so long."""
    learn(admission, clock, pace=0.01)
    let_in = 0
    while not (seconds := admission.refusal("a")):
        fill(admission, "a", 1)
        let_in += 1
        assert let_in < 1000
    assert 150 < let_in < 250  # two seconds of hundredths
    assert 2 <= seconds <= 6
    with pytest.raises(Refusal) as refused:
        admission.under_way("a")
    assert refused.value.reason is RefusalReason.BUSY
    assert refused.value.retry_after


def test_what_stands_still_is_noticed_though_nothing_is_answered(admission: Admission, clock: Clock):
    fill(admission, "a", 40)
    assert admission.refusal("a") == 0
    clock.now += 2.1
    assert admission.refusal("a") > 0


def test_some_that_are_slow_for_reasons_of_their_own_refuse_nobody(admission: Admission, clock: Clock):
    fill(admission, "a", 10)
    clock.now += 60
    fill(admission, "a", 35)
    assert admission.refusal("a") == 0


def test_a_queue_that_never_empties_is_held_shorter_than_a_burst(admission: Admission, clock: Clock):
    """RFC 8289, 3.2."""
    learn(admission, clock, pace=0.01)
    fill(admission, "a", 80)  # 0.8 s: a burst
    assert admission.refusal("a") == 0
    for _ in range(30):  # goes on and on: as many answered as come
        clock.now += 0.1
        admission.refusal("a")
        first = next(iter(admission._going))
        first.__exit__(None, None, None)
        for entry in admission._going:
            entry.began += 0.1
        admission.begin(first)
    assert admission.crowded
    assert admission.refusal("a") > 0


def test_it_is_over_when_it_has_been_over_for_a_while(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    entries = fill(admission, "a", 150)
    assert admission.refusal("a") == 0
    assert admission.crowded
    finish(entries)
    assert admission.refusal("a") == 0
    clock.now += 2.5
    assert admission.refusal("a") == 0
    assert not admission.crowded


def test_the_application_that_storms_is_refused_first(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    fill(admission, "storm", 190)
    fill(admission, "quiet", 2)
    assert admission.refusal("storm") > 0
    assert admission.refusal("quiet") == 0
    assert admission.refusal("newcomer") == 0


def test_nobody_is_let_in_without_an_end(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    for number in range(420):
        admission.begin(UnderWay(admission, f"app{number}"))
    assert admission.refusal("newcomer") > 0
    assert admission.refusal("app1", begun=True) > 0


def test_what_was_begun_is_preferred_over_beginnings(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    while not admission.refusal("a"):
        fill(admission, "a", 1)
    assert admission.refusal("a", begun=True) == 0


def test_those_who_are_refused_together_come_back_apart(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    while not admission.refusal("a"):
        fill(admission, "a", 1)
    assert len({admission.refusal("a") for _ in range(10)}) > 1


def test_rounds_of_the_loop_count_and_a_single_long_one_does_not(admission: Admission):
    fill(admission, "a", 20)
    admission.round_took(0.001)
    admission.round_took(5.0)
    assert admission.refusal("a") == 0
    admission.round_took(5.0)
    assert admission.refusal("a") > 0


def test_what_is_on_its_way_to_its_door_counts_for_those_behind_it(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    for _ in range(250):
        admission.comes()
    assert admission.crowded
    assert admission.refusal("a", from_socket=True) > 0
    assert admission.refusal("a") == 0  # at its door it is before them


def test_what_never_arrives_at_a_door_is_forgotten_after_some_rounds(admission: Admission, clock: Clock):
    learn(admission, clock, pace=0.01)
    for _ in range(250):
        admission.comes()
    for _ in range(5):
        admission.round_took(0.0)
    assert admission.refusal("a", from_socket=True) == 0


def test_a_sample_that_slept_teaches_little(admission: Admission, clock: Clock):
    entries = fill(admission, "a", 1)
    clock.now += 3600
    finish(entries)
    fill(admission, "a", 100)
    assert admission.refusal("a") == 0


def test_an_answer_that_failed_teaches_nothing_and_frees_its_place(admission: Admission):
    def fail() -> None:
        with admission.under_way("a"):
            assert admission.going == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert admission.going == 0


@pytest.mark.parametrize("reply", [Reply(401), Reply(200, wrong=True)])
def test_a_refusal_teaches_nothing_of_what_an_enrollment_takes(admission: Admission, clock: Clock, reply: Reply):
    """A wrong passphrase waits for its check, a tenth of a second each: strangers are not to say how long work takes."""
    for _ in range(200):
        with admission.under_way("a") as entry:
            clock.now += 2.0
            assert entry.answered(reply) is reply
    fill(admission, "a", 100)
    assert admission.refusal("a") == 0


async def test_guesses_that_wait_for_their_check_are_no_queue(admission: Admission, clock: Clock):
    """P16, E90: nobody is refused for those whose secrets are being checked, and they count again when they were."""
    checked = trio.Event()

    async def guess() -> None:
        with admission.under_way("a") as entry:
            await entry.aside(checked.wait())
            assert entry.began == clock.now

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(guess)
        await trio.testing.wait_all_tasks_blocked()
        assert admission.going == 0
        clock.now += 10
        assert admission.refusal("a") == 0
        checked.set()
    assert admission.going == 0


async def test_a_check_that_refuses_gives_the_place_back(admission: Admission):
    async def refuse() -> None:
        raise Refusal(RefusalReason.RATE_LIMITED, "too many guesses")

    with pytest.raises(Refusal), admission.under_way("a") as entry:
        await entry.aside(refuse())
    assert admission.going == 0


def test_an_enrollment_teaches_how_long_one_takes(admission: Admission, clock: Clock):
    for _ in range(200):
        with admission.under_way("a") as entry:
            clock.now += 2.0
            entry.answered(Reply(201))
    fill(admission, "a", 16)
    assert admission.refusal("a") > 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=60))
def test_every_place_is_given_back(steps: list[tuple[str, str, bool]]):
    admission = Admission(2.0, Clock())
    entries = []
    for lane, other, moves in steps:
        entry = admission.under_way(lane).__enter__()
        if moves:
            entry.belongs_to(other)
        entries.append(entry)
    finish(entries)
    assert admission.going == 0
    assert not admission._lanes


def test_a_token_uses_the_share_of_its_last_proved_use_and_strangers_that_of_their_address():
    spenders = Spenders(most=2)
    assert spenders.lane("Bearer one", "192.0.2.1") == "192.0.2.1"
    spenders.learn("Bearer one", "app")
    spenders.learn("Bearer one", "app")
    assert spenders.lane("Bearer one", "192.0.2.1") == "app"
    spenders.learn("Bearer two", "app")
    spenders.learn("Bearer three", "app")
    assert spenders.lane("Bearer one", "192.0.2.1") == "192.0.2.1"


def test_the_load_is_the_part_of_its_time_that_the_loop_works(admission: Admission):
    for _ in range(2000):
        admission.round_took(0.002, 0.002)
    assert not admission.pressed
    for _ in range(2000):
        admission.round_took(0.009, 0.001)
    assert admission.pressed
    for _ in range(50):
        admission.round_took(0.001, 0.1)
    assert not admission.pressed


def test_a_crowd_is_a_load_too(admission: Admission, clock: Clock):
    """The loop may sleep while the store and the signer have the processor."""
    learn(admission, clock, pace=0.01)
    fill(admission, "a", 100)
    assert admission.pressed
