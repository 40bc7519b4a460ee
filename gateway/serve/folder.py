"""The data folder: what lies where, who holds it, and whether it is whole.

Looking never changes anything: `inspect` only reads, so that a folder that is locked, damaged or newer stays as it
is. What is made is made for its owner alone (0700, 0600) and appears whole or not at all. No key is read here, no store
is opened.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Final

from gateway.serve.refusal import CannotStart
from gateway.serve.settings import FILE_NAME, Settings

FORMAT: Final = 1
_SQLITE_MAGIC: Final = b"SQLite format 3\0"


@unique
class State(Enum):
    """How far a folder is made."""

    FRESH = "fresh"  # missing, or empty but for a settings file and a token for the keys
    UNFINISHED = "unfinished"  # a first start was interrupted; what it made is taken up again
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Folder:
    """The places in a data folder."""

    path: Path

    @property
    def marker(self) -> Path:
        """`muster.json`, `{"format": 1}`: written last, so its presence means that the first start was finished."""
        return self.path / "muster.json"

    @property
    def unfinished(self) -> Path:
        """Present from the first file that a first start makes until the marker stands."""
        return self.path / "unfinished"

    @property
    def lock(self) -> Path:
        """Locked (flock) by the running gateway, whose process id it holds."""
        return self.path / "lock"

    @property
    def duty(self) -> Path:
        """Locked (flock) by the worker that does what is done once for a store."""
        return self.path / "duty"

    @property
    def claims(self) -> Path:
        """Empty; its bytes are locked by the workers that have a piece of work (`workers.claims`)."""
        return self.path / "claims"

    @property
    def secret(self) -> Path:
        """The key store's unlock secret, unless the settings name another place."""
        return self.path / "unlock-secret"

    @property
    def keys(self) -> Path:
        """The signer's key store. The gateway never opens what is in it."""
        return self.path / "keys"

    @property
    def tls(self) -> Path:
        """`chain.pem` and `key.pem` of the HTTPS listener."""
        return self.path / "tls"

    @property
    def store(self) -> Path:
        """The SQLite store, unless `store.url` names another."""
        return self.path / "store.sqlite"

    @property
    def root(self) -> Path:
        """The root certificate, PEM, for clients to trust."""
        return self.path / "root.pem"

    @property
    def admin_token(self) -> Path:
        """The first administrator's bearer token."""
        return self.path / "admin-token"

    @property
    def softhsm(self) -> Path:
        """A SoftHSM2 token of the folder's own, if somebody wanted one (`serve.softhsm`)."""
        return self.path / "softhsm"

    @property
    def quickstart(self) -> Path:
        """The facts that are printed when the gateway is ready, for scripts."""
        return self.path / "quickstart.json"


def store_url(settings: Settings) -> str:
    """Where the store is."""
    return settings.store_url or f"sqlite:///{Folder(settings.data).store}"


def listener_pair(settings: Settings) -> tuple[Path, Path]:
    """The files of the HTTPS listener's certificate chain and its key."""
    folder = Folder(settings.data)
    return settings.tls_certificate or folder.tls / "chain.pem", settings.tls_key or folder.tls / "key.pem"


def inspect(settings: Settings) -> State:
    """Look at the data folder without changing it. Raises `CannotStart` where it is foreign, damaged or newer."""
    folder = Folder(settings.data)
    try:
        if not folder.path.exists():
            _writable(_nearest_parent(folder.path), settings.data)
            return State.FRESH
        entries = {entry.name for entry in folder.path.iterdir()}
        _writable(folder.path, settings.data)
        if folder.marker.name in entries:
            _whole(folder, settings)
            return State.COMPLETE
    except OSError as error:
        where = error.filename or settings.data
        raise CannotStart(f"{where}: {error.strerror or error}; choose another folder with --data") from None
    if folder.unfinished.name in entries:
        return State.UNFINISHED
    if entries - {FILE_NAME, folder.lock.name, folder.softhsm.name}:
        raise CannotStart(
            f"{settings.data} is not empty and has no {folder.marker.name}: it is damaged or no data folder of Muster; "
            "restore it from a backup, or choose an empty or new folder with --data"
        )
    return State.FRESH


def require_complete(settings: Settings) -> str:
    """The unlock secret of a complete folder, for a command beside the gateway. Raises `CannotStart` for any other."""
    secret = read_secret(settings) if inspect(settings) is State.COMPLETE else None
    if secret is None:
        raise CannotStart(f"{settings.data} is not a data folder yet; start a gateway there first: muster serve")
    return secret


@contextlib.contextmanager
def held(folder: Folder) -> Iterator[None]:
    """Hold the folder's lock; it dies with the process, however that ends. Raises `CannotStart` where it is taken."""
    try:
        lock = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotStart(f"{folder.lock}: {error.strerror}; choose another folder with --data") from None
    try:
        _take(lock, folder)
        yield
    finally:
        os.close(lock)


def note_holder(folder: Folder) -> None:
    """Write this process's id into the lock, for the sentence that a second gateway prints."""
    folder.lock.write_text(f"{os.getpid()}\n")


def refuse_if_held(folder: Folder) -> None:
    """Raise `CannotStart` if a running gateway holds the folder; touch nothing otherwise."""
    try:
        lock = os.open(folder.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _take(lock, folder)
    finally:
        os.close(lock)


def make(folder: Folder) -> None:
    """Make the folder, or take up an unfinished one. Raises `CannotStart` where it cannot be written."""
    try:
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.path.chmod(0o700)
        folder.unfinished.touch(mode=0o600)
    except OSError as error:
        raise CannotStart(f"{folder.path}: {error.strerror}; choose another folder with --data") from None


def finish(folder: Folder) -> None:
    """Mark the folder as whole. Everything else must be durable by now."""
    if not folder.marker.exists():
        write_private(folder.marker, json.dumps({"format": FORMAT}).encode() + b"\n")
    folder.unfinished.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Write `data` for the owner alone (0600): durable when it returns, and never seen half-written."""
    # mkstemp makes the file with mode 0600, before a byte of a secret is in it.
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


def read_secret(settings: Settings) -> str | None:
    """The unlock secret, from the settings, the file that they name, or the folder; None where none was made yet."""
    if settings.unlock_secret:
        return settings.unlock_secret
    path = settings.unlock_secret_file or Folder(settings.data).secret
    try:
        secret = path.read_text().strip()
    except FileNotFoundError:
        if settings.unlock_secret_file is None:
            return None
        raise CannotStart(f"{path}: there is no such file; signer.unlock-secret-file names it") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise CannotStart(f"{path}: the unlock secret cannot be read: {reason}") from None
    if not secret:
        raise CannotStart(f"{path}: the unlock secret is empty; restore it from a backup")
    return secret


def _take(lock: int, folder: Folder) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        who = f" (process {holder})" if holder else ""
        raise CannotStart(
            f"{folder.path} is in use by a running gateway{who}; stop that one, or choose another folder with --data"
        ) from None


def _nearest_parent(path: Path) -> Path:
    for parent in path.parents:
        if parent.exists():
            return parent
    return Path("/")


def _writable(path: Path, data: Path) -> None:
    what = str(path) if path == data else f"{data} cannot be made: {path}"
    if not path.is_dir():
        raise CannotStart(f"{what} is not a folder; choose another with --data")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise CannotStart(f"{what} is on a read-only file system; choose another folder with --data")
    if not os.access(path, os.W_OK | os.X_OK):
        raise CannotStart(f"{what} cannot be written by this user; choose another folder with --data")


def _whole(folder: Folder, settings: Settings) -> None:
    try:
        marker = json.loads(folder.marker.read_bytes())
    except ValueError:
        marker = None
    version = marker.get("format") if isinstance(marker, dict) else None
    if not isinstance(version, int) or version < 1:
        raise _damaged(folder, f"{folder.marker.name} cannot be read")
    if version > FORMAT:
        raise CannotStart(
            f"{folder.path} was made by a newer version of Muster (folder format {version}, this one knows {FORMAT}); "
            "start that version"
        )
    if read_secret(settings) is None:
        raise _damaged(folder, f"{folder.secret.name} is missing, without which no key can be used")
    if not folder.keys.is_dir() or not any(folder.keys.iterdir()):
        raise _damaged(folder, f"{folder.keys.name}/ is missing or empty")
    if settings.tls_key is None:
        for name in ("chain.pem", "key.pem"):
            if not (folder.tls / name).is_file():
                raise _damaged(folder, f"{folder.tls.name}/{name} is missing")
    if not settings.store_url:
        if not folder.store.is_file():
            raise _damaged(folder, f"{folder.store.name} is missing")
        with folder.store.open("rb") as file:
            if file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
                raise _damaged(folder, f"{folder.store.name} is not a SQLite database")


def _damaged(folder: Folder, what: str) -> CannotStart:
    return CannotStart(
        f"{folder.path} is damaged: {what}; restore it from a backup, or choose a new folder with --data"
    )
