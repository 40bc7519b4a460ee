"""A rolling restart under load: SIGHUP, several times, and then a worker that is killed; whose enrollment fails?

    python -m bench.rolling

Clients of EST, REST, SCEP and ACME keep their connections and enroll at fixed times of their own, whatever else is
going on. None of them tries anything again by itself: a connection that ends without a word is a failure. What the
inventory has is compared with what was answered.
"""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bench import interrupt, values
from bench.gateway import Quickstart, gateway
from bench.load import acme, est, rest, scep
from bench.load.conversation import Ask, Conversation
from bench.load.process_tree import descendants
from bench.load.responder import Responder
from bench.load.trust import Trust
from bench.load.wire import Answer, Connection


@dataclass(slots=True)
class Seen:
    """What clients saw. `told`: answers after which the server closed; `waits` in seconds, from when work was due."""

    answered: int = 0
    told: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Strict(Connection):
    """A connection that hides nothing: what `Connection` would send once more is told as it is."""

    told = 0

    def ask(self, ask: Ask) -> Answer:
        """Send a request and give its answer. Raises OSError or EOFError where the connection ended."""
        answer = self._exchange(ask)
        self.told += self._socket is None
        return answer


class Client(threading.Thread):
    """One client: `enroll` gives the conversation of one enrollment, every `pause` seconds until `ending`."""

    def __init__(
        self, url: str, root: str, enroll: Callable[[], Conversation[object]], pause: float, seen: Seen
    ) -> None:
        super().__init__(daemon=True)
        self.connection = Strict(url, ssl.create_default_context(cafile=root))
        self.ending = threading.Event()
        self._enroll = enroll
        self._pause = pause
        self._seen = seen

    def run(self) -> None:
        """Enroll until told to end."""
        due = time.monotonic()
        while not self.ending.wait(max(0.0, due - time.monotonic())):
            trouble = ""
            try:
                self.connection.play(self._enroll())
            except (OSError, EOFError, RuntimeError) as error:
                trouble = f"{type(error).__name__}: {error}"
                self.connection.close()
            with self._seen.lock:
                self._seen.waits.append(time.monotonic() - due)
                self._seen.answered += not trouble
                if trouble:
                    self._seen.failures[trouble] += 1
            due += self._pause
        with self._seen.lock:
            self._seen.told += self.connection.told
        self.connection.close()


class Load:
    """Clients of several protocols at a steady rate. A context: they have stopped at its end."""

    def __init__(self, at: Quickstart, seen: Seen, *, each: int, pause: float) -> None:
        self.clients: list[Client] = []
        for _ in range(each):
            by_csr = rest.Enrolling(rest.Rest(at.rest, Trust(at.root), at.token, at.application, at.profile))
            device = est.Enrolling(est.Est(at.est, Trust(at.root), at.est_user, at.est_passphrase))
            self.clients += [
                Client(at.rest, at.root, by_csr.enroll, pause, seen),
                Client(at.est, at.root, device.enroll, pause, seen),
            ]
            messages = scep.Enrolling(scep.Scep(at.scep, Trust(), at.scep_challenge), scep.rsa_2048())
            client = Client(at.scep, at.root, messages.enroll, pause, seen)
            client.connection.play(messages.introduce())
            self.clients.append(client)

    def accounts(self, at: Quickstart, seen: Seen, *, count: int, pause: float, responder: Responder) -> None:
        """ACME clients with an account each, which prove their name once."""
        for _ in range(count):
            address = responder.address
            fleet = acme.Acme(at.reuse_directory, Trust(at.root), names="localhost", key_authorizations=address)
            enrolling = fleet.players(1, 0)[0]
            client = Client(at.reuse_directory, at.root, enrolling.enroll, pause, seen)
            client.connection.play(enrolling.introduce())
            self.clients.append(client)

    def __enter__(self) -> None:
        for place, client in enumerate(self.clients):
            client.start()
            time.sleep(0.3 / len(self.clients) if place else 0)

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.ending.set()
        for client in self.clients:
            client.join(60)


def workers(parent: int) -> list[int]:
    """The gateway workers of a parent, in the order in which they were started."""
    found = []
    for pid in descendants(parent):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"gateway.serve.workers" in line:
            found.append(pid)
    return sorted(found)


def replaced(parent: int, before: Sequence[int], patience: float = 120.0) -> bool:
    """Wait until none of `before` is left and as many others serve."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        now = workers(parent)
        if not set(now) & set(before) and len(now) >= len(before):
            return True
        time.sleep(0.1)
    return False


def inventory(data: Path) -> int:
    """How many certificates the store has."""
    with closing(sqlite3.connect(f"file:{data / 'store.sqlite'}?mode=ro", uri=True)) as store:
        return int(store.execute("SELECT count(*) FROM certificates").fetchone()[0])


def roll(at: Quickstart, times: int) -> int:
    """Hang up so many times, waiting for each exchange of all workers; how many were completed."""
    done = 0
    for _ in range(times):
        before = workers(at.pid)
        os.kill(at.pid, signal.SIGHUP)
        done += replaced(at.pid, before)
        time.sleep(1.0)
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what clients saw."""
    parser = argparse.ArgumentParser(prog="python -m bench.rolling", description=__doc__)
    parser.add_argument("--workers", type=values.count, default=2, help="of the gateway (default 2)")
    parser.add_argument("--clients", type=values.count, default=4, help="of EST, REST, SCEP and ACME, each (default 4)")
    parser.add_argument(
        "--pause",
        type=values.positive,
        default=0.25,
        help="seconds between two enrollments of a client (default 0.25)",
    )
    parser.add_argument("--times", type=values.count_or_none, default=3, help="how often SIGHUP is sent (default 3)")
    options = parser.parse_args(arguments)
    with (
        closing(Responder()) as responder,
        gateway(responder.port, "--workers", str(options.workers)) as at,
    ):
        seen = Seen()
        load = Load(at, seen, each=options.clients, pause=options.pause)
        load.accounts(at, seen, count=options.clients, pause=options.pause, responder=responder)
        before = inventory(at.data)
        with load:
            time.sleep(2)
            done = roll(at, options.times)
        print(f"SIGHUP {options.times} times, {done} exchanges complete, {options.workers} workers")
        _print(seen, inventory(at.data) - before)
        before, seen = inventory(at.data), Seen()
        with Load(at, seen, each=options.clients, pause=options.pause):
            time.sleep(2)
            os.kill(workers(at.pid)[0], signal.SIGKILL)
            time.sleep(4)
        print("kill -9 of one worker")
        _print(seen, inventory(at.data) - before)


def _print(seen: Seen, stored: int) -> None:
    waits = sorted(seen.waits)
    print(
        f"  answered {seen.answered}, stored {stored}, told to close {seen.told}, failed {sum(seen.failures.values())}"
    )
    print(f"  waits: p50 {waits[len(waits) // 2] * 1000:.0f} ms, longest {waits[-1] * 1000:.0f} ms")
    for trouble, count in seen.failures.items():
        print(f"  {count} x {trouble}")


if __name__ == "__main__":
    interrupt.run(main)
