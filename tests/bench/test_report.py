"""Drawings and tables come from files alone: the same again for the same figures, and a page keeps what is around them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

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
