"""The whole journal, followed from its first file to the last. Whatever was changed is named; nothing is mended.

Every line is proved with the key, behind the line before it; every file by the headings of those that were begun after
it. What nothing proves: that the end of a file which no later heading speaks of is all that there was. A line that was
cut short is what a crash leaves, and is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from signer.journal.entry import LONGEST_LINE, NOTHING, Ended, Entry, Line, read
from signer.journal.failed import JournalFailed
from signer.journal.files import alive, file_name, first_line, numbers


@dataclass(frozen=True, slots=True)
class Written:
    """One entry, proved: the number of its file, when it was written (seconds since the epoch), and what it says."""

    file: int
    at: float
    entry: Entry


@dataclass(frozen=True, slots=True)
class Fault:
    """A difference between what the workers wrote and what stands there, as a sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Note:
    """What an operator may want to know and need not mind, as a sentence."""

    sentence: str


Found: TypeAlias = Written | Fault | Note


@dataclass(slots=True)
class _Headings:
    """What the headings say of other files, read from the first to the last."""

    previous: str = ""
    expected: list[int] = field(default_factory=list)  # the files that the next heading has to speak of
    ended: dict[int, Ended] = field(default_factory=dict)
    sound: set[int] = field(default_factory=set)


def begun(folder: Path, key: bytes) -> float | None:
    """When the first file was begun, in seconds since the epoch; None where there is none that can be read."""
    for number in numbers(folder):
        first = first_line(folder / file_name(number), key)
        if first is not None:
            return first[0].at
    return None


def follow(folder: Path, key: bytes) -> Iterator[Found]:
    """Everything in the journal, in the order of its files. Memory is bounded by one line. Raises `JournalFailed`."""
    try:
        known = numbers(folder)
        headings = _Headings()
        last = 0
        for number in known:
            if number != last + 1:
                gap = file_name(last + 1) if number == last + 2 else f"{file_name(last + 1)} to {file_name(number - 1)}"
                yield Fault(f"{gap} of the journal is gone")
            yield from _heading(folder, key, number, headings, whole=number == last + 1)
            last = number
        for number in known:
            if number in headings.sound:
                yield from _file(folder / file_name(number), key, number, headings.ended.get(number))
    except OSError as error:
        raise JournalFailed(f"the journal in {folder} cannot be read: {error.strerror}") from None


def _heading(folder: Path, key: bytes, number: int, headings: _Headings, *, whole: bool) -> Iterator[Fault | Note]:
    path = folder / file_name(number)
    first = first_line(path, key)
    if first is None:
        headings.expected.append(number)
        with path.open("rb") as file:
            torn = not file.readline(LONGEST_LINE + 1).endswith(b"\n")
        if not torn:
            yield Fault(f"{path.name}: the heading is not what a worker of this store wrote; the file is not read")
        elif not alive(path):
            yield Note(f"{path.name} holds nothing: its worker ended while it began the file")
        return
    line, mac = first
    spoken = sorted([*line.open, *(each.file for each in line.ended)])
    if line.file != number:
        yield Fault(f"{path.name} was written as {file_name(line.file)}")
    elif whole and (line.previous != headings.previous or spoken != sorted(headings.expected)):
        yield Fault(f"{path.name} does not follow the files before it: one of them was changed, exchanged or cut")
    headings.sound.add(number)
    headings.previous = mac.hex()
    headings.expected = [*line.open, number]
    headings.ended.update((each.file, each) for each in line.ended)


def _file(path: Path, key: bytes, number: int, told: Ended | None) -> Iterator[Found]:
    with path.open("rb") as file:
        place, through, head, over = 0, 0, NOTHING, False
        while text := file.readline(LONGEST_LINE + 1):
            place += 1
            if not text.endswith(b"\n") and len(text) <= LONGEST_LINE:
                yield from _torn(path, told)
                break
            proved = None if over else read(key, head, text[:-1])
            if proved is None or not _continues(proved[0], place, through):
                yield Fault(
                    f"{path.name}, line {place}: it, or one before it, was changed, removed, added or moved; "
                    "nothing behind it is read"
                )
                return
            line, head = proved
            through, over = line.through, line.end
            for entry in line.signed:
                yield Written(number, line.at, entry)
    if told is not None and (told.entries, told.head) != (through, head.hex()):
        missing = told.entries - through
        lost = f"{missing} entries are gone from its end" if missing > 0 else "its end is not what was found there"
        yield Fault(f"{path.name}: {lost}")


def _continues(line: Line, place: int, through: int) -> bool:
    heading = line.file != 0
    return heading is (place == 1) and line.through == through + len(line.signed)


def _torn(path: Path, told: Ended | None) -> Iterator[Note]:
    if told is None and alive(path):
        return  # its worker is writing it
    yield Note(f"{path.name}: the last line was cut short when its worker ended; no answer had left for it")
