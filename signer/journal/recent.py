"""What the journal still knows of tickets and serials, for claims that are gone. Line by line proved, nothing written.

Files are read from the newest back, until enough was found: what is older than that was forgotten before, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from signer.issuance.ticket import HORIZON, Claim, serial_mark
from signer.journal.entry import LISTED, LONGEST_LINE, NOTHING, Entry, read
from signer.journal.files import file_name, numbers

_BYTE: Final = 2  # digits


def recent(folder: Path, key: bytes, most: int) -> list[Claim]:
    """The claims behind the last certificates that were signed, `most` and those of one file more; oldest first.

    Tickets are held spent until the latest moment at which they could have been good. Raises `OSError`.
    """
    found: list[Claim] = []
    for number in reversed(numbers(folder)):
        if len(found) >= most:
            break
        found = [*_file(folder / file_name(number), key), *found]
    return found


def _file(path: Path, key: bytes) -> Iterator[Claim]:
    """The claims of one file, as far as the key proves it."""
    head = NOTHING
    with path.open("rb") as file:
        while (text := file.readline(LONGEST_LINE)).endswith(b"\n"):
            proved = read(key, head, text[:-1])
            if proved is None:
                return
            line, head = proved
            for entry in line.signed:
                if entry.verb != LISTED:
                    yield _claim(entry, int(line.at) + HORIZON + 1)


def _claim(entry: Entry, deadline: int) -> Claim:
    serial = serial_mark(entry.issuer, bytes.fromhex(entry.serial.zfill(len(entry.serial) + len(entry.serial) % _BYTE)))
    return Claim(bytes.fromhex(entry.ticket) or serial, serial, deadline)
