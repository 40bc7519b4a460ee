"""`muster authority` beside a running gateway, as a person types it: every ceremony, and what clients see of it (D19, E25)."""

import base64
import contextlib
import io
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates

from gateway.cli.main import main
from tests.conformance.test_rest_clients import Rest, managed
from tests.doubles.gateway import RunningGateway, muster, running_gateway
from tests.doubles.programs import certificates, installed, run

pytestmark = pytest.mark.conformance


@contextlib.contextmanager
def given(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


class Operator:
    """A person at a shell beside one gateway, in a folder of the test's own."""

    def __init__(self, gateway: RunningGateway, folder: Path) -> None:
        self.gateway = gateway
        self.folder = folder
        self.rest = Rest(gateway, folder)

    def authority(self, *words: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        """In this process, since the interpreter and its modules are most of a command's time; the signer's is its own."""
        yes = () if words[0] in {"list", "show", "enable", "disable"} else ("--yes",)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            given(variables),
            pytest.raises(SystemExit) as ended,
        ):
            main(["authority", *words, *yes, "--data", str(self.gateway.folder)])
        assert ended.value.code == status, err.getvalue()
        return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())

    def profile(self, authority: str, slug: str | None = None) -> str:
        """A profile that issues from an authority, in the demo's application."""
        slug = slug or authority
        (self.folder / "d.toml").write_text(
            f'[[profiles]]\nslug = "{slug}"\nauthority = "{authority}"\npolicy = "any"\n'
            f'defaults = {{ttl = "90d", extendedKeyUsages = ["serverAuth"]}}\n'
            '[[policies]]\nname = "any"\npreset = "tls-server"\nalgorithms = {}\n'
            f'[[applications]]\nname = "demo"\nprofiles = ["{slug}"]\ndescription = "To try things out"\n'
            f"[applications.enrollment.{slug}]\napi = {{}}\n"
            f'[applications.enrollment.{slug}.est]\npassphrase = "correct horse"\n'
        )
        done = muster("apply", "-f", "d.toml", "--data", str(self.gateway.folder), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return slug

    def issue(self, slug: str, algorithm: str = "EC_prime256v1", **attributes: object) -> tuple[int, dict]:
        """The gateway follows within a second; until then it knows no such profile."""
        document = {**managed(algorithm, **attributes), "profileName": slug}
        for _ in range(50):
            status, answer = self.rest.create(document)
            if status not in {404, 503}:
                break
        return status, answer

    def issued(self, slug: str, algorithm: str = "EC_prime256v1", **attributes: object) -> dict:
        status, answer = self.issue(slug, algorithm, **attributes)
        assert status == 200, answer
        return answer["certificate"]

    def shown(self, name: str) -> str:
        return self.authority("show", name).stdout

    def cacerts(self, slug: str) -> list[x509.Certificate]:
        url = f"{self.gateway.quickstart['https']}/est/demo/{slug}/cacerts"
        answer = run("curl", "-sS", "--fail", "--cacert", self.gateway.quickstart["root"], url, folder=self.folder)
        return list(load_der_pkcs7_certificates(base64.b64decode(answer.text)))

    def verify(self, leaf: str, anchors: list[str], between: list[str]) -> None:
        """`openssl verify`, trusting `anchors` alone. Raises where it says no."""
        (self.folder / "leaf.pem").write_text(leaf)
        (self.folder / "anchors.pem").write_text("\n".join(anchors))
        (self.folder / "between.pem").write_text("\n".join(between))
        words = ("-CAfile", "anchors.pem", "-untrusted", "between.pem", "-no-CApath", "leaf.pem")
        run("openssl", "verify", *words, folder=self.folder)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("life") / "data") as running:
        yield running


@pytest.fixture
def operator(gateway: RunningGateway, tmp_path: Path) -> Operator:
    installed("curl", "openssl")
    return Operator(gateway, tmp_path)


def openssl(folder: Path, *words: object) -> str:
    return run("openssl", *words, folder=folder).text


def external_root(folder: Path) -> None:
    """Somebody else's CA: a key and a self-signed certificate, by openssl."""
    openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "ext.key")
    subject = ("-subj", "/O=Elsewhere/CN=Elsewhere Root", "-days", "3000", "-out", "ext.pem")
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(folder, "req", "-x509", "-new", "-key", "ext.key", *subject, *extensions)


def sign_elsewhere(folder: Path, request: str, certificate: str) -> None:
    (folder / "ca.ext").write_text(
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    words = ("-CA", "ext.pem", "-CAkey", "ext.key", "-CAcreateserial", "-days", "1000", "-extfile", "ca.ext")
    openssl(folder, "x509", "-req", "-in", request, *words, "-out", certificate)
    (folder / certificate).write_text((folder / certificate).read_text() + (folder / "ext.pem").read_text())


def test_a_root_and_an_authority_below_it_issue_at_once(operator: Operator):
    made = operator.authority(
        "create", "corp-root", "--subject", "CN=Corp Root,O=Example", "--path-length", "1", "--transcript", "t.txt"
    )
    assert made.stdout == (operator.folder / "t.txt").read_text()
    assert re.search(r"^ +1  \S+Z  Key ceremony: make the authority corp-root$", made.stdout, re.MULTILINE)
    words = ("--permit", "dns_name:example.com", "--policy", "1.3.6.1.4.1.99999.1")
    operator.authority("create", "corp", "--parent", "corp-root", "--subject", "CN=Corp,O=Example", *words)
    sheet = operator.shown("corp")
    http = operator.gateway.quickstart["http"]
    for fact in (
        "certified by  corp-root",
        "in software",
        f"{http}/ca/corp.crl",
        f"{http}/ocsp/corp",
        "profiles      (none)",
    ):
        assert fact in sheet
    certificate = operator.issued(operator.profile("corp"))
    chain = certificates(certificate["certificateChain"])
    operator.verify(certificate["certificate"], [chain[-1]], chain[:-1])
    authority = x509.load_pem_x509_certificate(chain[0].encode())
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert authority.extensions.get_extension_for_class(x509.CertificatePolicies)
    points = authority.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == f"{http}/ca/corp-root.crl"
    leaf = x509.load_pem_x509_certificate(certificate["certificate"].encode())
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == f"{http}/ca/corp.crl"
    outside = {"commonName": "www.example.org", "altNames": [{"type": "DNS", "value": "www.example.org"}]}
    status, answer = operator.issue("corp", **outside)
    assert status in {403, 422, 500, 503}, "outside its name constraints"
    assert "certificate" not in answer
    listing = operator.authority("list").stdout
    assert re.search(r"^corp +active +EC_prime256v1 +\S+ +corp-root +CN=Corp,O=Example$", listing, re.MULTILINE)


def test_an_authority_that_somebody_else_signs_goes_from_request_to_leaf(operator: Operator):
    operator.authority("request", "outer", "--subject", "CN=Outer,O=Example", "--csr", "outer.csr")
    assert "pending-certificate" in operator.shown("outer")
    openssl(operator.folder, "req", "-in", "outer.csr", "-verify", "-noout")
    external_root(operator.folder)
    sign_elsewhere(operator.folder, "outer.csr", "outer.pem")
    operator.authority("install", "outer", "outer.pem", "--scep")
    sheet = operator.shown("outer")
    for fact in ("state         active", "certified by  (somebody else)", "SCEP's key    outer-ra"):
        assert fact in sheet
    certificate = operator.issued(operator.profile("outer"))
    chain = certificates(certificate["certificateChain"])
    operator.verify(certificate["certificate"], [(operator.folder / "ext.pem").read_text()], chain[:-1])
    operator.authority("renew", "outer", "--csr", "again.csr")
    sign_elsewhere(operator.folder, "again.csr", "again.pem")
    operator.authority("install", "outer", "again.pem")
    # The other CA's notBefore is this very moment, and the gateway's catalogue may be one behind: nobody notices.
    status, answer = operator.rest.create({**managed(), "profileName": "outer"})
    assert status == 200, answer
    again = answer["certificate"]
    chain = certificates(again["certificateChain"])
    operator.verify(again["certificate"], [(operator.folder / "ext.pem").read_text()], chain[:-1])
    refused = operator.authority("install", "outer", "ext.pem", status=2)
    assert "muster: the signer refuses: " in refused.stderr


def test_a_pkcs12_of_openssl_is_imported_with_its_passphrase_from_a_file_or_a_variable(operator: Operator):
    external_root(operator.folder)
    (operator.folder / "secret").write_text("a secret\n")
    words = ("-inkey", "ext.key", "-in", "ext.pem", "-passout", "file:secret", "-out", "ext.p12")
    openssl(operator.folder, "pkcs12", "-export", *words)
    wrong = operator.authority("import", "old", "--pkcs12", "ext.p12", "--passphrase-env", "WRONG", status=2, WRONG="x")
    assert "passphrase is wrong" in wrong.stderr
    operator.authority("import", "old", "--pkcs12", "ext.p12", "--passphrase-file", "secret")
    assert "CN=Elsewhere Root" in operator.shown("old")
    operator.authority("create", "below-old", "--parent", "old")
    certificate = operator.issued(operator.profile("below-old"))
    chain = certificates(certificate["certificateChain"])
    operator.verify(certificate["certificate"], [(operator.folder / "ext.pem").read_text()], chain[:-1])
    words = ("--key", "ext.key", "--chain", "ext.pem", "--no-passphrase")
    operator.authority("import", "old-pem", *words)
    assert "CN=Elsewhere Root" in operator.shown("old-pem")


def test_renewal_and_rekey_while_a_gateway_enrolls_without_one_failed_request(operator: Operator):
    """Renewed root and issuing authority, then new keys for both; leaves of each generation verify under each root."""
    operator.authority("create", "r", "--subject", "CN=R", "--path-length", "1")
    operator.authority("create", "i", "--subject", "CN=I", "--parent", "r", "--scep")
    slug = operator.profile("i")
    first = operator.issued(slug)
    asking = Rest(operator.gateway, operator.folder / "asking")
    (operator.folder / "asking").mkdir()
    failed: list[tuple[int, dict]] = []
    count = 0
    ended = threading.Event()

    def ask() -> None:
        nonlocal count
        while not ended.is_set():
            status, answer = asking.create({**managed(), "profileName": slug})
            count += 1
            if status != 200:
                failed.append((status, answer))
            ended.wait(0.05)  # each request is a curl; the ceremonies need some of the machine, too

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        operator.authority("renew", "r", "--days", "8000")
        operator.authority("renew", "i", "--days", "4000")
        renewed = operator.issued(slug)
        operator.authority("rekey", "r")
        operator.authority("rekey", "i", "--algorithm", "EC_secp384r1")
    finally:
        ended.set()
        thread.join(60)
    assert failed == []
    assert count > 0
    rekeyed = operator.issued(slug)
    for _ in range(50):
        if issuer_key(rekeyed) != issuer_key(renewed):
            break
        rekeyed = operator.issued(slug)
    assert issuer_key(first) == issuer_key(renewed) != issuer_key(rekeyed)

    known = operator.cacerts(slug)
    assert len(known) == 6, "two roots, two issuing authorities, OldWithNew and NewWithOld (E25)"
    newest = max((each for each in known if each.subject == each.issuer), key=lambda each: each.not_valid_after_utc)
    assert newest.public_key() == newest_key(operator, "r-g2")
    roots = [certificate(operator, name) for name in ("r", "r-g2")]
    # OpenSSL takes the first issuer that fits: a root among the untrusted would stand before the link to the trusted one.
    between = [each.public_bytes(Encoding.PEM).decode() for each in known if each not in map(parsed, roots)]
    for leaf in (first, renewed, rekeyed):
        for root in roots:
            operator.verify(leaf["certificate"], [root], between)
    points = parsed(certificate(operator, "i-g2")).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert points[0].full_name[0].value == f"{operator.gateway.quickstart['http']}/ca/r-g2.crl", "of who signed it"
    assert "succeeded by i-g2" in operator.shown("i")
    assert f"profiles      {slug}" in operator.shown("i-g2")
    again = operator.authority("rekey", "i", status=2)
    assert "i was succeeded by i-g2; rekey that one" in again.stderr
    for name in ("i", "i-g2", "r"):
        address = f"{operator.gateway.quickstart['http']}/ca/{name}.crl"
        run("curl", "-sS", "--fail", "-o", "list.crl", address, folder=operator.folder)
        assert "CN" in openssl(operator.folder, "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-issuer")


def test_a_declaration_of_before_still_applies_after_a_rekey(operator: Operator):
    """D28."""
    operator.authority("create", "line-issuing", "--subject", "CN=Line Issuing", "--parent", "root")
    operator.profile("line-issuing")
    operator.authority("rekey", "line-issuing")
    again = muster("apply", "-f", "d.toml", "--data", str(operator.gateway.folder), cwd=operator.folder)
    assert again.stdout == "nothing to change\n"
    assert "profiles      line-issuing" in operator.shown("line-issuing-g2")


def test_a_disabled_authority_never_issues_and_its_list_goes_on(operator: Operator):
    operator.authority("create", "off", "--parent", "root")
    operator.issued(operator.profile("off"))
    operator.authority("disable", "off")
    document = {**managed(), "profileName": "off"}
    for _ in range(200):
        status, answer = operator.rest.create(document)
        if status != 200:
            break
    assert status == 503
    assert "not issuing" in answer["detail"]
    run(
        "curl",
        "-sS",
        "--fail",
        "-o",
        "off.crl",
        f"{operator.gateway.quickstart['http']}/ca/off.crl",
        folder=operator.folder,
    )
    operator.authority("enable", "off")
    operator.issued("off")


def test_ml_dsa_from_root_to_leaf(operator: Operator):
    """RFC 9881; verified by cryptography, since OpenSSL 3.0 knows no ML-DSA."""
    operator.authority("create", "pq-root", "--algorithm", "ML-DSA-65", "--subject", "CN=PQ Root")
    operator.authority("create", "pq", "--algorithm", "ML-DSA-65", "--parent", "pq-root", "--subject", "CN=PQ")
    issued = operator.issued(operator.profile("pq"), "ML-DSA-65")
    chain = [parsed(each) for each in (issued["certificate"], *certificates(issued["certificateChain"]))]
    for child, parent in zip(chain, [*chain[1:], chain[-1]], strict=True):
        child.verify_directly_issued_by(parent)
        assert child.signature_algorithm_oid.dotted_string == "2.16.840.1.101.3.4.3.18"


REFUSED = [
    (("create", "issuing"), "there is an authority issuing already; see muster authority show issuing"),
    (("create", "Upper"), '"Upper" is not a name'),
    (("create", "x-delta"), "x-delta: an address that ends so is that of delta lists"),
    (("create", "x", "--parent", "nobody"), "there is no authority nobody; there are: "),
    (("create", "x", "--parent", "issuing"), "the signer refuses: "),
    (("create", "x", "--permit", "dns_name"), "permitted 'dns_name' is not TYPE:VALUE"),
    (("create", "x", "--algorithm", "RSA_512"), "RSA_512"),
    (("create", "x", "--token", "t"), "--token and --module belong together"),
    (("create", "x", "--crl-url", "ftp://x"), "'ftp://x' is not an http or https URL"),
    (("create", "x", "--no-urls", "--crl-url", "http://x"), "--no-urls says that there are none"),
    (("create", "x", "--days", "0"), "'0' is not a number of days"),
    (("install", "issuing", "/nowhere.pem"), "/nowhere.pem"),
    (("import", "x", "--pkcs12", "/nowhere.p12"), "/nowhere.p12: there is no such file"),
    (("import", "x", "--key", "/nowhere.key"), "--key goes with --chain"),
    (("renew", "nobody"), "there is no authority nobody"),
    (("rekey", "issuing", "--as", "root"), "there is an authority root already"),
    (("show", "nobody"), "there is no authority nobody"),
]


def test_each_refusal_is_a_sentence_and_changes_nothing(operator: Operator):
    before = operator.authority("list").stdout
    for words, sentence in REFUSED:
        refused = operator.authority(*words, status=2)
        assert sentence in refused.stderr
    assert operator.authority("list").stdout == before


def test_nothing_is_done_where_nobody_can_be_asked(operator: Operator):
    where = ("--data", str(operator.gateway.folder))
    refused = muster("authority", "rekey", "issuing", *where)
    assert refused.returncode == 2
    assert "Make issuing-g2, with a new key, in the place of issuing" in refused.stderr
    assert "say --yes" in refused.stderr


def parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def issuer_key(issued: dict) -> object:
    return parsed(certificates(issued["certificateChain"])[0]).public_key()


def certificate(operator: Operator, name: str) -> str:
    """An authority's own certificate, from where relying parties fetch it."""
    url = f"{operator.gateway.quickstart['http']}/ca/{name}.crt"
    run("curl", "-sS", "--fail", "-o", "ca.crt", url, folder=operator.folder)
    der = (operator.folder / "ca.crt").read_bytes()
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def newest_key(operator: Operator, name: str) -> object:
    return parsed(certificate(operator, name)).public_key()
