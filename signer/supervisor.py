"""The supervisor: starts the workers, keeps their sockets, restarts the dead, ends them all. It answers no ask.

It holds the key-encryption key and the tokens' PINs, to hand them to a worker that it starts again, and opens no key
with them. The listening
sockets belong to it, so a path stays good while the worker behind it changes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from signer.hardening.log import say
from signer.hardening.memory import lock_memory, wipe
from signer.hardening.process import close_strangers, harden, surroundings
from signer.hardening.seccomp import unavailable
from signer.keystore.circuit import Circuit, Limits, State
from signer.keystore.failures import KeyStoreError
from signer.keystore.pin import lists, read_pins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import unlock
from signer.keystore.watch import STUCK
from signer.opening import Orders, noted_token, opening

VERSION: Final = 1
_PREFIX: Final = "muster-signer-"
_LONGEST_PATH: Final = 107  # bytes; sockaddr_un has room for 108 with the closing zero (unix(7))
_BACKLOG: Final = 64
_BACKOFF: Final = (0.05, 0.2, 1.0, 5.0)  # seconds before the first, second, ... restart in a row
_HEALTHY: Final = 10.0  # seconds; a worker that lived so long starts with a clean slate
_PATIENCE: Final = 30.0  # seconds for a worker's start; its keys are read and warmed in it
_GRACE: Final = 3.0  # seconds for the last batch, less than a gateway waits for us


# One crash may have any cause, so that the token is tried at once; two within a minute are the module's.
_SUSPECT: Final = Circuit(Limits(troubles=2, window=60.0, rest=15.0, longest=300.0))
_FORGIVEN: Final = 600.0  # seconds since a token's last rest: what it did before counts no longer
_CRASHES: Final = frozenset(-int(each) for each in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL))


class CannotServe(Exception):
    """The signer cannot start. The text is one sentence for the operator."""


class Ready(msgspec.Struct, frozen=True):
    """The one line on standard output: the workers' sockets, when all of them are ready."""

    version: int
    sockets: list[str]
    pid: int
    workers: list[int]


@dataclass(slots=True)
class Post:
    """One worker's place: a socket that stays, and the process that serves it at the moment."""

    path: str
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    restart_at: float | None = None
    ended: Counter[str] = field(default_factory=Counter)  # how its workers ended, by cause
    note: int = -1  # a descriptor: which token the worker called last (`opening`)


class Supervisor:
    """Owns the runtime folder, the sockets and the workers of one signer."""

    def __init__(
        self,
        keys: Path,
        kek: bytes,
        pins: dict[str, str],
        runtime: Path,
        workers: int,
        *,
        unprotected: Sequence[str] = (),
        stuck: float = STUCK,
        pin_files: Sequence[str] = (),
    ) -> None:
        self._stuck = stuck
        self._pin_files = list(pin_files)
        self._circuits: dict[str, Circuit] = {}  # of tokens by name, for what they did to workers
        self._keys = keys
        self._unprotected = unprotected
        self._opening = opening(kek, pins)
        self._tokens = bool(pins)
        self._runtime = runtime
        self._posts = [
            Post(str(runtime / f"{number}.sock"), socket.socket(socket.AF_UNIX)) for number in range(workers)
        ]
        self._ending = False

    def run(self) -> None:
        """Serve until standard input ends or SIGTERM comes; then the workers are gone. Raises `CannotServe`."""
        wakeup, signalled = socket.socketpair()
        signalled.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(signalled.fileno())
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop; the default would not
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with selectors.DefaultSelector() as selector:
            selector.register(wakeup, selectors.EVENT_READ, lambda: wakeup.recv(256))
            selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._heard)
            try:
                self._open()
                self._announce()
                for each in self._unprotected:
                    say(f"note: {each}")
                while not self._ending:
                    for key, _ in selector.select(self._pause()):
                        key.data()
                    self._tend()
            finally:
                self._close()

    def _end(self) -> None:
        self._ending = True

    def _heard(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):  # the gateway is gone; anything that it said is not for us
            self._ending = True

    def _open(self) -> None:
        for post in self._posts:
            post.listener.bind(post.path)
            Path(post.path).chmod(0o600)
            post.listener.listen(_BACKLOG)
            post.note = os.open(f"{post.path}.note", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            Path(f"{post.path}.note").unlink()
            self._start(post)  # all of them first: they load their libraries side by side
        for post in self._posts:
            self._await(post)

    def _announce(self) -> None:
        pids = [post.process.pid for post in self._posts if post.process is not None]
        ready = Ready(VERSION, [post.path for post in self._posts], os.getpid(), pids)
        sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
        sys.stdout.buffer.flush()

    def _start(self, post: Post, *, again: bool = False) -> None:
        descriptor = post.listener.fileno()
        os.ftruncate(post.note, 0)
        now = time.monotonic()
        resting = {name: each.until - now for name, each in self._circuits.items() if each.asked(now) is None}
        orders = Orders(self._stuck, again, resting, post.note, post.ended, self._pin_files)
        told = msgspec.json.encode(orders).decode()
        safe_path = ["-P"] if sys.flags.safe_path else []
        process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, *safe_path, "-m", "signer", "worker", str(self._keys), str(descriptor), told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(descriptor, post.note),
            env=surroundings(os.environ, tokens=self._tokens),
            start_new_session=True,  # a terminal's Ctrl-C goes to the gateway alone
        )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(self._opening)
                process.stdin.flush()
        post.process, post.started, post.restart_at = process, time.monotonic(), None

    def _await(self, post: Post) -> None:
        """Wait until a worker says that it is ready. Its own sentence stands on standard error if it is not."""
        process = post.process
        if process is None or process.stdout is None:
            raise CannotServe("a worker has no standard output")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(_PATIENCE):
                raise CannotServe(f"a worker was not ready after {_PATIENCE:.0f} seconds")
        if os.read(process.stdout.fileno(), 64) != b"ready\n":
            status = process.wait()
            if status == -signal.SIGALRM:
                raise CannotServe(f"the token {noted_token(post.note)} gives no answer, and the signer cannot start")
            raise CannotServe("" if status == 2 else f"a worker ended with status {status} before it was ready")

    def _pause(self) -> float | None:
        due = [post.restart_at for post in self._posts if post.restart_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _tend(self) -> None:
        now = time.monotonic()
        for post in self._posts:
            if post.process is not None and post.process.poll() is not None:
                self._mourn(post, post.process, now)
            if post.restart_at is not None and post.restart_at <= now and not self._ending:
                try:
                    self._start(post, again=True)
                except OSError as error:  # no memory, no processes, no descriptors: the other workers go on
                    say(f"a worker cannot be started: {error.strerror}; tried again in {_BACKOFF[-1]:g} s")
                    post.restart_at = now + _BACKOFF[-1]

    def _mourn(self, post: Post, process: subprocess.Popen[bytes], now: float) -> None:
        post.failures = 0 if now - post.started > _HEALTHY else post.failures + 1
        wait = _BACKOFF[min(max(post.failures - 1, 0), len(_BACKOFF) - 1)]
        say(f"a worker (process {process.pid}) ended with status {process.returncode}; another starts in {wait} s")
        post.ended[_cause(process.returncode)] += 1
        self._suspect(noted_token(post.note), process.returncode, now)
        _release(process)
        post.process, post.restart_at = None, now + wait

    def _suspect(self, token: str, status: int, now: float) -> None:
        """Let a token rest that kept a worker waiting for ever, or in whose module workers die again and again."""
        if not token or status >= 0:
            return
        before = self._circuits.get(token, _SUSPECT)
        if before.state is State.OPEN and now - before.until > _FORGIVEN:
            before = _SUSPECT
        asked = before.asked(now) or before
        if status == -signal.SIGALRM:
            say(f"the token {token} gave no answer within {self._stuck:g} s; what it was asked is lost, and it rests")
            self._circuits[token] = asked.opened(now)
        elif status in _CRASHES:
            self._circuits[token] = after = asked.troubled(now)
            if after.state is State.OPEN:
                say(f"workers die again and again with the token {token} in their hands; it rests")

    def _close(self) -> None:
        living = [post.process for post in self._posts if post.process is not None]
        for process in living:
            process.terminate()
        patience = time.monotonic() + _GRACE
        for process in living:
            try:
                process.wait(max(0.0, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _release(process)
        for post in self._posts:
            if post.note >= 0:
                os.close(post.note)
            post.listener.close()
            Path(post.path).unlink(missing_ok=True)


def main(keys: Path, workers: int, runtime: Path | None, pins: list[str], *, stuck: float = STUCK) -> int:
    """Serve the keys of a folder with the secret on standard input's first line. Gives the exit status.

    `pins` names where tokens' PINs come from (`keystore.pin`).

    2, with one sentence on standard error: the secret is wrong, or a key is damaged.
    """
    harden(follow_parent=False)
    close_strangers()
    unprotected = [each for each in (lock_memory(), unavailable()) if each is not None]
    try:
        secret = read_secret(sys.stdin.fileno())
        known = read_pins(pins, sys.stdin.fileno())
        kek = unlock(keys, secret)
        wipe(secret)
        with runtime_folder(runtime) as folder:
            Supervisor(
                keys.absolute(),
                kek,
                known,
                folder,
                workers,
                unprotected=unprotected,
                stuck=stuck,
                pin_files=lists(pins),
            ).run()
    except (KeyStoreError, CannotServe) as error:
        if str(error):
            say(str(error))
        return 2
    return 0


@contextlib.contextmanager
def runtime_folder(asked: Path | None) -> Iterator[Path]:
    """A private folder for the sockets. Raises `CannotServe` where none will do.

    One that is named must be ours and closed to others; paths in it are the same after a restart. Otherwise a new one
    (0700) is made and removed at the end, with those that killed supervisors left.
    """
    if asked is not None:
        yield _named_folder(asked.absolute())
        return
    session = os.environ.get("XDG_RUNTIME_DIR")
    place = Path(session) if session and Path(session).is_dir() else Path(tempfile.gettempdir())
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    try:
        yield _short_enough(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _named_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise CannotServe(f"{folder} must belong to this user and be closed to others (mode 0700)")
        for left in folder.glob("*.sock"):
            left.unlink()
    except OSError as error:
        raise CannotServe(f"cannot use {folder}: {error.strerror}") from None
    return _short_enough(folder)


def _short_enough(folder: Path) -> Path:
    if len(os.fsencode(folder / "999.sock")) > _LONGEST_PATH:
        raise CannotServe(f"{folder} is too long a path for sockets: name a shorter one by --runtime")
    return folder


def _sweep(place: Path) -> None:
    for left in place.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and left.lstat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)


def _cause(status: int) -> str:
    """How a worker ended, in one word of four."""
    if status == -signal.SIGALRM:
        return "stuck"
    if status in _CRASHES:
        return "crashed"
    return "killed" if status < 0 else "failed"


def _release(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
