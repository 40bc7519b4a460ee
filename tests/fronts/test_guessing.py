"""Wrong credentials are counted by all workers together (E90, S107)."""

from gateway.actions.throttle import Throttle
from gateway.fronts.guessing import TABLE, SharedThrottle

KEY = bytes(32)
GUESSER = ("192.0.2.1", "est:pair")


def test_what_is_wrong_at_one_worker_counts_at_all():
    table = memoryview(bytearray(TABLE))
    workers = [SharedThrottle(table, KEY) for _ in range(4)]
    for guess in range(10):
        assert workers[guess % 4].wait(GUESSER, 1000.0) == 0
        workers[guess % 4].fail(GUESSER, 1000.0)
    assert all(each.wait(GUESSER, 1000.0) > 0 for each in workers)
    assert all(each.wait(("192.0.2.2", "est:pair"), 1000.0) == 0 for each in workers), "nobody else is counted with it"
    assert all(each.wait((GUESSER[0], "api"), 1000.0) == 0 for each in workers), "each door counts by itself"


def test_it_says_what_a_throttle_of_one_process_says():
    shared, alone = SharedThrottle(bytearray(TABLE), KEY), Throttle()
    for moment in (0.0, 1.0, 1.0, 1.5, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.1, 9.0, 30.0, 31.0, 200.0):
        now = 1_700_000_000 + moment
        assert shared.wait(GUESSER, now) == alone.wait(GUESSER, now)
        if not alone.wait(GUESSER, now):
            shared.fail(GUESSER, now)
            alone.fail(GUESSER, now)
