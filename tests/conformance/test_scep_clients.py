"""SCEP with strongSwan's pki, with curl and openssl, and with a client of our own in odd moods (RFC 8894)."""

import base64
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.doubles.gateway import RunningGateway
from tests.doubles.programs import Ran, certificates, each, installed, run
from tests.doubles.scep_client import (
    RENEWAL_REQ,
    CertRep,
    ScepClient,
    certification_request,
    self_signed,
)
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance


class Scep:
    """One gateway's SCEP address and challenge, and the programs that speak to it."""

    def __init__(self, muster: RunningGateway, folder: Path) -> None:
        self.folder = folder
        self.quickstart = muster.quickstart
        self.root = Path(muster.quickstart["root"])
        self.url = muster.quickstart["scep"]["url"]
        self.challenge = muster.quickstart["scep"]["challenge"]

    def curl(self, *arguments: object) -> Ran:
        return run("curl", "-sS", "--cacert", self.root, *arguments, folder=self.folder)

    def pki(self, *arguments: object, status: int | None = 0) -> Ran:
        return run("pki", *arguments, folder=self.folder, status=status)

    def authorities(self) -> None:
        self.pki("--scepca", "--url", self.url, "--caout", "ca", "--raout", "ra", "--outform", "pem", "--force")

    def key(self, name: str) -> None:
        (self.folder / name).write_bytes(self.pki("--gen", "--type", "rsa", "--size", 2048, "--outform", "pem").output)

    def enroll(self, *how: object, url: str | None = None, status: int | None = 0) -> str:
        trusted = each("--cacert", sorted(path.name for path in self.folder.glob("ca*")))
        (ra,) = (path.name for path in self.folder.glob("ra*"))
        arguments = ("--url", url or self.url, "--cacert-enc", ra, "--cacert-sig", ra, *trusted, *how)
        waits = ("--interval", 2, "--maxpolltime", 60, "--outform", "pem")
        return self.pki("--scep", *arguments, *waits, status=status).text

    def verify(self, leaf: str) -> x509.Certificate:
        chain = [(path).read_text() for path in self.folder.glob("ca*")]
        root = self.root.read_text()
        return verify_leaf(leaf, [one for one in chain if one.strip() != root.strip()], root, server_name=None)

    def ra(self) -> x509.Certificate:
        der = self.curl("--fail", f"{self.url}?operation=GetCACert").output
        text = run("openssl", "pkcs7", "-inform", "der", "-print_certs", folder=self.folder, given=der).text
        return x509.load_pem_x509_certificate(certificates(text)[0].encode())

    def post(self, message: bytes, url: str | None = None) -> bytes:
        (self.folder / "message").write_bytes(message)
        target = f"{url or self.url}?operation=PKIOperation"
        return self.curl("--fail", "-H", "Content-Type:", "--data-binary", "@message", target).output


@pytest.fixture
def scep(muster: RunningGateway, tmp_path: Path) -> Scep:
    installed("pki", "curl", "openssl")
    return Scep(muster, tmp_path)


@pytest.fixture(scope="module")
def device() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_strongswan_enrolls_and_renews(scep: Scep, digest: str):
    """S56, S65, S84 to S88: and the certificate is verified by three others."""
    scep.authorities()
    scep.key("k.pem")
    names = ("--dn", "CN=dev1", "--san", "dev1.example", "--cipher", "aes", "--digest", digest)
    leaf = scep.enroll("--in", "k.pem", *names, "--password", scep.challenge)
    before = scep.verify(leaf)
    (scep.folder / "c.pem").write_text(leaf)
    scep.key("k2.pem")
    renewed = scep.enroll("--in", "k2.pem", *names, "--cert", "c.pem", "--key", "k.pem")
    after = scep.verify(renewed)
    assert before.subject == after.subject
    assert before.serial_number != after.serial_number


def test_strongswan_is_refused_with_a_wrong_challenge_and_with_other_names(scep: Scep):
    """S57, S67."""
    scep.authorities()
    scep.key("k.pem")
    names = ("--dn", "CN=dev1", "--san", "dev1.example")
    assert scep.enroll("--in", "k.pem", *names, "--password", "wrong-wrong", status=None) == ""
    (scep.folder / "c.pem").write_text(scep.enroll("--in", "k.pem", *names, "--password", scep.challenge))
    scep.key("k2.pem")
    other = ("--dn", "CN=dev2", "--san", "dev1.example", "--cert", "c.pem", "--key", "k.pem")
    assert scep.enroll("--in", "k2.pem", *other, status=None) == ""


@pytest.mark.parametrize("suffix", ["", "/", "/pkiclient.exe", "/PKICLIENT.EXE", "/cgi-bin/pkiclient.exe"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_capabilities_are_text_at_every_suffix_over_http_and_https(scep: Scep, suffix: str, scheme: str):
    """S2, S9, S18, S19."""
    url = scep.url.replace(scep.quickstart["http"], scep.quickstart[scheme]) + suffix
    answer = scep.curl("-i", "--http1.1", "--fail", f"{url}?operation=getcacaps&message=x").text
    head, _, body = answer.partition("\r\n\r\n")
    assert "\r\nContent-Type: text/plain" in head
    assert {"AES", "SHA-256", "POSTPKIOperation", "SCEPStandard", "Renewal"} <= set(body.split())


def test_the_reply_is_read_by_openssl(scep: Scep, device: rsa.RSAPrivateKey):
    """S93: signature and envelope by a reader that is not ours."""
    ra = scep.ra()
    client = ScepClient(device, self_signed(device))
    request = certification_request(device, "dev1", challenge=scep.challenge, dns=("dev1.example",))
    (scep.folder / "rep").write_bytes(scep.post(client.pki_message(request, ra)))
    (scep.folder / "ra.pem").write_bytes(ra.public_bytes(Encoding.PEM))
    run(
        "openssl", "cms", "-verify", "-inform", "der", "-in", "rep", "-certfile", "ra.pem", "-nointern", "-noverify",
        "-out", "envelope", folder=scep.folder,
    )  # fmt: skip
    assert (scep.folder / "envelope").stat().st_size > 0


@pytest.mark.parametrize("cipher", ["aes128_cbc", "aes192_cbc", "aes256_cbc"])
@pytest.mark.parametrize("transport", ["pkcs1v15", "oaep-sha1", "oaep-sha256"])
def test_every_cipher_and_key_transport_that_clients_use(
    scep: Scep, device: rsa.RSAPrivateKey, cipher: str, transport: str
):
    """S49, S50: through the real signer."""
    ra = scep.ra()
    client = ScepClient(device, self_signed(device), cipher=cipher, transport=transport)
    request = certification_request(device, f"{cipher}-{transport}", challenge=scep.challenge, dns=("d.example",))
    rep = client.read(scep.post(client.pki_message(request, ra)), ra)
    assert (rep.status, rep.cipher) == ("0", cipher)
    assert x509.load_der_x509_certificate(rep.certificates[0]).public_key() == device.public_key()


def test_the_same_bytes_again_give_the_same_certificate_whichever_way_they_come(scep: Scep, device: rsa.RSAPrivateKey):
    """S79, S94 to S102."""
    ra = scep.ra()
    client = ScepClient(device, self_signed(device), transaction_id=b"again")
    request = certification_request(device, "again", challenge=scep.challenge, dns=("again.example",))
    message = client.pki_message(request, ra)
    encoded = base64.b64encode(message).decode()
    lines = "%0A".join(quote(encoded[at : at + 64], safe="/=") for at in range(0, len(encoded), 64))
    forms = [
        quote(encoded, safe=""),
        encoded.replace("=", "%3D"),
        lines,
        quote(quote(encoded, safe=""), safe=""),
        base64.urlsafe_b64encode(message).decode().rstrip("="),
    ]
    leaves = {client.read(scep.post(message), ra).certificates[0]}
    for form in forms:
        answer = scep.curl("--fail", f"{scep.url}?operation=PKIOperation&message={form}").output
        leaves.add(client.read(answer, ra).certificates[0])
    assert len(leaves) == 1


def failed(scep: Scep, client: ScepClient, message: bytes) -> CertRep:
    rep = client.read(scep.post(message), scep.ra())
    assert rep.status == "2"
    assert rep.certificates == ()
    return rep


def test_refusals_are_signed_and_say_little(scep: Scep, device: rsa.RSAPrivateKey):
    """S57, S58, S66, S91."""
    ra = scep.ra()
    client = ScepClient(device, self_signed(device))
    wrong = certification_request(device, "dev1", challenge="wrong-wrong")
    assert failed(scep, client, client.pki_message(wrong, ra)).fail_info == "2"
    right = certification_request(device, "dev1", challenge=scep.challenge)
    for message_type in (18, 20, 21, 22, 42, RENEWAL_REQ):
        failed(scep, client, client.pki_message(right, ra, message_type=message_type))


@pytest.mark.parametrize(
    ("status", "path"),
    [
        (404, "/scep/nobody/device?operation=GetCACaps"),
        (404, "/scep/demo/nothing?operation=GetCACaps"),
        (400, "/scep/demo/device?operation=GetNextCACert"),
        (400, "/scep/demo/device"),
        (400, "/scep/demo/device?operation=PKIOperation&message=AAAA"),
    ],
)
def test_what_cannot_be_answered_in_scep_is_a_status_and_a_line(scep: Scep, status: int, path: str):
    """S6, S7, S37, S101."""
    answer = scep.curl("-w", "\n%{http_code} %{content_type}", scep.quickstart["http"] + path).text
    assert answer.rpartition("\n")[2].startswith(f"{status} text/plain")
    assert answer.count("\n") == 2


def test_a_message_over_the_cap_is_refused(scep: Scep):
    """S12."""
    (scep.folder / "big").write_bytes(b"\x30" * 300_000)
    target = f"{scep.url}?operation=PKIOperation"
    answer = scep.curl("-o", "answer", "-w", "%{http_code}", "--data-binary", "@big", target)
    assert answer.text == "413"


def test_http_1_0_without_a_host_is_answered_and_closed(scep: Scep):
    """S8: Cisco IOS."""
    parts = urlsplit(scep.url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=20) as connection:
        connection.sendall(f"GET {parts.path}?operation=GetCACaps HTTP/1.0\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 200" in head.partition(b"\r\n")[0]
    assert b"SCEPStandard" in body
