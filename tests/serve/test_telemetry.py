"""A log line is one event, whatever a peer put into it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

from gateway.serve.telemetry import Lines
from tests.doubles.gateway import environment


def record(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "muster.test", "levelname": "INFO", "msg": message, "created": 0.0, **extra})


def test_facts_follow_the_event_as_key_and_value() -> None:
    line = Lines("text").format(record("it ended", status=2, path="/tmp/x"))
    assert line == 'at=1970-01-01T00:00:00.000+00:00 level=info where=muster.test event="it ended" status=2 path=/tmp/x'


def test_json_has_the_same_facts() -> None:
    facts = json.loads(Lines("json").format(record("it ended", status=2)))
    assert (facts["event"], facts["status"], facts["level"]) == ("it ended", 2, "info")


def test_a_value_cannot_begin_a_line_or_a_fact_of_its_own() -> None:
    for layout in ("text", "json"):
        line = Lines(layout).format(record("x", name_of_peer='a\nat=now level=error "b" \x1b[31m\u2028'))
        assert "\n" not in line
        assert "\u2028" not in line
        assert "\x1b" not in line
    assert Lines("text").format(record("x", empty="")).endswith('empty=""')


def test_a_traceback_stays_within_its_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        line = Lines("text").format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    assert "ValueError" in line


def test_a_library_s_warning_is_an_event_too(tmp_path: Path) -> None:
    program = (
        "import warnings; from pathlib import Path; from gateway.serve import settings, telemetry; "
        "telemetry.start(settings.load({}, {'MUSTER_LOG_FORMAT': 'json'}, folder=Path('.'))); "
        "warnings.warn('a country of nine letters')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment()
    )
    (line,) = done.stderr.splitlines()
    facts = json.loads(line)
    assert (facts["level"], facts["where"]) == ("warning", "py.warnings")
