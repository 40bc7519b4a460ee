"""Storms beside honest enrollments: what strangers can take from those who came to enroll, kind by kind.

    python -m bench.storms

The gateway and its signers have one core; honest clients and the storm share another. Honest enrollments (REST with a
CSR) come at their own times over kept connections, at `--share` of what a closed loop reached; beside them newcomers
open a connection each half second and ask for one answer. A storm sends as fast as it is answered. The row before each
storm is calm: compare with it, as neighbours on the machine change everything.
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import os
import secrets
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Final, Self
from urllib.parse import urlsplit

from bench import interrupt, values
from bench.gateway import Quickstart, gateway
from bench.load import rest, scep, storm
from bench.load.open_loop import Connections
from bench.load.process_tree import cpu_seconds, descendants
from bench.load.storm import Came, Storm
from bench.pool import part

KEPT: Final = 32  # connections of the honest
PATIENCE: Final = 5.0  # seconds of a newcomer
MANY: Final = 5_000  # addresses of a storm that comes from everywhere
PLACES: Final = 600  # limits.connections of this gateway, so that a flood of connections passes them


@dataclass(frozen=True, slots=True)
class Row:
    """What the honest saw beside one storm. A second each, but for waits and counts; `cpu`: the server's seconds.

    `lost` found no free connection in time, had theirs broken, no answer, or one that is neither a success nor a 503.
    """

    name: str
    answers: float
    told: float
    ended: float
    offered: float
    completed: float
    busy: float
    lost: int
    p50_ms: float
    p99_ms: float
    newcomer_p50_ms: float
    newcomers_lost: int
    cpu: float


class Newcomers:
    """Honest clients who have no connection yet: one each half second, in a thread of their own."""

    def __init__(self, at: Quickstart) -> None:
        self.waits: list[float] = []
        self.lost = 0
        self._url = at.directory
        self._tls = ssl.create_default_context(cafile=at.root)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._come, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _come(self) -> None:
        while not self._ending.wait(0.5):
            began = time.perf_counter()
            try:
                with urllib.request.urlopen(self._url, timeout=PATIENCE, context=self._tls) as answer:
                    answer.read()
            except OSError:
                self.lost += 1
            else:
                self.waits.append(time.perf_counter() - began)


def storms(at: Quickstart) -> dict[str, Storm]:
    """Every kind, by its name."""
    https, http = _where(at.directory), _where(at.scep)
    host = urlsplit(at.directory).netloc
    nonce = f"HEAD {urlsplit(at.directory).path.replace('directory', 'new-nonce')} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    get = f"GET {urlsplit(at.directory).path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 50
    hello = storm.client_hello("localhost")
    guesses = [_guess(at, f"wrong {secrets.token_hex(4)}") for _ in range(500)]
    return {
        "handshakes, one address": Storm(https, [hello], 64, once=True),
        "handshakes, from everywhere": Storm(https, [hello], 64, MANY, once=True),
        "bad SCEP signatures, one address": Storm(http, _forged(at), 32),
        "bad SCEP signatures, everywhere": Storm(http, _forged(at), 32, MANY),
        "newNonce, one address": Storm(https, [nonce.encode()], 32, tls=True),
        "newNonce, from everywhere": Storm(https, [nonce.encode()], 32, MANY, tls=True),
        "wrong passphrases, one address": Storm(https, guesses, 32, tls=True),
        "wrong passphrases, everywhere": Storm(https, guesses, 32, MANY, tls=True),
        "readers who do not read": Storm(https, [get], 300, 300, tls=True, deaf=True),
        "heads, a byte each half second": Storm(https, [nonce.encode()], 300, 300, tls=True, every=0.5),
        "bodies, a byte each half second": Storm(
            https, [_slow_body(guesses[0])], 300, 300, tls=True, every=0.5, piece=200
        ),
        "connections above the limit": Storm(https, [b""], 2 * PLACES, MANY),
    }


def _where(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 443


def _forged(at: Quickstart) -> list[bytes]:
    """Messages of a device whose signatures are wrong in one bit: the last byte of a SignedData is the signature's."""
    device = scep.Device(at.scep, at.scep_challenge)
    parts = urlsplit(at.scep)
    made = []
    for number in range(20):
        message = bytearray(device.message(secrets.token_bytes(600 + number)))
        message[-1] ^= 1
        head = f"POST {parts.path}?operation=PKIOperation HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        made.append(f"{head}Content-Length: {len(message)}\r\n\r\n".encode() + bytes(message))
    device.close()
    return made


def _guess(at: Quickstart, passphrase: str) -> bytes:
    parts = urlsplit(at.est)
    credentials = base64.b64encode(f"{at.est_user}:{passphrase}".encode()).decode()
    return (
        f"POST {parts.path}/simpleenroll HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Basic {credentials}\r\n"
        "Content-Type: application/pkcs10\r\nContent-Length: 4\r\n\r\nTUlJ"
    ).encode()


def _slow_body(request: bytes) -> bytes:
    return request.replace(b"Content-Length: 4", b"Content-Length: 9000") + bytes(9000)


def measured(at: Quickstart, kept: Connections, rate: float, seconds: float, name: str, what: Storm | None) -> Row:
    """One row."""
    requests = rest.prepared(at.rest, at.token, at.application, at.profile, 300)
    with ExitStack() as stack:
        raging = None
        if what is not None:
            raging = stack.enter_context(interrupt.child(partial(Raging, what), Raging.kill))
            time.sleep(1.0)
        pids = descendants(at.pid)
        before, began = cpu_seconds(pids), time.perf_counter()
        with Newcomers(at) as newcomers:
            came = kept.run(requests, rate=rate, seconds=seconds, warm_up=3.0)
        took = time.perf_counter() - began
        cpu = (cpu_seconds(pids) - before) / took
        storm_came = Came() if raging is None else raging.end()
    completed = sum(count for status, count in came.statuses.items() if status < 300)
    refused = came.statuses.total() - completed - came.statuses[503]
    told = sum(count for status, count in storm_came.answers.items() if status in {429, 503})
    return Row(
        name,
        storm_came.answers.total() / took,
        told / took,
        storm_came.ended / took,
        came.arrived / seconds,
        completed / seconds,
        came.statuses[503] / seconds,
        came.late + came.lost + refused,
        part(came.waits, 0.5) * 1000,
        part(came.waits, 0.99) * 1000,
        part(sorted(newcomers.waits), 0.5) * 1000 if newcomers.waits else float("nan"),
        newcomers.lost,
        cpu,
    )


class Raging:
    """A storm in a process of its own."""

    def __init__(self, what: Storm) -> None:
        self._ending = multiprocessing.Event()
        self._came: SimpleQueue[Came] = multiprocessing.SimpleQueue()
        target = partial(_rage, what, self._ending.is_set, self._came.put)
        self._process = multiprocessing.Process(target=target, daemon=True)
        self._process.start()

    def end(self) -> Came:
        """End it, and hear what came of it."""
        self._ending.set()
        came = self._came.get()
        self._process.join()
        return came

    def kill(self) -> None:
        """End it where it has not ended: nobody wants to hear of it."""
        self._process.kill()
        self._process.join()


def _rage(what: Storm, ended: Callable[[], bool], tell: Callable[[Came], None]) -> None:
    os.nice(5)  # the honest driver must not be late because the storm has its core
    tell(storm.rage(what, ended))


def _line(row: Row) -> str:
    return (
        f"{row.name:34} {row.answers:8.0f} {row.told:7.0f} {row.ended:6.0f} {row.offered:8.0f} {row.completed:9.0f} "
        f"{row.busy:5.0f} {row.lost:5} {row.p50_ms:7.0f} {row.p99_ms:7.0f} {row.newcomer_p50_ms:8.0f} "
        f"{row.newcomers_lost:5} {row.cpu:5.2f}"
    )


def _rows(at: Quickstart, share: float, seconds: float, wanted: Callable[[str], bool]) -> list[Row]:
    kept = Connections(at.rest, at.root, KEPT)
    requests = rest.prepared(at.rest, at.token, at.application, at.profile, 300)
    most = kept.run(requests, rate=None, seconds=5.0, warm_up=2.0)
    capacity = sum(count for status, count in most.statuses.items() if status < 300) / most.seconds
    print(f"{capacity:.0f} enrollments a second in a closed loop of {KEPT}; the honest offer {share:.0%} of it")
    print(
        f"{'storm':34} {'answers':>8} {'429/503':>7} {'ended':>6} {'offered':>8} {'completed':>9} {'503':>5} "
        f"{'lost':>5} {'p50 ms':>7} {'p99 ms':>7} {'new p50':>8} {'lost':>5} {'cpu':>5}"
    )
    rows = []
    for name, what in storms(at).items():
        if not wanted(name):
            continue
        for each, raging in (("calm", None), (name, what)):
            rows.append(measured(at, kept, share * capacity, seconds, each, raging))
            print(_line(rows[-1]), flush=True)
    kept.close()
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.storms", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=8.0, help="how long each row is measured (default 8)"
    )
    parser.add_argument(
        "--share", type=values.positive, default=0.4, help="what the honest offer, of the capacity (0.4)"
    )
    parser.add_argument("--only", default="", help="the storms whose names contain this")
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/storms.json", help="where the figures go"
    )
    options = parser.parse_args(arguments)
    os.environ["MUSTER_LIMITS_CONNECTIONS"] = str(PLACES)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:1])
    with gateway(1) as at:
        os.sched_setaffinity(0, cores[1:] or cores)
        rows = _rows(at, options.share, options.seconds, lambda name: options.only in name)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")


if __name__ == "__main__":
    interrupt.run(main)
