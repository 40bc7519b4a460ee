"""Figures beside budget and floor: what the table shows, what its file holds, and that one piece cannot hide another."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import types
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.commits import transactions
from bench.enrollments import WORKS, together
from bench.figure import Effort, Figure
from bench.floors import PLAN, PLANNED, Operations
from bench.load.process_tree import descendants, used
from bench.load.run import Outcome
from bench.load.tally import Tally
from bench.table import machine, missed, printed, write

WITHIN = Figure("P8", "REST", 0.4, budget=0.5, paced=0.95, floor=0.2, per_second=2000.0, p50_ms=1.25)
OVER = Figure("P3", "ACME", 0.9, budget=0.8)
TOO_FEW = Figure("P15", "two workers", 1.5, "x", 1.8, at_least=True)


def test_a_row_shows_figure_budget_floor_and_share():
    line = printed([WITHIN]).splitlines()[1]
    assert line.split()[:2] == ["P8", "REST"]
    assert {"0.40", "0.50", "0.95", "0.20", "50%", "2,000", "1.25"} <= set(line.split())


def test_what_is_over_a_budget_or_under_one_that_is_a_least_is_marked():
    assert [missed(each) for each in (WITHIN, OVER, TOO_FEW)] == [False, True, True]
    assert "0.90*" in printed([OVER])
    assert not missed(Figure("P9", "nothing was done", float("nan"), budget=0.1))


def test_a_machine_s_pace_is_the_median_of_what_is_known_of_the_plan_s():
    twice = {name: 2.0 * planned for name, planned in PLANNED.items()} | {"rsa_private": 9e9, "rsa_public": 0.1}
    others = dict.fromkeys({each.name for each in fields(Operations)} - set(PLANNED), 1.0)
    assert Operations(**twice, **others).pace == 2.0


def times(ratio: float, **others: float) -> Operations:
    """The plan's operations, each taking so many times as long; some of them, others."""
    return Operations(**{name: value * others.get(name, ratio) for name, value in asdict(PLAN).items()})


def test_the_plan_s_operations_are_those_of_its_table_and_its_own_pace_is_one():
    assert PLAN.pace == 1.0
    assert PLAN.parse_csr_rsa == PLAN.parse_csr - PLAN.verify_p256 + PLAN.rsa_public


@pytest.mark.parametrize("work", WORKS, ids=lambda work: f"{work.number} {work.title}")
def test_a_budget_at_one_pace_for_all_is_the_budget_times_it(work):
    assert PLAN.paced(work.budget, work.floor) == pytest.approx(work.budget)
    assert times(2.5).paced(work.budget, work.floor) == pytest.approx(2.5 * work.budget)


def test_cryptography_goes_by_its_own_pace_and_the_rest_of_a_budget_by_the_machine_s():
    rsa_slow = times(2.0, rsa_private=3.0)
    # SCEP: two private operations of 220 us, so 2 x 220 us more than twice the budget; looser.
    assert rsa_slow.paced(1.30, Operations.scep) == pytest.approx(2 * 1.30 + 2 * 0.220)
    # A handshake of 880 us at one and a half: 440 us less than twice the budget; stricter.
    assert times(2.0, handshake=1.5).paced(2.0, Operations.est_with_handshake) == pytest.approx(2 * 2.0 - 0.440)
    # Neither is in a REST enrollment.
    assert rsa_slow.paced(0.50, Operations.rest) == pytest.approx(2 * 0.50)


def test_work_without_cryptography_of_the_plan_has_its_budget_times_the_pace():
    assert times(2.0, handshake=9.0, rsa_private=9.0).paced(0.07, lambda _: 0.0) == pytest.approx(2 * 0.07)


def test_turns_are_added_up_by_work_and_cpu_and_not_averaged():
    first, second = Tally(finished=100, cpu=0.2), Tally(finished=300, cpu=0.4, failed=1, first_failure="500")
    quick = Outcome(first, 0.5, 0.0, 0.4, {"gateway": 0.3, "signer": 0.1}, (1.0, 1.5))
    both = together([quick, Outcome(second, 0.5, 0.0, 0.4, {"gateway": 0.4}, (3.0, 3.5))])
    assert both.cpu_ms == pytest.approx(2.0)  # of the two turns' 4.0 and 1.33 no average says this
    assert both.per_second == pytest.approx(400.0)
    assert both.by_name == pytest.approx({"gateway": 0.7, "signer": 0.1})
    assert (both.tally.failed, both.tally.first_failure, both.counted) == (1, "500", (1.0, 3.5))
    unknown = together([quick, replace(quick, server_cpu=None)])
    assert unknown.cpu_ms != unknown.cpu_ms


def test_failures_are_told_with_the_first_ones_sentence():
    assert "3 failed; 500 b'oops'" in printed([Figure("P8", "REST", 1.0, failures=3, note="500 b'oops'")])


def test_the_file_is_json_without_nan_and_holds_machine_and_trouble(tmp_path: Path):
    file = tmp_path / "results" / "bench.json"
    write(file, machine(), [WITHIN, Figure("P9", "nothing", float("nan"))], ["bench.x: it broke"])
    content = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert content["figures"][0]["share"] == 0.5
    assert content["figures"][1]["figure"] is None
    assert content["trouble"] == ["bench.x: it broke"]
    assert {"date", "commit", "processor", "cores", "python", "cryptography"} <= set(content["machine"])


def test_a_piece_that_breaks_is_told_and_the_others_are_measured(monkeypatch: pytest.MonkeyPatch):
    fine, broken = types.ModuleType("fine"), types.ModuleType("broken")
    fine.__dict__["measure"] = lambda _: [WITHIN, OVER]

    def break_down(_: Effort) -> list[Figure]:
        raise OSError("no room")

    broken.__dict__["measure"] = break_down
    pieces = (bench.Piece("broken", ("P1",)), bench.Piece("fine", ("P8", "P3")), bench.Piece("missing", ("P2",)))
    monkeypatch.setattr(bench, "PIECES", pieces)
    monkeypatch.setitem(sys.modules, "bench.fine", fine)
    monkeypatch.setitem(sys.modules, "bench.broken", broken)
    figures, trouble = bench.composed(Effort(), ())
    assert [each.number for each in figures] == ["P3", "P8"]
    assert [each.partition(":")[0] for each in trouble] == ["bench.broken", "bench.missing"]
    assert bench.composed(Effort(), ["P8"]) == ([WITHIN], [])


def test_a_piece_of_many_rows_measures_those_that_are_wanted(monkeypatch: pytest.MonkeyPatch):
    rows = types.ModuleType("rows")
    asked = list[list[str]]()

    def measure(_: Effort, only: Sequence[str]) -> list[Figure]:
        asked.append(list(only))
        return [WITHIN]

    rows.__dict__["measure"] = measure
    monkeypatch.setattr(bench, "PIECES", (bench.Piece("rows", ("P3", "P8"), narrows=True),))
    monkeypatch.setitem(sys.modules, "bench.rows", rows)
    assert bench.composed(Effort(), ["P8"]) == ([WITHIN], [])
    assert bench.composed(Effort(), ()) == ([WITHIN], [])
    assert asked == [["P8"], []]


def test_every_bench_that_runs_alone_is_listed_with_what_it_is():
    known = bench.details()
    assert {"load", "enrollments", "storing", "signing", "report"} <= set(known)
    assert all(known.values())
    assert "figure" not in known


def test_sqlite_counts_its_transactions_where_the_bench_reads_them(tmp_path: Path):
    # walformat.html of SQLite: iChange is "incremented each transaction".
    file = tmp_path / "store.sqlite"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n)")
    before = transactions(file)
    for number in range(7):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        connection.execute("COMMIT")
    connection.execute("SELECT * FROM t").fetchall()
    assert transactions(file) - before == 7
    connection.close()


PARENT = """
import subprocess, sys, time
burn = "import time; end = time.process_time() + 0.3\\nwhile time.process_time() < end: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
child = subprocess.Popen([sys.executable, "-c", burn + "\\nprint('done', flush=True); time.sleep(60)"])
time.sleep(60)
"""


def test_a_tree_counts_its_children_and_those_that_have_ended():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"done\n"  # of the second child, which lives on
            found = used(process.pid)
            assert found.seconds >= 0.6
            assert found.processes == 2
        finally:
            for pid in descendants(process.pid):
                os.kill(pid, signal.SIGKILL)
