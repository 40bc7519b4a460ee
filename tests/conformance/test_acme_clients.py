"""certbot obtains and renews, dehydrated obtains: the programs themselves, against a real gateway."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from tests.doubles.challenge_folder import challenge_folder
from tests.doubles.gateway import running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance

END = "-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    port = kept_port()
    with running_gateway(
        tmp_path_factory.mktemp("clients") / "data", "--acme-http01-port", str(port), "--workers", "2"
    ) as running:
        running.http01_port = port
        yield running


def run(gateway, *command, **variables):
    root = gateway.quickstart["root"]
    environment = {**os.environ, "REQUESTS_CA_BUNDLE": root, "CURL_CA_BUNDLE": root, "SSL_CERT_FILE": root, **variables}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + gateway.log[-3000:]
    return done.stdout


def verified(gateway, pem, name):
    leaf, *chain = [part + END for part in pem.split(END) if part.strip()]
    return verify_leaf(leaf, chain, Path(gateway.quickstart["root"]).read_text(), server_name=name)


def certbot(gateway, folder, *arguments):
    program = Path(sys.executable).with_name("certbot")
    folders = ["--config-dir", folder / "config", "--work-dir", folder / "work", "--logs-dir", folder / "logs"]
    return run(gateway, program, *arguments, "--non-interactive", *folders)


@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_certbot_obtains_and_renews(gateway, tmp_path, key_type):
    name = f"{key_type}.localhost"
    certbot(
        gateway, tmp_path, "certonly", "--standalone", "--agree-tos", "--register-unsafely-without-email",
        "--server", gateway.quickstart["acmeDirectory"], "--http-01-port", gateway.http01_port,
        "--key-type", key_type, "-d", name, "-d", f"www.{name}",
    )  # fmt: skip
    full_chain = tmp_path / "config" / "live" / name / "fullchain.pem"
    first = verified(gateway, full_chain.read_text(), name)
    certbot(gateway, tmp_path, "renew", "--force-renewal", "--no-random-sleep-on-renew")
    second = verified(gateway, full_chain.read_text(), name)
    assert first.serial_number != second.serial_number
    assert first.subject == second.subject
    sans = [leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for leaf in (first, second)]
    assert sans[0] == sans[1]


def installed(program):
    """Where a program of Debian's is. In CI none may be missing."""
    found = shutil.which(program)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed")
    assert found, f"{program} is not installed"
    return found


@pytest.fixture
def web_root(gateway, tmp_path):
    """A folder that is served where http-01 looks."""
    with challenge_folder(tmp_path / "www", gateway.http01_port) as folder:
        yield folder


def test_dehydrated_obtains(gateway, tmp_path, web_root):
    program = installed("dehydrated")
    config = tmp_path / "config"
    config.write_text(
        f"CA={gateway.quickstart['acmeDirectory']}\nBASEDIR={tmp_path}\nWELLKNOWN={web_root}\nKEY_ALGO=prime256v1\n"
        f"CONTACT_EMAIL=admin@example.com\n"
    )
    run(gateway, program, "--config", config, "--register", "--accept-terms")
    run(gateway, program, "--config", config, "--cron", "--domain", "dehydrated.localhost")
    verified(
        gateway, (tmp_path / "certs" / "dehydrated.localhost" / "fullchain.pem").read_text(), "dehydrated.localhost"
    )
