"""http-01 (RFC 8555, 8.3; RFC 8738, 4) against real servers on loopback: A66, A69, A73, A76."""

import datetime as dt
import ipaddress
import os
import ssl

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.outbound.challenges import Fault, Http01, Target, Unproven
from gateway.outbound.resolver import NameResolver, ResolutionFailed
from tests.doubles.webserver import plain, webserver

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
LOOPBACK = ("127.0.0.0/8", "::1/128")
PATH = f"/.well-known/acme-challenge/{TOKEN}"
GOOD = plain(KEY_AUTHORIZATION.encode())


class Names:
    """A resolver with a table; the n-th look-up of a name gives its n-th row, the last one from then on."""

    def __init__(self, **table):
        self._table = {name.replace("_", "."): list(rows) for name, rows in table.items()}

    async def addresses(self, name, servers):
        rows = self._table[name]
        found = rows.pop(0) if len(rows) > 1 else rows[0]
        if isinstance(found, ResolutionFailed):
            raise found
        return tuple(map(ipaddress.ip_address, found))


def target(port, host="127.0.0.1", allowed=LOOPBACK):
    return Target(host, TOKEN, KEY_AUTHORIZATION, port, allowed, ())


def http01(resolver=None):
    return Http01(resolver or NameResolver(os.urandom))


async def prove(server, host="127.0.0.1", **named):
    return await http01(named.pop("resolver", None)).prove(target(server.port, host, **named))


async def failure(server, host="127.0.0.1", **named):
    with pytest.raises(Unproven) as raised:
        await prove(server, host, **named)
    return raised.value


async def test_the_key_authorization_at_its_place_is_the_proof():
    async with webserver(lambda path: GOOD if path == PATH else plain(b"", status="404 Not Found")) as server:
        evidence = await prove(server)
    assert evidence.hops == (f"http://127.0.0.1:{server.port}{PATH} at 127.0.0.1",)


async def test_the_request_is_a_small_plain_get_that_keeps_nothing_open():
    async with webserver(GOOD) as server:
        await prove(server, "localhost", resolver=Names(localhost=[["127.0.0.1"]]))
    (head,) = server.seen
    lines = head.split("\r\n")
    assert lines[0] == f"GET {PATH} HTTP/1.1"
    assert f"Host: localhost:{server.port}" in lines
    assert "Connection: close" in lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t\n\n", b""])
async def test_white_space_at_the_end_is_no_part_of_it(end):
    async with webserver(plain(KEY_AUTHORIZATION.encode() + end)) as server:
        await prove(server)


async def test_a_byte_order_mark_is_no_part_of_it():
    async with webserver(plain(b"\xef\xbb\xbf" + KEY_AUTHORIZATION.encode())) as server:
        await prove(server)


@pytest.mark.parametrize(
    "body",
    [b"", b" " + KEY_AUTHORIZATION.encode(), KEY_AUTHORIZATION.encode()[:-1], KEY_AUTHORIZATION.swapcase().encode(),
     TOKEN.encode(), KEY_AUTHORIZATION.encode() + b"\nmore"],
)  # fmt: skip
async def test_anything_else_is_no_proof_and_is_not_shown(body):
    async with webserver(plain(body)) as server:
        failed = await failure(server)
    assert (failed.fault, failed.passing) == (Fault.UNAUTHORIZED, False)
    assert not body.strip() or body.decode() not in failed.detail


@pytest.mark.parametrize("status", ["201 Created", "204 No Content", "304 Not Modified", "404 Not Found", "403 No"])
async def test_only_status_200_counts(status):
    async with webserver(plain(KEY_AUTHORIZATION.encode(), status=status)) as server:
        failed = await failure(server)
    assert (failed.fault, failed.passing) == (Fault.UNAUTHORIZED, False)
    assert failed.evidence.hops


async def test_a_servers_own_trouble_may_pass():
    # A64: a proxy whose backend restarts.
    async with webserver(plain(b"", status="503 Service Unavailable")) as server:
        assert (await failure(server)).passing


async def test_a_body_without_a_length_ends_with_the_connection():
    async with webserver(b"HTTP/1.0 200 OK\r\n\r\n" + KEY_AUTHORIZATION.encode()) as server:
        await prove(server)


async def test_a_chunked_body_is_read():
    half = KEY_AUTHORIZATION.encode()[:40], KEY_AUTHORIZATION.encode()[40:]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in half) + b"0\r\n\r\n"
    async with webserver(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks) as server:
        await prove(server)


async def test_a_body_that_is_cut_off_is_no_answer():
    async with webserver(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + KEY_AUTHORIZATION.encode()) as server:
        failed = await failure(server)
    assert (failed.fault, failed.passing) == (Fault.CONNECTION, True)


async def test_a_body_without_end_is_left_at_its_cap():
    sent = 0

    async def flood(_, stream):
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 4096)
            sent += 4096

    async with webserver(flood) as server:
        failed = await failure(server)
    assert failed.fault is Fault.UNAUTHORIZED
    assert "128" in failed.detail
    assert sent < 50_000_000  # what fits into the sockets' buffers, and no more


@pytest.mark.parametrize("line", [b"X-Header: " + b"x" * 1000 + b"\r\n", b"X: " + b"y" * 100_000])
async def test_a_head_without_end_is_left(line):
    async def flood(_, stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\n")
        while True:
            await stream.send_all(line)

    async with webserver(flood) as server:
        failed = await failure(server)
    assert failed.fault is Fault.CONNECTION


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x16\x03\x01\x00\x00", b"HTTP/9.9 ??\r\n\r\n"])
async def test_what_is_not_http_is_said_so_without_being_shown(said):
    async with webserver(said) as server:
        failed = await failure(server)
    assert failed.fault is Fault.CONNECTION
    assert "SSH" not in failed.detail


async def test_a_server_that_hangs_up_may_have_been_starting():
    async with webserver(b"") as server:
        assert (await failure(server)).passing


async def test_an_interim_answer_is_refused():
    async with webserver(b"HTTP/1.1 103 Early Hints\r\n\r\n" + GOOD) as server:
        assert (await failure(server)).fault is Fault.CONNECTION


async def test_nobody_listening_is_a_connection_fault_that_may_pass():
    async with webserver(GOOD) as server:
        port = server.port
    with pytest.raises(Unproven) as raised:
        await http01().prove(target(port))
    assert (raised.value.fault, raised.value.passing) == (Fault.CONNECTION, True)


async def test_a_slow_body_is_cancelled_by_the_callers_deadline():
    async def drip(_, stream):
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n")
        for character in KEY_AUTHORIZATION:
            await stream.send_all(character.encode())
            await trio.sleep(0.05)

    async with webserver(drip) as server:
        with trio.move_on_after(0.2) as scope:
            await prove(server)
    assert scope.cancelled_caught


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_a_private_address_is_never_dialled(address):
    # A73: with no network allowed, a name that leads inside proves nothing, and its address is not told.
    async with webserver(GOOD) as server:
        failed = await failure(server, "inside.example", allowed=(), resolver=Names(inside_example=[[address]]))
    assert failed.fault is Fault.CONNECTION
    assert server.seen == []
    assert address not in failed.detail


async def test_an_address_as_identifier_is_under_the_same_rule():
    async with webserver(GOOD) as server:
        failed = await failure(server, "127.0.0.1", allowed=("10.0.0.0/8",))
    assert server.seen == []
    assert failed.fault is Fault.CONNECTION


async def test_the_address_that_was_checked_is_the_one_that_is_dialled():
    # DNS rebinding: a second look-up, if there were one, would lead somewhere else.
    names = Names(rebind_example=[["127.0.0.1"], ["10.0.0.1"]])
    async with webserver(GOOD) as server:
        await prove(server, "rebind.example", resolver=names)


async def test_a_name_without_address_is_a_dns_fault():
    gone = ResolutionFailed("there is no name x.example", passing=False)
    async with webserver(GOOD) as server:
        failed = await failure(server, "x.example", resolver=Names(x_example=[gone]))
    assert (failed.fault, failed.passing) == (Fault.DNS, False)


async def test_ipv6_is_tried_first():
    names = Names(both_example=[["127.0.0.1", "::1"]])
    async with webserver(GOOD, host="::1") as six:
        evidence = await prove(six, "both.example", resolver=names)
    assert evidence.hops[0].endswith("at ::1")


async def test_ipv4_is_the_one_fallback():
    names = Names(both_example=[["::1", "127.0.0.1"]])
    async with webserver(GOOD) as four:
        evidence = await prove(four, "both.example", resolver=names)
    assert evidence.hops[0].endswith("at 127.0.0.1")


async def test_a_forbidden_ipv6_address_leaves_the_ipv4_one():
    names = Names(both_example=[["::1", "127.0.0.1"]])
    async with webserver(GOOD) as four:
        await prove(four, "both.example", resolver=names, allowed=("127.0.0.0/8",))


async def test_an_ipv6_identifier_is_bracketed_in_the_url_and_the_host():
    # A69; RFC 8738, 4.
    async with webserver(GOOD, host="::1") as server:
        evidence = await prove(server, "::1")
    assert evidence.hops[0].startswith(f"http://[::1]:{server.port}/")
    assert f"Host: [::1]:{server.port}\r\n" in server.seen[0]


def redirect(location, status="302 Found"):
    return plain(b"", status=status, headers=(f"Location: {location}",))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
async def test_redirects_are_followed(status):
    async with webserver(lambda path: GOOD if path == "/proof?a=b" else redirect("/proof?a=b#x", status)) as server:
        evidence = await prove(server)
    assert [hop.split(" ")[0].rpartition("/")[2] for hop in evidence.hops] == [TOKEN, "proof?a=b"]


@pytest.mark.parametrize("status", ["300 Multiple", "303 See Other", "305 Use Proxy"])
async def test_no_other_status_redirects(status):
    async with webserver(lambda path: GOOD if path == "/proof" else redirect("/proof", status)) as server:
        assert (await failure(server)).fault is Fault.UNAUTHORIZED


async def test_ten_redirects_are_followed_and_no_more():
    def chain(length):
        def answer(path):
            done = 0 if path == PATH else int(path[1:])
            return GOOD if done == length else redirect(f"/{done + 1}")

        return answer

    async with webserver(chain(10)) as server:
        assert len((await prove(server)).hops) == 11
    async with webserver(chain(11)) as server:
        failed = await failure(server)
    assert len(server.seen) == 11
    assert "10 redirects" in failed.detail


async def test_a_circle_of_redirects_is_noticed():
    async with webserver(lambda path: redirect("/a" if path == PATH else PATH)) as server:
        failed = await failure(server)
    assert "circle" in failed.detail
    assert len(server.seen) == 2


async def test_every_hop_is_checked_again():
    # A73: a public server must not lead us to a private one.
    names = Names(public_example=[["127.0.0.1"]], inside_example=[["127.8.8.8"]])
    async with webserver(GOOD, host="127.8.8.8") as inside:
        away = redirect(f"http://inside.example:{inside.port}{PATH}")
        async with webserver(away, port=inside.port) as server:
            failed = await failure(server, "public.example", resolver=names, allowed=("127.0.0.1/32",))
    assert inside.seen == []
    assert failed.fault is Fault.CONNECTION
    assert len(failed.evidence.hops) == 1


@pytest.mark.parametrize(
    "location",
    ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://127.0.0.1:70/x", "http://127.0.0.1:22/x", "http://",
     "https://127.0.0.1:8443/x", "http://user:pw@127.0.0.1/x", "http://[::1/x", "http://a:99999/", "/a b", "/a\x01b",
     "http://ho%73t/", "http://[fe80::1%25eth0]/", "//", "https:///x", "/" + "x" * 2100, ""],
)  # fmt: skip
async def test_redirects_lead_nowhere_else(location):
    async with webserver(redirect(location)) as server:
        failed = await failure(server)
    assert failed.fault is Fault.CONNECTION
    assert len(server.seen) == 1


def test_a_location_cannot_split_the_request():
    from gateway.outbound.challenges.http01 import _printable

    for location in (None, "", "/a\r\nHost: b", "/\x7f", "/é"):
        with pytest.raises(ValueError):
            _printable(location)


def tls_context(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "not its name")])
    long_ago = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, long_ago, long_ago + dt.timedelta(days=1))
    ).sign(key, hashes.SHA256())
    file = tmp_path / "tls.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_redirect_to_https_does_not_ask_for_a_valid_certificate(tmp_path):
    # Boulder does the same: the server is asking for its first certificate, or for one instead of an expired one.
    context = tls_context(tmp_path)
    async with webserver(GOOD, tls=context, host="127.0.0.2") as secure:
        there = redirect(f"https://secure.example:{secure.port}/proof")
        names = Names(plain_example=[["127.0.0.1"]], secure_example=[["127.0.0.2"]])
        async with webserver(there, port=secure.port) as server:
            evidence = await prove(server, "plain.example", resolver=names)
    assert evidence.hops[1].startswith("https://secure.example")


async def test_plain_http_where_tls_is_expected_is_a_connection_fault():
    async with webserver(GOOD, host="127.0.0.2") as not_tls:
        there = redirect(f"https://127.0.0.2:{not_tls.port}/proof")
        async with webserver(there, port=not_tls.port) as server:
            assert (await failure(server)).fault is Fault.CONNECTION


async def test_no_proxy_of_the_environment_is_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with webserver(GOOD) as server:
        await prove(server)
