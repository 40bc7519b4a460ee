"""What a bench takes for a number, a port, a process or a file; anything else is refused in a sentence."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import arguments


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (arguments.seconds, "0.5", 0.5),
        (arguments.seconds_or_none, "0", 0.0),
        (arguments.rate, "200", 200.0),
        (arguments.count, "1", 1),
        (arguments.port, "65535", 65535),
        (arguments.process, str(os.getpid()), os.getpid()),
        (arguments.readable_file, __file__, Path(__file__)),
        (arguments.writable_file, "/dev/null", Path("/dev/null")),
    ],
)
def test_what_makes_sense_is_taken(kind: Callable[[str], object], text: str, value: object):
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((arguments.seconds, text) for text in ("0", "-1", "nan", "inf", "1e300", "", "ten")),
        *((arguments.seconds_or_none, text) for text in ("-0.1", "nan", "inf", "x")),
        *((arguments.rate, text) for text in ("0", "-1", "nan", "inf", "1e9")),
        *((arguments.count, text) for text in ("0", "-1", "1.5", "x")),
        *((arguments.port, text) for text in ("0", "-1", "65536", "http")),
        *((arguments.process, text) for text in ("0", "-5", "99999999", "x")),
        *((arguments.readable_file, text) for text in ("/nowhere", "/", "nul\0")),
        *((arguments.writable_file, text) for text in ("/", "/proc/nowhere/file", f"{__file__}/file", "nul\0")),
    ],
)
def test_what_does_not_is_refused_in_one_sentence(kind: Callable[[str], object], text: str):
    with pytest.raises(ArgumentTypeError) as refused:
        kind(text)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_to_be_written_is_tried_and_stays_as_it_was(tmp_path: Path):
    new, old = tmp_path / "folder" / "new.json", tmp_path / "old.json"
    old.write_text("kept")
    assert arguments.writable_file(str(new)) == new
    assert (new.parent.is_dir(), new.exists()) == (True, False)
    assert arguments.writable_file(str(old)) == old
    assert old.read_text() == "kept"


def test_a_name_that_leads_nowhere_yet_still_leads_there_when_it_was_tried(tmp_path: Path):
    name = tmp_path / "name"
    name.symlink_to("figures.json")
    arguments.writable_file(str(name))
    assert name.is_symlink()
    assert not name.exists()
