"""The swarm as a user starts it: locust's own program, headless, against a real gateway and against one that is busy."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.doubles.gateway import running_gateway
from tests.doubles.ports import kept_port

ROOT = Path(__file__).parents[2]


def swarm(*arguments: str, **variables: str) -> tuple[int, dict[tuple[str, str], dict[str, int]], str]:
    """The exit status, the rows by type and name, and what was logged."""
    command = [sys.executable, "-m", "locust", "-f", "bench/swarm/fleet.py", "--headless", "--json", *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    rows = json.loads(done.stdout) if done.stdout.strip() else []
    return done.returncode, {(row["method"], row["name"]): row for row in rows}, done.stderr


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


def test_what_is_told_to_wait_waits_and_is_no_failure():
    with busy() as url:
        status, rows, log = swarm(
            *("--rest-url", url, "--rest-application", "a", "--rest-profile", "p", "--pace", "0"),
            *("-u", "1", "-r", "1", "-t", "4s"),
            SWARM_REST_TOKEN="token",
        )
    assert status == 0, log
    assert rows["REST", "POST certificates: told to wait (503)"]["num_requests"] == 1
    assert rows["REST", "enrollment"]["num_failures"] == 0
    assert rows["REST", "enrollment"]["max_response_time"] >= 1000  # the wait is part of it


def test_a_mistake_ends_it_with_one_sentence():
    status, rows, log = swarm("-t", "1s")
    assert status == 2
    assert not rows
    assert "no server: give --acme-directory" in log
    assert "Traceback" not in log


@contextmanager
def busy() -> Iterator[str]:
    """A server that is busy once, and then says yes to everything."""
    asked: list[str] = []

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.headers["Authorization"])
            self.send_response(503 if len(asked) == 1 else 201)
            body = b'{"certificate": {"certificate": "-----BEGIN CERTIFICATE-----"}}'
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
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
