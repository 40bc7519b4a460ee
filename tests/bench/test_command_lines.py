"""What every bench takes on its command line: it says what it is, and refuses in one sentence what it cannot do."""

from __future__ import annotations

import argparse
import json
import socket
import sys
import textwrap
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import pytest

import bench
from bench import __main__ as table
from bench import chosen, storing, values, where
from bench.figure import Effort, Figure

MAIN = dict[str, Callable[[Sequence[str]], object]]()
for name in sorted(table.details()):
    package = (Path(bench.__path__[0]) / name).is_dir()
    MAIN[name] = import_module(f"bench.{name}.__main__" if package else f"bench.{name}").main
OURS = sorted(MAIN.keys() - {"load"})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bench would write its figures by itself."""
    monkeypatch.chdir(tmp_path)


def refused(main: Callable[[Sequence[str]], object], words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of what it says of these words, which end it with status 2 before anything is measured."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", sorted(MAIN))
def test_a_bench_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        MAIN[name](["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith((f"usage: python -m bench.{name}", f"usage: python -m bench {name}"))


@pytest.mark.parametrize("name", OURS)
def test_a_bench_and_each_of_its_options_are_described(name: str, monkeypatch: pytest.MonkeyPatch):
    described = list[argparse.ArgumentParser]()

    def parse_args(parser: argparse.ArgumentParser, *_: object) -> None:
        described.append(parser)
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    with pytest.raises(SystemExit):
        MAIN[name]([])
    (parser,) = described
    assert parser.description
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("name", OURS)
def test_a_bench_refuses_an_option_that_it_does_not_know(name: str, capsys: pytest.CaptureFixture[str]):
    needed = {"fill": ["--data", "nowhere"], "bare": [".", "80", __file__]}.get(name, [])
    assert "unrecognized arguments: --bogus" in refused(MAIN[name], [*needed, "--bogus"], capsys)


@pytest.mark.parametrize(
    "line",
    [
        "batching --workers 0",
        "batching --seconds nan",
        "curves --certificates -1",
        "curves --seconds 0",
        "doors --count 0",
        "enrolling --count 0",
        "enrollments --only P99",
        "enrollments --seconds 0",
        "fairness --key RSA_1",
        "fairness --workers 0",
        "fairness --rounds 0",
        "filled --certificates -1",
        "front --rounds 0",
        "front --seconds 0",
        "handshake --connections 0",
        "handshake --rounds 0",
        "listing --entries -1",
        "memory --clients 0",
        "memory --enrollments -5",
        "overload --connections 0",
        "rolling --clients 0",
        "rolling --pause inf",
        "rolling --times -1",
        "rolling --workers 0",
        "scaling --seconds 0",
        "starting --data /nope",
        "starting --rounds 0",
        "storing --folder /nope",
        "storing --url bogus://x",
        "storing --url sqlite://x",
        "storms --share 0",
        "where --only P99",
        "where --seconds 0",
        "where --clients two",
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_option_s_name(line: str, capsys: pytest.CaptureFixture[str]):
    name, *words = line.split()
    assert refused(MAIN[name], words, capsys).startswith(f"python -m bench.{name}: error: argument {words[0]}: ")


@pytest.mark.parametrize("words", [["--only", "P99"], ["--clients", "0"], ["--seconds", "-1"]])
def test_the_table_refuses_a_value_that_cannot_be(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert refused(table.main, words, capsys).startswith(f"python -m bench: error: argument {words[0]}: ")


def test_filling_refuses_counts_below_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for option in ("--certificates", "--revoked-each"):
        assert f"argument {option}: -1: " in refused(
            MAIN["fill"], ["--data", str(tmp_path / "data"), option, "-1"], capsys
        )


def test_a_store_that_cannot_be_reached_is_told_in_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(storing, "SECONDS", 0.01)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and nobody listens there
        port = bound.getsockname()[1]
        assert storing.main(["--url", f"postgresql://127.0.0.1:{port}/none"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("bench storing: the store cannot be reached: ")


def test_the_bare_program_asks_for_what_it_needs(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert "required: FOLDER, PORT, AUTHORITY" in refused(MAIN["bare"], [], capsys)
    assert "argument AUTHORITY: " in refused(MAIN["bare"], [str(tmp_path), "80", str(tmp_path / "none.der")], capsys)


def test_a_folder_that_was_never_served_is_not_measured_and_not_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    for data in (tmp_path / "none", tmp_path):
        assert "argument --data: " in refused(MAIN["starting"], ["--data", str(data)], capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_is_not_known_is_answered_with_those_that_are(capsys: pytest.CaptureFixture[str]):
    said = refused(table.main, ["--only", "P99"], capsys)
    assert said.endswith("'P99' is none of " + ", ".join(f"P{number}" for number in range(1, 17)))
    assert refused(MAIN["where"], ["--only", "P1"], capsys).endswith("'P1' is none of P2, P3, P4, P5, P6, P7, P8, P9")


def test_the_plan_s_numbers_are_those_of_the_pieces():
    assert set(chosen.PLAN) == {number for piece in table.PIECES for number in piece.numbers}


@pytest.mark.parametrize("where", ["", "file/below.json"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_measured(
    where: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setattr(table, "composed", lambda *_: pytest.fail("it was measured"))
    assert "argument --json: " in refused(table.main, ["--json", str(tmp_path / where)], capsys)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench-results").touch()
    assert "argument --json: bench-results/bench.json cannot be written: " in refused(table.main, [], capsys)


def test_a_file_of_results_is_tried_and_left_as_it_is(tmp_path: Path):
    kept = tmp_path / "kept.json"
    kept.write_text("figures")
    assert values.writable_file(str(kept)) == kept
    assert kept.read_text() == "figures"
    assert values.writable_file(str(tmp_path / "new" / "figures.json")).parent.is_dir()
    assert not (tmp_path / "new" / "figures.json").exists()


def test_one_number_in_small_letters_is_measured_and_leaves_the_whole_table_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    wanted = list[Sequence[str]]()

    def composed(_: Effort, only: Sequence[str]) -> tuple[list[Figure], list[str]]:
        wanted.append(only)
        return [Figure("P5", "EST", 1.0)], []

    monkeypatch.setattr(table, "composed", composed)
    monkeypatch.chdir(tmp_path)
    results = tmp_path / "bench-results"
    assert table.main([]) == 0
    whole = (results / "bench.json").read_text()
    assert table.main(["--only", "p5"]) == 0
    assert wanted == [[], ["P5"]]
    assert (results / "bench.json").read_text() == whole
    assert [each["number"] for each in json.loads((results / "bench-only.json").read_text())["figures"]] == ["P5"]


def test_a_bar_alone_leaves_the_file_of_all_bars_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(where, "measure", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    assert where.main(["--only", "p5"]) == 0
    assert [path.name for path in (tmp_path / "bench-results").iterdir()] == ["where-only.json"]
    assert where.main([]) == 0
    assert (tmp_path / "bench-results" / "where.json").exists()


def test_a_bench_run_by_name_can_hand_its_functions_to_other_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    program = """
        import pickle
        def work(): ...
        if __name__ == "__main__":
            print(pickle.dumps(work).hex())
    """
    (tmp_path / "handing.py").write_text(textwrap.dedent(program))
    monkeypatch.setattr(bench, "__path__", [*bench.__path__, str(tmp_path)])
    monkeypatch.setattr(table, "details", lambda: {"handing": ""})
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert table.main(["handing"]) == 0
    assert b"work" in bytes.fromhex(capsys.readouterr().out)
