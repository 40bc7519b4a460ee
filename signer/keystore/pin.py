"""PINs of tokens: where they come from, and that a wrong one is tried once. Never from an argument, never in a log.

A token locks itself after three wrong PINs or ten, and several workers, each started again after its failure, would
get there in a second. So a PIN that a token refused is remembered, in the key folder and as a keyed hash, until
somebody gives another one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from signer.keystore.durable import create, open_lock
from signer.keystore.failures import KeyStoreError, StoreFailure

HELP: Final = (
    "a token's PIN: file:PATH, env:NAME, stdin (the next line) or prompt; with LABEL= before it, that token's; "
    "or list:PATH, a file of lines LABEL=PIN"
)

_SOURCE: Final = re.compile(r"(?:(?P<token>[^=]*)=)?(?P<kind>file|env|stdin|prompt|list)(?::(?P<where>.+))?", re.DOTALL)
_LONGEST: Final = 255  # bytes; PKCS#11 leaves it to the token, and none takes more
_LONGEST_LIST: Final = 64 * 1024  # bytes
_LOCK: Final = ".pin.lock"
_REFUSED: Final = ".pin-refused"
_PURPOSE: Final = b"muster refused pin\0"
_ROOM: Final = bytes(32)  # a mark that says nothing yet; as long as a fingerprint


def read_pins(sources: Sequence[str], descriptor: int) -> dict[str, str]:
    """The PINs that `sources` name (see `HELP`), by their token's label, "" for any other. Raises `KeyStoreError`.

    Lines of standard input are read from `descriptor` in the order of the sources. A variable is removed from this
    process's environment, so that no child inherits it.
    """
    pins: dict[str, str] = {}
    for source in sources:
        parsed = _SOURCE.fullmatch(source)
        if (
            parsed is None
            or (parsed["kind"] in ("file", "env", "list")) != (parsed["where"] is not None)
            or (parsed["kind"] == "list" and parsed["token"] is not None)
        ):
            # The text is not repeated: it may be the PIN itself, given by mistake.
            sentence = "a PIN is named by file:PATH, env:NAME, stdin or prompt, several by list:PATH"
            raise KeyStoreError(StoreFailure.LOCKED, sentence)
        token = parsed["token"] or ""
        if parsed["kind"] == "list":
            pins |= read_list(Path(parsed["where"]))
            continue
        pins[token] = _read(parsed["kind"], parsed["where"] or "", token, descriptor)
    return pins


def lists(sources: Sequence[str]) -> list[str]:
    """The files of several PINs among the sources, absolute: a worker reads them again at each login."""
    return [str(Path(each.removeprefix("list:")).absolute()) for each in sources if each.startswith("list:")]


def read_list(path: Path) -> dict[str, str]:
    """The PINs in a file of lines `LABEL=PIN`, by label; empty lines and those that begin with # say nothing.

    Raises `KeyStoreError`, whose sentence repeats no line.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(_LONGEST_LIST).decode().splitlines()
    except OSError as error:
        raise KeyStoreError(StoreFailure.UNAVAILABLE, f"cannot read the PINs in {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyStoreError(StoreFailure.LOCKED, f"the PINs in {path} are not UTF-8") from None
    pins: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        label, equals, pin = line.partition("=")
        if not equals or not label or not 0 < len(pin.encode()) <= _LONGEST:
            raise KeyStoreError(StoreFailure.LOCKED, f"line {number} of {path} is not LABEL=PIN")
        pins[label] = pin
    return pins


def _read(kind: str, where: str, token: str, descriptor: int) -> str:
    content: bytes | None
    if kind == "file":
        try:
            with Path(where).open("rb") as file:
                content = file.readline(_LONGEST + 2)
        except OSError as error:
            raise KeyStoreError(StoreFailure.UNAVAILABLE, f"cannot read the PIN in {where}: {error.strerror}") from None
    elif kind == "env":
        content = os.environ.pop(where, "").encode()
    elif kind == "stdin":
        content = _line(descriptor)
    else:
        content = getpass.getpass(f"PIN of the token {token}: " if token else "PIN: ").encode()
    content = content.rstrip(b"\r\n")
    if not 0 < len(content) <= _LONGEST:
        raise KeyStoreError(StoreFailure.LOCKED, f"the PIN in {kind} {where}".rstrip() + " is empty or too long")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise KeyStoreError(StoreFailure.LOCKED, "a PIN is UTF-8") from None


def _line(descriptor: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and len(line) <= _LONGEST + 2:
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line


class Logins:
    """Who may try to log in, and with what: one process at a time, and no PIN that its token has refused before."""

    def __init__(self, folder: Path, kek: bytes, pins: Mapping[str, str], files: Sequence[str] = ()) -> None:
        self._folder = folder
        self._kek = kek
        self._pins = dict(pins)
        self._files = files

    def pin(self, label: str) -> str:
        """The PIN of the token of that label, as the files of PINs say it now.

        Raises `KeyStoreError` (LOCKED) if none was given.
        """
        for each in self._files:  # somebody added a token to a key, or mended a PIN, since this process began
            with contextlib.suppress(KeyStoreError):
                self._pins |= read_list(Path(each))
        pin = self._pins.get(label, self._pins.get(""))
        if pin is None:
            raise KeyStoreError(StoreFailure.LOCKED, f"no PIN was given for the token {label}")
        return pin

    def need(self) -> None:
        """Raises `KeyStoreError` (LOCKED) where no PIN was given: such a worker has kept no way to a token open."""
        if not self._pins:
            raise KeyStoreError(StoreFailure.LOCKED, "a key rests on a token, and no PIN was given for any")

    @contextlib.contextmanager
    def attempt(self, token: bytes, pin: str) -> Iterator[None]:
        """Around one login at a token (its serial number), within a `turn`. `KeyStoreError` (LOCKED) is remembered.

        Raises that error itself, without an attempt, where this token has refused this PIN; UNAVAILABLE, without one
        too, where a refusal could not be remembered.
        """
        tag = hashlib.sha256(token).hexdigest()[:16]
        mark = self._folder / f"{_REFUSED}-{tag}"
        fingerprint = hmac.digest(self._kek, _PURPOSE + len(token).to_bytes(4, "big") + token + pin.encode(), "sha256")
        known = self._known(mark)
        if hmac.compare_digest(known, fingerprint):
            sentence = f"the token has refused this PIN before; correct it, or remove {mark} to have it tried again"
            raise KeyStoreError(StoreFailure.LOCKED, sentence)
        keep = known != _ROOM  # what it says of another PIN
        try:
            yield
        except KeyStoreError as error:
            if error.failure is StoreFailure.LOCKED:
                _write(mark, fingerprint)
                keep = True
            raise
        else:
            keep = False
        finally:
            if not keep:
                mark.unlink(missing_ok=True)

    def _known(self, mark: Path) -> bytes:
        """What `mark` says. It is there afterwards, with room for a refusal: the disk may be full when that comes."""
        try:
            known = mark.read_bytes() if mark.exists() else b""
            if len(known) != len(_ROOM):
                _write(mark, _ROOM)
                known = _ROOM
        except OSError as error:
            raise self._forgetful(error) from None
        return known

    def _forgetful(self, error: OSError) -> KeyStoreError:
        sentence = f"cannot remember refused PINs in {self._folder}: {error.strerror}"
        return KeyStoreError(StoreFailure.UNAVAILABLE, sentence)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other process of this key folder looks for a token or logs in. Raises `KeyStoreError`.

        Several workers must not try one wrong PIN together. SoftHSM writes the token's file anew at each login, and
        whoever initialises the module in that moment finds no token.
        """
        try:
            descriptor = open_lock(self._folder / _LOCK)
        except OSError as error:
            raise self._forgetful(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor = create(path)
    except FileExistsError:
        # Not cut before it is written: what has its place on a full disk keeps it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.pwrite(descriptor, content, 0) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
