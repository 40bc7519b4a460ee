"""The listener over real sockets: TLS facts in the scope, a client certificate that is optional, limits, a clean end."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.types import Receive, Scope, Send

from gateway.serve.listener import Door, listen
from gateway.serve.quickstart import privileged
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, load
from gateway.serve.sockets import bind, close, may_listen, origin, refuse
from gateway.serve.tls import require_pair, server_context
from tests.doubles.gateway import environment

NOW = datetime.now(UTC)


@dataclass
class Pki:
    """An issuing authority below a root, a server's certificate, clients' certificates; all as files."""

    folder: Path

    def __post_init__(self) -> None:
        self.root_key, self.issuing_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = self.certificate("root", self.root_key, "root", self.root_key, ca=True)
        self.issuing = self.certificate("issuing", self.issuing_key, "root", self.root_key, ca=True)
        self.leaf("server")

    def certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        end: datetime = NOW + timedelta(days=1),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=2))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
        )
        if not ca:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            names = [x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def leaf(self, name: str, *, end: datetime = NOW + timedelta(days=1), issuer: str = "issuing") -> bytes:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = self.issuing_key if issuer == "issuing" else ec.generate_private_key(ec.SECP256R1())
        certificate = self.certificate(name, key, issuer, signer, end=end)
        chain = [certificate, *([self.issuing] if issuer == "issuing" else [])]
        (self.folder / f"{name}.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / f"{name}.key").write_bytes(private)
        return certificate.public_bytes(Encoding.DER)

    def client(self, name: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.root.public_bytes(Encoding.PEM).decode())
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def server(self) -> ssl.SSLContext:
        trusted = {self.issuing.public_bytes(Encoding.DER)}
        return server_context(self.folder / "server.pem", self.folder / "server.key", trusted)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the scope says of the connection."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    tls = scope["extensions"].get("tls")
    facts = {"scheme": scope["scheme"], "version": scope["http_version"], "body": len(body), "tls": None}
    if tls is not None:
        facts["tls"] = {name: legible(value) for name, value in tls.items()}
    text = json.dumps(facts).encode()
    headers = [(b"Content-Length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def legible(value: object) -> object:
    if isinstance(value, tuple):
        return [legible(each) for each in value]
    return value.hex() if isinstance(value, bytes) else value


def settings(folder: Path, toml: str = "") -> Settings:
    (folder / "settings.toml").write_text(toml)
    return load({}, {}, folder=folder, config=folder / "settings.toml")


@asynccontextmanager
async def serving(
    settings: Settings, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, Door, trio.Event]]:
    bound = bind("127.0.0.1:0", "--https")
    door = Door(bound[0], settings.connections, context)
    ending = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(listen, tell, settings, [door], ending)
        with trio.fail_after(60):
            yield bound[0].getsockname()[1], door, ending
        ending.set()


async def ask(port: int, context: ssl.SSLContext | None = None, head: str = "GET / HTTP/1.1") -> dict[str, object]:
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
    async with stream:
        await stream.send_all(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := await stream.receive_some():
            answer += part
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert b"server:" not in answer.lower()
    facts: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return facts


async def test_plain_http_has_no_tls_facts(tmp_path: Path) -> None:
    async with serving(settings(tmp_path)) as (port, _, _):
        assert await ask(port) == {"scheme": "http", "version": "1.1", "body": 0, "tls": None}


async def test_a_client_needs_no_certificate(pki: Pki) -> None:
    """E12, E26: cacerts must work for a device that has nothing yet."""
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        tls = (await ask(port, pki.client()))["tls"]
    assert tls["tls_version"] == 0x0304
    assert tls["client_cert_der"] is None
    assert tls["cipher_suite"] in {0x1301, 0x1302, 0x1303}
    assert "tls_unique" not in tls


async def test_a_client_certificate_reaches_the_scope_as_der(pki: Pki) -> None:
    der = pki.leaf("device")
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        tls = (await ask(port, pki.client("device")))["tls"]
    assert tls["client_cert_der"] == der.hex()


async def test_an_expired_client_certificate_passes_the_handshake_to_be_refused_with_a_sentence(pki: Pki) -> None:
    """E61: the protocol says why; a TLS alert would not."""
    der = pki.leaf("old", end=NOW - timedelta(days=1))
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        assert (await ask(port, pki.client("old")))["tls"]["client_cert_der"] == der.hex()


async def test_a_certificate_of_an_unknown_authority_ends_the_handshake_and_nothing_else(pki: Pki) -> None:
    """E60."""
    pki.leaf("stranger", issuer="elsewhere")
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError, AssertionError)):
            await ask(port, pki.client("stranger"))
        assert (await ask(port, pki.client()))["tls"]["client_cert_der"] is None


async def test_tls_unique_is_told_on_tls_1_2_alone(pki: Pki) -> None:
    """E98, E99: CPython's value on TLS 1.3 is no channel binding."""
    client = pki.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        tls = (await ask(port, client))["tls"]
    assert tls["tls_version"] == 0x0303
    assert len(bytes.fromhex(tls["tls_unique"])) == 12
    assert tls["cipher_suite"] in {0xC02B, 0xC02C, 0xCCA9}


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA384"])
async def test_weak_suites_of_tls_1_2_are_refused(pki: Pki, ciphers: str) -> None:
    """E10."""
    client = pki.client()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        with pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await ask(port, client)


async def test_http_2_is_offered_and_carries_the_facts(pki: Pki) -> None:
    client = pki.client()
    client.set_alpn_protocols(["h2"])
    async with serving(settings(pki.folder), pki.server()) as (port, _, _):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        secure = trio.SSLStream(stream, client, server_hostname="localhost", https_compatible=True)
        await secure.do_handshake()
        assert secure.selected_alpn_protocol() == "h2"
        body = await h2_get(secure)
        await secure.aclose()
    assert body["version"] == "2"
    assert body["tls"]["tls_version"] == 0x0304


async def h2_get(stream: trio.abc.Stream) -> dict[str, object]:
    import h2.connection
    import h2.events

    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    head = [(":method", "GET"), (":path", "/"), (":scheme", "https"), (":authority", "localhost")]
    connection.send_headers(1, head, end_stream=True)
    await stream.send_all(connection.data_to_send())
    body = b""
    while True:
        for event in connection.receive_data(await stream.receive_some()):
            if isinstance(event, h2.events.DataReceived):
                body += event.data
            if isinstance(event, h2.events.StreamEnded):
                facts: dict[str, object] = json.loads(body)
                return facts
        await stream.send_all(connection.data_to_send())


async def test_a_new_context_rules_the_next_connection(pki: Pki) -> None:
    """A catalogue that changed: an authority more to trust, without a restart."""
    pki.leaf("device")
    nobody = server_context(pki.folder / "server.pem", pki.folder / "server.key", ())
    async with serving(settings(pki.folder), nobody) as (port, door, _):
        assert (await ask(port, pki.client("device")))["tls"]["client_cert_der"] is None
        door.context = pki.server()
        assert (await ask(port, pki.client("device")))["tls"]["client_cert_der"] is not None


async def test_a_silent_handshake_is_given_up_and_holds_up_nobody(pki: Pki) -> None:
    async with (
        serving(settings(pki.folder, "[limits]\nhandshake-seconds = 3"), pki.server()) as (port, _, _),
        await trio.open_tcp_stream("127.0.0.1", port) as silent,
    ):
        await ask(port, pki.client())
        with trio.fail_after(15):
            assert await silent.receive_some() == b""


async def test_connections_beyond_the_room_wait_until_there_is_some(tmp_path: Path) -> None:
    async with serving(settings(tmp_path, "[limits]\nconnections = 1")) as (port, _, _):
        first = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.move_on_after(0.2) as waiting:
            await ask(port)
        assert waiting.cancelled_caught
        await first.aclose()
        assert (await ask(port))["scheme"] == "http"


async def test_the_end_closes_idle_connections_and_lets_open_requests_finish(tmp_path: Path) -> None:
    async with serving(settings(tmp_path)) as (port, _, ending):
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as idle,
            await trio.open_tcp_stream("127.0.0.1", port) as busy,
        ):
            await busy.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
            await trio.testing.wait_all_tasks_blocked(0.05)
            ending.set()
            assert await idle.receive_some() == b""
            await busy.send_all(b"cd")
            assert (await busy.receive_some()).startswith(b"HTTP/1.1 200")
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_sockets_that_refuse_end_nothing_that_stands_and_their_address_is_free(tmp_path: Path) -> None:
    """The parent has them refuse before its workers hear that they end."""
    bound = bind("127.0.0.1:0", "--http")
    port = bound[0].getsockname()[1]
    ending = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, tell, settings(tmp_path), [Door(bound[0], 10)], ending)
            async with await trio.open_tcp_stream("127.0.0.1", port) as busy:
                await busy.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
                await trio.testing.wait_all_tasks_blocked(0.05)
                refuse(bound)
                with pytest.raises(OSError, match="all attempts to connect"):
                    await trio.open_tcp_stream("127.0.0.1", port)
                close(bind(f"127.0.0.1:{port}", "--http"))
                await trio.testing.wait_all_tasks_blocked(0.05)  # nobody asks again and again for who cannot come
                await busy.send_all(b"cd")
                assert (await busy.receive_some()).startswith(b"HTTP/1.1 200")
            ending.set()


async def test_garbage_ends_its_own_connection_alone(tmp_path: Path) -> None:
    async with serving(settings(tmp_path)) as (port, _, _):
        for garbage in (
            b"\x00" * 100 + b"\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(garbage)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
        assert (await ask(port))["scheme"] == "http"


def test_a_port_in_use_is_one_sentence_that_names_the_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotStart, match=rf"cannot listen on {address}: the port is in use .* --http HOST:PORT"):
            bind(address, "--http")


def test_an_address_that_this_machine_has_not_is_one_sentence() -> None:
    with pytest.raises(CannotStart, match="this machine has no such address"):
        bind("192.0.2.1:0", "--https")
    with pytest.raises(CannotStart, match="the host name is unknown"):
        bind("no.such.host.invalid:0", "--https")


def test_a_certificate_without_its_key_is_one_sentence(pki: Pki) -> None:
    pki.leaf("other")
    with pytest.raises(CannotStart, match="HTTPS cannot use"):
        server_context(pki.folder / "server.pem", pki.folder / "other.key", ())


def test_files_that_make_no_server_are_one_sentence_each_and_nobody_is_asked_for_a_passphrase(pki: Pki) -> None:
    key = load_pem_private_key((pki.folder / "server.key").read_bytes(), None)
    sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (pki.folder / "sealed.key").write_bytes(sealed)
    (pki.folder / "nonsense").write_text("nonsense")
    require_pair(pki.folder / "server.pem", pki.folder / "server.key")
    for chain, key_file, sentence in (
        ("server.pem", "sealed.key", "it is encrypted"),
        ("server.pem", "none.key", "none.key: No such file"),
        ("none.pem", "server.key", "none.pem: No such file"),
        ("nonsense", "server.key", "not pem"),
    ):
        with pytest.raises(CannotStart, match=sentence) as refusal:
            require_pair(pki.folder / chain, pki.folder / key_file)
        assert "\n" not in str(refusal.value)


def test_a_listeners_url_names_what_clients_can_dial() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert origin("https", "127.0.0.1:0", [one]) == f"https://127.0.0.1:{port}"
        assert origin("https", "[::1]:0", [one]) == f"https://[::1]:{port}"
        assert origin("http", "0.0.0.0:0", [one]) == f"http://{socket.gethostname()}:{port}"
        assert origin("http", "[::]:0", [one], "pki.example.com") == f"http://pki.example.com:{port}"
        assert origin("http", "127.0.0.1:0", [one], "pki.example.com") == f"http://127.0.0.1:{port}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_users_certbot_is_not_sent_to_a_port_of_roots() -> None:
    free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if free.exists() and int(free.read_text()) <= 80:
        pytest.skip("here everybody may listen on port 80")
    assert may_listen(80)
    program = (
        "import os\nfrom gateway.serve.sockets import may_listen\n"
        "os.setuid(65534)\nprint(may_listen(80), may_listen(8088))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert "--acme-http01-port 8088" in privileged(80)


async def test_what_overload_refuses_is_answered_from_its_bytes_and_the_connection_goes_on(tmp_path: Path) -> None:
    """P16: before HTTP is read; what comes between the parts of another request is not looked at."""
    heard: list[tuple[bytes, str, bool]] = []

    class Short:
        def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
            heard.append((data, address, secure))
            if data.startswith(b"POST /full"):
                return b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
            return None

    bound = bind("127.0.0.1:0", "--http")
    door, ending = Door(bound[0], 10), trio.Event()
    full = b"POST /full HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(listen, tell, settings(tmp_path), [door], ending, early=Short()))
        with trio.fail_after(20):
            stream = await trio.open_tcp_stream(*bound[0].getsockname())
            async with stream:
                for _ in range(3):
                    await stream.send_all(full)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 503")
                # The same bytes as a body belong to their request.
                await stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(full))
                await trio.sleep(0.05)
                await stream.send_all(full)
                answer = b""
                while b"}" not in answer:
                    answer += await stream.receive_some()
                assert answer.startswith(b"HTTP/1.1 200")
                await trio.testing.wait_all_tasks_blocked(0.05)  # what comes before a request is over is read as usual
                await stream.send_all(full)
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 503")
        ending.set()
    assert [data[:10] for data, _, _ in heard].count(b"POST /full") == 4
    assert {(address, secure) for _, address, secure in heard} == {("127.0.0.1", False)}


async def test_a_kernel_without_sockets_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """EMFILE ends no listener: when others have gone, the next is accepted."""

    class Full(Door):
        left = 2

        async def _accepted(self) -> socket.socket:
            if self.left:
                self.left -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return await super()._accepted()

    bound = bind("127.0.0.1:0", "--http")
    ending = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(listen, tell, settings(tmp_path), [Full(bound[0], 10)], ending)
        with trio.fail_after(20):
            assert (await ask(bound[0].getsockname()[1]))["scheme"] == "http"
        ending.set()
    assert caplog.text.count("a connection cannot be accepted") == 2


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.ENETUNREACH])
async def test_what_the_network_said_of_one_connection_ends_no_listener(tmp_path: Path, number: int) -> None:
    """accept(2), "Error handling": such errors are to be treated as if nobody had come."""

    class Told(socket.socket):
        left = 2

        def accept(self) -> tuple[socket.socket, object]:
            if self.left:
                self.left -= 1
                raise OSError(number, os.strerror(number))
            return super().accept()

    bound = Told(fileno=bind("127.0.0.1:0", "--http")[0].detach())
    ending = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(listen, tell, settings(tmp_path), [Door(bound, 10)], ending)
        with trio.fail_after(20):
            assert (await ask(bound.getsockname()[1]))["scheme"] == "http"
        ending.set()
    assert bound.left == 0
