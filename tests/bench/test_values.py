"""What a bench takes for a number, a port, a process or a file; anything else is refused in a sentence."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import values


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (values.seconds, "0.5", 0.5),
        (values.seconds_or_none, "0", 0.0),
        (values.rate, "200", 200.0),
        (values.count, "1", 1),
        (values.port, "65535", 65535),
        (values.process, "1", 1),
        (values.readable_file, __file__, Path(__file__)),
        (values.writable_file, "/dev/null", Path("/dev/null")),
    ],
)
def test_what_makes_sense_is_taken(kind: Callable[[str], object], text: str, value: object):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((values.seconds, text) for text in ("0", "-1", "nan", "inf", "1e300", "", "ten")),
        *((values.seconds_or_none, text) for text in ("-0.1", "nan", "inf", "x")),
        *((values.rate, text) for text in ("0", "-1", "nan", "inf", "1e9")),
        *((values.count, text) for text in ("0", "-1", "1.5", "x")),
        *((values.port, text) for text in ("0", "-1", "65536", "http")),
        *((values.process, text) for text in ("0", "-5", "99999999", "x")),
        *((values.readable_file, text) for text in ("/nowhere", "/", "nul\0")),
        *((values.writable_file, text) for text in ("/", "/proc/nowhere/file", f"{__file__}/file", "nul\0")),
    ],
)
def test_what_does_not_is_refused_in_one_sentence(kind: Callable[[str], object], text: str):
    with pytest.raises(ArgumentTypeError) as refused:
        kind(text)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_to_be_written_is_tried_and_stays_as_it_was(tmp_path: Path):
    new, old = tmp_path / "folder" / "new.json", tmp_path / "old.json"
    old.write_text("kept")
    assert values.writable_file(str(new)) == new
    assert (new.parent.is_dir(), new.exists()) == (True, False)
    assert values.writable_file(str(old)) == old
    assert old.read_text() == "kept"


def test_a_name_that_leads_nowhere_yet_still_leads_there_when_it_was_tried(tmp_path: Path):
    name = tmp_path / "name"
    name.symlink_to("figures.json")
    values.writable_file(str(name))
    assert name.is_symlink()
    assert not name.exists()
