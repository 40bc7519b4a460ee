"""`python -m bench.bare FOLDER PORT AUTHORITY`: serve the least on a free loopback port, until killed; prints the port.

Paths are `/acme` (ready at once), `/acme-http-01` (proved at PORT), `/simpleenroll` and `/certificates`. AUTHORITY is a
file, DER: clients may show certificates that it issued.
"""

from __future__ import annotations

import argparse
import base64
import gc
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import orjson
import trio
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from bench import interrupt, values
from bench.bare.acme import Acme, Answer
from bench.bare.issuer import Issuer, der, serial
from bench.bare.ledger import Ledger
from bench.front import certificate
from gateway.serve.secure import SecureStream
from gateway.serve.tls import server_context


class Bare:
    """Everything that is answered."""

    def __init__(self, folder: Path, port: int, http01_port: int) -> None:
        self.ledger = Ledger(folder / "bare.db")
        self._issuer = Issuer()
        base = f"https://127.0.0.1:{port}"
        self._acme = Acme(f"{base}/acme", self.ledger, self._issuer, 0)
        self._proving = Acme(f"{base}/acme-http-01", self.ledger, self._issuer, http01_port)

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """One request's answer."""
        where, _, below = path[1:].partition("/")
        if where == "acme":
            return await self._acme.answer(method, below, body)
        if where == "acme-http-01":
            return await self._proving.answer(method, below, body)
        rest = where == "certificates"
        request = base64.b64decode("".join(orjson.loads(body)["csr"].splitlines()[1:-1]) if rest else body)
        made = self._issuer.issue(request)
        await self.ledger.keep(serial(made), der(made))
        if rest:
            said = {"certificate": made.public_bytes(Encoding.PEM).decode()}
            return ("201 Created", "application/json", orjson.dumps(said), "")
        chain = base64.b64encode(pkcs7.serialize_certificates([made], Encoding.DER))
        return ("200 OK", "application/pkcs7-mime", chain, "")


async def converse(bare: Bare, stream: SecureStream) -> None:
    """One connection, whose requests come one after the other."""
    await stream.do_handshake()
    data = b""
    while True:
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = await stream.receive_some(65536)
            if not more:
                return
            data += more
        head = data[:end].decode("latin-1")
        _, found, rest = head.partition("Content-Length: ")
        whole = end + 4 + (int(rest.partition("\r\n")[0]) if found else 0)
        while len(data) < whole:
            data += await stream.receive_some(65536)
        method, path, _ = head.split(" ", 2)
        body, data = data[end + 4 : whole], data[whole:]
        status, media_type, content, more_lines = await bare.answer(method, path, body)
        lines = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(content)}\r\n{more_lines}\r\n"
        await stream.send_all(lines.encode() + content)


async def serve(folder: Path, http01_port: int, authority: Path) -> None:
    """Serve, until killed."""
    context = server_context(*certificate(folder), (authority.read_bytes(),))
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port: int = listening.getsockname()[1]
    bare = Bare(folder, port, http01_port)

    async def connection(stream: trio.SocketStream) -> None:
        try:
            await converse(bare, SecureStream(stream, context))
        except (trio.BrokenResourceError, ConnectionError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bare.ledger.run)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        nursery.start_soon(partial(trio.serve_listeners, connection, [listener]))
        gc.freeze()
        print(port, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare", description=__doc__)
    parser.add_argument("folder", type=values.folder, metavar="FOLDER", help="where its certificate and table go")
    parser.add_argument("port", type=values.count, metavar="PORT", help="of who answers http-01")
    parser.add_argument(
        "authority", type=Path, metavar="AUTHORITY", help="a certificate, DER; of the clients that have one"
    )
    options = parser.parse_args(arguments)
    if not options.authority.is_file():
        parser.error(f"argument AUTHORITY: {options.authority} is no file")
    trio.run(serve, options.folder, options.port, options.authority, restrict_keyboard_interrupt_to_checkpoints=True)


if __name__ == "__main__":
    interrupt.run(main)
