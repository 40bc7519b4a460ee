"""The commands that a ready gateway prints are run as they stand: a newcomer copies them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.gateway import RunningGateway, running_gateway
from tests.doubles.ports import kept_port

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    # A blank in the folder's name: what is printed must be quoted.
    folder = tmp_path_factory.mktemp("greeting") / "my data"
    with running_gateway(folder, "--acme-http01-port", str(kept_port())) as running:
        yield running


def run_printed(gateway: RunningGateway, under: str, client: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if shutil.which(client, path=path) is None and "CI" not in os.environ:
        pytest.skip(f"{client} is not installed")
    lines = gateway.greeting.splitlines()
    printed = lines[lines.index(under) + 1]
    done = subprocess.run(
        printed,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{printed}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def verified(gateway: RunningGateway, leaf: Path, issuing: Path) -> None:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", gateway.quickstart["root"], "-untrusted", issuing, leaf]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_certbot_command_obtains_a_certificate(gateway: RunningGateway, tmp_path: Path) -> None:
    run_printed(gateway, "# ACME: certbot", "certbot", tmp_path)
    live = tmp_path / "certbot" / "live" / "localhost"
    verified(gateway, live / "cert.pem", live / "chain.pem")


def test_the_est_command_obtains_a_certificate(gateway: RunningGateway, tmp_path: Path) -> None:
    run_printed(gateway, "# EST: strongSwan", "pki", tmp_path)
    verified(gateway, tmp_path / "est.pem", tmp_path / "est-ca-1.pem")


def test_the_scep_command_obtains_a_certificate(gateway: RunningGateway, tmp_path: Path) -> None:
    run_printed(gateway, "# SCEP: strongSwan", "pki", tmp_path)
    verified(gateway, tmp_path / "scep.pem", tmp_path / "scep-ca-1.pem")


def test_the_curl_command_obtains_a_certificate_and_its_key(gateway: RunningGateway, tmp_path: Path) -> None:
    answer = json.loads(run_printed(gateway, "# REST: curl", "curl", tmp_path))
    assert answer["status"] == "issued"
    made = answer["certificate"]
    (tmp_path / "leaf.pem").write_text(made["certificate"])
    (tmp_path / "issuing.pem").write_text(made["issuingCaCertificate"])
    assert "PRIVATE KEY" in made["privateKey"]
    verified(gateway, tmp_path / "leaf.pem", tmp_path / "issuing.pem")
