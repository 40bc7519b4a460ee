"""Files that appear whole and durable, or not at all: new ones, and new contents in place of old. Mode 0600.

No file is opened for writing under its own name, so nobody ever reads half of one. What root makes in another user's
folder is that user's: a ceremony by sudo must not leave a key that the signer cannot read.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from signer.keystore.failures import KeyExists


def write_new(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, whole and durable when it returns. Raises `KeyExists` or `OSError`."""
    with _aside(path, content) as aside:
        try:
            os.link(aside, path)  # unlike a rename, this fails where a file stands already
        except FileExistsError:
            raise KeyExists(path.name) from None
    sync_folder(path.parent)


def put(path: Path, content: bytes) -> None:
    """Put a file of mode 0600 in place of whatever stands there, at once and durably. Raises `OSError`."""
    with _aside(path, content) as aside:
        aside.replace(path)
    sync_folder(path.parent)


def create(path: Path) -> int:
    """A new and empty file of mode 0600, open for appending; belongs to whom the folder does. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        # Made in this moment, exclusively: no link leads to another file, which would be given away.
        owner = path.parent.stat()
        with contextlib.suppress(PermissionError):  # a root without that capability, or of another machine
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    return descriptor


def create_folder(path: Path) -> None:
    """A folder of mode 0700 that belongs to whom the one above does, unless it is there. Raises `OSError`."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with contextlib.suppress(PermissionError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def open_lock(path: Path) -> int:
    """A file that is there for its lock alone, made if it is missing. Raises `OSError`."""
    with contextlib.suppress(FileExistsError):
        os.close(create(path))
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _aside(path: Path, content: bytes) -> Iterator[Path]:
    """The content in a synced file beside `path`, which is gone afterwards unless it was given a name."""
    aside = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = create(aside)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield aside
    finally:
        aside.unlink(missing_ok=True)
