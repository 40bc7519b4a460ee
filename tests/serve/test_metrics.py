"""A whole gateway's `/metrics`: what clients did shows, and it is the strict text format (P16: overload can be seen)."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from bench.load import rest
from gateway.serve.metrics import started
from tests.conformance.test_signer_failures import some_workers
from tests.doubles.exposition import Page, read
from tests.doubles.gateway import RunningGateway, running_gateway


def figures(gateway: RunningGateway) -> Page:
    with urllib.request.urlopen(f"{gateway.quickstart['http']}/metrics", timeout=30) as answer:
        return read(answer.read().decode())


def test_what_a_gateway_did_can_be_read(tmp_path: Path):
    with running_gateway(tmp_path / "data") as gateway:
        facts = gateway.quickstart
        given = (facts["rest"], facts["root"], facts["adminToken"], facts["application"], facts["profile"])
        client = rest.by_csr(*given)
        for _ in range(3):
            client.enroll()
        client.close()
        page = figures(gateway)
        assert page.value("muster_enrollments_total", protocol="api", outcome="issued") == 3
        assert page.value("muster_signer_asks_total", verb="issue-certificate", outcome="answered") == 3
        assert page.value("muster_http_answers_total", **{"class": "2xx"}) >= 3
        assert page.value("muster_signer_batch_asks_count") >= 3
        assert page.value("muster_signer_workers") == 2
        assert 0 < page.value("muster_crl_next_update_seconds", authority="issuing") <= 8 * 86400
        assert page.value("muster_authority_not_after_seconds", authority="root") > 365 * 86400
        assert page.value("muster_store_waiting") == 0
        assert page.value("process_open_fds") > 3
        assert page.value("process_start_time_seconds") == pytest.approx(time.time(), abs=120)
        os.kill(some_workers(gateway)[0], signal.SIGSEGV)
        until = time.monotonic() + 30
        while figures(gateway).value("muster_signer_worker_ends_total", cause="crashed") != 1:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_gateway_whose_figures_are_off_has_none(tmp_path: Path):
    with running_gateway(tmp_path / "data", variables={"MUSTER_METRICS": "off"}) as gateway:
        with pytest.raises(urllib.error.HTTPError) as refused:
            figures(gateway)
        refused.value.close()
        assert refused.value.code == 404


def test_when_a_process_began_is_known():
    assert time.time() - 86400 < started() < time.time()
