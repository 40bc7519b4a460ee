"""Start a gateway of its own for a benchmark, in a folder of its own, and end it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import interrupt

# The pair for orders that are ready at once: an account that proved a name once keeps the right to it for an hour.
REUSE = """
[[applications]]
name = "bench"
profiles = ["tls-server"]

[applications.enrollment.tls-server.acme]
skipEabBinding = true
allowedNetworks = ["127.0.0.0/8"]
http01Port = {port}
authorizationReuse = "1h"
"""


@dataclass(frozen=True, slots=True)
class Quickstart:
    """What a gateway's `quickstart.json` says, as far as drivers need it."""

    pid: int
    data: Path
    root: str
    token: str
    application: str
    profile: str
    directory: str
    reuse_directory: str
    est: str
    est_user: str
    est_passphrase: str
    scep: str
    scep_challenge: str
    rest: str
    http: str


@contextmanager
def gateway(http01_port: int, *arguments: str) -> Iterator[Quickstart]:
    """A gateway on free loopback ports, ready to enroll; ended, with its folder, on the way out."""
    with TemporaryDirectory(prefix="muster-bench-") as folder:
        data = Path(folder) / "data"
        command = [sys.executable, "-m", "gateway", "serve", "--data", str(data)]
        arguments = ("--acme-http01-port", str(http01_port), *arguments)
        with (Path(folder) / "log").open("w+b") as log:
            start = partial(
                subprocess.Popen[str],
                [*command, "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            with interrupt.child(start, interrupt.terminated) as process:
                _await_ready(process, Path(folder) / "log")
                _apply(data, Path(folder) / "bench.toml", http01_port)
                yield _quickstart(data, process.pid)


def _await_ready(process: subprocess.Popen[str], log: Path) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready "):
            return
    raise RuntimeError(f"the gateway did not start: {log.read_text()[-2000:]}")


def _apply(data: Path, declaration: Path, http01_port: int) -> None:
    declaration.write_text(REUSE.format(port=http01_port))
    command = [sys.executable, "-m", "gateway", "apply", "--data", str(data), "-f", str(declaration)]
    subprocess.run(command, check=True, capture_output=True)
    time.sleep(1.5)  # a running gateway agrees with a change of settings within a second


def _quickstart(data: Path, pid: int) -> Quickstart:
    facts = json.loads((data / "quickstart.json").read_text())
    return Quickstart(
        pid=pid,
        data=data,
        root=facts["root"],
        token=facts["adminToken"],
        application=facts["application"],
        profile=facts["profile"],
        directory=facts["acmeDirectory"],
        reuse_directory=facts["acmeDirectory"].replace(f"/acme/{facts['application']}/", "/acme/bench/"),
        est=facts["est"]["url"],
        est_user=facts["est"]["user"],
        est_passphrase=facts["est"]["passphrase"],
        scep=facts["scep"]["url"],
        scep_challenge=facts["scep"]["challenge"],
        rest=facts["rest"],
        http=facts["http"],
    )
