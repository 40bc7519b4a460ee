"""`python -m bench.front` (P1): what one small POST costs on its way through the whole front, plain and over TLS.

Listener, TLS, HTTP/1.1, the outermost layer, routing, the limits on a body, an empty handler; 1 KB in, 800 B out, 16
connections that are kept. Server CPU a request beside its floor: a trio task a connection that reads as many bytes and
writes as many, and knows nothing, over TLS on the listener's own stream. Floors and figures take turns in one process,
so that a machine's moods cancel out; the machine's pace is sampled in the figures' seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bench import cores, interrupt, pace, values
from bench.figure import Effort, Figure
from bench.load.fixed import Fixed
from bench.load.run import Plan, drivers
from bench.load.trust import Trust
from gateway.fronts.carry import ReplyResponse
from gateway.fronts.limits import Limits, read_body
from gateway.fronts.peer import peer
from gateway.serve.asgi import application
from gateway.serve.listener import Door, listen
from gateway.serve.secure import SecureStream
from gateway.serve.settings import load
from gateway.serve.telemetry import Counters
from gateway.serve.tls import server_context
from protocols.exchange import Reply

CLIENTS: Final = 16
BUDGETS: Final = {"plain": 0.07, "tls": 0.10}

_BODY: Final = b"x" * 1024
_ANSWER: Final = b"y" * 800
# As a client of the ACME protocol asks.
REQUEST: Final = (
    b"POST /acme/demo/tls-server/new-order HTTP/1.1\r\nHost: gateway.bench.example:8443\r\nUser-Agent: bench/1.0\r\n"
    b"Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/jose+json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds of server CPU a request, the medians of all rounds; requests a second as the clients saw them.

    `sampled` is of the figure's own seconds, without the floor's.
    """

    way: str
    cpu_ms: float
    floor_ms: float
    budget_ms: float
    per_second: float
    sampled: pace.Sampled

    @property
    def paced_ms(self) -> float:
        """The budget at this machine's pace: all of it, since a kept connection has none of the plan's operations."""
        return self.sampled.operations.paced(self.budget_ms, lambda _: 0.0)


class Empty:
    """The handler: what every front does before its protocol begins, and nothing else."""

    def __init__(self) -> None:
        self._cap = Limits().acme_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read, and answer."""
        peer(scope, bytes)
        await read_body(scope, receive, cap=self._cap, seconds=30)
        await ReplyResponse(Reply(200, _ANSWER, "application/octet-stream"))(scope, receive, send)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A server's certificate and its key, P-256, in files."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    chain, private = folder / "chain.pem", folder / "key.pem"
    chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return chain, private


async def bare(answer: bytes, context: ssl.SSLContext | None, stream: trio.SocketStream) -> None:
    """The floor: as many bytes in, as many out."""
    talk: trio.abc.Stream = stream
    with contextlib.suppress(trio.BrokenResourceError):  # clients that are ended do not say good-bye
        if context is not None:
            talk = SecureStream(stream, context)
            await talk.do_handshake()
        left = len(REQUEST)
        while data := await talk.receive_some(65536):
            left -= len(data)
            if left <= 0:
                left = len(REQUEST)
                await talk.send_all(answer)


async def serve(folder: Path) -> None:
    """Serve floors and front, until killed. Prints the four ports."""
    (folder / "settings.toml").write_text("")
    settings = load({}, {}, folder=folder, config=folder / "settings.toml")
    context = server_context(*certificate(folder), ())
    asgi = application([Route("/acme/{application}/{profile}/{path:path}", Empty())], Counters())
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    doors = [Door(bound[0], 1000), Door(bound[1], 1000, context)]
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 800\r\n"
    answer += b"Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n" + _ANSWER
    async with trio.open_nursery() as nursery:
        least = []
        for each in (None, context):
            floor = partial(trio.serve_tcp, partial(bare, answer, each), 0, host="127.0.0.1")
            listeners = await nursery.start(floor)
            least.append(listeners[0].socket.getsockname()[1])
        await nursery.start(listen, asgi, settings, doors, trio.Event())
        ports = [each.getsockname()[1] for each in bound]
        print(json.dumps([*least, *ports]), flush=True)


def measure(effort: Effort) -> list[Figure]:
    """P1, plain and over TLS."""
    return [
        Figure(
            "P1",
            f"one small POST through the whole front, {'plain' if row.way == 'plain' else 'TLS'}",
            row.cpu_ms,
            budget=row.budget_ms,
            floor=row.floor_ms,
            paced=row.paced_ms,
            per_second=row.per_second,
            conditions={"clients": CLIENTS, "loop": "closed", **row.sampled.conditions()},
        )
        for row in taken(effort.seconds / 2, 3)
    ]


def taken(seconds: float, rounds: int) -> list[Row]:
    """Run floors and front in turn; `rounds` times each, so many seconds."""
    halves = cores.halves()
    plan = Plan(clients=CLIENTS, seconds=seconds, warm_up=0.3, cores=halves.load)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.front", "--serve", folder]
        start = partial(subprocess.Popen[str], command, stdout=subprocess.PIPE, text=True)
        with ExitStack() as stack:
            with cores.on(halves.server):
                server = stack.enter_context(interrupt.child(start, interrupt.killed))
            assert server.stdout is not None
            ports = json.loads(server.stdout.readline())
            found: dict[int, list[tuple[float, float]]] = {port: [] for port in ports}
            spans: dict[int, list[pace.Span]] = {port: [] for port in ports}
            yardstick = stack.enter_context(pace.beside(halves.server))
            ready = {port: stack.enter_context(drivers(_fleet(port, ports), plan)) for port in ports}
            for _ in range(rounds):
                for port, driving in ready.items():
                    outcome = driving.run(server=server.pid)
                    if outcome.tally.wrong:
                        raise RuntimeError(outcome.tally.first_failure)
                    found[port].append((outcome.cpu_ms, outcome.per_second))
                    spans[port].append(outcome.counted)
            sampled = {port: yardstick.mean(each) for port, each in spans.items()}
    cpu = {port: statistics.median(each[0] for each in rows) for port, rows in found.items()}
    rate = {port: statistics.median(each[1] for each in rows) for port, rows in found.items()}
    return [
        Row(way, cpu[ours], cpu[floor], BUDGETS[way], rate[ours], sampled[ours])
        for way, floor, ours in (("plain", ports[0], ports[2]), ("tls", ports[1], ports[3]))
    ]


def _fleet(port: int, ports: Sequence[int]) -> Fixed:
    """Clients of one of the four; the second and the fourth speak TLS."""
    scheme = "https" if ports.index(port) % 2 else "http"
    return Fixed(f"{scheme}://127.0.0.1:{port}", Trust(insecure=True), REQUEST)


def table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    names = ("ms CPU", "budget", "paced", "floor", "x floor", "/s")
    lines = [f"{'P1, one POST through the front':32} " + " ".join(f"{name:>8}" for name in names)]
    lines += [
        f"{each.way:32} {each.cpu_ms:8.3f} {each.budget_ms:8.2f} {each.paced_ms:8.2f} "
        f"{each.floor_ms:8.3f} {each.cpu_ms / each.floor_ms:8.2f} {each.per_second:8.0f}"
        for each in rows
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.front", description=__doc__)
    parser.add_argument(
        "--seconds", type=values.positive, default=2.0, help="how long each measurement takes (default 2)"
    )
    parser.add_argument("--rounds", type=values.count, default=3, help="measurements of each, in turn (default 3)")
    parser.add_argument(
        "--json", type=values.writable_file, default="bench-results/front.json", help="where the figures go"
    )
    parser.add_argument("--serve", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        trio.run(serve, options.serve, restrict_keyboard_interrupt_to_checkpoints=True)
        return 0
    rows = taken(options.seconds, options.rounds)
    print(table(rows))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    interrupt.run(main)
