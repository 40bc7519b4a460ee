"""`python -m bench.handshake`: what a full mutual TLS handshake costs the server, with one small request behind it.

What P6 has beyond P5. Server CPU a connection: the listener as it is, `trio.SSLStream` in its place, and as the floor
OpenSSL through Python's own blocking socket, which knows no other connection. Each server is a process of its own; they
take turns, so that a machine's moods cancel out. May not happen here: resumption, which would cost less.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.types import Receive, Scope, Send

from bench import interrupt, values
from bench.figure import Effort, Figure
from bench.load.process_tree import cpu_seconds
from gateway.serve.listener import Door, listen
from gateway.serve.presenting import Presented
from gateway.serve.settings import load
from gateway.serve.tls import server_context

KINDS: Final = ("floor", "sslstream", "listener")
# 10 ms is one tick of /proc: so many connections are a second or more of it.
CONNECTIONS: Final = 600
QUICK: Final = 200

_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 800\r\nConnection: close\r\n\r\n" + b"y" * 800


def pki(folder: Path) -> None:
    """An authority, and a server's and a client's certificate below it, P-256, in files."""
    authority, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    for name in ("authority", "server", "client"):
        key = authority if name == "authority" else ec.generate_private_key(ec.SECP256R1())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(name == "authority", None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(authority, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(private)


def _trusted(folder: Path) -> frozenset[bytes]:
    authority = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
    return frozenset({authority.public_bytes(Encoding.DER)})


def serve_floor(folder: Path) -> None:
    """One connection after the other, until killed."""
    context = server_context(folder / "server.pem", folder / "server.key", _trusted(folder))
    context.sslobject_class = ssl.SSLObject
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            plain, _ = listening.accept()
            with context.wrap_socket(plain, server_side=True) as secure:
                secure.getpeercert(binary_form=True)
                secure.recv(65536)
                secure.sendall(_ANSWER)


async def serve_sslstream(folder: Path) -> None:
    """The same on trio's own streams."""
    context = server_context(folder / "server.pem", folder / "server.key", _trusted(folder))

    async def visit(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await secure.do_handshake()
        secure.getpeercert(binary_form=True)
        await secure.receive_some()
        await secure.send_all(_ANSWER)
        await secure.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(visit, listeners)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - the shape of an application
    """The empty application behind the listener."""
    headers = [(b"Content-Length", b"800")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"y" * 800})


async def serve_listener(folder: Path) -> None:
    """The gateway's listener: a certificate chosen by name, facts into the scope, HTTP/1.1."""
    settings = load({}, {}, folder=folder, config=folder / "settings.toml")
    presented = Presented(folder / "server.pem", folder / "server.key", None, _trusted(folder))
    bound = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(bound.getsockname()[1], flush=True)
    await listen(answer, settings, [Door(bound, 1000, presented.context)], trio.Event())


def connect(folder: Path, port: int, connections: int) -> None:
    """The clients' side: so many connections, each with a handshake in full and the client's certificate."""
    context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    for _ in range(connections):
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(_REQUEST)
            while secure.recv(65536):
                pass


def measure(effort: Effort) -> list[Figure]:
    """What of P6 is the handshake: the listener with an empty application, beside OpenSSL's own blocking socket."""
    connections = CONNECTIONS if effort.full else QUICK
    found = measured(3, connections)
    conditions: dict[str, str | int | float | bool] = {
        "connections": 3 * connections,
        "sslstream_ms": round(found["sslstream"], 3),
        "application": "empty",
    }
    work = "a full mutual handshake each, and an empty answer"
    return [Figure("P6", work, found["listener"], floor=found["floor"], conditions=conditions)]


def measured(rounds: int, connections: int) -> dict[str, float]:
    """Milliseconds of server CPU a connection, the median of `rounds`, of each kind."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        folder = Path(name)
        pki(folder)
        (folder / "settings.toml").write_text("")
        found: dict[str, list[float]] = {kind: [] for kind in KINDS}
        with interrupt.child(_Processes, _Processes.end) as started:
            servers = {kind: started.one("serve", kind, name) for kind in KINDS}
            ports = {kind: int(_line(server)) for kind, server in servers.items()}
            for _ in range(rounds):
                for kind, server in servers.items():
                    before = cpu_seconds([server.pid])
                    client = started.one("connect", name, str(ports[kind]), str(connections))
                    if client.wait():
                        raise RuntimeError(f"the clients of {kind} failed")
                    found[kind].append((cpu_seconds([server.pid]) - before) / connections * 1000)
    return {kind: statistics.median(each) for kind, each in found.items()}


class _Processes:
    """Servers and clients, which end together: one that lived on would complain that the other side is gone."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def one(self, *words: str) -> subprocess.Popen[bytes]:
        """Start one more."""
        command = [sys.executable, "-m", "bench.handshake", *words]
        with interrupt.later():
            self._all.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        return self._all[-1]

    def end(self) -> None:
        """Kill all of them before any is waited for."""
        for each in self._all:
            each.kill()
        for each in self._all:
            each.communicate()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, or be one of the processes of a measurement."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    match words:
        case ["serve", "floor", folder]:
            serve_floor(Path(folder))
        case ["serve", "sslstream", folder]:
            trio.run(serve_sslstream, Path(folder), restrict_keyboard_interrupt_to_checkpoints=True)
        case ["serve", "listener", folder]:
            trio.run(serve_listener, Path(folder), restrict_keyboard_interrupt_to_checkpoints=True)
        case ["connect", folder, port, connections]:
            connect(Path(folder), int(port), int(connections))
        case _:
            parser = argparse.ArgumentParser(prog="python -m bench.handshake", description=__doc__)
            parser.add_argument("--rounds", type=values.count, default=3, help="how often each is measured (default 3)")
            parser.add_argument(
                "--connections",
                type=values.count,
                default=CONNECTIONS,
                help=f"handshakes a round (default {CONNECTIONS})",
            )
            parser.add_argument("--json", action="store_true", help="print JSON and no table")
            asked = parser.parse_args(words)
            found = measured(asked.rounds, asked.connections)
            if asked.json:
                print(json.dumps(found))
                return
            print("a full mutual TLS 1.3 handshake, P-256, one request behind it: ms of server CPU a connection")
            for kind, figure in found.items():
                print(f"  {kind:10} {figure:6.2f}   {figure / found['floor']:5.2f} x the floor")


if __name__ == "__main__":
    interrupt.run(main)
