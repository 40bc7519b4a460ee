"""Drawings and tables come from files alone: the same again for the same figures, and a page keeps what is around them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import report
from bench.chosen import PLAN
from bench.curves import Point
from bench.drawing import save
from bench.figure import Figure
from bench.report import Missing, budgets, filled_in, tables
from bench.where import PARTS, Stack

POINTS = [
    Point("rate", work, rate, min(rate, 100.0), 5.0 + rate / 10, 50.0, 2.0, told, 0, 0.1)
    for work in ("REST", "EST")
    for rate, told in ((50.0, 0), (100.0, 0), (150.0, 50))
] + [
    Point(curve, "REST", at, 90.0, 5.0, 50.0, 2.0, 0, 0, 0.1)
    for curve, values in (("clients", (1, 16)), ("workers", (1, 2)), ("certificates", (0, 1000)))
    for at in values
]
STACKS = [Stack("P5", "EST simpleenroll", 1.5, 0.2, dict.fromkeys(PARTS, 0.1), 800)]
FIGURES = [
    Figure(
        "P5",
        "EST simpleenroll",
        0.5,
        budget=0.45,
        floor=0.1,
        bare=0.25,
        paced=0.9,
        per_second=900.0,
        p50_ms=1.0,
        p95_ms=2.0,
        p99_ms=9.5,
    ),
    Figure("P15", "two workers against one", 1.9, unit="x", budget=1.8, at_least=True),
]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "curves.json").write_text(json.dumps({"machine": {}, "points": [asdict(each) for each in POINTS]}))
    (tmp_path / "where.json").write_text(json.dumps({"machine": {}, "stacks": [asdict(each) for each in STACKS]}))
    content = {"machine": {"processor": "some processor", "cores": 2}, "figures": [asdict(each) for each in FIGURES]}
    (tmp_path / "bench.json").write_text(json.dumps(content))
    return tmp_path


def test_a_drawing_is_the_same_file_again_for_the_same_figures(results: Path):
    for folder in ("first", "second"):
        _, drawn = tables(results)
        assert set(drawn) == {"latency", "growth", "where"}
        save(drawn["where"], results / folder / "where")
        save(drawn["growth"], results / folder / "growth", png=False)  # a picture takes seconds
    first = {path.name: path.read_bytes() for path in (results / "first").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (results / "second").iterdir()}
    assert set(first) == {"growth.svg", "where.svg", "where.png"}
    assert first["where.png"].startswith(b"\x89PNG")


def test_what_is_drawn_says_what_it_is(results: Path):
    _, drawn = tables(results)
    (svg,) = save(drawn["where"], results / "where-again", png=False)
    text = svg.read_text()
    for words in ("EST simpleenroll", "bare cryptography", *PARTS):
        assert words.replace("'", "&#x27;") in text or words in text


def test_only_what_was_measured_is_drawn(results: Path):
    (results / "curves.json").unlink()
    found, drawn = tables(results)
    assert set(drawn) == {"where"}
    assert set(found) == {"machine", "budgets", "where", "where.svg"}
    assert found["where.svg"].endswith("(performance/where.svg)")


def test_what_misses_its_budget_is_bold_and_what_may_not_be_less_says_so():
    lines = budgets(FIGURES).splitlines()
    beside = "0.45 | 0.90 | 0.10 | 5.0 x | 0.25 | 2.0 x | 900 | 1.00 / 2.00 / 9.50"
    assert lines[2] == f"| P5 | EST simpleenroll | **0.50 ms CPU** | {beside} |"
    assert lines[3] == "| P15 | two workers against one | 1.90 x | ≥ 1.80 |  |  |  |  |  |  |  |"


def test_a_page_keeps_everything_but_its_tables():
    page = "before\n<!-- figures: a -->\nold\n<!-- /figures: a -->\nafter\n"
    once = filled_in(page, {"a": r"new \1"})
    assert once == "before\n<!-- figures: a -->\nnew \\1\n<!-- /figures: a -->\nafter\n"
    assert filled_in(once, {"a": r"new \1"}) == once
    with pytest.raises(Missing, match="`b`"):
        filled_in(page, {"b": ""})


def test_the_page_of_the_docs_has_a_place_for_every_table(results: Path):
    found, _ = tables(results)
    page = Path(__file__).parents[2] / "docs" / "performance.md"
    assert filled_in(page.read_text(), found)


def test_without_figures_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(Missing, match="python -m bench"):
        tables(tmp_path)
    (tmp_path / "bench.json").write_text("{")
    with pytest.raises(Missing, match="no JSON"):
        tables(tmp_path)


def bench_json(results: Path, wanted: Sequence[str], trouble: Sequence[str] = ()) -> None:
    rows = [asdict(Figure(number, "work", 1.0)) for number in wanted]
    content = {"machine": {"cores": 2}, "figures": rows, "trouble": list(trouble)}
    (results / "bench.json").write_text(json.dumps(content))


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of the docs with all the places, and a folder for its pictures."""
    copied = tmp_path / "performance.md"
    copied.write_text(report.PAGE.read_text())
    monkeypatch.setattr(report, "PAGE", copied)
    monkeypatch.setattr(report, "PICTURES", tmp_path / "performance")
    return copied


def test_a_page_is_never_filled_from_a_part_of_a_table(results: Path, page: Path, capsys: pytest.CaptureFixture[str]):
    whole = page.read_text()

    def refusal() -> str:
        assert report.main(["--docs", "--results", str(results)]) == 1
        assert page.read_text() == whole
        return capsys.readouterr().err

    bench_json(results, ["P5"])
    assert "bench.json is a part of the table, without P1, P2, P3, P4, P6," in refusal()
    bench_json(results, PLAN, ["bench.handshake: OSError: no room"])
    assert "bench.json: this could not run: bench.handshake: OSError: no room" in refusal()
    bench_json(results, PLAN)
    assert "where.json is a part of the table, without P2, P3, P4, P6, P7, P8, P9: " in refusal()
    (results / "where.json").unlink()
    kept = [asdict(each) for each in POINTS if each.curve != "workers"]
    (results / "curves.json").write_text(json.dumps({"machine": {}, "points": kept}))
    assert "curves.json is a part of the table, without workers: " in refusal()


def test_a_page_is_filled_from_a_whole_table_and_keeps_the_tables_of_files_that_are_not_there(
    results: Path, page: Path
):
    (results / "where.json").unlink()
    (results / "curves.json").unlink()
    before = page.read_text()
    bench_json(results, PLAN)
    assert report.main(["--docs", "--results", str(results)]) == 0
    filled = page.read_text()
    assert "| P16 | work | 1.00 ms CPU |" in filled
    after = "<!-- /figures: budgets -->"
    assert filled.partition(after)[2] == before.partition(after)[2]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("bench.json", {"figures": []}, "it has no 'machine'"),
        ("bench.json", {"machine": {}}, "it has no 'figures'"),
        ("bench.json", {"machine": {}, "figures": [{"figure": 1.0}]}, "missing 2 required positional arguments"),
        ("bench.json", [], "list indices"),
        ("curves.json", {"machine": {}}, "it has no 'points'"),
        ("where.json", {"stacks": [{"colour": "red"}]}, "unexpected keyword argument 'colour'"),
    ],
)
def test_a_file_that_no_bench_wrote_is_told_in_one_sentence(
    results: Path, capsys: pytest.CaptureFixture[str], name: str, content: object, told: str
):
    (results / name).write_text(json.dumps(content))
    assert report.main(["--results", str(results)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"bench report: {results / name} is not what a bench writes: ")
    assert told in said
    assert len(said.splitlines()) == 1
