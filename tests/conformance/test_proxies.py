"""Behind nginx and HAProxy as Debian has them: EST with a client's certificate, addresses, spoofed headers (E22)."""

from __future__ import annotations

import base64
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.doubles.gateway import RunningGateway, running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.programs import certificates, installed, run

pytestmark = pytest.mark.conformance

TYPE = ("-H", "Content-Type: application/pkcs10")

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {chain}; ssl_certificate_key {key};
    ssl_client_certificate {root}; ssl_verify_client optional; ssl_verify_depth 3;
    location / {{
      proxy_pass {http};
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
      proxy_set_header X-SSL-Client-Verify $ssl_client_verify;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 64
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend ends-tls
  mode http
  bind 127.0.0.1:{port} ssl crt {folder}/haproxy.pem ca-file {root} verify optional
  http-request set-header X-SSL-Client-DER %[ssl_c_der,base64]
  http-request set-header X-Forwarded-Proto https
  default_backend plain
backend plain
  mode http
  server muster {plain} send-proxy-v2 proxy-v2-options crc32c,unique-id
frontend passes-tls
  mode tcp
  bind 127.0.0.1:{through}
  default_backend tls
backend tls
  mode tcp
  server muster {secure} {version}
"""


@contextmanager
def program(port: int, log: Path, *command: object) -> Iterator[None]:
    """A proxy that listens on a port."""
    with log.open("wb") as output:
        process = subprocess.Popen([str(each) for each in command], stdout=output, stderr=output)
        try:
            end = time.monotonic() + 60
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(60)


class Device:
    """A device that enrolls by EST at one address, with curl and openssl."""

    def __init__(self, muster: RunningGateway, folder: Path, port: int) -> None:
        self.folder = folder
        quickstart = muster.quickstart
        self.root = quickstart["root"]
        self.path = quickstart["est"]["url"].removeprefix(quickstart["https"])
        self.base = f"https://localhost:{port}"
        self.credentials = f"{quickstart['est']['user']}:{quickstart['est']['passphrase']}"
        for name in ("a", "b"):
            subject = ("-subj", "/CN=dev1", "-addext", "subjectAltName=DNS:dev1.example")
            new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
            run("openssl", "req", *new, *subject, "-outform", "der", "-out", f"{name}.der", folder=folder)
            run("openssl", "base64", "-in", f"{name}.der", "-out", f"{name}.csr", folder=folder)

    def post(self, operation: str, name: str, *how: object, base: str | None = None) -> int:
        """One enrollment; its status. A certificate goes to NAME.pem."""
        words = ("curl", "-sS", "--cacert", self.root, "-o", "answer", "-w", "%{http_code}", *TYPE, *how)
        at = f"{base or self.base}{self.path}/{operation}"
        status = int(run(*words, "--data-binary", f"@{name}.csr", at, folder=self.folder).text)
        if status == 200:
            (self.folder / "answer.der").write_bytes(run("base64", "-d", "-i", "answer", folder=self.folder).output)
            pem = ("pkcs7", "-inform", "der", "-in", "answer.der", "-print_certs", "-out", f"{name}.pem")
            run("openssl", *pem, folder=self.folder)
        return status

    def enroll(self) -> None:
        assert self.post("simpleenroll", "a", "-u", self.credentials) == 200

    def reenroll(self, *how: object) -> int:
        return self.post("simplereenroll", "b", "--cert", "a.pem", "--key", "a.key", *how)


def behind(folder: Path, **proxies: str) -> Iterator[RunningGateway]:
    variables = {f"MUSTER_PROXIES_{name.upper()}": value for name, value in proxies.items()}
    with running_gateway(folder / "data", variables=variables) as muster:
        yield muster


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, int]]:
    installed("nginx", "curl", "openssl")
    folder = tmp_path_factory.mktemp("nginx")
    proxies = {"client_certificate": "nginx", "forwarded": "x-forwarded-for"}
    for muster in behind(folder, trusted="127.0.0.1", terminate_tls="http", **proxies):
        port = kept_port()
        tls = muster.folder / "tls"
        chains = folder / "authorities.pem"
        issuing = (tls / "chain.pem").read_text().split("-----END CERTIFICATE-----\n", 1)[1]
        chains.write_text(Path(muster.quickstart["root"]).read_text() + issuing)
        values = {"chain": tls / "chain.pem", "key": tls / "key.pem", "root": chains, "http": muster.quickstart["http"]}
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, **values))
        words = ("nginx", "-p", folder, "-e", folder / "nginx.log", "-c", folder / "nginx.conf")
        with program(port, folder / "nginx.out", *words):
            yield muster, port


def test_a_device_enrolls_and_renews_by_its_certificate_through_nginx(behind_nginx, tmp_path: Path) -> None:
    """E22, E63: nginx ends TLS and says the certificate in a header."""
    device = Device(*_first(behind_nginx, tmp_path))
    device.enroll()
    assert device.reenroll() == 200
    first, second = ((tmp_path / f"{name}.pem").read_bytes() for name in ("a", "b"))
    assert first != second


def test_nginx_replaces_what_a_client_says_of_itself(behind_nginx, tmp_path: Path) -> None:
    device = Device(*_first(behind_nginx, tmp_path))
    device.enroll()
    spoofed = _header(tmp_path / "a.pem")
    assert device.post("simplereenroll", "b", "-H", spoofed) == 403
    assert device.post("simplereenroll", "b", "-H", spoofed, "-H", "X-SSL-Client-Verify: SUCCESS") == 403


def test_the_same_header_from_elsewhere_is_nobodys(behind_nginx, tmp_path: Path) -> None:
    """The gateway's own HTTPS listener is no place of the proxy's; on plain HTTP another address is not the proxy."""
    muster, _ = behind_nginx
    device = Device(*_first(behind_nginx, tmp_path))
    device.enroll()
    spoofed = _header(tmp_path / "a.pem")
    assert device.post("simplereenroll", "b", "-H", spoofed, base=muster.quickstart["https"]) == 403
    plain = muster.quickstart["http"]
    said = ("-H", spoofed, "-H", "X-SSL-Client-Verify: SUCCESS", "-H", "X-Forwarded-Proto: https")
    assert device.post("simplereenroll", "b", *said, base=plain) == 200  # the proxy itself may say so
    assert device.post("simplereenroll", "b", "--interface", "127.0.0.2", *said, base=plain) == 403


@pytest.fixture(scope="module", params=["send-proxy", "send-proxy-v2"])
def behind_haproxy(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, int, int]]:
    installed("haproxy", "curl", "openssl")
    folder = tmp_path_factory.mktemp("haproxy")
    proxies = {"protocol": "http, https", "client_certificate": "haproxy"}
    for muster in behind(folder, trusted="127.0.0.1", terminate_tls="http", **proxies):
        port, through = kept_port(), kept_port()
        tls = muster.folder / "tls"
        issuing = (tls / "chain.pem").read_text().split("-----END CERTIFICATE-----\n", 1)[1]
        (folder / "authorities.pem").write_text(Path(muster.quickstart["root"]).read_text() + issuing)
        (folder / "haproxy.pem").write_text((tls / "chain.pem").read_text() + (tls / "key.pem").read_text())
        values = {
            "root": folder / "authorities.pem",
            "plain": muster.quickstart["http"].removeprefix("http://"),
            "secure": f"127.0.0.1:{muster.quickstart['https'].rpartition(':')[2]}",
            "version": request.param,
        }
        text = HAPROXY.format(folder=folder, port=port, through=through, **values)
        (folder / "haproxy.cfg").write_text(text)
        with program(port, folder / "haproxy.out", "haproxy", "-db", "-f", folder / "haproxy.cfg"):
            yield muster, port, through


def test_a_device_enrolls_and_renews_by_its_certificate_where_haproxy_ends_tls(behind_haproxy, tmp_path: Path) -> None:
    """PROXY v2 with a checksum before plain HTTP, and the certificate in a header."""
    muster, port, _ = behind_haproxy
    device = Device(muster, tmp_path, port)
    device.enroll()
    assert device.reenroll() == 200
    assert device.post("simplereenroll", "b", "-H", _der_header(tmp_path)) == 403


def test_a_device_enrolls_and_renews_by_its_own_handshake_where_haproxy_passes_tls_on(behind_haproxy, tmp_path) -> None:
    """PROXY v1 and v2 before TLS: what the client says in a header there is its own word."""
    muster, _, through = behind_haproxy
    device = Device(muster, tmp_path, through)
    device.enroll()
    assert device.reenroll() == 200
    assert device.post("simplereenroll", "b", "-H", _der_header(tmp_path)) == 403


def test_who_comes_past_haproxy_from_its_machine_is_refused(behind_haproxy) -> None:
    """Without a PROXY header nobody is the proxy, and nobody is anybody else at that address."""
    muster, _, _ = behind_haproxy
    ran = run("curl", "-sS", f"{muster.quickstart['http']}/healthz", folder=muster.folder, status=None)
    assert ran.status != 0
    assert "a proxy's connection was refused" in muster.log
    ran = run("curl", "-sS", "--haproxy-protocol", f"{muster.quickstart['http']}/healthz", folder=muster.folder)
    assert ran.output


def _first(running: tuple[RunningGateway, int], folder: Path) -> tuple[RunningGateway, Path, int]:
    return running[0], folder, running[1]


def _header(certificate: Path) -> str:
    """What a client would say to be the holder of a certificate, just as nginx says it."""
    return f"X-SSL-Client-Cert: {quote(certificates(certificate.read_text())[0], safe='')}"


def _der_header(folder: Path) -> str:
    der = run("openssl", "x509", "-in", "a.pem", "-outform", "der", folder=folder).output
    return f"X-SSL-Client-DER: {base64.b64encode(der).decode()}"
