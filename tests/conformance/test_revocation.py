"""Revocation as relying parties see it: curl revokes and fetches, openssl refuses (D14, D19; RFC 5280, 5)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.doubles.gateway import RunningGateway, muster, start_gateway
from tests.doubles.programs import certificates, installed, run

pytestmark = pytest.mark.conformance

REASONS = {  # RFC 5280, 5.3.1, and openssl's words for them
    "unspecified": None,
    "keyCompromise": "Key Compromise",
    "cACompromise": "CA Compromise",
    "affiliationChanged": "Affiliation Changed",
    "superseded": "Superseded",
    "cessationOfOperation": "Cessation Of Operation",
    "certificateHold": "Certificate Hold",
    "privilegeWithdrawn": "Privilege Withdrawn",
    "aACompromise": "AA Compromise",
}
WITHIN = 30.0  # seconds; a list follows at once, and a busy machine takes its time

FLEET = """
[[authorities]]
name = "fleet"
parent = "root"
pathLength = 0
crlPartitions = 2
crlUrls = ["{http}/ca/fleet/{{partition}}.crl"]

[[profiles]]
slug = "fleet"
authority = "fleet"
policy = "tls-server"

[[applications]]
name = "demo"
profiles = ["fleet"]
[applications.enrollment.fleet.api]
"""


class Revoking:
    """One gateway, by curl and openssl."""

    def __init__(self, gateway: RunningGateway, folder: Path) -> None:
        self.folder = folder
        self.root = Path(gateway.quickstart["root"])
        self.url = gateway.quickstart["rest"]
        self.http = gateway.quickstart["http"]
        self.token = gateway.quickstart["adminToken"]

    def post(self, path: str, document: object) -> dict:
        (self.folder / "body").write_text(json.dumps(document))
        answer = run(
            "curl", "-sS", "--fail-with-body", "--cacert", self.root, "-H", f"Authorization: Bearer {self.token}",
            "-H", "Content-Type: application/json", "--data", "@body", self.url + path, folder=self.folder,
        )  # fmt: skip
        return json.loads(answer.text)

    def issue(self, profile: str = "tls-server") -> dict:
        names = {"commonName": "a.example", "altNames": [{"type": "DNS", "value": "a.example"}]}
        wishes = {**names, "keyAlgorithm": "EC_prime256v1"}
        document = {"applicationName": "demo", "profileName": profile, "attributes": wishes}
        return self.post("/certificates", document)["certificate"]

    def revoke(self, certificate: dict, reason: str) -> dict:
        return self.post(f"/certificates/{certificate['certificateId']}/revoke", {"revocationReason": reason})

    def fetch(self, url: str) -> Path:
        run("curl", "-sS", "--fail", "-o", "list.der", url, folder=self.folder)
        run("openssl", "crl", "-inform", "DER", "-in", "list.der", "-out", "list.pem", folder=self.folder)
        return self.folder / "list.pem"

    def listed(self, url: str, serial: str) -> str:
        """What `openssl crl -text` says of a serial, once the list has it."""
        until = time.monotonic() + WITHIN
        wanted = f"Serial Number: {serial.upper().rjust(len(serial) + len(serial) % 2, '0')}"
        while True:
            text = run("openssl", "crl", "-noout", "-text", "-in", self.fetch(url), folder=self.folder).text
            entries = text.partition("Revoked Certificates:")[2].split("Signature Algorithm")[0]
            for entry in entries.split("    Serial Number:")[1:]:
                if wanted in f"Serial Number:{entry}":
                    return entry
            assert time.monotonic() < until, text
            time.sleep(0.1)

    def verifies(self, certificate: dict, *options: str) -> bool:
        """Whether `openssl verify -crl_check` trusts it, with the list that was fetched last."""
        chain = certificates(certificate["certificateChain"])
        (self.folder / "leaf.pem").write_text(certificate["certificate"])
        (self.folder / "chain.pem").write_text("".join(chain[:-1]))
        answer = run(
            "openssl", "verify", "-crl_check", *options, "-CAfile", self.root, "-untrusted", "chain.pem",
            "-CRLfile", "list.pem", "leaf.pem", folder=self.folder, status=None,
        )  # fmt: skip
        assert answer.status == 0 or "certificate revoked" in answer.said + answer.text, answer
        return answer.status == 0


@pytest.fixture
def gateway(muster: RunningGateway, tmp_path: Path) -> Revoking:
    installed("curl", "openssl")
    return Revoking(muster, tmp_path)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_from_rest_to_openssl(gateway: Revoking, reason: str):
    bad, good = gateway.issue(), gateway.issue()
    url = f"{gateway.http}/ca/issuing.crl"
    gateway.fetch(url)
    assert gateway.verifies(bad)
    assert gateway.revoke(bad, reason)["revocationReason"] == reason
    entry = gateway.listed(url, bad["serialNumber"])
    words = REASONS[reason]
    assert ("CRL Reason Code" not in entry) if words is None else (words in entry)
    assert not gateway.verifies(bad)
    assert gateway.verifies(good)


def followed(url: str, folder: Path) -> None:
    """Wait until the running gateway has seen what was applied beside it."""
    until = time.monotonic() + WITHIN
    while run("curl", "-sS", "--fail", "-o", "ca.crt", url, folder=folder, status=None).status:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revoking]:
    installed("curl", "openssl")
    folder = tmp_path_factory.mktemp("fleet")
    running = start_gateway(folder / "data")
    try:
        (folder / "fleet.toml").write_text(FLEET.format(http=running.quickstart["http"]))
        applied = muster("apply", "--data", str(folder / "data"), "-f", str(folder / "fleet.toml"))
        assert applied.returncode == 0, applied.stderr + applied.stdout
        followed(running.quickstart["http"] + "/ca/fleet.crt", folder)
        yield Revoking(running, folder)
    finally:
        running.stop()


def test_a_partition_is_what_its_certificates_name_and_openssl_agrees(fleet: Revoking):
    """RFC 5280, 5.2.5 and 6.3.3: the list's own name is that in the certificate's distribution point."""
    bad, good = fleet.issue("fleet"), fleet.issue("fleet")
    for certificate in (bad, good):
        leaf = x509.load_pem_x509_certificate(certificate["certificate"].encode())
        [point] = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        [name] = point.full_name
        assert name.value == f"{fleet.http}/ca/fleet/{leaf.serial_number % 2}.crl"
        certificate["list"] = name.value
    fleet.revoke(bad, "keyCompromise")
    assert "Key Compromise" in fleet.listed(bad["list"], bad["serialNumber"])
    assert not fleet.verifies(bad, "-extended_crl")
    fleet.fetch(good["list"])
    assert fleet.verifies(good, "-extended_crl")
    fleet.listed(f"{fleet.http}/ca/fleet.crl", bad["serialNumber"])
    assert not fleet.verifies(bad)
