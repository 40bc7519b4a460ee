"""What clients demand of every answer, looked at on the wire of a real gateway (specs: cross-client matrix).

Each client that a comment names gives up, or goes astray, where the demand is not met.
"""

import base64
import re
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.doubles.acme_client import AcmeClient, Spoken, csr
from tests.doubles.acme_wire import Connection
from tests.doubles.gateway import running_gateway
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import p256, request
from tests.doubles.ports import kept_port
from tests.doubles.programs import certificates, installed
from tests.doubles.verification import verify_leaf
from tests.doubles.webserver import plain, webserver

pytestmark = pytest.mark.conformance

JOSE = {"Content-Type": "application/jose+json"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    port = kept_port()
    with running_gateway(
        tmp_path_factory.mktemp("wire") / "data", "--acme-http01-port", str(port), "--workers", "2"
    ) as running:
        running.http01_port = port
        yield running


class Watched(AcmeClient):
    """A client that judges every answer."""

    async def call(self, method, url, body=b"", headers=None):
        answer = await super().call(method, url, body, headers)
        judge(answer, url)
        return answer


def judge(answer, url):
    lines = [(name.lower(), value) for name, value in answer.headers]
    fields = dict(lines)
    # A6, A7: certbot takes base64url only, and a missing one is its end.
    (nonce,) = [value for name, value in lines if name == "replay-nonce"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{22,64}", nonce)
    assert fields["cache-control"] == "no-store"
    # A11: acme.sh and dehydrated read one Link a line; acmez and lego want the rel quoted.
    links = [value for name, value in lines if name == "link"]
    for link in links:
        assert re.fullmatch(r'<https://[^>]+>;rel="[a-z-]+"', link), link
    if not url.endswith("/directory") and answer.status != 404:
        assert any(link.endswith('/directory>;rel="index"') for link in links)
    if "retry-after" in fields:
        # A55: acme.sh reads whole seconds, and gives up above 600.
        assert re.fullmatch(r"[0-9]+", fields["retry-after"])
        assert 1 <= int(fields["retry-after"]) <= 600
    # RFC 9110, 8.6: on none of them may a client wait for a body that does not come.
    if answer.status == 204 or not answer.body:
        return
    # acmez compares the whole of it; acme.sh looks for it by pattern.
    kind = fields["content-type"]
    if answer.status >= 400:
        assert kind == "application/problem+json"
        assert answer.json["status"] == answer.status
        assert answer.json["type"].startswith("urn:ietf:params:acme:error:")
    else:
        assert kind in {"application/json", "application/pem-certificate-chain"}
    if kind != "application/pem-certificate-chain":
        assert no_nothing(answer.json), answer.json


def no_nothing(value):
    """A56: no null, and no empty error, anywhere: uacme and acme.sh take either for a failure."""
    if isinstance(value, dict):
        return value.get("error") != {} and all(no_nothing(each) for each in value.values())
    if isinstance(value, list):
        return all(no_nothing(each) for each in value)
    return value is not None


@pytest.fixture
def connect(gateway):
    """Makes connections, that are closed at the end."""
    made = []

    def one():
        made.append(Connection(gateway))
        made[-1].connect()
        return made[-1]

    yield one
    for each in made:
        each.close()


def watched(gateway, connection):
    return Watched(connection.ask, gateway.quickstart["acmeDirectory"].removesuffix("/directory"))


@pytest.fixture
async def proofs(gateway):
    """A web server where http-01 looks; `seen` are the requests, `client` whose answers it gives."""

    class Proofs:
        client = None
        server = None

    proofs = Proofs()

    def page(path):
        return plain(proofs.client.key_authorization(path.rpartition("/")[2]).encode())

    async with webserver(page, port=gateway.http01_port) as server:
        proofs.server = server
        yield proofs


@pytest.fixture
async def client(gateway, proofs, connect):
    """A registered client that judges every answer, and can prove what it orders."""
    made = proofs.client = watched(gateway, connect())
    assert (await made.register()).status == 201
    return made


def verified(gateway, pem, name):
    leaf, *chain = certificates(pem)
    return verify_leaf(leaf, chain, Path(gateway.quickstart["root"]).read_text(), server_name=name)


async def obtain(client, requested, *names):
    """Order, prove, finalize with `requested`, download; the order's answer to finalize and the chain."""
    order = await client.order(*names)
    assert order.status == 201
    await client.prove(order.json)
    final = await client.post(order.json["finalize"], {"csr": requested})
    return final, await client.post(final.json["certificate"]) if final.status == 200 else None


async def test_every_answer_on_the_way_to_a_certificate_is_what_clients_demand(gateway, client):
    directory = await client.call("GET", f"{client.base}/directory")
    assert set(directory.json) == {"newNonce", "newAccount", "newOrder", "meta"}
    assert not directory.json["newNonce"].endswith("/")
    # 201 for what is new and 200 for all else: x/crypto and cert-manager try again for ever on another.
    again = await client.register()
    assert (again.status, again.location) == (200, client.kid)
    order = await client.order("wire.localhost", "WWW.Wire.Localhost", "www.wire.localhost")
    assert (order.status, order.json["status"]) == (201, "pending")
    # lego compares the sets; each once, in lower case.
    assert [each["value"] for each in order.json["identifiers"]] == ["wire.localhost", "www.wire.localhost"]
    assert len(order.json["authorizations"]) == 2
    # dehydrated reads the order at once, and takes newOrder's Location for its URL.
    read = await client.post(order.location)
    assert (read.status, read.location, read.json) == (200, order.location, order.json)
    for url in order.json["authorizations"]:
        authorization = await client.post(url)
        assert authorization.status == 200
        assert authorization.location is None  # certbot would take it for the authorization's URL
        (challenge,) = authorization.json["challenges"]
        assert list(challenge)[:3] == ["type", "url", "token"]  # acme.sh reads them by pattern, in this order
        answered = await client.post(challenge["url"], {})
        assert (answered.status, answered.json["url"]) == (200, challenge["url"])  # certbot compares
        assert ("Link", f'<{url}>;rel="up"') in [(name.title(), value) for name, value in answered.headers]
    ready = await client.post(order.location)
    assert ready.json["status"] == "ready"
    final = await client.post(order.json["finalize"], {"csr": csr("www.wire.localhost", "wire.localhost")})
    # dehydrated, uacme and acmez: nothing but processing and valid may come; x/crypto polls the Location.
    assert (final.status, final.json["status"], final.location) == (200, "valid", order.location)
    chain = await client.post(final.json["certificate"])
    assert (chain.status, chain.header("Content-Type")) == (200, "application/pem-certificate-chain")
    verified(gateway, chain.body.decode(), "wire.localhost")


async def test_a_first_nonce_is_had_in_every_way(client):
    # A5: most ask by HEAD; uacme and old firewalls by GET and want exactly 204; acme.sh falls back to the directory.
    for method, path, status in (("HEAD", "new-nonce", 200), ("GET", "new-nonce", 204), ("GET", "directory", 200)):
        answer = await client.call(method, f"{client.base}/{path}")
        assert answer.status == status
        assert (await client.post(client.kid, nonce=answer.nonce)).status == 200


async def test_after_a_bad_nonce_the_next_try_succeeds(client):
    # A9: certbot and Posh-ACME try once more; acme.sh looks for the words.
    spent = await client.fresh_nonce()
    assert (await client.post(client.kid, nonce=spent)).status == 200
    for bad in (spent, "A" * 52, "AAAA", "x" * 2000):
        refused = await client.post(client.kid, nonce=bad)
        assert (refused.status, refused.type) == (400, "badNonce"), bad
        assert "JWS has an invalid anti-replay nonce" in refused.json["detail"]
        assert (await client.post(client.kid, nonce=refused.nonce)).status == 200


async def test_reading_a_challenge_is_not_answering_it(gateway, client, proofs):
    # A61: dehydrated and win-acme poll the challenge itself.
    order = await client.order("poll.localhost")
    (url,) = order.json["authorizations"]
    (challenge,) = (await client.post(url)).json["challenges"]
    for _ in range(3):
        assert (await client.post(challenge["url"])).json["status"] == "pending"
    await trio.sleep(0.3)
    assert proofs.server.seen == []
    assert (await client.post(url)).json["status"] == "pending"


async def test_what_clients_send_for_nothing_is_passed_over(client):
    # A26: acmez writes its empty members, old clients a `resource`, cert-manager a profile it was not offered.
    identifiers = [{"type": "dns", "value": "empty.localhost"}]
    nothing = {
        "status": "", "expires": "0001-01-01T00:00:00Z", "notBefore": "0001-01-01T00:00:00Z", "notAfter": None,
        "authorizations": None, "finalize": "", "certificate": "", "error": None, "resource": "new-order",
    }  # fmt: skip
    order = await client.post("new-order", {"identifiers": identifiers, **nothing})
    assert (order.status, order.json["status"]) == (201, "pending")
    account = {"contact": None, "status": "valid", "termsOfServiceAgreed": True, "orders": "", "key": client.key.jwk}
    assert (await client.post(client.kid, account)).status == 200


async def test_the_usages_in_a_csr_change_nothing(gateway, client, tmp_path):
    # A86: the CSR of acme.sh, as its own openssl makes it; no profile of the demo gives clientAuth to servers.
    installed("openssl")
    name = "usages.localhost"
    config = tmp_path / "csr.conf"
    config.write_text(
        "[ req_distinguished_name ]\n[ req ]\ndistinguished_name = req_distinguished_name\nreq_extensions = v3_req\n"
        "[ v3_req ]\nextendedKeyUsage=serverAuth,clientAuth\n"
        "keyUsage = nonRepudiation, digitalSignature, keyEncipherment, keyCertSign\n"
        f"subjectAltName=DNS:{name}\n1.3.6.1.5.5.7.1.24=DER:30:03:02:01:05\n"
    )
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-subj", f"/CN={name}", "-config", str(config)]
    command += ["-outform", "DER", "-out", str(tmp_path / "asked.csr")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    der = (tmp_path / "asked.csr").read_bytes()
    asked = x509.load_der_x509_csr(der).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in asked
    final, chain = await obtain(client, base64.urlsafe_b64encode(der).rstrip(b"=").decode(), name)
    assert (final.status, final.json["status"]) == (200, "valid")
    leaf = verified(gateway, chain.body.decode(), name)
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not leaf.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    with pytest.raises(x509.ExtensionNotFound):
        leaf.extensions.get_extension_for_class(x509.TLSFeature)


def spelled(der, padding=""):
    return base64.urlsafe_b64encode(der).rstrip(b"=").decode() + padding


@pytest.mark.parametrize(
    ("der", "padding"),
    [
        (request("one.localhost", common_name="one.localhost"), "=="),  # A83: Synology pads
        (request(common_name="one.localhost"), ""),  # A84: old routers name it in the common name alone
        (request(common_name="ONE.LocalHost"), ""),
        (request("ONE.localhost", "one.LOCALHOST", "one.localhost", common_name="One.localhost"), "="),
        (request("one.localhost", common_name="one.localhost", organization="Example"), ""),
    ],
)
async def test_odd_csrs_of_real_clients_are_certified(gateway, client, der, padding):
    final, chain = await obtain(client, spelled(der, padding), "One.Localhost")
    assert (final.status, final.json["status"]) == (200, "valid")
    leaf = verified(gateway, chain.body.decode(), "one.localhost")
    sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sans.get_values_for_type(x509.DNSName) == ["one.localhost"]
    assert {each.value for each in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)} == {"one.localhost"}


@pytest.mark.parametrize(
    ("der", "word"),
    [
        (request("one.localhost", "two.localhost"), "two.localhost"),
        (request("two.localhost"), "two.localhost"),
        (request("one.localhost", common_name="two.localhost"), "two.localhost"),
        (request("one.localhost", "127.0.0.1"), "127.0.0.1"),  # acme.sh #3792: an address as a DNS name
        (request("one.localhost", others=(x509.RFC822Name("a@example.com"),)), "email"),  # CVE-2022-34831
        (request("one.localhost", "one.localhost."), ""),
        (request("one.localhost") + b"\0", ""),
        (b"-----BEGIN CERTIFICATE REQUEST-----", ""),
    ],
)
async def test_a_csr_for_something_else_is_refused_and_the_order_stays_ready(client, der, word):
    # A84, A89; the right one is accepted afterwards.
    order = await client.order("one.localhost")
    await client.prove(order.json)
    refused = await client.post(order.json["finalize"], {"csr": spelled(der)})
    assert (refused.status, refused.type) == (400, "badCSR")
    assert word in refused.json["detail"]
    assert (await client.post(order.location)).json["status"] == "ready"
    assert (await client.post(order.json["finalize"], {"csr": csr("one.localhost")})).json["status"] == "valid"


async def test_the_account_s_key_is_not_certified(client):
    # A85; RFC 8555, 11.1
    order = await client.order("one.localhost")
    await client.prove(order.json)
    refused = await client.post(order.json["finalize"], {"csr": csr("one.localhost", key=client.key.key)})
    assert (refused.status, refused.type) == (400, "badCSR")


async def test_a_pem_in_place_of_der_is_malformed(client):
    pem = x509.load_der_x509_csr(request("one.localhost", key=p256(1))).public_bytes(Encoding.PEM).decode()
    order = await client.order("one.localhost")
    await client.prove(order.json)
    refused = await client.post(order.json["finalize"], {"csr": pem})
    assert (refused.status, refused.type) == (400, "malformed")


async def test_what_is_signed_is_not_read_by_get(client):
    # A12, A25: RFC 8555, 6.3; older clients asked so.
    order = await client.order("get.localhost")
    urls = [client.kid, f"{client.kid}/orders", order.location, order.json["finalize"], *order.json["authorizations"]]
    for url in urls:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = await client.call(method, url)
            assert (answer.status, answer.type, answer.header("Allow")) == (405, "malformed", "POST")
        assert (await client.call("HEAD", url)).status == 405
        assert (await client.call("OPTIONS", url)).header("Allow") == "POST"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_no_address_is_repaired_or_redirected(client, method):
    # A14: lego and uacme do not follow a redirected POST, and a signed URL is exact.
    pair = client.base.removeprefix(client.origin)
    targets = [
        f"{pair}/directory/", f"{pair}//directory", f"/{pair}/directory", f"{pair}/new-order/", f"{pair}/new-nonce/",
        f"{pair}/new-order?x=1", f"{pair}/./directory", f"{pair}/x/../directory",
        pair, f"{pair}/", "/acme", "/acme/", f"{pair}/Directory", f"{pair}/directory%00", f"{pair}/order/%2e%2e",
    ]  # fmt: skip
    for target in targets:
        answer = await client._ask(method, target, b"{}" if method == "POST" else b"", headers=JOSE)
        assert answer.status == 404, target
        assert answer.header("Location") is None
        if method != "HEAD" and target.startswith(f"{pair}/"):
            assert answer.header("Content-Type") == "application/problem+json"
            assert answer.header("Replay-Nonce")


def test_a_head_has_no_body_and_the_connection_goes_on(gateway, connect):
    # A wrong length here would be read as the next answer.
    connection = connect()
    pair = gateway.quickstart["acmeDirectory"].removeprefix(gateway.quickstart["https"]).removesuffix("/directory")
    for path, status in (("new-nonce", 200), ("directory", 200), ("order/1", 405), ("nothing", 404)):
        assert connection.send("HEAD", f"{pair}/{path}").status == status
        assert connection.send("GET", f"{pair}/new-nonce").status == 204


# Races


def together(calls):
    """Answers of calls that are let go at the same moment, each in a thread of its own."""

    async def run():
        answers = []
        limiter = trio.CapacityLimiter(len(calls))

        async def one(call):
            answers.append(await trio.to_thread.run_sync(call, limiter=limiter))

        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(one, call)
        return answers

    return run()


async def signed(client, path, payload, *, nonce, jwk=False):
    url = path if path.startswith("https:") else f"{client.base}/{path}"
    body = client.envelope(url, payload, nonce=nonce, jwk=jwk)
    return url.removeprefix(client.origin), body


def count(gateway, query, *parameters):
    with closing(sqlite3.connect(f"file:{gateway.folder / 'store.sqlite'}?mode=ro", uri=True)) as database:
        return database.execute(query, parameters).fetchone()[0]


@pytest.mark.parametrize("same", [True, False])
async def test_two_finalizes_over_two_connections_are_one_certificate(gateway, client, connect, same):
    # A82
    ways = connect(), connect()
    for number in range(5):
        name = f"race-{same}-{number}.localhost".lower()
        order = await client.order(name)
        await client.prove(order.json)
        requests = [csr(name)] * 2 if same else [csr(name), csr(name)]
        before = count(gateway, "SELECT count(*) FROM certificates")
        bodies = [
            await signed(client, order.json["finalize"], {"csr": each}, nonce=await client.fresh_nonce())
            for each in requests
        ]
        answers = await together(
            [
                lambda way=way, target=target, body=body: way.send("POST", target, body, JOSE)
                for way, (target, body) in zip(ways, bodies, strict=True)
            ]
        )
        statuses = sorted(answer.status for answer in answers)
        # With another CSR the second would be shown a certificate that is not of its key.
        assert statuses == ([200, 200] if same else [200, 403])
        deadline = time.monotonic() + 60
        while (final := await client.post(order.location)).json["status"] == "processing":
            assert time.monotonic() < deadline
        assert final.json["status"] == "valid"
        assert count(gateway, "SELECT count(*) FROM certificates") == before + 1
    assert count(gateway, "SELECT count(*) FROM serials WHERE status = 'reserved'") == 0


async def test_twenty_new_accounts_with_one_key_are_one(gateway, connect):
    # A32
    client = watched(gateway, connect())
    ways = [connect() for _ in range(20)]
    bodies = [
        await signed(client, "new-account", {"termsOfServiceAgreed": True}, nonce=await client.fresh_nonce(), jwk=True)
        for _ in range(20)
    ]
    answers = await together(
        [
            lambda way=way, target=target, body=body: way.send("POST", target, body, JOSE)
            for way, (target, body) in zip(ways, bodies, strict=True)
        ]
    )
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    assert len({answer.header("Location") for answer in answers}) == 1


async def test_a_nonce_is_spent_once_however_many_try(gateway, client, connect):
    # A7: a hundred, over ten connections, all with the same signed body and with bodies of their own.
    nonce = await client.fresh_nonce()
    before = count(gateway, "SELECT count(*) FROM acme_orders")
    bodies = [
        await signed(client, "new-order", {"identifiers": [{"type": "dns", "value": "n.localhost"}]}, nonce=nonce)
        for _ in range(50)
    ]
    bodies += [bodies[0]] * 50

    def ten(way, mine):
        return [way.send("POST", target, body, JOSE) for target, body in mine]

    groups = await together(
        [
            lambda way=way, mine=bodies[number::10]: ten(way, mine)
            for number, way in enumerate([connect() for _ in range(10)])
        ]
    )
    answers = [answer for group in groups for answer in group]
    assert sorted(answer.status for answer in answers) == [201] + [400] * 99
    assert all(b"badNonce" in answer.body for answer in answers if answer.status == 400)
    assert len({answer.header("Replay-Nonce") for answer in answers}) == 100
    assert count(gateway, "SELECT count(*) FROM acme_orders") == before + 1


async def test_a_challenge_answered_twenty_times_at_once_is_validated_once(client, proofs, connect):
    # A61
    order = await client.order("often.localhost")
    (url,) = order.json["authorizations"]
    (challenge,) = (await client.post(url)).json["challenges"]
    bodies = [await signed(client, challenge["url"], {}, nonce=await client.fresh_nonce()) for _ in range(20)]
    ways = [connect() for _ in range(20)]
    answers = await together(
        [
            lambda way=way, target=target, body=body: way.send("POST", target, body, JOSE)
            for way, (target, body) in zip(ways, bodies, strict=True)
        ]
    )
    assert {answer.status for answer in answers} == {200}
    deadline = time.monotonic() + 60
    while (authorization := await client.post(url)).json["status"] == "pending":
        assert time.monotonic() < deadline
    assert authorization.json["status"] == "valid"
    assert len(proofs.server.seen) == 1


async def test_rubbish_is_answered_in_acmes_words_and_leaves_no_trace(gateway, client, connect):
    # A120: damaged requests, over one connection after the other; then the room is as it was.
    way = connect()
    url = f"{client.base}/new-order"
    target, sound = await signed(client, "new-order", {"identifiers": []}, nonce="A" * 52)
    before = count(gateway, "SELECT count(*) FROM audit")
    for body in mutations(b"wire", 300, (sound,)):
        answer = way.send("POST", target, body, JOSE)
        assert 400 <= answer.status < 500
        judge(Spoken(answer.status, answer.headers, answer.body), url)
    for kind in ("", "application/json", "application/jose", "text/plain", "application/jose+json, text/plain"):
        answer = way.send("POST", target, sound, {"Content-Type": kind})
        assert answer.status == 415
        judge(Spoken(answer.status, answer.headers, answer.body), url)
    assert count(gateway, "SELECT count(*) FROM audit") == before
    assert "Traceback" not in gateway.log
    assert (await client.order("after.localhost")).status == 201
