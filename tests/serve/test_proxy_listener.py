"""Proxies at the listener: HTTP/2, prefixes that do not come, refusals that are counted, headers that only look alike."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.fronts.endpoint import Answer
from gateway.fronts.exposition import gauge
from gateway.fronts.metrics import metrics_routes
from gateway.fronts.peer import relayed
from gateway.fronts.readers import networks, readers
from gateway.serve.asgi import Answering, Outermost, application
from gateway.serve.listener import Door, listen
from gateway.serve.proxies.believe import Vouched, bare
from gateway.serve.proxies.trusted import trusted
from gateway.serve.settings import load
from gateway.serve.sockets import bind
from gateway.serve.telemetry import Counters
from gateway.serve.tls import server_context
from tests.doubles.house import open_house
from tests.doubles.pki import Pki, new_key
from tests.doubles.programs import installed, run

HAPROXY = {"trusted": "127.0.0.1", "client-certificate": "haproxy"}


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    tls = scope["extensions"].get("tls") or {}
    told = {
        "version": scope["http_version"],
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "relayed": relayed(scope),
        "leaf": (tls.get("client_cert_der") or b"").hex(),
        "left": sorted(name.decode() for name, _ in scope["headers"]),
    }
    text = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@asynccontextmanager
async def listening(
    pki: Pki,
    folder: Path,
    proxies: dict[str, str],
    *,
    https: bool = False,
    app: ASGIApp = tell,
    early: Soon | None = None,
    answering: Answering = bare,
) -> AsyncIterator[int]:
    """A listener that believes those proxies, and its port. A proxy has a second for its prefix."""
    lines = [f'{name} = "{value}"' for name, value in proxies.items()]
    config = folder / "settings.toml"
    config.write_text("\n".join(["[limits]", "handshake-seconds = 1", "[proxies]", *lines, ""]))
    settings = load({}, {}, folder=folder, config=config)
    context = server_context(pki.folder / "server.crt", pki.folder / "server.key", pki.trusted) if https else None
    bound = bind("127.0.0.1:0", "--https" if https else "--http")
    ending = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def serve(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                doors = [Door(bound[0], 10, context)]
                listens = partial(listen, app, settings, doors, ending, issuers=lambda: pki.trusted)
                await listens(early=early, answering=answering, task_status=task_status)  # type: ignore[arg-type]

            await nursery.start(serve)
            yield bound[0].getsockname()[1]
            ending.set()


async def said(port: int, *lines: str, prefix: bytes = b"", path: str = "/", address: str = "127.0.0.1") -> bytes:
    """Everything that is answered to one request from `address`, which is sent in one piece after `prefix`."""
    async with await trio.open_tcp_stream("127.0.0.1", port, local_address=address) as stream:
        head = [f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *lines]
        await stream.send_all(prefix + "\r\n".join([*head, "", ""]).encode("latin-1"))
        answer = b""
        while part := await stream.receive_some():
            answer += part
    return answer


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.leaf("server", "localhost")
    return made


def der_header(certificate: x509.Certificate) -> str:
    return f"X-SSL-Client-DER: {base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()}"


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
async def test_a_proxy_that_speaks_tls_in_turn_says_whose_certificate_it_is(pki, tmp_path: Path, version: str) -> None:
    """E22. Its own certificate, which proves it to this listener, is not the client's."""
    installed("curl")
    device = pki.leaf("device")
    pki.leaf("proxy")
    proxies = HAPROXY | {"terminate-tls": "https", "forwarded": "x-forwarded-for"}
    async with listening(pki, tmp_path, proxies, https=True) as port:
        words = ["curl", "-sS", version, "--cacert", "root.pem", "--cert", "proxy.crt", "--key", "proxy.key"]

        def asked(*lines: str) -> dict[str, str]:
            more = [word for line in (*lines, "X-Forwarded-For: 192.0.2.7") for word in ("-H", line)]
            ran = run(
                *words,
                *more,
                f"https://localhost:{port}/",
                "--resolve",
                f"localhost:{port}:127.0.0.1",
                folder=pki.folder,
            )
            found: dict[str, str] = json.loads(ran.output)
            return found

        with_one = await trio.to_thread.run_sync(asked, der_header(device))
        assert with_one["version"] == ("2" if version == "--http2" else "1.1")
        assert (with_one["client"], with_one["scheme"]) == ("192.0.2.7", "https")
        assert with_one["leaf"] == device.public_bytes(Encoding.DER).hex()
        assert "x-ssl-client-der" not in with_one["left"]
        without = await trio.to_thread.run_sync(asked)
        assert without["leaf"] == ""


@pytest.mark.parametrize(
    ("beginning", "https"),
    [
        (b"", True),
        (b"PROXY TCP4 192.0.2.7 ", True),
        (b"P", False),
        (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f", False),
    ],
)
async def test_a_proxys_prefix_that_does_not_come_ends_the_connection(pki, tmp_path, caplog, beginning, https) -> None:
    proxies = {"trusted": "127.0.0.1", "protocol": "http, https"}
    async with (
        listening(pki, tmp_path, proxies, https=https) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        if beginning:
            await stream.send_all(beginning)
        with suppress(trio.BrokenResourceError):  # bytes that nobody read make it a reset
            assert await stream.receive_some() == b""
    assert "a proxy's connection was refused" in caplog.messages


class Soon:
    """Tells everybody to come later, and remembers whom."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def behind_tls(self) -> Soon:
        return self

    def answer(self, data: bytes, address: str, *, secure: bool) -> bytes | None:
        self.asked.append(address)
        return b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("forwarded", [False, True])
async def test_overload_is_told_early_where_the_connection_says_whose_it_is(pki, tmp_path, forwarded: bool) -> None:
    """P16. Where the address stands in a header, a connection is everybody's, and nothing is told before it is read."""
    early = Soon()
    proxies = HAPROXY | {"terminate-tls": "http", "protocol": "http"}
    if forwarded:
        proxies["forwarded"] = "x-forwarded-for"
    prefix = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
    async with (
        listening(pki, tmp_path, proxies, early=early) as port,
        await trio.open_tcp_stream("127.0.0.1", port) as stream,
    ):
        await stream.send_all(prefix + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await stream.receive_some()
    assert early.asked == ([] if forwarded else ["192.0.2.7"])
    assert answer.startswith(b"HTTP/1.1 200 " if forwarded else b"HTTP/1.1 503 ")


async def test_a_stranger_is_not_waited_for_and_its_prefix_is_no_tls(pki: Pki, tmp_path: Path) -> None:
    proxies = {"trusted": "192.0.2.1", "protocol": "https"}
    async with listening(pki, tmp_path, proxies, https=True) as port:
        answer = await said(port, prefix=b"PROXY TCP4 10.0.0.1 198.51.100.1 4711 443\r\n")
    assert b"HTTP" not in answer
    assert answer[:1] in {b"", b"\x15"}  # an alert (RFC 8446, 5.1)


LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
PREFIXED = {"trusted": "127.0.0.1", "protocol": "http, https"}


@asynccontextmanager
async def figures(folder: Path, setting: str = "loopback") -> AsyncIterator[ASGIApp]:
    """An application that has nothing but `/metrics`, for those whom the setting names."""
    async with open_house(folder) as house:

        async def measured():
            return [gauge("muster_one", "One.", (1, {}))]

        house.set_front(measures=measured, readers=readers(setting))
        yield application(metrics_routes(house.front), Counters())


@pytest.mark.parametrize("prefix", [b"PROXY UNKNOWN\r\n", LOCAL, b"PROXY TCP4 127.0.0.1 127.0.0.1 4711 80\r\n"])
async def test_figures_are_not_for_whoever_comes_through_a_proxy(pki: Pki, tmp_path: Path, prefix: bytes) -> None:
    """Whether the proxy says a name or none: on its own machine everybody who comes through it would be loopback."""
    for setting, status in (("loopback", 404), ("127.0.0.0/8", 404), ("on", 200)):
        async with (
            figures(tmp_path, setting) as app,
            listening(pki, tmp_path, PREFIXED, app=app) as port,
        ):
            answer = await said(port, path="/metrics", prefix=prefix)
        assert answer.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("proxies", "address"),
    [(PREFIXED, "127.0.0.2"), ({"trusted": "127.0.0.1", "forwarded": "x-forwarded-for"}, "127.0.0.1")],
)
async def test_whoever_reads_figures_past_the_proxy_may_go_on(pki: Pki, tmp_path: Path, proxies, address: str) -> None:
    async with (
        figures(tmp_path) as app,
        listening(pki, tmp_path, proxies, app=app) as port,
    ):
        answer = await said(port, path="/metrics", address=address)
    assert answer.startswith(b"HTTP/1.1 200 ")


def asked_through(pki: Pki, port: int, how: str, *more: str, https: bool) -> str:
    """What curl is answered, which begins with the PROXY protocol and says the address that it has itself."""
    scheme, host = ("https", "localhost") if https else ("http", "127.0.0.1")
    words = ["curl", "-sS", how, "--haproxy-protocol", "--cacert", "root.pem", "-H", "X-Forwarded-Proto: http"]
    where = ("--resolve", f"localhost:{port}:127.0.0.1", f"{scheme}://{host}:{port}")
    return run(*words, *where[:2], where[2] + "/metrics", *more, folder=pki.folder).text


DOORS = pytest.mark.parametrize(("how", "https"), [("--http1.1", False), ("--http1.1", True), ("--http2", True)])


@DOORS
async def test_a_header_that_makes_a_request_plain_opens_no_figures_through_a_proxy(pki, tmp_path, how, https) -> None:
    """Plain HTTP is what a proxy that ends TLS says it was."""
    installed("curl")
    for setting, status in (("loopback", "404"), ("on", "200")):
        async with (
            figures(tmp_path, setting) as app,
            listening(pki, tmp_path, PREFIXED | {"terminate-tls": "http, https"}, https=https, app=app) as port,
        ):
            asked = partial(asked_through, pki, port, how, "-o", "answer", "-w", "%{http_code}", https=https)
            assert await trio.to_thread.run_sync(asked) == status


@DOORS
@pytest.mark.parametrize("heard", [False, True])
async def test_whatever_is_spoken_a_connection_with_a_prefix_is_known(pki, tmp_path, how, https, heard: bool) -> None:
    installed("curl")
    proxies = PREFIXED | ({"terminate-tls": "http, https"} if heard else {})
    async with listening(pki, tmp_path, proxies, https=https) as port:
        told = json.loads(await trio.to_thread.run_sync(partial(asked_through, pki, port, how, https=https)))
    assert told["relayed"]
    assert told["version"] == ("2" if how == "--http2" else "1.1")


async def test_a_connection_without_a_prefix_is_not_taken_for_a_relayed_one(pki: Pki, tmp_path: Path) -> None:
    heard = {"trusted": "127.0.0.1", "forwarded": "x-forwarded-for"}
    for proxies, address in ((PREFIXED, "127.0.0.2"), (heard, "127.0.0.1"), (heard, "127.0.0.2")):
        async with listening(pki, tmp_path, proxies) as port:
            told = json.loads((await said(port, address=address)).partition(b"\r\n\r\n")[2])
        assert not told["relayed"]


async def test_what_is_refused_at_the_door_is_counted_and_logged(pki: Pki, tmp_path: Path, caplog) -> None:
    counters = Counters()
    caplog.set_level(logging.INFO, "muster.proxies")
    proxies = HAPROXY | {"terminate-tls": "http"}
    outermost = Outermost(tell, counters)

    def answering(answer: Answer) -> ASGIApp:
        return outermost.around(bare(answer))

    async with listening(pki, tmp_path, proxies, app=outermost, answering=answering) as port:
        stranger = Pki(tmp_path / "other").leaf("device")
        assert (await said(port, der_header(stranger))).startswith(b"HTTP/1.1 403 ")
        assert (await said(port, "X-SSL-Client-DER: %")).startswith(b"HTTP/1.1 400 ")
        assert (await said(port)).startswith(b"HTTP/1.1 200 ")
    assert counters.answers == {403: 1, 400: 1, 200: 1}
    refused = [each for each in caplog.records if each.message == "what a proxy said of a client is not believed"]
    assert [each.status for each in refused] == [403, 400]
    assert len({each.request for each in refused}) == 2


@pytest.mark.parametrize(
    "name", ["X_SSL_Client_DER", "x-ssl-client_der", "X-SSL-Client-DER-", "XSSL-Client-DER", "HTTP_X_SSL_CLIENT_DER"]
)
async def test_a_header_that_only_looks_alike_is_nobodys_word(pki: Pki, tmp_path: Path, name: str) -> None:
    """Names are compared as they are: no gateway interface makes a hyphen of an underscore here, as CGI's did."""
    device = pki.leaf("device")
    line = der_header(device).replace("X-SSL-Client-DER", name, 1)
    async with listening(pki, tmp_path, HAPROXY | {"terminate-tls": "http"}) as port:
        body = (await said(port, line)).partition(b"\r\n\r\n")[2]
    assert json.loads(body)["leaf"] == ""


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("{0}, {0}",), 400),  # two field lines of which a proxy made one (RFC 9110, 5.3)
        (("{0}", "{0}"), 400),
        (("{0}" + "A" * 40_000,), 400),
        (("{0}" + "A" * 80_000,), 431),
    ],
)
async def test_a_header_that_is_two_or_too_large_is_refused(pki: Pki, tmp_path: Path, lines, status: int) -> None:
    value = base64.b64encode(pki.leaf("device").public_bytes(Encoding.DER)).decode()
    async with listening(pki, tmp_path, HAPROXY | {"terminate-tls": "http"}) as port:
        answer = await said(port, *(f"X-SSL-Client-DER: {line.format(value)}" for line in lines))
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_certificate_that_nobody_can_read_is_not_vouched_for(pki: Pki) -> None:
    """Strange as they may be, made by whoever likes: none of them is a failure of the gateway's."""
    key, name = new_key("ecdsa"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device")])
    now = datetime.now(UTC)
    alternative = x509.SubjectAlternativeName([x509.DNSName("a")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(pki.issuing.subject).public_key(key.public_key())
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1)).serial_number(7)
    good = builder.add_extension(alternative, critical=False).add_extension(
        x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.2.3")]), critical=False
    )
    made = good.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    twice = made.replace(bytes.fromhex("0603551d25"), bytes.fromhex("0603551d11"))  # extendedKeyUsage by another name
    assert twice != made
    with pytest.raises(x509.DuplicateExtension):
        _ = x509.load_der_x509_certificate(twice).extensions
    vouched = Vouched(lambda: pki.trusted)
    assert not vouched.by_an_issuer(twice)
    assert not vouched.by_an_issuer(made)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("::ffff:10.0.0.5", ("10.0.0.5/32",)),
        ("::ffff:10.0.0.0/104, 192.0.2.1", ("10.0.0.0/8", "192.0.2.1/32")),
        ("::/0", ("::/0",)),
        ("2001:db8::1", ("2001:db8::1/128",)),
    ],
)
def test_ipv4_in_ipv6s_clothes_is_ipv4(tmp_path: Path, said: str, meant: Sequence[str]) -> None:
    """A socket that listens on both has its IPv4 peers so; whoever copies such an address means the same peer."""
    assert networks(said) == tuple(ip_network(each) for each in meant)
    config = tmp_path / "settings.toml"
    config.write_text(f'[proxies]\ntrusted = "{said}"\nprotocol = "http"\n')
    found = trusted(load({}, {}, folder=tmp_path, config=config), https=False)
    assert found is not None
    if "10.0.0.5" in said:
        assert found.ours_by_name("10.0.0.5")
        assert found.ours_by_name("::ffff:10.0.0.5")
