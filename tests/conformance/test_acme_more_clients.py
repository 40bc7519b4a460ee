"""lego and Caddy (Go), acme-tiny (Python), uacme (C): obtain, and renew where the client can, against a real gateway."""

import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.doubles.challenge_folder import challenge_folder
from tests.doubles.gateway import running_gateway
from tests.doubles.pkcs10 import request
from tests.doubles.ports import kept_port
from tests.doubles.programs import certificates, installed, lacking
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance

SYSTEM_ROOTS = Path("/etc/ssl/certs/ca-certificates.crt")
LIFETIME = 90  # days: a leaf of the demo has fewer left from its first second on, so that a client finds it due


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    port = kept_port()
    with running_gateway(
        tmp_path_factory.mktemp("more") / "data", "--acme-http01-port", str(port), "--workers", "2"
    ) as running:
        running.http01_port = port
        running.root = running.quickstart["root"]
        running.directory = running.quickstart["acmeDirectory"]
        yield running


@pytest.fixture
def web_root(gateway, tmp_path):
    with challenge_folder(tmp_path / "www", gateway.http01_port) as folder:
        yield folder


def run(gateway, *command, folder, **variables):
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **variables}, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + gateway.log[-3000:]
    return done.stdout


def verified(gateway, pem, name, *others):
    leaf, *chain = certificates(pem)
    found = verify_leaf(leaf, chain, Path(gateway.root).read_text(), server_name=name)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {name, *others}
    return found


def key_file(path, key):
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    return path


@pytest.mark.parametrize("key_type", ["ec256", "ec384", "rsa2048"])
def test_lego_obtains_and_renews(gateway, tmp_path, key_type):
    installed("lego")
    name = f"{key_type}.lego.localhost"

    def lego(*command):
        run(
            gateway, "lego", "--server", gateway.directory, "--path", tmp_path, "--accept-tos",
            "--email", "admin@example.com", "--domains", name, "--domains", f"www.{name}", "--key-type", key_type,
            "--http", "--http.port", f"127.0.0.1:{gateway.http01_port}", *command,
            folder=tmp_path, LEGO_CA_CERTIFICATES=gateway.root,
        )  # fmt: skip
        pem = (tmp_path / "certificates" / f"{name}.crt").read_text()
        return verified(gateway, pem, name, f"www.{name}")

    first = lego("run")
    second = lego("renew", "--no-random-sleep", "--days", LIFETIME)
    assert first.serial_number != second.serial_number


def test_lego_has_a_request_of_somebody_elses_certified(gateway, tmp_path):
    installed("lego")
    asked = tmp_path / "asked.csr"
    request_ = x509.load_der_x509_csr(request("csr.lego.localhost", common_name="csr.lego.localhost"))
    asked.write_bytes(request_.public_bytes(Encoding.PEM))
    run(
        gateway, "lego", "--server", gateway.directory, "--path", tmp_path, "--accept-tos",
        "--email", "admin@example.com", "--csr", asked,
        "--http", "--http.port", f"127.0.0.1:{gateway.http01_port}", "run",
        folder=tmp_path, LEGO_CA_CERTIFICATES=gateway.root,
    )  # fmt: skip
    pem = (tmp_path / "certificates" / "csr.lego.localhost.crt").read_text()
    assert verified(gateway, pem, "csr.lego.localhost").public_key() == request_.public_key()


def test_acme_tiny_obtains(gateway, tmp_path, web_root):
    # A CSR with a common name and no SAN, as its manual has it (A84), and an RSA account key.
    installed("acme-tiny")
    account = key_file(tmp_path / "account.pem", rsa.generate_private_key(65537, 2048))
    asked = tmp_path / "asked.csr"
    asked.write_bytes(x509.load_der_x509_csr(request(common_name="tiny.localhost")).public_bytes(Encoding.PEM))
    # Its own look at the answer asks the system's resolver, which may not know the names below localhost.
    pem = run(
        gateway, "acme-tiny", "--account-key", account, "--csr", asked, "--acme-dir", web_root,
        "--directory-url", gateway.directory, "--disable-check", "--contact", "mailto:admin@example.com",
        folder=tmp_path, SSL_CERT_FILE=gateway.root,
    )  # fmt: skip
    verified(gateway, pem, "tiny.localhost")


@contextlib.contextmanager
def caddy_with(settings, folder):
    """Caddy with these settings, a folder of its own and its log there; ended at the end of the block."""
    (folder / "caddy.json").write_text(json.dumps(settings))
    with (folder / "caddy.log").open("ab") as log:
        process = subprocess.Popen(
            ["caddy", "run", "--config", str(folder / "caddy.json")],
            stdout=log, stderr=log, cwd=folder,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def caddy(gateway, folder, name, port, *, policy=None, automation=None):
    """Caddy, serving `name` by https on loopback; ended at the end of the block."""
    issuer = {
        "module": "acme",
        "ca": gateway.directory,
        "trusted_roots_pem_files": [gateway.root],
        "challenges": {"tls-alpn": {"disabled": True}, "bind_host": "127.0.0.1"},
    }
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"match": [{"host": [name]}]}],
        "automatic_https": {"disable_redirects": True},  # they would listen on every address
    }
    settings = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(folder / "storage")},
        "apps": {
            "http": {"http_port": gateway.http01_port, "https_port": port, "servers": {"one": server}},
            "tls": {
                "automation": {"policies": [{"subjects": [name], "issuers": [issuer]} | (policy or {})]}
                | (automation or {})
            },
        },
    }
    with caddy_with(settings, folder):
        yield


def served(gateway, name, port):
    """The leaf that a TLS client is shown, once it believes it; None as long as it does not."""
    trusting = ssl.create_default_context(cafile=gateway.root)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(der)


def until(gateway, name, port, wanted, folder):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        leaf = served(gateway, name, port)
        if leaf is not None and wanted(leaf):
            return leaf
        time.sleep(0.2)
    raise AssertionError((folder / "caddy.log").read_text()[-5000:] + gateway.log[-2000:])


def test_caddy_obtains_and_renews(gateway, tmp_path):
    installed("caddy")
    name, port = "caddy.localhost", kept_port()
    with caddy(gateway, tmp_path, name, port):
        first = until(gateway, name, port, lambda leaf: True, tmp_path)
        (stored,) = (tmp_path / "storage" / "certificates").glob(f"*/{name}/{name}.crt")
        assert verified(gateway, stored.read_text(), name) == first
    # Every moment of a lifetime is in a window that is as long as it.
    due = {"renewal_window_ratio": 1}
    with caddy(gateway, tmp_path, name, port, policy=due, automation={"renew_interval": "1s"}):
        second = until(gateway, name, port, lambda leaf: leaf != first, tmp_path)
    assert second.serial_number != first.serial_number


def namespace():
    """A command that runs another one with other roots than the system's: in a mount namespace of its own.

    uacme takes whatever libcurl was built to trust, and has no option for another file.
    """
    installed("uacme", "unshare", "mount")
    if not SYSTEM_ROOTS.exists():
        lacking(f"{SYSTEM_ROOTS} does not exist")
    script = f'mount --bind "$1" {SYSTEM_ROOTS} && shift && exec "$@"'
    for flags in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *flags, "sh", "-c", script, "sh"]
        if subprocess.run([*command, str(SYSTEM_ROOTS), "true"], capture_output=True, check=False).returncode == 0:
            return command
    return lacking("no mount namespace may be made here")


@pytest.mark.parametrize("key_type", ["EC", "RSA"])
def test_uacme_obtains_and_renews(gateway, tmp_path, web_root, key_type):
    inside = namespace()
    hook = Path("/usr/share/uacme/uacme.sh")
    if not hook.exists():
        lacking(f"{hook} does not exist")
    name = f"{key_type.lower()}.uacme.localhost"

    def uacme(*command):
        return run(
            gateway, *inside, gateway.root, shutil.which("uacme"), "--confdir", tmp_path, "--acme-url",
            gateway.directory, "--hook", hook, "--yes", "--type", key_type, *command,
            folder=tmp_path, UACME_CHALLENGE_PATH=str(web_root),
        )  # fmt: skip

    uacme("new", "admin@example.com")
    full_chain = tmp_path / name / "cert.pem"
    uacme("issue", name, f"www.{name}")
    first = verified(gateway, full_chain.read_text(), name, f"www.{name}")
    uacme("--force", "issue", name, f"www.{name}")
    second = verified(gateway, full_chain.read_text(), name, f"www.{name}")
    assert first.serial_number != second.serial_number
    uacme("update", "other@example.com")
    uacme("deactivate")
