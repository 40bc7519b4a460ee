"""Figures for telemetry: what workers tell is summed, and no sum falls when a worker or its supervisor starts again."""

from signer.client.figures import Places
from signer.contract.messages import TokenFigures, WorkerFigures


def token(failures: int, openings: int = 0, state: str = "closed") -> TokenFigures:
    return TokenFigures("hsm", state, openings, {"session": failures})


def test_the_workers_of_all_sockets_are_summed():
    places = Places()
    places.learn("0", WorkerFigures(1, {"stuck": 1}, [token(2, 1, "open")], 3))
    places.learn("1", WorkerFigures(2, {"stuck": 1, "crashed": 2}, [token(5)], 4))
    told = places.statistics()
    assert told.ended == {"stuck": 2, "crashed": 2}
    assert told.failovers == 7
    assert told.tokens["hsm"].failures == {"session": 7}
    assert told.tokens["hsm"].openings == 1
    assert told.tokens["hsm"].states == {"open": 1, "closed": 1}


def test_the_same_worker_on_another_connection_counts_once():
    places = Places()
    for failures in (2, 2, 3):
        places.learn("0", WorkerFigures(1, {}, [token(failures)], failures))
    assert places.statistics().tokens["hsm"].failures == {"session": 3}
    assert places.statistics().failovers == 3


def test_a_worker_that_follows_another_begins_anew_and_no_sum_falls():
    places = Places()
    places.learn("0", WorkerFigures(1, {}, [token(2, 1)], 5))
    places.learn("0", WorkerFigures(2, {"crashed": 1}, [], 0))
    told = places.statistics()
    assert told.tokens["hsm"].failures == {"session": 2}
    assert told.tokens["hsm"].states == {}
    assert (told.tokens["hsm"].openings, told.failovers, told.ended) == (1, 5, {"crashed": 1})
    places.learn("0", WorkerFigures(3, {"crashed": 2}, [token(1)], 1))
    told = places.statistics()
    assert (told.tokens["hsm"].failures, told.failovers, told.ended) == ({"session": 3}, 6, {"crashed": 2})


def test_another_supervisor_knows_nothing_of_those_that_ended_before():
    places = Places()
    places.learn("0", WorkerFigures(1, {"stuck": 2}))
    places.learn("0", WorkerFigures(2, {}))
    places.learn("0", WorkerFigures(3, {"stuck": 1}))
    assert places.statistics().ended == {"stuck": 3}
