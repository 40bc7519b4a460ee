"""The signer's supervisor as a child process: started, watched, started again, ended.

The gateway hands it the unlock secret on its standard input, which stays open: its end, however the gateway ends, is
the signer's end. No key is read here, and no verb is asked: that is `outbound.signer`'s.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

import gateway
from gateway.serve.folder import Folder
from gateway.serve.known_settings import PREFIX
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings

logger = logging.getLogger("muster.signer")

READY_SECONDS: Final = 30.0  # a worker is ready in half a second; a machine that boots gives it less than a core
END_SECONDS: Final = 5.0
_FOLDER: Final = "muster-gateway-"


class Ready(msgspec.Struct, frozen=True):
    """The line that a supervisor prints when its workers listen."""

    sockets: list[str]


_READY: Final = msgspec.json.Decoder(Ready)


def environment(settings: Settings) -> dict[str, str]:
    """What a child inherits: everything but our own settings, and a path on which it finds the same code.

    SoftHSM2 finds a token of the data folder's own by a variable, which no other process is given.
    """
    found = plain_environment()
    softhsm = Folder(settings.data).softhsm
    if settings.pin_file is not None and settings.pin_file.parent == softhsm:
        found["SOFTHSM2_CONF"] = str(softhsm / "softhsm2.conf")
    return found


def plain_environment() -> dict[str, str]:
    """The same for a child that has nothing to do with tokens."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    source = str(Path(gateway.__file__).parent.parent)
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, [source, inherited.get("PYTHONPATH")]))}


def command(*arguments: str) -> list[str]:
    """The command line of the signer's program. -P: a module of that name in the working folder is not it."""
    return [sys.executable, "-P", "-m", "signer", *arguments]


@contextlib.contextmanager
def runtime_folder() -> Iterator[Path]:
    """A private folder with a short path, for the signer's own runtime folder and the link to it.

    What a killed gateway left behind is cleared away. It never lies in the data folder: a UNIX socket's path may be 107
    bytes long (unix(7)).
    """
    place = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")  # noqa: S108 - mkdtemp in it
    for left in place.glob(f"{_FOLDER}*"):
        pid = left.name.removeprefix(_FOLDER).partition("-")[0]
        with contextlib.suppress(OSError):
            if pid.isdigit() and left.lstat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(settings: Settings, secret: str, runtime: Path) -> subprocess.Popen[bytes]:
    """Start the supervisor; it is not ready yet (see `await_ready`)."""
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)  # the one before may have cleared it away
    arguments = ["serve", "--keys", str(Folder(settings.data).keys), "--workers", str(settings.signer_workers)]
    arguments += ["--stuck-after", str(settings.stuck_seconds)]
    process = subprocess.Popen(  # noqa: S603 - our own program, arguments as a list
        command(*arguments, *pin_source(settings), "--runtime", str(runtime)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings),
        # Ctrl-C in a terminal goes to the whole group: the gateway drains first and then ends the signer itself.
        start_new_session=True,
    )
    with contextlib.suppress(BrokenPipeError):
        _pipe(process.stdin).write(_said(settings, secret))
        _pipe(process.stdin).flush()
    return process


def await_ready(process: subprocess.Popen[bytes], runtime: Path) -> tuple[str, ...]:
    """Wait until the workers listen, and give their sockets' paths, which stay the same for the next supervisor.

    Blocks; runs in a thread. Raises `CannotStart` with the signer's own sentence.
    """
    line = _pipe(process.stdout).readline()
    if not line:
        sentence = last_sentence(_pipe(process.stderr).read())
        process.wait()
        raise CannotStart(f"the signer does not start: {sentence}")
    sockets = [Path(path) for path in _READY.decode(line).sockets]
    # Each supervisor makes a folder of its own; the link is what the client knows.
    link = runtime / "signer"
    link.unlink(missing_ok=True)
    link.symlink_to(sockets[0].parent)
    return tuple(str(link / path.name) for path in sockets)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the supervisor and, through it, its workers. Blocks for at most `END_SECONDS`."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            logger.warning("the signer did not end in time and was killed", extra={"pid": process.pid})
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def run_once(settings: Settings, arguments: Sequence[str], secret: str, *more: str) -> bytes:
    """Run one of the signer's offline verbs and give its manifest. Blocks. Raises `CannotStart` with its sentence.

    `more` are further lines of its standard input, between the unlock secret and the PIN.
    """
    return _run(settings, [*arguments, *pin_source(settings)], _said(settings, secret, *more))


def _run(settings: Settings, arguments: Sequence[str], said: bytes) -> bytes:
    done = subprocess.run(  # noqa: S603 - our own program, arguments as a list
        command(*arguments),
        input=said,
        capture_output=True,
        env=environment(settings),
        check=False,
    )
    if done.returncode != 0:
        raise CannotStart(f"the signer refuses: {last_sentence(done.stderr)}")
    return done.stdout


def run_beside(settings: Settings, arguments: Sequence[str]) -> bytes:
    """Run a verb that needs no key store and no PIN of the settings'. Blocks. Raises `CannotStart`."""
    return _run(settings, arguments, b"")


def token(settings: Settings) -> list[str]:
    """Where a ceremony makes keys, as arguments of the signer's program: on the settings' token, if they name one."""
    return ["--module", str(settings.pkcs11_module), "--token", settings.token] if settings.token else []


def pin_source(settings: Settings) -> list[str]:
    """Where tokens' PINs come from, as arguments of the signer's program. No PIN itself is ever among them."""
    sources = ["--pin", f"list:{settings.pins_file}"] if settings.pins_file is not None else []
    if settings.pin_file is not None:
        return [*sources, "--pin", f"file:{settings.pin_file}"]
    return [*sources, "--pin", "stdin"] if settings.pin else sources


def _said(settings: Settings, secret: str, *more: str) -> bytes:
    return "".join(f"{line}\n" for line in (secret, *more, *([settings.pin] if settings.pin else []))).encode()


def last_sentence(output: bytes) -> str:
    """The last line that a program wrote, for an error message of ours."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("signer: ") if lines else "it gave no reason"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
