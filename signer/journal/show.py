"""`python -m signer journal`: the journal as JSON lines on standard output, proved with the unlock secret.

One object a line: `entry`, `fault`, `note`, and `end` as the last, so that an output which was cut short is seen.
Nothing is written to the journal, and no key of an issuer is opened.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec

from signer.hardening import harden
from signer.journal.entry import PURPOSE
from signer.journal.failed import JournalFailed
from signer.journal.files import FOLDER
from signer.journal.reading import Fault, Note, Written, begun, follow
from signer.keystore.failures import KeyStoreError
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, unlock


class ShownEntry(msgspec.Struct, frozen=True, tag="entry", omit_defaults=True):
    """`entry.Entry`, with the number of its file and when it was written (seconds since the epoch)."""

    file: int
    at: float
    verb: str
    issuer: str
    serial: str
    tbs: str
    ticket: str = ""
    request: str = ""
    asked: str = ""


class ShownFault(msgspec.Struct, frozen=True, tag="fault"):
    """The journal is not as it was written."""

    sentence: str


class ShownNote(msgspec.Struct, frozen=True, tag="note"):
    """Nothing to mind."""

    sentence: str


class ShownEnd(msgspec.Struct, frozen=True, tag="end"):
    """How many entries were proved, how many faults were found, and when the journal begins; None if there is none."""

    entries: int
    faults: int
    begun: float | None


Shown: TypeAlias = ShownEntry | ShownFault | ShownNote | ShownEnd

_encode = msgspec.json.Encoder().encode_into


def main(keys: Path) -> int:
    """Show the journal of a store. Gives the exit status: 1 with faults, 2 with one sentence if it cannot be read."""
    harden(follow_parent=False)
    try:
        store = SoftKeyStore(keys, unlock(keys, read_secret(sys.stdin.fileno())))
        return _show(keys.absolute() / FOLDER, store.derived(PURPOSE))
    except BrokenPipeError:  # whoever reads it has seen enough
        sys.stderr.close()
        return 2
    except (KeyStoreError, JournalFailed) as error:
        print(f"signer: {error}", file=sys.stderr)  # noqa: T201 - a sentence for the operator
        return 2


def _show(folder: Path, key: bytes) -> int:
    entries = faults = 0
    if folder.exists():
        for found in follow(folder, key):
            match found:
                case Written(file, at, each):
                    entries += 1
                    shown: Shown = ShownEntry(
                        file, at, each.verb, each.issuer, each.serial, each.tbs, each.ticket, each.request, each.asked
                    )
                case Fault(sentence):
                    faults += 1
                    shown = ShownFault(sentence)
                case Note(sentence):
                    shown = ShownNote(sentence)
                case _:
                    assert_never(found)
            _say(shown)
    _say(ShownEnd(entries, faults, begun(folder, key) if folder.exists() else None))
    sys.stdout.buffer.flush()
    return 1 if faults else 0


def _say(shown: Shown) -> None:
    line = bytearray()
    _encode(shown, line)
    line += b"\n"
    sys.stdout.buffer.write(line)
