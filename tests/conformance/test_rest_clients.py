"""REST with curl, as documented (D12, D13): managed keys and CSRs, and what is refused."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.doubles.gateway import RunningGateway
from tests.doubles.programs import certificates, installed, run
from tests.doubles.requests import csr
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance

NAME = "api.example.com"


class Rest:
    """One gateway's API, as curl sees it."""

    def __init__(self, muster: RunningGateway, folder: Path) -> None:
        self.folder = folder
        self.root = Path(muster.quickstart["root"])
        self.url = muster.quickstart["rest"]
        self.plain = self.url.replace(muster.quickstart["https"], muster.quickstart["http"])
        self.token = muster.quickstart["adminToken"]

    def curl(self, path: str, *arguments: object, token: str | None = None, url: str | None = None) -> tuple[int, dict]:
        """The status and the document; `token` in place of the administrator's."""
        answer = run(
            "curl", "-sS", "--http1.1", "--cacert", self.root, "-H", f"Authorization: Bearer {token or self.token}",
            "-o", "answer", "-w", "%{http_code} %{content_type}", *arguments, (url or self.url) + path,
            folder=self.folder,
        )  # fmt: skip
        status, media_type = answer.text.split(maxsplit=1)
        expected = "application/json" if int(status) < 300 else "application/problem+json"
        assert media_type == expected
        return int(status), json.loads((self.folder / "answer").read_bytes())

    def create(self, document: object, **how: str) -> tuple[int, dict]:
        (self.folder / "body").write_text(json.dumps(document))
        return self.curl("/certificates", "-H", "Content-Type: application/json", "--data", "@body", **how)

    def verify(self, certificate: dict, server_name: str | None = NAME) -> x509.Certificate:
        root = self.root.read_text()
        chain = certificates(certificate["certificateChain"])
        assert chain[-1].strip() == root.strip()
        assert chain[0].strip() == certificate["issuingCaCertificate"].strip()
        return verify_leaf(certificate["certificate"], chain[:-1], root, server_name=server_name)


@pytest.fixture
def rest(muster: RunningGateway, tmp_path: Path) -> Rest:
    installed("curl", "openssl")
    return Rest(muster, tmp_path)


def managed(algorithm: str = "EC_prime256v1", **attributes: object) -> dict:
    names = {"commonName": NAME, "altNames": [{"type": "DNS", "value": NAME}]}
    wishes = {**names, "ttl": "90d", "keyAlgorithm": algorithm, **attributes}
    metadata = [{"key": "env", "value": "production"}]
    return {"applicationName": "demo", "profileName": "tls-server", "attributes": wishes, "metadata": metadata}


@pytest.mark.parametrize(
    "algorithm", ["RSA_2048", "RSA_3072", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1", "ED25519", "ML-DSA-65"]
)
def test_a_managed_key_of_each_kind(rest: Rest, algorithm: str):
    """D12: what the policy of the profile does not allow is refused with all its reasons, not issued."""
    status, document = rest.create(managed(algorithm))
    if status == 422:
        assert any("key" in each.lower() for each in document["violations"])
        return
    assert status == 200, document
    certificate = document["certificate"]
    leaf = x509.load_pem_x509_certificate(certificate["certificate"].encode())
    assert load_pem_private_key(certificate["privateKey"].encode(), None).public_key() == leaf.public_key()
    if algorithm in {"RSA_2048", "RSA_3072", "EC_prime256v1", "EC_secp384r1"}:
        # The web's verifiers know these; RFC 5280 knows them all.
        rest.verify(certificate)


def test_the_documented_request_works_as_written(rest: Rest):
    """D12."""
    status, document = rest.create(managed("RSA_2048"))
    assert status == 200, document
    assert set(document) == {"certificate", "certificateRequestId", "status", "message"}
    assert document["status"] == "issued"
    leaf = rest.verify(document["certificate"])
    assert f"{leaf.serial_number:x}" == document["certificate"]["serialNumber"]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days in {89, 90}


def test_a_csr_gives_a_certificate_for_its_key_and_no_private_key(rest: Rest):
    """D12."""
    der = csr(NAME, [NAME], ip=["2001:db8::7"])
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    document = {"applicationName": "demo", "profileName": "tls-server", "csr": pem, "attributes": {"ttl": "30d"}}
    status, answer = rest.create(document)
    assert status == 200, answer
    assert "privateKey" not in answer["certificate"]
    leaf = rest.verify(answer["certificate"])
    assert leaf.public_key() == x509.load_der_x509_csr(der).public_key()
    rest.verify(answer["certificate"], "2001:db8::7")


def test_a_request_can_be_read_again_and_found(rest: Rest):
    """D13."""
    _, created = rest.create(managed(commonName="found.example.com"))
    request_id = created["certificateRequestId"]
    status, answer = rest.curl(f"/certificate-requests/{request_id}")
    assert status == 200
    found = answer["certificateRequest"]
    assert found["certificate"]["certificate"] == created["certificate"]["certificate"]
    assert "privateKey" not in found["certificate"]
    status, page = rest.curl("/certificate-requests?search=found.example&limit=5")
    assert status == 200
    assert [each["id"] for each in page["certificateRequests"]] == [request_id]
    status, _ = rest.curl(f"/certificate-requests/{request_id}/cancel", "-X", "POST")
    assert status == 409


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"commonNmae": "x"}, "attributes.commonNmae"),
        ({"ttl": "ninety"}, "attributes.ttl"),
        ({"keyAlgorithm": "DSA"}, "attributes.keyAlgorithm"),
        ({"altNames": [{"type": "DNS", "value": "a b"}]}, "attributes.altNames[0].value"),
    ],
)
def test_a_mistake_names_its_field(rest: Rest, changes: dict, field: str):
    status, problem = rest.create(managed(**changes))
    assert status == 400
    assert problem["field"] == field
    assert problem["status"] == 400


def test_refusals(rest: Rest):
    """D9: and nobody without a token hears more than that one is needed."""
    assert rest.create(managed(), token="mst_wrong")[0] == 401
    assert rest.create({**managed(), "profileName": "nothing"})[0] == 404
    assert rest.create({**managed(), "applicationName": "nobody"})[0] == 404
    assert rest.create({**managed(), "metadata": [{"key": "k", "value": "v" * 1000}] * 70})[0] in {400, 413}
    assert rest.curl("/certificates")[0] == 405
    assert rest.curl("/nothing")[0] == 404
    assert rest.curl("/certificate-requests/nothing")[0] == 404
    assert rest.curl("/certificate-requests", url=rest.plain)[0] == 403


def test_a_body_over_the_cap_and_one_that_is_no_json(rest: Rest):
    (rest.folder / "big").write_bytes(b"x" * 70_000)
    media_type = ("-H", "Content-Type: application/json")
    assert rest.curl("/certificates", *media_type, "--data-binary", "@big")[0] == 413
    assert rest.curl("/certificates", *media_type, "--data-binary", "@big", token="mst_wrong")[0] == 401
    assert rest.curl("/certificates", *media_type, "--data", "{")[0] == 400
    assert rest.curl("/certificates", "--data", "{}")[0] == 415
