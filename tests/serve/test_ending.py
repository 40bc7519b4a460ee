"""A gateway that was told to end while it has a request under way, and what whoever connects meanwhile hears."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.rolling import workers
from tests.doubles.gateway import running_gateway
from tests.serve.test_workers import all_there

# A request whose body is asked for: the gateway has it under way until the body has come.
BEGUN = (
    b"POST /ocsp/issuing HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\nContent-Length: 5\r\n"
    b"Expect: 100-continue\r\n\r\n"
)
SOONER = 30.0  # seconds, than the drain is over, for what takes a moment


@pytest.mark.parametrize("hang", [False, True])
def test_nobody_connects_any_more_while_requests_finish_or_workers_hang(tmp_path: Path, hang: bool) -> None:
    """A load balancer tries the next machine at once."""
    patient = {"MUSTER_LIMITS_DRAIN_SECONDS": "120"}
    with running_gateway(tmp_path / "data", "--workers", "2", variables=patient) as gateway:
        all_there(gateway, 2)
        https, http = (address(gateway.quickstart[each]) for each in ("https", "http"))
        with socket.create_connection(http, timeout=60) as busy:
            busy.sendall(BEGUN)
            assert busy.recv(65536).startswith(b"HTTP/1.1 100 ")
            stopped = workers(gateway.process.pid) if hang else []
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            gateway.process.send_signal(signal.SIGTERM)
            refused = [soon_refused(each) for each in (https, http)]
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            busy.sendall(b"12345")
            answer = b"".join(iter(lambda: busy.recv(65536), b""))
        assert refused == [True, True]
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert gateway.process.wait(60) == 0


def address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def soon_refused(where: tuple[str, int]) -> bool:
    """Whether nobody can connect there any more, within `SOONER`."""
    until = time.monotonic() + SOONER
    while time.monotonic() < until:
        try:
            socket.create_connection(where, timeout=SOONER).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # it came in the very moment: begun, and nobody had accepted it yet
        time.sleep(0.05)
    return False
