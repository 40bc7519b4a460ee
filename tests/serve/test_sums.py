"""Figures of several workers are one gateway's: no counter falls when one of them goes."""

from gateway.fronts.exposition import counter, exposed, gauge, histogram
from gateway.serve.workers import sums


def worker(answers: int, open_now: int, ends: float, began: float):
    return sums.figures(
        [
            counter("muster_http_answers_total", "Answers.", (answers, {"class": "2xx"}), (1, {"class": "4xx"})),
            gauge("muster_http_requests_open", "Open.", (open_now, {})),
            histogram("muster_signer_batch_asks", "Asks.", (1, 2), (answers, 0), answers),
            counter("muster_signer_worker_ends_total", "Ends.", (ends, {"cause": "crashed"})),
            gauge("muster_crl_next_update_seconds", "Until.", (ends * 100, {"authority": "issuing"})),
            gauge("process_start_time_seconds", "Began.", (began, {})),
        ]
    )


def figures(*reports):
    page = exposed(sums.families(sums.added(reports))).decode()
    return dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))


def test_what_each_counts_is_added_and_what_all_are_told_is_taken_once():
    page = figures(worker(5, 2, 1, 1000.0), worker(7, 0, 2, 900.0))
    assert page['muster_http_answers_total{class="2xx"}'] == "12"
    assert page['muster_http_answers_total{class="4xx"}'] == "2"
    assert page["muster_http_requests_open"] == "2"
    assert page['muster_signer_batch_asks_bucket{le="+Inf"}'] == "12"
    assert page['muster_signer_worker_ends_total{cause="crashed"}'] == "2"
    assert page['muster_crl_next_update_seconds{authority="issuing"}'] == "200"
    assert page["process_start_time_seconds"] == "900"


def test_of_a_worker_that_is_gone_what_it_counted_stays():
    gone = sums.lasting(worker(5, 2, 1, 1000.0))
    assert {each.name for each in gone} == {"muster_http_answers_total", "muster_signer_batch_asks"}
    page = figures(worker(7, 1, 2, 900.0), gone, sums.added([gone, gone]))
    assert page['muster_http_answers_total{class="2xx"}'] == "22"
    assert page["muster_http_requests_open"] == "1"
