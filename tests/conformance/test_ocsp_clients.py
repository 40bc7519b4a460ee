"""OCSP with the clients that relying parties use: openssl, curl, and Go's (Caddy staples; D19)."""

import base64
import datetime as dt
import json
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from gateway.actions.vouch import MEMORY
from gateway.store import certificates
from gateway.store.unit import open_store
from tests.conformance.test_acme_more_clients import caddy, until
from tests.doubles.gateway import RunningGateway, running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.programs import Ran, installed, run

pytestmark = pytest.mark.conformance


class Party:
    """A relying party with openssl: a leaf that was issued, its issuer, and the root that it trusts."""

    def __init__(self, muster: RunningGateway, folder: Path) -> None:
        installed("openssl", "curl")
        self.folder = folder
        self.muster = muster
        self.http = muster.quickstart["http"]
        self.root = Path(muster.quickstart["root"])
        self.fetch("issuing")
        self.fetch("root")

    def fetch(self, authority: str) -> None:
        der = run("curl", "-sSf", f"{self.http}/ca/{authority}.crt", folder=self.folder).output
        (self.folder / f"{authority}.der").write_bytes(der)
        run(
            "openssl", "x509", "-inform", "der", "-in", f"{authority}.der", "-out", f"{authority}.pem",
            folder=self.folder,
        )  # fmt: skip

    def leaf(self, name: str, algorithm: str = "EC_prime256v1") -> str:
        """Issue a certificate into `name`.pem; gives its id."""
        attributes = {"commonName": f"{name}.example", "ttl": "30d", "keyAlgorithm": algorithm}
        attributes["altNames"] = [{"type": "DNS", "value": f"{name}.example"}]
        body = {"applicationName": "demo", "profileName": "tls-server", "attributes": attributes}
        (self.folder / "body").write_text(json.dumps(body))
        answer = run(
            "curl", "-sSf", "--cacert", self.root, "-H", f"Authorization: Bearer {self.muster.quickstart['adminToken']}",
            "-H", "Content-Type: application/json", "--data", "@body",
            self.muster.quickstart["rest"] + "/certificates", folder=self.folder,
        )  # fmt: skip
        made = json.loads(answer.output)["certificate"]
        (self.folder / f"{name}.pem").write_text(made["certificate"])
        identity: str = made["certificateId"]
        return identity

    def revoke(self, certificate_id: str, reason: int) -> None:
        """What every door's revocation ends in; it is told within the second."""

        async def write() -> None:
            async with open_store(f"sqlite:///{self.muster.folder}/store.sqlite") as store:
                now = dt.datetime.now(dt.UTC)
                assert await store.write(lambda unit: certificates.revoke(unit, certificate_id, reason=reason, at=now))

        trio.run(write)
        time.sleep(MEMORY)

    def ocsp(self, *arguments: object, issuer: str = "issuing", responder: str | None = None) -> Ran:
        """What `openssl ocsp` says, once it has verified the response up to the root."""
        url = f"{self.http}/ocsp/{responder or issuer}"
        ran = run(
            "openssl", "ocsp", "-issuer", f"{issuer}.pem", *arguments, "-CAfile", self.root, "-url", url,
            folder=self.folder,
        )  # fmt: skip
        assert "Response verify OK" in ran.said
        return ran


@pytest.fixture
def party(muster: RunningGateway, tmp_path: Path) -> Party:
    return Party(muster, tmp_path)


def test_a_leaf_names_its_responder(party: Party):
    """RFC 5280, 4.2.2.1; D19: URLs are embedded in what is issued."""
    party.leaf("named")
    said = run("openssl", "x509", "-in", "named.pem", "-noout", "-ocsp_uri", folder=party.folder)
    assert said.text.split() == [f"{party.http}/ocsp/issuing"]


@pytest.mark.parametrize("digest", ["-sha1", "-sha256", "-sha384", "-sha512"])
@pytest.mark.parametrize("nonce", ["-nonce", "-no_nonce"])
def test_openssl_is_told_good_and_then_revoked_with_its_reason(party: Party, digest: str, nonce: str):
    """RFC 6960, 4.1.1 and 4.2.1; RFC 8954."""
    identity = party.leaf("leaf")
    asked = (nonce, digest, "-cert", "leaf.pem")
    good = party.ocsp(*asked)
    assert "leaf.pem: good" in good.text
    assert "WARNING" not in good.said  # as there is if a nonce is missing
    party.revoke(identity, 4)
    revoked = party.ocsp(*asked)
    assert "leaf.pem: revoked" in revoked.text
    assert "Reason: superseded" in revoked.text


def test_openssl_is_told_of_several_at_once(party: Party):
    """RFC 6960, 4.2.1; a serial that nobody issued is unknown."""
    party.leaf("one")
    party.revoke(party.leaf("two"), 1)
    ran = party.ocsp("-cert", "one.pem", "-cert", "two.pem", "-serial", "0x1234")
    assert "one.pem: good" in ran.text
    assert "two.pem: revoked" in ran.text
    assert "0x1234: unknown" in ran.text


def test_a_root_answers_for_its_authorities(party: Party):
    assert "issuing.pem: good" in party.ocsp("-cert", "issuing.pem", issuer="root").text


def test_an_authority_of_ours_says_nothing_of_another(party: Party):
    """RFC 6960, 2.2: unknown, under the name that was asked for; openssl would not believe anything else of it."""
    party.leaf("leaf")
    run("openssl", "ocsp", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-reqout", "request", folder=party.folder)
    run(
        "curl", "-sSf", "-H", "Content-Type: application/ocsp-request", "--data-binary", "@request",
        f"{party.http}/ocsp/root", "-o", "response", folder=party.folder,
    )  # fmt: skip
    said = run("openssl", "ocsp", "-respin", "response", "-text", "-noverify", folder=party.folder)
    assert "Cert Status: unknown" in said.text


def test_curl_gets_what_openssl_reads_and_asks_again_in_vain(party: Party):
    """RFC 6960, A.1; RFC 9110, 13.1.2."""
    party.leaf("leaf")
    run(
        "openssl", "ocsp", "-no_nonce", "-issuer", "issuing.pem", "-cert", "leaf.pem", "-reqout", "request",
        folder=party.folder,
    )  # fmt: skip
    request = base64.b64encode((party.folder / "request").read_bytes()).decode()
    for encoded in (request, quote(request, safe="")):
        url = f"{party.http}/ocsp/issuing/{encoded}"
        run("curl", "-sSf", "--etag-save", "tag", "-o", "response", url, folder=party.folder)
        said = run(
            "openssl", "ocsp", "-respin", "response", "-issuer", "issuing.pem", "-cert", "leaf.pem",
            "-CAfile", party.root, folder=party.folder,
        )  # fmt: skip
        assert "leaf.pem: good" in said.text
        again = run(
            "curl", "-sSf", "--etag-compare", "tag", "-o", "again", "-w", "%{http_code}", url, folder=party.folder
        )
        assert again.text == "304"


def test_a_malformed_request_is_told_so(party: Party):
    """RFC 6960, 2.3."""
    (party.folder / "request").write_bytes(b"rubbish")
    url = f"{party.http}/ocsp/issuing"
    run("curl", "-sSf", "--data-binary", "@request", url, "-o", "response", folder=party.folder)
    said = run("openssl", "ocsp", "-respin", "response", "-noverify", folder=party.folder, status=1)
    assert "malformedrequest" in said.text


def stapled(gateway: RunningGateway, name: str, port: int) -> str:
    """What openssl's client makes of a handshake in which it asks for a stapled response."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-status",
         "-CAfile", gateway.quickstart["root"], "-verify_return_error"],
        input="", capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_caddy_staples_what_it_got_by_itself(tmp_path: Path):
    """Go's OCSP (golang.org/x/crypto/ocsp) asks, verifies and hands on; openssl's and curl's clients believe it."""
    installed("caddy", "openssl", "curl")
    challenges, port, name = kept_port(), kept_port(), "stapled.localhost"
    with running_gateway(tmp_path / "data", "--acme-http01-port", str(challenges)) as gateway:
        gateway.directory, gateway.root = gateway.quickstart["acmeDirectory"], gateway.quickstart["root"]
        gateway.http01_port = challenges
        folder = tmp_path / "caddy"
        folder.mkdir()
        with caddy(gateway, folder, name, port):
            until(gateway, name, port, lambda leaf: True, folder)
            deadline = time.monotonic() + 30
            while "OCSP Response Status: successful" not in (said := stapled(gateway, name, port)):
                assert time.monotonic() < deadline, said + (folder / "caddy.log").read_text()[-3000:]
                time.sleep(0.2)
            assert "Cert Status: good" in said
            assert "Verify return code: 0 (ok)" in said
            run(
                "curl", "-sS", "--cert-status", "--cacert", gateway.root,
                "--connect-to", f"{name}:{port}:127.0.0.1:{port}", f"https://{name}:{port}/", folder=tmp_path,
            )  # fmt: skip
