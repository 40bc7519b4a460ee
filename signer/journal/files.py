"""The journal's files in their folder: which there are, who still writes to them, what was found in one that ended.

A file is locked by the worker that writes to it for as long as that lives. Nothing is written here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Final

import msgspec

from signer.journal.entry import LONGEST_LINE, NOTHING, Ended, Line, read
from signer.journal.failed import JournalFailed

FOLDER: Final = "journal"
_FILE: Final = re.compile(r"worker-([0-9]{6,})\.log", re.ASCII)


def file_name(number: int) -> str:
    """The name of a journal's file."""
    return f"worker-{number:06d}.log"


def numbers(folder: Path) -> list[int]:
    """The numbers of all files of the journal, in their order."""
    found = (_FILE.fullmatch(each.name) for each in folder.iterdir())
    return sorted(int(each[1]) for each in found if each is not None)


def alive(path: Path) -> bool:
    """Whether a worker still writes to this file."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def first_line(path: Path, key: bytes) -> tuple[Line, bytes] | None:
    """The heading of a file and its `mac`; None where it is not one that a worker wrote."""
    with path.open("rb") as file:
        line = file.readline(LONGEST_LINE)
    return read(key, NOTHING, line[:-1]) if line.endswith(b"\n") else None


def ended(folder: Path, number: int) -> Ended | None:
    """What stands at the end of a file whose worker is gone; None while it is written to, or if it is gone itself.

    Nothing is proved here: `reading` compares it with what it proves.
    """
    path = folder / file_name(number)
    try:
        if alive(path):
            return None
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * LONGEST_LINE))
            lines = file.read(2 * LONGEST_LINE).split(b"\n")
    except FileNotFoundError:
        return Ended(number, 0, "")
    except OSError as error:
        raise JournalFailed(f"{path} cannot be read: {error.strerror}") from None
    last = lines[-2] if len(lines) > 1 else b""
    with contextlib.suppress(msgspec.DecodeError):
        line = msgspec.json.decode(last, type=Line)
        return Ended(number, line.through, line.mac)
    return Ended(number, 0, "")
