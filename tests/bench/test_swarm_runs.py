"""The swarm as a user starts it: locust's own program, headless, against a real gateway and against one that is busy."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.doubles.gateway import muster, running_gateway
from tests.doubles.ports import kept_port

ROOT = Path(__file__).parents[2]


def swarm(*arguments: str, **variables: str) -> tuple[int, dict[tuple[str, str], dict[str, int]], str]:
    """The exit status, the rows by type and name, and what was logged."""
    with locust("--json", *arguments, **variables) as process:
        return ended(process)


@contextmanager
def locust(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process of locust, headless; at the block's end it is no more."""
    command = [sys.executable, "-m", "locust", "-f", "bench/swarm/fleet.py", "--headless", *arguments]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            killed(process)


def killed(process: subprocess.Popen[str]) -> None:
    """End it where it has not ended, and the processes that it began."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[tuple[str, str], dict[str, int]], str]:
    """The same of a process that is there."""
    said, log = process.communicate(timeout=120)
    rows = json.loads(said) if said.strip() else []
    return process.returncode, {(row["method"], row["name"]): row for row in rows}, log


def test_a_fleet_enrolls_by_every_door_of_a_gateway(tmp_path: Path):
    """ACME with http-01 answered by the swarm itself, EST with renewals, SCEP, REST: nothing fails."""
    port = kept_port()
    with running_gateway(tmp_path / "data", "--acme-http01-port", str(port)):
        status, rows, log = swarm(
            *("--muster-data", str(tmp_path / "data"), "--acme-http01", f"127.0.0.1:{port}", "--pace", "0.2"),
            *("--mix", "acme=1,scep=1,est=1,rest=1", "--est-reenroll", "1", "-u", "4", "-r", "4", "-t", "4s"),
            *("--names", "n{number}.fleet.example"),
        )
        with closing(sqlite3.connect(tmp_path / "data" / "store.sqlite")) as store:
            named = dict(
                store.execute("SELECT protocol, min(sans LIKE '%.fleet.example%') FROM certificates GROUP BY 1")
            )
    assert status == 0, log
    assert [row for row in rows.values() if row["num_failures"]] == []
    for door in ("ACME", "EST", "SCEP", "REST"):
        assert rows[door, "enrollment"]["num_requests"] > 0, log
    assert rows["ACME", "challenge"]["num_requests"] > 0
    assert rows["EST", "simplereenroll"]["num_requests"] > 0
    assert rows["ACME", "newAccount"]["num_requests"] == 1  # the account is kept
    assert (named["est"], named["scep"], named["api"]) == (1, 1, 1)  # `--names` is every door's but ACME's


ACCOUNTS = 12  # enough that none of them being asked for at another process than its own is out of the question
ACME_ALONE = ("--mix", "acme=1", "--acme-names", "localhost", "--pace", "0.5", "-u", f"{ACCOUNTS}", "-r", f"{ACCOUNTS}")


def test_several_processes_of_one_machine_answer_http01_for_each_other(tmp_path: Path):
    """Each account proves the name at whichever of two processes the kernel chooses."""
    port, meeting, data = kept_port(), str(kept_port()), tmp_path / "data"
    with (
        running_gateway(data, "--acme-http01-port", str(port)),
        locust(
            *("--muster-data", str(data), "--acme-http01", f"127.0.0.1:{port}", *ACME_ALONE),
            *("--processes", "2", "--master-port", meeting, "--master-bind-port", meeting),
        ) as process,
    ):
        all_have_proved_their_names(data, process)
        process.send_signal(signal.SIGINT)
        status, _, log = ended(process)
    assert status == 0, log  # locust's own word for a table without a failure


def test_a_master_answers_no_http01_and_its_workers_beside_it_do(tmp_path: Path):
    port, meeting, data = kept_port(), str(kept_port()), tmp_path / "data"
    told = ("--muster-data", str(data), "--acme-http01", f"127.0.0.1:{port}", *ACME_ALONE)
    with (
        running_gateway(data, "--acme-http01-port", str(port)),
        locust("--json", *told, "--master", "--master-bind-port", meeting, "--expect-workers", "2") as master,
        locust(*told, "--worker", "--master-port", meeting) as first,
        locust(*told, "--worker", "--master-port", meeting) as second,
    ):
        all_have_proved_their_names(data, master)
        master.send_signal(signal.SIGINT)
        status, rows, log = ended(master)
        workers = [ended(each) for each in (first, second)]
    assert (status, [row for row in rows.values() if row["num_failures"]]) == (0, []), log
    assert rows["ACME", "newAccount"]["num_requests"] == ACCOUNTS
    assert [status for status, _, _ in workers] == [0, 0]


def all_have_proved_their_names(data: Path, process: subprocess.Popen[str]) -> None:
    """Wait until each account has a certificate."""
    deadline = time.monotonic() + 90
    with closing(sqlite3.connect(data / "store.sqlite")) as store:
        query = "SELECT count(DISTINCT account_id) FROM acme_orders WHERE status = 'valid'"
        while store.execute(query).fetchone() != (ACCOUNTS,):
            if process.poll() is not None or time.monotonic() > deadline:
                killed(process)
                raise AssertionError(ended(process)[2])
            time.sleep(0.05)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_a_port_for_http01_that_somebody_else_has_is_told_before_anybody_comes(processes: tuple[str, ...]):
    meeting = str(kept_port())
    with socket.create_server(("127.0.0.1", 0)) as other:
        status, rows, log = swarm(
            *("--acme-directory", "http://127.0.0.1:1/", "--acme-http01", f"127.0.0.1:{other.getsockname()[1]}"),
            *("-t", "1s", "--master-port", meeting, "--master-bind-port", meeting, *processes),
        )
    assert (status, rows) == (2, {}), log
    assert "--acme-http01 127.0.0.1:" in log
    assert "Traceback" not in log


def test_the_declaration_of_the_page_lets_a_fleet_enroll_and_renew(tmp_path: Path):
    """By EST a certificate renews itself over mutual TLS, which its profile has to be for."""
    page = (ROOT / "docs" / "load-testing.md").read_text()
    (tmp_path / "load-test.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    secrets = {"LOAD_TEST_EST": "a passphrase of the test", "LOAD_TEST_SCEP": "a challenge of the test"}
    data, mine = str(tmp_path / "data"), ("--application", "load-test")
    with running_gateway(tmp_path / "data") as gateway:
        applied = muster("apply", "-f", str(tmp_path / "load-test.toml"), "--data", data, **secrets)
        assert applied.returncode == 0, applied.stderr
        token = muster("bearer", "create", "--name", "load", *mine, "--data", data).stdout.strip()
        secure, plain = (gateway.quickstart[door]["url"].partition(f"/{door}/")[0] for door in ("est", "scep"))
        status, rows, log = swarm(
            *("--ca", gateway.quickstart["root"], "--est-url", f"{secure}/est/load-test/load-test/"),
            *("--est-user", "load", "--est-reenroll", "1", "--scep-url", f"{plain}/scep/load-test/load-test"),
            *("--rest-url", gateway.quickstart["rest"], "--rest-application", "load-test"),
            *("--rest-profile", "load-test", "--pace", "0.2", "-u", "3", "-r", "3", "-t", "4s"),
            SWARM_EST_PASSPHRASE=secrets["LOAD_TEST_EST"],
            SWARM_SCEP_CHALLENGE=secrets["LOAD_TEST_SCEP"],
            SWARM_REST_TOKEN=token,
        )
    assert (status, [row for row in rows.values() if row["num_failures"]]) == (0, []), log
    assert rows["EST", "simplereenroll"]["num_requests"] > 0
    assert rows["SCEP", "enrollment"]["num_requests"] > 0 < rows["REST", "enrollment"]["num_requests"]


def test_what_is_told_to_wait_waits_and_is_no_failure():
    with saying(lambda before: 201 if before else 503) as url:
        status, rows, log = swarm(
            *("--rest-url", url, "--rest-application", "a", "--rest-profile", "p", "--pace", "0"),
            *("-u", "1", "-r", "1", "-t", "4s"),
            SWARM_REST_TOKEN="token",
        )
    assert status == 0, log
    assert rows["REST", "POST certificates: told to wait (503)"]["num_requests"] == 1
    assert rows["REST", "enrollment"]["num_failures"] == 0
    assert rows["REST", "enrollment"]["max_response_time"] >= 1000  # the wait is part of it


def test_what_the_protocol_refuses_is_one_failure_and_no_success_beside_it(tmp_path: Path):
    """SCEP refuses with HTTP 200, and an order that nobody can prove is one that was made."""
    with running_gateway(tmp_path / "data"):
        status, rows, log = swarm(
            *("--muster-data", str(tmp_path / "data"), "--mix", "acme=1,scep=1", "--pace", "0.2"),
            *("-u", "2", "-r", "2", "-t", "3s"),
            SWARM_SCEP_CHALLENGE="wrong",
        )
    assert status == 1, log
    for row in (("SCEP", "PKCSReq"), ("ACME", "authorization")):
        assert rows[row]["num_failures"] == rows[row]["num_requests"] > 0
    assert rows["ACME", "newOrder"]["num_failures"] == 0 == rows["SCEP", "GetCACert"]["num_failures"]


def test_an_answer_that_says_yes_and_has_nothing_in_it_is_one_failure():
    with saying(lambda _: 200, b"{}") as url:
        status, rows, log = swarm(
            *("--est-url", url, "--scep-url", url, "--acme-directory", url, "--rest-url", url, "--pace", "0.2"),
            *("--rest-application", "a", "--rest-profile", "p", "--mix", "acme=1,scep=1,est=1,rest=1"),
            *("-u", "4", "-r", "4", "-t", "3s"),
            SWARM_REST_TOKEN="token",
        )
    assert status == 1, log
    assert "Traceback" not in log
    for row in (("ACME", "directory"), ("SCEP", "GetCACert"), ("EST", "cacerts"), ("REST", "POST certificates")):
        assert rows[row]["num_failures"] == rows[row]["num_requests"] > 0
    assert rows["SCEP", "GetCACaps"]["num_failures"] == 0


def test_what_is_told_to_wait_for_ever_fails_the_last_time_alone():
    with saying(lambda _: 503, after="0") as url:
        status, rows, log = swarm(
            *("--rest-url", url, "--rest-application", "a", "--rest-profile", "p", "--pace", "60"),
            *("-u", "1", "-r", "1", "-t", "5s"),
            SWARM_REST_TOKEN="token",
        )
    assert status == 1, log
    counted = {name: (row["num_requests"], row["num_failures"]) for (_, name), row in rows.items()}
    assert counted == {
        "POST certificates: told to wait (503)": (9, 0),
        "POST certificates": (1, 1),
        "enrollment": (1, 1),
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no server: give --acme-directory"),
        (("--scep-url", "notaurl"), "--scep-url: 'notaurl'"),
        (("--scep-url", "http://127.0.0.1:1/", "--pace", "nan"), "--pace: nan"),
        (("--acme-directory", "http://127.0.0.1:1/", "--acme-http01", "127.0.0.1:abc"), "--acme-http01: "),
        (("--est-url", "http://127.0.0.1:1/", "--ca", "/nowhere.pem"), "--ca: /nowhere.pem"),
    ],
)
def test_a_mistake_ends_it_with_one_sentence_before_any_user_starts(arguments: tuple[str, ...], sentence: str):
    status, rows, log = swarm("-t", "1s", *arguments)
    assert status == 2
    assert not rows
    assert [sentence in line for line in log.splitlines() if "/ERROR/" in line] == [True]
    assert "Traceback" not in log


def test_a_mistake_in_the_web_views_form_is_told_and_not_believed():
    port = str(kept_port())
    view = f"http://127.0.0.1:{port}"
    with (
        saying(lambda _: 201) as url,
        locust(
            *("--rest-url", url, "--rest-application", "a", "--rest-profile", "p", "--pace", "0.1"),
            *("--web-host", "127.0.0.1", "--web-port", port, "--headful"),
            SWARM_REST_TOKEN="token",
        ) as process,
    ):
        form = urllib.parse.urlencode({"user_count": 1, "spawn_rate": 1, "pace": "-1"}).encode()
        retried(lambda: fetched(f"{view}/swarm", form), process)
        retried(lambda: json.loads(fetched(f"{view}/stats/requests"))["stats"][0]["num_requests"] > 5, process)
        process.send_signal(signal.SIGINT)
        status, _, log = ended(process)
    assert status == 0, log
    assert "--pace: -1 is no number of seconds; 0 is the least; all is as it was told before" in log
    assert "Uncaught exception in event handler" not in log


def fetched(url: str, form: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, form, timeout=30) as answer:
        body: bytes = answer.read()
        return body


def retried(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Until it is true and the view is there."""
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, ConnectionError, LookupError):
            if what():
                return
        time.sleep(0.05)
    killed(process)
    raise AssertionError(ended(process)[2])


@contextmanager
def saying(
    status: Callable[[int], int],
    body: bytes = b'{"certificate": {"certificate": "-----BEGIN CERTIFICATE-----"}}',
    *,
    after: str = "1",
) -> Iterator[str]:
    """A server that answers everything with `body` and, by how often it was asked before, with a status."""
    asked = itertools.count()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status(next(asked)))
            self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(body)))
            with suppress(ConnectionError):  # a swarm that ends does not wait for it
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
