"""EST with strongSwan's pki and with curl and openssl, against a real gateway over real TLS (RFC 7030, RFC 8951)."""

import base64
import http.client
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from tests.doubles.gateway import RunningGateway
from tests.doubles.programs import Ran, certificates, each, installed, run
from tests.doubles.requests import csr
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance

TYPE = ("-H", "Content-Type: application/pkcs10")


class Est:
    """One gateway's EST addresses and secrets, and the programs that speak to them."""

    def __init__(self, muster: RunningGateway, folder: Path) -> None:
        self.folder = folder
        self.quickstart = muster.quickstart
        self.root = Path(muster.quickstart["root"])
        self.url = muster.quickstart["est"]["url"]
        self.credentials = f"{muster.quickstart['est']['user']}:{muster.quickstart['est']['passphrase']}"
        application, profile = self.url.split("/")[-2:]
        base = muster.quickstart["https"]
        self.forms = [
            self.url,
            f"{self.url}/.well-known/est",
            f"{base}/.well-known/est/{application}.{profile}",
        ]

    def curl(self, *arguments: object, status: int | None = 0) -> Ran:
        return run("curl", "-sS", "--cacert", self.root, *arguments, folder=self.folder, status=status)

    def code(self, *arguments: object) -> int:
        return int(self.curl("-o", "answer", "-w", "%{http_code}", *arguments).text)

    def pki(self, *arguments: object, status: int | None = 0) -> Ran:
        return run("pki", *arguments, folder=self.folder, status=status)

    def key(self, name: str, kind: str = "ecdsa", size: int = 256) -> None:
        (self.folder / name).write_bytes(self.pki("--gen", "--type", kind, "--size", size, "--outform", "pem").output)

    def request(self, name: str, key: str, *, dn: str = "CN=dev1", san: str = "dev1.example") -> None:
        arguments = ("--req", "--in", key, "--type", "priv", "--dn", dn, "--san", san, "--outform", "der")
        (self.folder / name).write_bytes(self.pki(*arguments).output)

    def authorities(self) -> list[str]:
        self.pki("--estca", "--url", self.url, "--cacert", self.root, "--caout", "ca", "--outform", "pem", "--force")
        return sorted(path.name for path in self.folder.glob("ca*"))

    def enroll(self, request: str, *how: object, url: str | None = None, status: int | None = 0) -> str:
        trusted = each("--cacert", [self.root, *self.authorities()])
        arguments = ("--url", url or self.url, "--in", request, *trusted, *how, "--interval", 2, "--maxpolltime", 60)
        return self.pki("--est", *arguments, "--outform", "pem", status=status).text

    def verify(self, leaf: str, server_name: str | None = None) -> x509.Certificate:
        root = self.root.read_text()
        chain = [one for one in self.chain() if one.strip() != root.strip()]
        return verify_leaf(leaf, chain, root, server_name=server_name)

    def chain(self) -> list[str]:
        return certificates(self.opened(self.curl(f"{self.url}/cacerts").output))

    def opened(self, answer: bytes) -> str:
        """What openssl finds in base64 of a certs-only message."""
        der = run("base64", "-d", "-i", folder=self.folder, given=answer).output
        return run("openssl", "pkcs7", "-inform", "der", "-print_certs", folder=self.folder, given=der).text


@pytest.fixture
def est(muster: RunningGateway, tmp_path: Path) -> Est:
    installed("pki", "curl", "openssl", "base64")
    return Est(muster, tmp_path)


@pytest.mark.parametrize(("kind", "size"), [("ecdsa", 256), ("ecdsa", 384), ("rsa", 2048), ("ed25519", 256)])
def test_strongswan_enrolls_with_the_passphrase_and_renews_with_its_certificate(est: Est, kind: str, size: int):
    """E28, E40, E41, E42, E63: strongSwan 5.9.8 wants no white space in base64."""
    est.key("k.pem", kind, size)
    est.request("r.der", "k.pem")
    first = est.enroll("r.der", "--userpass", est.credentials)
    (est.folder / "c.pem").write_text(first)
    before = est.verify(first)
    est.key("k2.pem", kind, size)
    est.request("r2.der", "k2.pem")
    after = est.verify(est.enroll("r2.der", "--cert", "c.pem", "--key", "k.pem"))
    assert before.subject == after.subject
    assert before.serial_number != after.serial_number
    assert before.public_key() != after.public_key()


def test_strongswan_is_refused_with_a_wrong_passphrase_and_with_other_names(est: Est):
    """E90, E63."""
    est.key("k.pem")
    est.request("r.der", "k.pem")
    user = est.credentials.partition(":")[0]
    assert est.enroll("r.der", "--userpass", f"{user}:wrong-wrong", status=None) == ""
    (est.folder / "c.pem").write_text(est.enroll("r.der", "--userpass", est.credentials))
    est.request("other.der", "k.pem", dn="CN=dev2")
    assert est.enroll("other.der", "--cert", "c.pem", "--key", "k.pem", status=None) == ""


def test_curl_and_openssl_read_the_authorities_at_every_form_of_the_address(est: Est):
    """E2, E3, E23, E24."""
    answers = {est.curl(f"{form}/cacerts").output for form in est.forms}
    assert len(answers) == 1
    found = certificates(est.opened(answers.pop()))
    assert len(found) == 2
    assert est.root.read_text().strip() in {one.strip() for one in found}


@pytest.mark.parametrize("form", [0, 1, 2])
@pytest.mark.parametrize("wrapped", ["one line", "64", "76 CRLF", "spaced", "der", "pem"])
def test_curl_enrolls_at_every_form_of_the_address_with_every_form_of_the_body(est: Est, form: int, wrapped: str):
    """E31 to E36."""
    der = csr()
    text = base64.b64encode(der).decode()
    body = {
        "one line": text,
        "64": "\n".join(text[at : at + 64] for at in range(0, len(text), 64)) + "\n",
        "76 CRLF": "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        "spaced": " \t".join(text[at : at + 40] for at in range(0, len(text), 40)),
    }
    if wrapped == "der":
        data = der
    elif wrapped == "pem":
        data = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)
    else:
        data = body[wrapped].encode()
    (est.folder / "body").write_bytes(data)
    target = f"{est.forms[form]}/simpleenroll"
    answer = est.curl("-u", est.credentials, *TYPE, "--data-binary", "@body", target, "--fail")
    (leaf,) = certificates(est.opened(answer.output))
    est.verify(leaf)


def test_a_profile_for_servers_gives_what_a_browser_accepts(est: Est):
    url = f"{est.quickstart['https']}/est/demo/tls-server/simpleenroll"
    (est.folder / "body").write_bytes(base64.b64encode(csr("www.example.com", ["www.example.com"], ip=["192.0.2.7"])))
    answer = est.curl("-u", est.credentials, *TYPE, "--data-binary", "@body", url, "--fail")
    (leaf,) = certificates(est.opened(answer.output))
    est.verify(leaf, "www.example.com")
    est.verify(leaf, "192.0.2.7")


@pytest.mark.parametrize("version", ["--tlsv1.2 --tls-max 1.2", "--tlsv1.3"])
@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_curl_renews_with_its_certificate_over_each_version_of_tls_and_http(est: Est, version: str, protocol: str):
    """E10, E14, E59."""
    key = ec.generate_private_key(ec.SECP256R1())
    (est.folder / "k.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (est.folder / "body").write_bytes(base64.b64encode(csr(key=key)))
    connection = [*version.split(), protocol, *TYPE, "--data-binary", "@body", "--fail"]
    first = est.curl(*connection, "-u", est.credentials, f"{est.url}/simpleenroll")
    (leaf,) = certificates(est.opened(first.output))
    (est.folder / "c.pem").write_text(leaf)
    second = est.curl(*connection, "--cert", "c.pem", "--key", "k.pem", f"{est.url}/simplereenroll")
    (renewed,) = certificates(est.opened(second.output))
    assert est.verify(renewed).serial_number != est.verify(leaf).serial_number
    other = f"{est.quickstart['https']}/est/demo/tls-server/simplereenroll"
    assert est.code(*connection[:-1], "--cert", "c.pem", "--key", "k.pem", other) == 403
    assert est.code(*connection[:-1], f"{est.url}/simplereenroll") == 403


def test_a_certificate_of_another_authority_gets_nobody_in(est: Est):
    """E60: whether the handshake refuses it or the answer does."""
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=dev1",
        "-addext", "subjectAltName=DNS:dev1.example", "-keyout", "k.pem", "-out", "c.pem", folder=est.folder,
    )  # fmt: skip
    (est.folder / "body").write_bytes(base64.b64encode(csr()))
    arguments = ("--cert", "c.pem", "--key", "k.pem", *TYPE, "--data-binary", "@body", f"{est.url}/simplereenroll")
    answer = est.curl("-o", "answer", "-w", "%{http_code}", *arguments, status=None)
    assert answer.status != 0 or answer.text == "403"


def test_headers_are_spelled_as_small_clients_compare_them(est: Est):
    """E15, E16: by the bytes on the wire."""
    (est.folder / "body").write_bytes(base64.b64encode(csr()))
    answer = est.curl(
        "-i", "--http1.1", "-u", est.credentials, *TYPE, "--data-binary", "@body", f"{est.url}/simpleenroll"
    )
    head, _, body = answer.output.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].startswith("HTTP/1.1 200")
    assert "Content-Type: application/pkcs7-mime; smime-type=certs-only" in lines
    assert "Content-Transfer-Encoding: base64" in lines
    assert f"Content-Length: {len(body)}" in lines
    assert len(lines) <= 16
    assert len(head) + 4 <= 1000


def test_a_refusal_of_credentials_shows_its_challenge(est: Est):
    """E90: spelled as libest reads it."""
    answer = est.curl("-i", "--http1.1", *TYPE, "--data-binary", "x", f"{est.url}/simpleenroll").text
    assert answer.startswith("HTTP/1.1 401")
    assert "\r\nWWW-Authenticate: Basic realm=" in answer


@pytest.mark.parametrize(
    ("status", "path", "arguments"),
    [
        (404, "/est/demo/nothing/cacerts", ()),
        (404, "/est/nobody/device/cacerts", ()),
        (404, "/est/demo/device/nothing", ()),
        (404, "/.well-known/est/demo.nothing/cacerts", ()),
        (404, "/est/demo/device/../tls-server/cacerts", ("--path-as-is",)),
        (404, "/est/demo%2fdevice/cacerts", ()),
        (405, "/est/demo/device/simpleenroll", ()),
        (405, "/est/demo/device/cacerts", ("-X", "POST")),
        (200, "/est/demo/device/cacerts/", ()),
        (200, "/est/demo/device/cacerts", ("-u", "nobody:wrong")),
    ],
)
def test_addresses_and_methods(est: Est, status: int, path: str, arguments: tuple[str, ...]):
    """E5, E6, E7, E8, E26."""
    assert est.code(*arguments, est.quickstart["https"] + path) == status
    answer = (est.folder / "answer").read_text()
    assert "<html" not in answer
    assert "Traceback" not in answer


@pytest.mark.parametrize(
    ("status", "body", "media_type"),
    [
        (400, b"not a request", "application/pkcs10"),
        (400, base64.b64encode(csr()[:-5]), "application/pkcs10"),
        (400, base64.b64encode(csr() + b"\0"), "application/pkcs10"),
        (415, base64.b64encode(csr()), "text/plain"),
        (413, b"A" * 70_000, "application/pkcs10"),
    ],
)
def test_bodies_that_are_refused(est: Est, status: int, body: bytes, media_type: str):
    """E20, E37, E38."""
    (est.folder / "body").write_bytes(body)
    for protocol in ("--http1.1", "--http2"):
        arguments = (protocol, "-u", est.credentials, "-H", f"Content-Type: {media_type}", "--data-binary", "@body")
        assert est.code(*arguments, f"{est.url}/simpleenroll") == status
        assert (est.folder / "answer").read_text().count("\n") == 1


def test_over_plain_http_est_is_refused_without_asking_for_a_passphrase(est: Est):
    """E9."""
    answer = est.curl("-i", est.url.replace(est.quickstart["https"], est.quickstart["http"]) + "/cacerts").text
    assert answer.startswith("HTTP/1.1 403")
    assert "www-authenticate" not in answer.lower()


def test_expect_100_continue_is_understood(est: Est):
    """E19."""
    (est.folder / "body").write_bytes(base64.b64encode(csr()))
    arguments = ("--http1.1", "-H", "Expect: 100-continue", "-u", est.credentials, *TYPE, "--data-binary", "@body")
    assert est.code(*arguments, "--max-time", 20, f"{est.url}/simpleenroll") == 200


def test_many_enrollments_share_one_connection(est: Est):
    """E18, E102."""
    host = est.quickstart["https"].removeprefix("https://")
    connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=str(est.root)), timeout=30)
    connection.connect()
    socket = connection.sock
    serials = set()
    headers = {
        "Content-Type": "application/pkcs10",
        "Authorization": "Basic " + base64.b64encode(est.credentials.encode()).decode(),
    }
    path = "/est/demo/device/simpleenroll"
    for _ in range(5):
        connection.request("POST", path, base64.b64encode(csr()), headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        (leaf,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
        serials.add(leaf.serial_number)
        assert connection.sock is socket
    assert len(serials) == 5
    connection.close()


def test_what_a_leaf_says_of_its_authority_is_there(est: Est):
    """D19: CRL, issuer's certificate and OCSP at the addresses in the leaf, over plain HTTP."""
    (est.folder / "body").write_bytes(base64.b64encode(csr()))
    answer = est.curl("-u", est.credentials, *TYPE, "--data-binary", "@body", f"{est.url}/simpleenroll", "--fail")
    (text,) = certificates(est.opened(answer.output))
    leaf = x509.load_pem_x509_certificate(text.encode())
    (point,) = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    (name,) = point.full_name
    ways = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    at = {each.access_method: each.access_location.value for each in ways}
    assert all(each.startswith("http://") for each in (name.value, *at.values()))
    issuer = x509.load_der_x509_certificate(est.curl("--fail", at[AuthorityInformationAccessOID.CA_ISSUERS]).output)
    leaf.verify_directly_issued_by(issuer)
    (est.folder / "crl.der").write_bytes(est.curl("--fail", name.value).output)
    (est.folder / "leaf.pem").write_text(text)
    (est.folder / "issuer.pem").write_bytes(issuer.public_bytes(Encoding.PEM))
    (est.folder / "chain.pem").write_text("".join(est.chain()))
    said = run(
        "openssl", "ocsp", "-issuer", "issuer.pem", "-cert", "leaf.pem", "-CAfile", est.root,
        "-url", at[AuthorityInformationAccessOID.OCSP], folder=est.folder,
    )  # fmt: skip
    assert "leaf.pem: good" in said.text
    run("openssl", "crl", "-inform", "der", "-in", "crl.der", "-out", "crl.pem", folder=est.folder)
    run(
        "openssl", "verify", "-crl_check", "-CRLfile", "crl.pem", "-CAfile", est.root, "-untrusted", "chain.pem",
        "leaf.pem", folder=est.folder,
    )  # fmt: skip
