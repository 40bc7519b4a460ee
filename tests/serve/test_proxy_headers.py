"""Headers of proxies: addresses, certificates, who is believed and who is not (E22)."""

from __future__ import annotations

import base64
import json
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from gateway.serve.listener import Door, listen
from gateway.serve.proxies import hops
from gateway.serve.proxies.believe import REMEMBERED, Vouched
from gateway.serve.proxies.forms import FORMS, MOST, MOST_DER, STRIPPED, BadForm
from gateway.serve.proxies.hops import BadHop
from gateway.serve.proxies.trusted import trusted
from gateway.serve.refusal import CannotStart
from gateway.serve.settings import Settings, load
from gateway.serve.sockets import bind
from tests.doubles.pki import Pki

OURS = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))


def ours(address: object) -> bool:
    return any(address in each for each in OURS)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], None),
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["198.51.100.9, 192.0.2.7"], "192.0.2.7"),
        (["evil, 192.0.2.7, 10.0.0.1,10.1.1.1"], "192.0.2.7"),
        (["198.51.100.9", "192.0.2.7", "10.0.0.1"], "192.0.2.7"),
        (["10.0.0.9, 10.0.0.1"], "10.0.0.9"),
        (["192.0.2.7, unknown, 10.0.0.1"], "10.0.0.1"),
        (["unknown"], None),
        ([", ".join(["192.0.2.7", *["10.0.0.1"] * 20])], "10.0.0.1"),
    ],
)
def test_x_forwarded_for_names_the_right_most_hop_that_is_not_ours(lines: list[str], client: str | None) -> None:
    assert hops.by_x_forwarded_for(lines, ours) == client


@pytest.mark.parametrize(
    "line", ["", "x", "192.0.2", "192.0.2.7:", "192.0.2.7:x", "[::1", "[::1]1", "fe80::1%eth0", "1" * 5000]
)
def test_a_hop_of_ours_that_says_no_address_is_refused(line: str) -> None:
    with pytest.raises(BadHop):
        hops.by_x_forwarded_for([line], ours)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=192.0.2.7"], "192.0.2.7"),
        (['For="[2001:db8::7]:4711";proto=http;by=203.0.113.43'], "2001:db8::7"),
        (['for="192.0.2.7:4711", for=10.0.0.1'], "192.0.2.7"),
        (["for=198.51.100.9", "for=192.0.2.7"], "192.0.2.7"),
        (['for="_hidden", for=10.0.0.1'], "10.0.0.1"),
        (["for=unknown"], None),
        (["proto=https"], None),
        (['secret="a,b;c\\"for=1.2.3.4";for=192.0.2.7'], "192.0.2.7"),
        (["for=192.0.2.7;"], "192.0.2.7"),
    ],
)
def test_forwarded_names_it_too(lines: list[str], client: str | None) -> None:
    """RFC 7239, 4 and 6."""
    assert hops.by_forwarded(lines, ours) == client


@pytest.mark.parametrize(
    "line",
    [
        'for="',
        'for="x, for=192.0.2.7',
        "for=[::1]",
        "for=192.0.2.7;for=192.0.2.8",
        "for 192.0.2.7",
        "=1",
        "for=192.0.2.7 for=192.0.2.8",
        "x" * 5000,
    ],
)
def test_what_is_no_forwarded_header_is_refused(line: str) -> None:
    with pytest.raises(BadHop):
        hops.by_forwarded([line], ours)


@given(st.lists(st.text(max_size=60), max_size=4), st.ip_addresses(v=4))
def test_nothing_that_a_client_says_further_left_changes_the_address(said: list[str], address) -> None:
    if ours(address):
        return
    lines = [*(each.encode("latin-1", "replace").decode("latin-1") for each in said), str(address)]
    assert hops.by_x_forwarded_for([", ".join(lines)], ours) == str(address)
    assert hops.by_x_forwarded_for(lines, ours) == str(address)


@given(st.text(alphabet='for=;,"\\ 1.:[]_x', max_size=40))
def test_whatever_a_forwarded_header_says_it_is_an_address_or_refused(said: str) -> None:
    for parse in (hops.by_forwarded, hops.by_x_forwarded_for):
        try:
            found = parse([said], ours)
        except BadHop:
            continue
        assert found is None or str(ip_address(found)) == found


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def leaf(pki: Pki) -> x509.Certificate:
    return pki.leaf("device")


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def said(form: str, certificate: x509.Certificate) -> str:
    """As that proxy writes it."""
    plain = base64.b64encode(der(certificate)).decode()
    match form:
        case "rfc9440":
            return f":{plain}:"
        case "nginx" | "ingress-nginx":
            return quote(pem(certificate), safe="-_.!~*'()")
        case "haproxy":
            return plain
        case "traefik":
            return quote(f"{plain},{plain}", safe="")
        case _:
            cert = quote(pem(certificate), safe="")
            return f'Hash={"a" * 64};Cert="{cert}";Subject="CN=a,O=\\"b; c\\"";URI='


@pytest.mark.parametrize("form", FORMS)
def test_each_proxys_form_is_read(form: str, leaf: x509.Certificate) -> None:
    assert FORMS[form].read(said(form, leaf)) == der(leaf)


@pytest.mark.parametrize("form", [each for each in FORMS if each != "rfc9440"])
def test_an_empty_header_means_no_certificate(form: str) -> None:
    """nginx leaves it out; HAProxy and Envoy may not."""
    assert FORMS[form].read("") is None


@pytest.mark.parametrize(
    ("form", "value"),
    [
        ("rfc9440", ""),
        ("rfc9440", "AAAA"),
        ("rfc9440", "::"),
        ("rfc9440", ":A A:"),
        ("rfc9440", ":AAAA:, :AAAA:"),
        ("rfc9440", f":{'A' * (MOST + 4)}:"),
        ("rfc9440", f":{base64.b64encode(bytes(MOST_DER + 1)).decode()}:"),
        ("nginx", "x"),
        ("nginx", "%2D----BEGIN CERTIFICATE-----!-----END CERTIFICATE-----"),
        ("nginx", "-----BEGIN CERTIFICATE-----AAAA-----END CERTIFICATE-----x"),
        ("nginx", "%2D" * MOST),
        ("haproxy", "%%%"),
        ("haproxy", "\xff"),
        ("traefik", ","),
        ("traefik", "%ff%fe"),
        ("envoy", "Hash=abc"),
        ("envoy", "Cert=x"),
        ("envoy", 'Cert="x'),
        ("envoy", "Hash=a,Hash=b"),
    ],
)
def test_what_is_in_another_form_is_refused(form: str, value: str) -> None:
    with pytest.raises(BadForm):
        FORMS[form].read(value)


def test_an_envoy_that_appends_is_told_to_replace(leaf: x509.Certificate) -> None:
    one = said("envoy", leaf)
    for value in (f"{one},{one}", f'{one};Cert="{quote(pem(leaf), safe="")}"'):
        with pytest.raises(BadForm):
            FORMS["envoy"].read(value)


@given(st.sampled_from(sorted(FORMS)), st.text(alphabet=st.characters(max_codepoint=255), max_size=80))
def test_whatever_a_header_says_it_is_bytes_nothing_or_refused(form: str, value: str) -> None:
    try:
        found = FORMS[form].read(value)
    except BadForm:
        return
    assert found is None or 0 < len(found) <= MOST_DER


def test_only_what_a_trusted_authority_issued_for_clients_is_vouched_for(pki: Pki, tmp_path: Path) -> None:
    """As a handshake would judge it: E60; an expired one passes, to be refused with a sentence (E61)."""
    trust = set(pki.trusted)
    vouched = Vouched(lambda: frozenset(trust))
    stranger = Pki(tmp_path)
    assert vouched.by_an_issuer(der(pki.leaf("good")))
    assert vouched.by_an_issuer(der(pki.leaf("anything", purposes=())))
    assert vouched.by_an_issuer(der(pki.leaf("old", days=-1)))
    assert not vouched.by_an_issuer(der(stranger.leaf("same-name-of-issuer")))
    assert not vouched.by_an_issuer(der(pki.leaf("server", purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))))
    assert not vouched.by_an_issuer(der(pki.issuing))
    assert not vouched.by_an_issuer(der(pki.root))
    good = der(pki.leaf("good"))
    assert not vouched.by_an_issuer(good + b"\0")
    assert not vouched.by_an_issuer(b"\x30\x00")
    assert vouched.by_an_issuer(good)
    trust.clear()
    assert not vouched.by_an_issuer(good)


def test_judgements_are_remembered_within_a_bound(pki: Pki) -> None:
    vouched = Vouched(lambda: pki.trusted)
    for number in range(REMEMBERED + 10):
        assert not vouched.by_an_issuer(number.to_bytes(4, "big"))
    assert len(vouched._known) == REMEMBERED


def settings(folder: Path, **proxies: str) -> Settings:
    lines = [f'{name.replace("_", "-")} = "{value}"' for name, value in proxies.items()]
    path = folder / "settings.toml"
    path.write_text("\n".join(["[proxies]", *lines]) + "\n")
    return load({}, {}, folder=folder, config=path)


@pytest.mark.parametrize(
    "proxies",
    [
        {"protocol": "http"},
        {"terminate_tls": "http"},
        {"client_certificate": "nginx"},
        {"forwarded": "forwarded"},
        {"trusted": "127.0.0.1", "client_certificate": "nginx"},
        {"trusted": "somewhere"},
        {"trusted": "127.0.0.1", "protocol": "smtp"},
        {"trusted": "127.0.0.1", "forwarded": "x-real-ip"},
        {"trusted": "127.0.0.1", "terminate_tls": "http", "client_certificate": "apache"},
    ],
)
def test_settings_that_believe_nobody_or_nothing_known_are_refused(tmp_path: Path, proxies: dict[str, str]) -> None:
    with pytest.raises(CannotStart, match="proxies"):
        trusted(settings(tmp_path, **proxies), https=False)


def test_what_a_proxy_passes_through_is_the_clients_own(tmp_path: Path) -> None:
    """TLS that is not ended at the proxy carries headers that the proxy has never seen."""
    everything = {
        "trusted": "127.0.0.1",
        "protocol": "https",
        "terminate_tls": "http",
        "client_certificate": "nginx",
        "forwarded": "x-forwarded-for",
    }
    found = trusted(settings(tmp_path, **everything), https=True)
    assert found is not None
    assert found.prefixed
    assert not found.heard
    assert found.form is None
    plain = trusted(settings(tmp_path, **everything), https=False)
    assert plain is not None
    assert plain.heard
    assert plain.form is FORMS["nginx"]
    passed = trusted(settings(tmp_path, trusted="::1", protocol="http", forwarded="forwarded"), https=False)
    assert passed is not None
    assert not passed.heard
    assert passed.ours_by_name("::1")
    assert not passed.ours_by_name("/a/socket")


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    tls = scope["extensions"].get("tls")
    told = {
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "leaf": None if tls is None else (tls["client_cert_der"] or b"").hex(),
        "left": sorted(name.decode() for name, _ in scope["headers"]),
    }
    text = json.dumps(told).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


async def asked(told: Settings, pki: Pki, *lines: str, prefix: bytes = b"") -> tuple[int, dict[str, object]]:
    """One request over plain HTTP with these header lines: its status, and what the application was told."""
    bound = bind("127.0.0.1:0", "--http")
    ending = trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await listen(tell, told, [Door(bound[0], 10)], ending, issuers=lambda: pki.trusted, task_status=task_status)

        await nursery.start(serve)
        with trio.fail_after(20):
            async with await trio.open_tcp_stream(*bound[0].getsockname()[:2]) as stream:
                head = ["GET / HTTP/1.1", "Host: x", "Connection: close", *lines]
                await stream.send_all(prefix + "\r\n".join([*head, "", ""]).encode("latin-1"))
                answer = b""
                while part := await stream.receive_some():
                    answer += part
        ending.set()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


NGINX = {"trusted": "127.0.0.1", "terminate_tls": "http", "client_certificate": "nginx", "forwarded": "x-forwarded-for"}


async def test_a_proxy_is_believed_and_everything_else_taken_out(pki: Pki, leaf: x509.Certificate, tmp_path) -> None:
    told = settings(tmp_path, **NGINX)
    others = [
        f"{name.decode().title()}: x" for name in STRIPPED if name not in {b"x-ssl-client-cert", b"x-ssl-client-verify"}
    ]
    status, found = await asked(
        told,
        pki,
        f"X-SSL-Client-Cert: {said('nginx', leaf)}",
        "X-SSL-Client-Verify: SUCCESS",
        "X-Forwarded-For: 198.51.100.9, 192.0.2.7",
        "X-Forwarded-Proto: https",
        *others,
    )
    assert status == 200
    assert found["client"] == "192.0.2.7"
    assert found["scheme"] == "https"
    assert found["leaf"] == der(leaf).hex()
    assert not {name.encode() for name in found["left"]} & STRIPPED


@pytest.mark.parametrize("form", FORMS)
async def test_somebody_elses_header_is_stripped_and_never_believed(pki: Pki, leaf, tmp_path: Path, form: str) -> None:
    """E22."""
    header = f"{FORMS[form].header.decode()}: {said(form, leaf)}"
    everything = {**NGINX, "client_certificate": form, "trusted": "192.0.2.0/24"}
    for told in (settings(tmp_path, **everything), settings(tmp_path)):
        status, found = await asked(told, pki, header, "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https")
        assert status == 200
        assert found["client"] == "127.0.0.1"
        assert found["scheme"] == "http"
        assert found["leaf"] is None
        assert not {name.encode() for name in found["left"]} & STRIPPED


async def test_a_proxys_silence_means_no_certificate_and_its_plain_requests_are_plain(pki: Pki, leaf, tmp_path) -> None:
    told = settings(tmp_path, **NGINX)
    header = f"X-SSL-Client-Cert: {said('nginx', leaf)}"
    _, silent = await asked(told, pki)
    assert (silent["scheme"], silent["leaf"], silent["client"]) == ("https", "", "127.0.0.1")
    _, none = await asked(told, pki, header, "X-SSL-Client-Verify: NONE")
    assert none["leaf"] == ""
    for proto in ("http", "https, http", "HTTP"):
        _, plain = await asked(told, pki, header, f"X-Forwarded-Proto: {proto}")
        assert (plain["scheme"], plain["leaf"]) == ("http", None)


async def test_no_header_makes_https_of_a_listener_where_the_proxy_does_not_end_tls(pki: Pki, leaf, tmp_path) -> None:
    told = settings(tmp_path, trusted="127.0.0.1", forwarded="forwarded")
    header = f"X-SSL-Client-Cert: {said('nginx', leaf)}"
    _, found = await asked(told, pki, header, "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.7;proto=https")
    assert (found["scheme"], found["leaf"], found["client"]) == ("http", None, "192.0.2.7")


async def test_what_a_handshake_would_refuse_is_refused_with_a_sentence(pki: Pki, leaf, tmp_path: Path) -> None:
    told = settings(tmp_path, **NGINX)
    header = f"X-SSL-Client-Cert: {said('nginx', leaf)}"
    stranger = Pki(tmp_path / "other").leaf("device")
    for status, lines, word in [
        (403, [f"X-SSL-Client-Cert: {said('nginx', stranger)}"], "no authority"),
        (403, [header, "X-SSL-Client-Verify: FAILED:certificate has expired"], "could not verify"),
        (400, [header, header], "twice"),
        (400, [header, "X-SSL-Client-Verify: SUCCESS", "X-SSL-Client-Verify: SUCCESS"], "twice"),
        (400, ["X-SSL-Client-Cert: garbage"], "not PEM"),
        (400, ["X-Forwarded-For: nonsense"], "x-forwarded-for"),
    ]:
        found, problem = await asked(told, pki, *lines)
        assert found == status
        assert word in str(problem["detail"])


async def test_the_proxy_protocol_gives_the_address_and_headers_add_what_is_believed(pki: Pki, leaf, tmp_path) -> None:
    told = settings(tmp_path, trusted="127.0.0.1", protocol="http", terminate_tls="http", client_certificate="haproxy")
    prefix = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
    _, found = await asked(told, pki, f"X-SSL-Client-DER: {said('haproxy', leaf)}", prefix=prefix)
    assert (found["scheme"], found["leaf"], found["client"]) == ("https", der(leaf).hex(), "192.0.2.7")
    passed = settings(tmp_path, trusted="127.0.0.1", protocol="http", forwarded="x-forwarded-for")
    _, own = await asked(passed, pki, "X-Forwarded-For: 203.0.113.9", prefix=prefix)
    assert (own["scheme"], own["client"]) == ("http", "192.0.2.7")


async def test_a_stranger_who_begins_with_a_proxy_header_is_misunderstood(pki: Pki, tmp_path: Path) -> None:
    """E22: the bytes are HTTP's, which refuses them."""
    prefix = b"PROXY TCP4 10.0.0.1 198.51.100.1 4711 443\r\n"
    bound = bind("127.0.0.1:0", "--http")
    ending = trio.Event()
    told = settings(tmp_path, trusted="192.0.2.1", protocol="http")
    async with trio.open_nursery() as nursery:
        await nursery.start(listen, tell, told, [Door(bound[0], 10)], ending)
        with trio.fail_after(20):
            async with await trio.open_tcp_stream(*bound[0].getsockname()[:2]) as stream:
                await stream.send_all(prefix + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while part := await stream.receive_some():
                    answer += part
        ending.set()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
