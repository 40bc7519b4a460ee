"""A signer of its own for a benchmark: real workers, keys in software or on a SoftHSM2 token, a folder that goes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from bench import interrupt
from signer.calibration import Measured
from signer.keystore.softkey import create
from signer.supervisor import Ready

SECRET: Final = b"bench"
PIN: Final = "2468-bench"
MODULE: Final = "/usr/lib/softhsm/libsofthsm2.so"


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that listen; `floor` is how one process signs with the same library in a loop, and nothing else."""

    sockets: list[str]
    workers: list[int]
    floor: Measured


@contextmanager
def pool(algorithm: str, *, softhsm: bool, workers: int) -> Iterator[Pool]:
    """An authority `issuing` with a key of that algorithm, and so many workers that hold it."""
    with TemporaryDirectory(prefix="muster-bench-") as place:
        folder = Path(place)
        keys = folder / "keys"
        environment = dict(os.environ)
        where: list[str] = []
        pin: list[str] = []
        if softhsm:
            environment["SOFTHSM2_CONF"] = str(_token(folder))
            where = ["--module", MODULE, "--token", "bench"]
            pin = ["--pin", f"file:{folder / 'pin'}"]
        create(keys, SECRET)
        made = ["create-authority", "--keys", str(keys), "--algorithm", algorithm, *where, *pin]
        _run([*made, "--name", "root", "--subject", "CN=Bench Root"], environment)
        _run([*made, "--name", "issuing", "--subject", "CN=Bench CA", "--parent", "root"], environment)
        measured = _run(["calibrate", "--keys", str(keys), *pin, "--most", "1", "--seconds", "1"], environment)
        floor = msgspec.json.decode(measured.splitlines()[0], type=Measured)
        with signer(keys, "--workers", str(workers), *pin, environment=environment) as ready:
            yield Pool(ready.sockets, ready.workers, floor)


@contextmanager
def signer(keys: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Ready]:
    """Workers that hold these keys, whose secret is `SECRET`, from when they are ready; ended on the way out."""
    command = [*_SIGNER, "serve", "--keys", str(keys), *arguments]

    def start() -> subprocess.Popen[bytes]:
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert started.stdin is not None
        started.stdin.write(SECRET + b"\n")
        started.stdin.flush()
        return started

    with interrupt.child(start, _end) as supervisor:
        assert supervisor.stdout is not None
        yield msgspec.json.decode(supervisor.stdout.readline(), type=Ready)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    with supervisor:
        assert supervisor.stdin is not None
        supervisor.stdin.close()  # it ends its workers, and then itself
        supervisor.wait()  # with its output still open: it may only just be about to say that it is ready


def part(ordered: list[float], share: float) -> float:
    """A quantile of sorted figures, nan where there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


_SIGNER: Final = [sys.executable, "-m", "signer"]


def _run(words: list[str], environment: dict[str, str]) -> bytes:
    return subprocess.run(
        [*_SIGNER, *words], input=SECRET + b"\n", check=True, capture_output=True, env=environment
    ).stdout


def _token(folder: Path) -> Path:
    configuration, tokens = folder / "softhsm2.conf", folder / "tokens"
    tokens.mkdir()
    configuration.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    (folder / "pin").write_text(PIN + "\n")
    words = ["--init-token", "--free", "--label", "bench", "--so-pin", "12345678", "--pin", PIN]
    environment = {**os.environ, "SOFTHSM2_CONF": str(configuration)}
    subprocess.run(["softhsm2-util", *words], check=True, capture_output=True, env=environment)
    return configuration
