"""The circuit of a token, as a table: what opens it, what it does meanwhile, what closes it."""

from hypothesis import given
from hypothesis import strategies as st

from signer.keystore.circuit import Circuit, Limits, State

LIMITS = Limits(troubles=3, window=10.0, slow=2.0, rest=1.0, longest=8.0)
CLOSED = Circuit(LIMITS)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "quick", "slow", "trouble", "away"]), st.floats(0, 20, allow_nan=False)),
    max_size=60,
)


def opened(now: float = 100.0) -> Circuit:
    return CLOSED.opened(now)


def probing(now: float = 101.0) -> Circuit:
    asked = opened(now - 1.0).asked(now)
    assert asked is not None
    return asked


def test_three_troubles_in_a_window_open_it():
    circuit = CLOSED.troubled(0.0).troubled(1.0)
    assert circuit.state is State.CLOSED
    assert circuit.troubled(9.0).state is State.OPEN


def test_troubles_that_lie_apart_do_not():
    circuit = CLOSED
    for now in range(0, 100, 6):
        circuit = circuit.troubled(float(now))
        assert circuit.state is State.CLOSED


def test_slow_operations_are_troubles_though_they_succeed():
    circuit = CLOSED.worked(0.0, 2.1).worked(3.0, 2.1)
    assert circuit.state is State.CLOSED
    assert circuit.worked(6.0, 2.1).state is State.OPEN
    assert CLOSED.worked(0.0, 2.0) is CLOSED


def test_an_open_one_refuses_until_its_rest_is_over_and_then_lets_one_ask_through():
    circuit = opened(100.0)
    assert circuit.asked(100.0) is None
    assert circuit.asked(100.9) is None
    probe = circuit.asked(101.0)
    assert probe is not None
    assert probe.state is State.PROBING
    assert probe.asked(101.0) is None  # one alone
    assert probe.asked(101.9) is None


def test_a_probe_that_succeeds_closes_it_and_forgets_what_was():
    assert probing().worked(101.0, 0.01) == CLOSED


def test_a_probe_that_fails_or_is_slow_opens_it_for_twice_as_long_up_to_a_bound():
    circuit, now, rests = opened(0.0), 0.0, []
    for _ in range(6):
        rests.append(circuit.until - now)
        now = circuit.until
        asked = circuit.asked(now)
        assert asked is not None
        circuit = asked.troubled(now)
    assert rests == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert probing(101.0).worked(101.0, 3.0).state is State.OPEN


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another():
    assert probing(101.0).asked(102.0) is not None


def test_what_began_before_it_opened_changes_nothing():
    circuit = opened()
    assert circuit.worked(100.1, 0.1) is circuit
    assert circuit.troubled(100.1) is circuit
    assert circuit.opened(100.1) is circuit


def test_a_longer_rest_can_be_ordered():
    """A token that took its process with it rests longer than one that answers by an error."""
    assert CLOSED.opened(0.0, 30.0).until == 30.0
    assert opened(100.0).opened(100.0, 30.0).until == 130.0
    assert CLOSED.opened(0.0, 30.0).opened(1.0, 5.0).until == 30.0


@given(EVENTS)
def test_whatever_happens_it_lets_an_ask_through_after_its_longest_rest(events):
    """It closes by itself: no history keeps a token from being tried again."""
    circuit, now = CLOSED, 0.0
    for event, wait in events:
        now += wait
        before = circuit
        match event:
            case "ask":
                circuit = circuit.asked(now) or circuit
            case "quick":
                circuit = circuit.worked(now, 0.0)
            case "slow":
                circuit = circuit.worked(now, 3.0)
            case "trouble":
                circuit = circuit.troubled(now)
            case "away":
                circuit = circuit.opened(now)
                assert circuit.state is State.OPEN
        assert len(circuit.troubles) < LIMITS.troubles
        if before.state is State.CLOSED and circuit.state is State.CLOSED:
            assert circuit.asked(now) is circuit
        if circuit.state is State.OPEN:
            assert circuit.asked(now) is None or now >= circuit.until
    probe = circuit.asked(now + LIMITS.longest)
    assert probe is not None
    assert probe.worked(now + LIMITS.longest, 0.0).state is State.CLOSED
