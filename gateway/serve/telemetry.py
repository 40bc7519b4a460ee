"""What the gateway tells of itself: log lines on standard error, and counters that they sum up.

No secret, body, header or credential ever goes through here: a line holds an event's name and the facts that its
caller names.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from gateway.serve.settings import Settings

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Lines(logging.Formatter):
    """One line an event: time, level, where, what happened, then its facts; as key=value, or as one JSON object."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self._json = layout == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Give the line. A traceback stays within it, its line ends escaped, so that a line is always one event."""
        facts: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "where": record.name,
            "event": record.getMessage(),
        }
        facts |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(facts, default=str)
        return " ".join(f"{name}={_quoted(str(value))}" for name, value in facts.items())


def _quoted(text: str) -> str:
    # Whatever a peer put into it, a value cannot begin a line or a fact of its own (log injection).
    return text if text.isprintable() and text and not set(text) & {" ", '"', "="} else json.dumps(text)


def start(settings: Settings) -> None:
    """Send the log to standard error as the settings say. Replaces what logging was set up before."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(Lines(settings.log_format))
    logging.root.handlers[:] = [lines]
    logging.root.setLevel(settings.log_level.upper())
    # Libraries warn of what peers sent (a country of nine letters, say), in lines of their own: these are events too.
    logging.captureWarnings(True)


class Counters:
    """What happened since the start. Owned by the loop's thread; reading is a copy."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.open = 0
        self.failures = 0

    def told_early(self, status: int) -> None:
        """Count an answer that was given before the application heard of its request."""
        self.answers[status] += 1

    def facts(self) -> dict[str, int]:
        """The numbers as flat facts for a log line: answers by class of status, requests open, failures of ours.

        `answers_none`: the client went away, or the gateway ended, before there was one.
        """
        classes: Counter[str] = Counter()
        for status, number in self.answers.items():
            classes[f"answers_{status // 100}xx" if status else "answers_none"] += number
        return {**classes, "open": self.open, "failures": self.failures}
