"""HTTP/2 with Go's client, which most ACME clients and proxies are made of: no exchange of workers costs a request."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from bench.rolling import inventory, replaced, workers
from tests.conformance.test_acme_more_clients import caddy_with
from tests.doubles.gateway import RunningGateway, running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.programs import installed

pytestmark = pytest.mark.conformance

CLIENTS = 8


@contextlib.contextmanager
def proxied(gateway: RunningGateway, folder: Path) -> Iterator[int]:
    """Caddy, which hands on to the gateway over HTTP/2 alone; gives the port where it listens."""
    port = kept_port()
    trust = {"root_ca_pem_files": [gateway.quickstart["root"]]}
    route = {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": urlsplit(gateway.quickstart["https"]).netloc}],
        "transport": {"protocol": "http", "versions": ["2"], "tls": trust},
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [route]}],
        "automatic_https": {"disable": True},
    }
    settings = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "apps": {"http": {"servers": {"one": server}}},
    }
    with caddy_with(settings, folder) as process:
        _await_port(port, process, folder / "caddy.log")
        yield port


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(log.read_text()[-3000:])


class Enrolling:
    """Clients that enroll over and over, by REST, each on a connection of its own."""

    def __init__(self, gateway: RunningGateway, port: int) -> None:
        self.seen: Counter[int | str] = Counter()
        self._port = port
        self._path = urlsplit(gateway.quickstart["rest"]).path + "/certificates"
        self._headers = {
            "Authorization": f"Bearer {gateway.quickstart['adminToken']}",
            "Content-Type": "application/json",
        }
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._enroll, args=(each,)) for each in range(CLIENTS)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join()

    def _enroll(self, number: int) -> None:
        attributes = {"commonName": f"client-{number}.example.com"}
        body = json.dumps({"applicationName": "demo", "profileName": "tls-server", "attributes": attributes})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with contextlib.closing(connection):
            while not self._over.wait(0.02):
                connection.request("POST", self._path, body, self._headers)
                try:
                    answer = connection.getresponse()
                    answer.read()
                except http.client.HTTPException as error:  # an answer without its end
                    self.seen[type(error).__name__] += 1
                    connection.close()
                else:
                    self.seen[answer.status] += 1


def test_no_enrollment_over_http_2_is_lost_when_workers_are_exchanged(tmp_path: Path) -> None:
    installed("caddy")
    with running_gateway(tmp_path / "data", "--workers", "2") as gateway, proxied(gateway, tmp_path) as port:
        stored = inventory(gateway.folder)
        with Enrolling(gateway, port) as clients:
            for _ in range(3):
                time.sleep(1)
                before = workers(gateway.process.pid)
                gateway.process.send_signal(signal.SIGHUP)
                assert replaced(gateway.process.pid, before)
        assert set(clients.seen) == {200}, (clients.seen, (tmp_path / "caddy.log").read_text()[-3000:])
        assert inventory(gateway.folder) - stored == clients.seen[200] > 3 * CLIENTS
        assert "level=error" not in gateway.log
