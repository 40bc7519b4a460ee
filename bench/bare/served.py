"""The bare program in a process of its own, for who measures it.

Never here: a measurement.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import interrupt
from bench.load.acme import Acme
from bench.load.est import Est
from bench.load.responder import Responder
from bench.load.rest import Rest
from bench.load.trust import Trust


@dataclass(frozen=True, slots=True)
class Served:
    """Where it listens, and fleets that ask it what they ask a gateway."""

    pid: int
    url: str
    responder: Responder

    def acme(self, *, ready: bool = True, only_read: bool = False) -> Acme:
        """ACME, with orders that are ready at once or proved by http-01."""
        address = "" if ready else self.responder.address
        path = "acme" if ready else "acme-http-01"
        return Acme(f"{self.url}/{path}/directory", _ANYONE, key_authorizations=address, only_read=only_read)

    def est(self, held: str = "") -> Est:
        """EST; it asks nobody who he is. With a certificate and its key (PEM file) on a new connection each time."""
        if held:
            return Est(self.url, Trust(insecure=True, certificate=held), fresh=True)
        return Est(self.url, _ANYONE, "bench", "bench")

    def rest(self) -> Rest:
        """REST with a CSR."""
        return Rest(self.url, _ANYONE, "bench", "bench", "bench")


_ANYONE = Trust(insecure=True)


@contextmanager
def served(responder: Responder, authority: bytes) -> Iterator[Served]:
    """Started in a folder of its own, and ended with it. `authority` (DER) is of the clients that have certificates."""
    with TemporaryDirectory(prefix="muster-bench-") as folder:
        trusted = Path(folder, "authority.der")
        trusted.write_bytes(authority)
        command = [sys.executable, "-m", "bench.bare", folder, str(responder.port), str(trusted)]
        root = Path(__file__).parents[2]
        start = partial(subprocess.Popen[str], command, stdout=subprocess.PIPE, text=True, cwd=root)
        with interrupt.child(start, interrupt.killed) as process:
            assert process.stdout is not None
            yield Served(process.pid, f"https://127.0.0.1:{int(process.stdout.readline())}", responder)
