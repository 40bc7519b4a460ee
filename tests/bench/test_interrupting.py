"""Ctrl-C at `python -m bench.load`: one sentence, and no driver that goes on."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.load import run
from bench.load.arrivals import Closed
from bench.load.fixed import Fixed
from bench.load.job import Job, Ready
from bench.load.loop import Span
from bench.load.trust import Trust

REST = ["rest", "--application", "a", "--profile", "p", "--warm-up", "0", "--url"]


class Silent:
    """A server that takes what is sent, and answers nothing. `asked` is set by the first request."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._listening, *self._taken):
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = self._listening.accept()
                self._taken.append(taken)
                if taken.recv(65536):
                    self.asked.set()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with contextlib.closing(Silent()) as made:
        yield made


@pytest.mark.parametrize("words", [REST, ["scep", "--url"]], ids=["while it runs", "while clients are prepared"])
def test_an_interrupt_is_one_sentence_and_ends_every_driver(silent: Silent, words: list[str]):
    command = [sys.executable, "-m", "bench.load", *words, silent.url, "--processes", "2", "--seconds", "600"]
    started = subprocess.Popen(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LOAD_TOKEN": "token"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert silent.asked.wait(60)
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does it: to all of them
        began = time.monotonic()
        said, trouble = started.communicate(
            timeout=60
        )  # drivers hold its standard error too: it ends with the last one
        took = time.monotonic() - began
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    assert (started.returncode, said) == (130, "")
    preparing, sentence = trouble.splitlines()
    assert preparing.startswith("preparing 16 clients in 2 processes")
    assert sentence.startswith("bench.load: interrupted")
    assert took < run.PATIENCE  # nobody had to be killed


def test_a_driver_that_is_interrupted_while_it_starts_says_nothing(capfd: pytest.CaptureFixture[str]):
    driver = run._started(frozenset())
    assert driver.stdin is not None
    assert driver.stdout is not None
    driver.send_signal(signal.SIGINT)
    driver.stdin.close()
    assert driver.wait(60) == 0
    assert driver.stdout.read() == b""
    driver.stdout.close()
    assert capfd.readouterr().err == ""


def test_a_driver_ends_when_its_parent_is_gone_whatever_it_is_at(silent: Silent):
    driver = run._started(frozenset())
    assert driver.stdin is not None
    assert driver.stdout is not None
    fleet = Fixed(silent.url, Trust(), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    pickle.dump(Job(fleet, 1, 0, Closed(), 0, 1), driver.stdin)
    driver.stdin.flush()
    assert pickle.load(driver.stdout) == Ready()
    now = time.perf_counter()
    pickle.dump(Span(now, now, now + 3600), driver.stdin)
    driver.stdin.flush()
    assert silent.asked.wait(60)
    driver.stdin.close()
    try:
        assert driver.wait(60) == 0
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
