"""What `python -m bench.load` says of its runs, and what it gives as its exit status."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TypeAlias

import pytest

from bench.load import __main__ as command
from bench.load.fleet import Fleet
from bench.load.run import Outcome, Plan
from bench.load.tally import Tally

Came: TypeAlias = "Tally | BaseException | Callable[[], Tally]"
SCEP = ["scep", "--url", "http://127.0.0.1:9/scep", "--clients", "1"]


def tally(done: int = 0, **counts: int) -> Tally:
    made = Tally(arrived=done, finished=done, all_done=done, asked=done, **counts)
    for _ in range(done):
        made.waits.note(0.01)
    return made


def told() -> Tally:
    return Tally(arrived=3, told=Counter({503: 3}))


def told_beside_what_was_done() -> Tally:
    made = tally(done=3)
    made.told[503] = 3
    return made


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> list[Came]:
    """What comes of each run, one after the other."""
    outcomes: list[Came] = []

    def load(_: Fleet, plan: Plan, *, server: int = 0) -> Outcome:
        del server
        following = outcomes.pop(0)
        if isinstance(following, BaseException):
            raise following
        return Outcome(following if isinstance(following, Tally) else following(), plan.seconds, 0.0)

    monkeypatch.setattr(command, "load", load)
    return outcomes


@pytest.mark.parametrize(
    ("tallies", "status"),
    [
        ([tally(done=3)], 0),
        ([told_beside_what_was_done()], 0),
        ([tally()], 1),
        ([told()], 1),
        ([tally(done=3, late=1)], 1),
        ([tally(done=3, lost=1)], 1),
        ([tally(done=3, failed=1)], 1),
        ([tally(done=3), tally()], 1),
    ],
)
def test_the_exit_status_says_whether_what_was_asked_for_came_back(came: list[Came], tallies: list[Tally], status: int):
    came.extend(tallies)
    rates = ["--rate", "1", "--rate", "2"] if len(tallies) == 2 else []
    assert command.main([*SCEP, *rates]) == status


def test_a_run_that_completed_nothing_says_so(came: list[Came], capsys: pytest.CaptureFixture[str]):
    came.append(tally(lost=8))
    command.main(SCEP)
    said = capsys.readouterr().out
    assert "nothing was completed" in said
    assert said.splitlines()[1].split() == ["closed", "0", "0", "0", "0", "8", *"------", "0%"]
    came.append(tally(done=8))
    command.main(SCEP)
    assert "nothing was completed" not in capsys.readouterr().out


def test_the_record_holds_each_run_as_soon_as_it_is_over(came: list[Came], tmp_path: Path):
    file = tmp_path / "new" / "figures.json"
    came.extend([tally(done=3), RuntimeError("a driver process ended with status 1")])
    assert command.main([*SCEP, "--rate", "1", "--rate", "2", "--json", str(file)]) == 2
    (run,) = json.loads(file.read_text())["runs"]
    assert run["done"] == 3


def test_a_record_that_cannot_be_written_any_more_is_one_sentence(
    came: list[Came], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "new"
    came.append(lambda: (folder.rmdir(), tally(done=3))[1])  # after it was tried, and nothing was left of that
    assert command.main([*SCEP, "--json", str(folder / "figures.json")]) == 2
    assert "--json: " in capsys.readouterr().err.splitlines()[-1]


@contextlib.contextmanager
def directory(body: bytes) -> Iterator[str]:
    """A server whose every resource is `body`; gives its URL, at a name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_: object) -> None:
            """Say nothing of it on standard error, which is looked at."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://localhost:{server.server_port}/directory"
        server.shutdown()
        thread.join()


def test_acme_clients_go_where_the_directory_says(monkeypatch: pytest.MonkeyPatch):
    fleets: list[Fleet] = []

    def load(fleet: Fleet, plan: Plan, *, server: int = 0) -> Outcome:
        del server
        fleets.append(fleet)
        return Outcome(tally(done=1), plan.seconds, 0.0)

    monkeypatch.setattr(command, "load", load)
    urls = {name: f"http://127.0.0.1:1/{name}" for name in ("newNonce", "newAccount", "newOrder")}
    with directory(json.dumps(urls).encode()) as url:
        assert command.main(["acme", "--directory", url]) == 0
    (fleet,) = fleets
    assert fleet.url == urls["newOrder"]


def test_a_directory_that_is_none_is_one_sentence_that_names_the_option(capsys: pytest.CaptureFixture[str]):
    with directory(b"{}") as url:
        assert command.main(["acme", "--directory", url]) == 2
    with socket.socket() as deaf:  # bound, so that nobody else gets the port, and not listening
        deaf.bind(("127.0.0.1", 0))
        assert command.main(["acme", "--directory", f"http://127.0.0.1:{deaf.getsockname()[1]}/directory"]) == 2
    none, refused = capsys.readouterr().err.splitlines()
    assert none.startswith("bench.load: --directory: http://localhost:")
    assert refused.startswith("bench.load: --directory: http://127.0.0.1:")


@pytest.mark.parametrize("words", [["--help"], ["rest", "--help"]])
def test_the_help_says_what_the_exit_status_means(words: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 0
    assert "exit status: 0 where" in capsys.readouterr().out
