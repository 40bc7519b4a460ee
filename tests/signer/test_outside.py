"""Authorities from elsewhere: requested and installed, imported; every refusal by its sentence. OpenSSL is the other side."""

import time

import pytest
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)

from signer.ceremony.certify import copied, issued
from signer.ceremony.chains import checked_chain, path_length_of
from signer.ceremony.plan import DAY, Plan
from signer.contract.messages import GeneralName
from signer.issuance.issuer import issuer_of
from signer.keystore.failures import KeyStoreError
from signer.keystore.mechanism import GENERATORS
from tests.signer.authorities import ExternalAuthority, Keys, load, openssl, verified
from tests.signer.kit import COMMON_NAME, good_ask, running_signer

NOW = int(time.time())
SUBJECT = ("--name", "ext", "--subject", "CN=Devices CA,O=Example")


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


@pytest.fixture
def elsewhere(tmp_path):
    return ExternalAuthority(tmp_path / "elsewhere")


def leaf(keys: Keys, name: str) -> str:
    ask = good_ask(
        subject=[],
        sans=[GeneralName("dns_name", "server.example.com")],
        san_critical=True,
        not_before=NOW,
        not_after=NOW + DAY,
    )
    return issued(keys.store().find(name), ask, [], lambda *_: None).public_bytes(Encoding.PEM).decode()


def requested(keys: Keys, *more: str) -> str:
    return keys.do("request", *SUBJECT, *more)["csr"]


@pytest.mark.parametrize("algorithm", ["EC_prime256v1", "RSA_2048", "EC_secp521r1", "ED25519"])
def test_an_authority_that_somebody_else_certifies(keys, elsewhere, tmp_path, algorithm):
    csr = requested(keys, "--algorithm", algorithm)
    openssl("req", "-verify", "-noout", stdin=csr)
    certificate = elsewhere.sign(csr)
    made = keys.do("install", "--name", "ext", "--with-ra", more=(elsewhere.pem + certificate).encode())
    assert made["issuing"]["chain"] == [
        each.public_bytes(Encoding.PEM).decode() for each in (load(certificate), load(elsewhere.pem))
    ]
    assert made["root"]["key"] == ""
    assert made["ra"]["key"] == "ext-ra"
    ceiling = keys.store().find("ext").ceiling
    assert (ceiling.leaves, ceiling.authorities, ceiling.max_validity) == (True, False, 1827 * DAY)
    assert verified(tmp_path / "v", leaf(keys, "ext"), [elsewhere.pem], [certificate]) == ""
    assert keys.store().pending_names() == ()


def test_a_request_asks_for_what_the_authority_shall_be_and_is_given_again(keys):
    csr = requested(
        keys, "--path-length", "1", "--permitted", "dns_name:example.com", "--policy", "1.3.6.1.4.1.99999.1"
    )
    request = x509.load_pem_x509_csr(csr.encode())
    found = {type(each.value).__name__: (each.critical, each.value) for each in request.extensions}
    assert found["BasicConstraints"] == (True, x509.BasicConstraints(True, 1))
    assert found["KeyUsage"][1].key_cert_sign
    assert found["NameConstraints"] == (True, x509.NameConstraints([x509.DNSName("example.com")], None))
    assert [each.policy_identifier.dotted_string for each in found["CertificatePolicies"][1]] == ["1.3.6.1.4.1.99999.1"]
    assert requested(keys) == csr


def test_a_key_that_waits_signs_nothing_and_stops_no_worker(keys, elsewhere):
    keys.do("create-authority", "--name", "root", "--subject", "CN=R")
    csr = requested(keys)
    assert keys.store().names() == ("root",)
    with running_signer(keys.folder) as signer:
        assert signer.sockets
    with pytest.raises(KeyStoreError, match="no key named ext"):
        keys.store().find("ext")
    assert "waits for its certificate" in keys.refused("create-authority", *SUBJECT)
    shown = {each["key"]: each for each in keys.do("list")}
    assert (shown["ext"]["csr"], "certificate" in shown["ext"]) == (csr, False)
    assert keys.do("show", "--name", "ext") == shown["ext"]
    assert "exists, with a certificate" in keys.refused("request", "--name", "root", "--subject", "CN=R")


def test_constraints_that_came_with_a_certificate_bind_the_signer(keys, elsewhere):
    certificate = elsewhere.sign(
        requested(keys),
        *("basicConstraints=critical,CA:TRUE,pathlen:2", "keyUsage=critical,keyCertSign"),
        *("nameConstraints=critical,permitted;DNS:example.org", "extendedKeyUsage=serverAuth"),
    )
    made = keys.do("install", "--name", "ext", more=(certificate + elsewhere.pem).encode())
    assert any("may not sign revocation lists" in line for line in made["transcript"])
    ceiling = keys.store().find("ext").ceiling
    assert (ceiling.authorities, ceiling.path_length) == (True, 1)
    assert ceiling.extended_key_usages == ["1.3.6.1.5.5.7.3.1"]
    with pytest.raises(Exception, match="outside the name constraints"):
        leaf(keys, "ext")


def test_what_was_signed_elsewhere_is_renewed_there_and_what_is_below_follows(keys, elsewhere, tmp_path):
    csr = requested(keys, "--path-length", "1")
    authority = ("basicConstraints=critical,CA:TRUE,pathlen:1", "keyUsage=critical,keyCertSign,cRLSign")
    first = elsewhere.sign(csr, *authority)
    keys.do("install", "--name", "ext", more=(first + elsewhere.pem).encode())
    keys.do(
        "create-authority", "--name", "below", "--parent", "ext", "--subject", "CN=Below", "--with-ra", "--days", "90"
    )
    told = keys.do("renew", "--name", "ext")
    assert load(told["issuing"]["certificate"]) == load(first), "nothing changed yet"
    request = x509.load_pem_x509_csr(told["csr"].encode())
    assert request.public_key() == load(first).public_key()
    assert request.subject == load(first).subject
    other = ExternalAuthority(tmp_path / "other", "Other Root")
    second = other.sign(told["csr"], *authority)
    file = tmp_path / "chain.pem"
    file.write_text(other.pem + second)
    made = keys.do("install", "--name", "ext", "--certificate", str(file))
    assert [each["key"] for each in made["below"]] == ["below", "below-ra"]
    store = keys.store()
    assert store.chain("below")[1:] == store.chain("below-ra")[2:] == store.chain("ext")
    chain = [second, made["below"][0]["certificate"]]
    assert verified(tmp_path / "v", leaf(keys, "below"), [other.pem], chain) == ""


def test_a_renewed_certificate_goes_by_the_names_that_lists_know_their_issuer_by(keys, elsewhere):
    """RFC 5280, 6.3.3, c3: a delta whose key identifier is another than its list's does not count, without a word."""
    first = elsewhere.sign(requested(keys))  # its identifier is of openssl's making
    keys.do("install", "--name", "ext", more=(first + elsewhere.pem).encode())
    known = load(first).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    csr = keys.do("renew", "--name", "ext")["csr"]
    asked = x509.load_pem_x509_csr(csr.encode()).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert asked == known
    other = elsewhere.sign(csr, identifier="0102030405")
    sentence = keys.refused("install", "--name", "ext", more=(other + elsewhere.pem).encode())
    assert sentence.startswith(f"the certificate has not the subject key identifier {known.digest.hex()}")
    key = keys.store().find("ext").private_key
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(COMMON_NAME), "Other")])
    renamed = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    sentence = keys.refused("install", "--name", "ext", more=(elsewhere.sign(renamed) + elsewhere.pem).encode())
    assert sentence.startswith("the certificate is for 'CN=Other', and what was issued names 'CN=Devices CA,O=Example'")
    assert keys.store().find("ext").certificate == load(first)
    keys.do("install", "--name", "ext", more=(elsewhere.sign(csr) + elsewhere.pem).encode())


def test_a_new_key_for_what_was_signed_elsewhere_is_a_request(keys, elsewhere):
    first = (elsewhere.sign(requested(keys)) + elsewhere.pem).encode()
    keys.do("install", "--name", "ext", "--with-ra", more=first)
    told = keys.do("rekey", "--name", "ext", "--as", "ext-g2")
    assert told["issuing"] == {"key": "ext-g2", "certificate": ""}
    assert keys.do("rekey", "--name", "ext", "--as", "ext-g2")["csr"] == told["csr"]
    made = keys.do("install", "--name", "ext-g2", more=(elsewhere.sign(told["csr"]) + elsewhere.pem).encode())
    assert (made["issuing"]["key"], made["ra"]["key"]) == ("ext-g2", "ext-g2-ra")
    shown = keys.do("show", "--name", "ext-g2")
    assert shown["predecessor"] == "ext"
    assert keys.store().find("ext").chain[1:] == keys.store().find("ext-g2").chain[1:]


def certificates(keys: Keys, elsewhere: ExternalAuthority) -> dict[str, str]:
    csr = requested(keys)
    usual = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    stranger = Keys(keys.folder.parent / "stranger")
    return {
        "good": elsewhere.sign(csr),
        "leaf": elsewhere.sign(csr, "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"),
        "no usage": elsewhere.sign(csr, usual[0], "keyUsage=critical,cRLSign"),
        "sha1": elsewhere.sign(csr, *usual, digest="sha1"),
        "other key": elsewhere.sign(requested(stranger)),
    }


def test_each_fault_of_a_chain_is_told_and_nothing_is_stored(keys, elsewhere, tmp_path):
    given = certificates(keys, elsewhere)
    impostor = ExternalAuthority(tmp_path / "impostor")  # the same name, another key

    def refused(*pems: str) -> str:
        return keys.refused("install", "--name", "ext", more="".join(pems).encode())

    assert refused("rubbish").startswith("there is no certificate in PEM or DER")
    assert refused("").startswith("there is no certificate in PEM or DER")
    assert refused(given["other key"], elsewhere.pem) == "none of the certificates is for this key"
    missing = "the chain is not complete: the certificate of 'CN=Elsewhere Root,O=Elsewhere' is missing"
    assert refused(given["good"]) == refused(given["good"], impostor.pem) == missing
    devices = "the certificate of 'CN=Devices CA,O=Example'"
    assert refused(given["leaf"], elsewhere.pem) == f"{devices} is not an authority's (basicConstraints)"
    assert refused(given["no usage"], elsewhere.pem) == f"{devices} has not the key usage keyCertSign"
    assert refused(given["sha1"], elsewhere.pem) == f"{devices} is signed with sha1, which proves nothing"
    assert refused(given["good"], *[elsewhere.pem] * 20) == "more than 20 certificates were given"
    assert refused("x" * (1024 * 1024 + 1)) == "standard input is too large for certificates"
    assert keys.refused("install", "--name", "nobody", more=given["good"].encode()) == "there is no key named nobody"
    assert keys.store().pending_names() == ("ext",)
    assert keys.store().names() == ()
    keys.do("install", "--name", "ext", more=(given["good"] + elsewhere.pem).encode())


def test_an_extension_that_occurs_twice_is_told_and_not_read(keys, elsewhere):
    """RFC 5280, 4.2: at most one of a kind. It is judged before the signature, which no longer fits here."""
    good = load(elsewhere.sign(requested(keys)))
    twice = asn1_x509.Certificate.load(good.public_bytes(Encoding.DER))
    extensions = twice["tbs_certificate"]["extensions"]
    extensions.append(extensions[0].copy())
    bad = x509.load_der_x509_certificate(twice.dump(force=True))
    spki = good.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="'CN=Devices CA,O=Example' is malformed"):
        checked_chain([bad, load(elsewhere.pem)], spki, now=int(time.time()))


def test_times_and_path_lengths_of_a_chain_are_judged(keys, elsewhere):
    good, root, now = load(elsewhere.sign(requested(keys))), load(elsewhere.pem), int(time.time())
    spki = good.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert checked_chain([root, good], spki, now=now) == (good, root)
    with pytest.raises(ValueError, match="expired on"):
        checked_chain([root, good], spki, now=NOW + 1001 * DAY)
    with pytest.raises(ValueError, match="is not good before"):
        checked_chain([root, good], spki, now=NOW - 2 * DAY)
    at = keys.ceremony(NOW)
    top = at.authority(Plan("top", [(COMMON_NAME, "T")], "EC_prime256v1", None, 1, 1000))
    middle = at.authority(Plan("middle", [(COMMON_NAME, "M")], "EC_prime256v1", top, 0, 900))
    assert [path_length_of(each.chain) for each in (top, middle)] == [1, 0]
    last = at.authority(Plan("last", [(COMMON_NAME, "L")], "EC_prime256v1", None, None, 900))
    assert path_length_of(last.chain) is None
    term = {"not_before": NOW - DAY, "not_after": NOW + DAY}
    deep = copied(issuer_of(middle), last.certificate, lambda *_: None, **term)
    spki = deep.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValueError, match="the path length of 'CN=M' is exceeded"):
        checked_chain([deep, middle.certificate, top.certificate], spki, now=NOW)


class Foreign:
    """An authority that somebody has as files: a key and its certificate."""

    def __init__(self, elsewhere: ExternalAuthority, algorithm: str = "EC_prime256v1") -> None:
        self.key = GENERATORS[algorithm]()
        name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(COMMON_NAME), "Foreign CA")])
        digest = None if algorithm == "ED25519" or algorithm.startswith("ML-DSA") else hashes.SHA256()
        csr = x509.CertificateSigningRequestBuilder(name).sign(self.key, digest)
        self.certificate = elsewhere.sign(csr.public_bytes(Encoding.PEM).decode())
        self.root = elsewhere.pem

    def pem(self, passphrase: bytes = b"") -> bytes:
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
@pytest.mark.parametrize("algorithm", ["EC_prime256v1", "RSA_2048"])
def test_an_authority_is_imported_from_what_openssl_exports(keys, elsewhere, tmp_path, algorithm, passphrase):
    foreign = Foreign(elsewhere, algorithm)
    (tmp_path / "key.pem").write_bytes(foreign.pem())
    (tmp_path / "own.pem").write_text(foreign.certificate)
    openssl(
        *("pkcs12", "-export", "-inkey", "key.pem", "-in", "own.pem", "-certfile", str(elsewhere.certificate)),
        *("-out", "ca.p12", "-passout", "stdin"),
        stdin=f"{passphrase}\n",
        cwd=tmp_path,
    )
    arguments = ("--name", "old", "--pkcs12", str(tmp_path / "ca.p12"), "--leaf-days", "90")
    made = keys.do("import", *arguments, more=f"{passphrase}\n".encode())
    assert made["issuing"]["chain"] == [
        each.public_bytes(Encoding.PEM).decode() for each in (load(foreign.certificate), load(foreign.root))
    ]
    assert keys.store().find("old").ceiling.max_validity == 90 * DAY
    assert verified(tmp_path / "v", leaf(keys, "old"), [foreign.root], [foreign.certificate]) == ""
    again = keys.do("import", *arguments, more=f"{passphrase}\n".encode())
    assert again["issuing"] == made["issuing"]
    assert any("whoever had it before" in line for line in made["transcript"])


@pytest.mark.parametrize("passphrase", [b"", b"open sesame"])
def test_an_authority_is_imported_from_pem(keys, elsewhere, tmp_path, passphrase):
    foreign = Foreign(elsewhere)
    (tmp_path / "key.pem").write_bytes(foreign.pem(passphrase))
    (tmp_path / "chain.pem").write_text(foreign.root + foreign.certificate)
    arguments = ("--name", "old", "--key", str(tmp_path / "key.pem"), "--chain", str(tmp_path / "chain.pem"))
    made = keys.do("import", *arguments, "--with-ra", more=passphrase + b"\n")
    assert made["ra"]["key"] == "old-ra"
    assert verified(tmp_path / "v", leaf(keys, "old"), [foreign.root], [foreign.certificate]) == ""
    wrong = b"wrong\n" if passphrase else b"not needed\n"
    assert keys.refused("import", *arguments, more=wrong).startswith("the key does not open")


def test_a_self_signed_authority_of_somebody_s_own_is_imported_and_renewed(keys, elsewhere, tmp_path):
    """Made by OpenSSL: other string types, a SHA-1 key identifier. Its renewal keeps both."""
    arguments = ("--name", "own", "--key", str(elsewhere.key), "--chain", str(elsewhere.certificate))
    keys.do("import", *arguments, more=b"\n")
    before = leaf(keys, "own")
    made = keys.do("renew", "--name", "own", "--days", "5000")
    old, new = load(elsewhere.pem), load(made["root"]["certificate"])
    assert (new.subject.public_bytes(), new.issuer.public_bytes()) == (old.subject.public_bytes(),) * 2
    ski = x509.SubjectKeyIdentifier
    assert new.extensions.get_extension_for_class(ski).value == old.extensions.get_extension_for_class(ski).value
    assert verified(tmp_path / "v", before, [made["root"]["certificate"]], []) == ""


def test_each_fault_of_an_import_is_told(keys, elsewhere, tmp_path):
    foreign, other = Foreign(elsewhere), Foreign(elsewhere)
    weak = rsa.generate_private_key(65537, 1024)
    files = {
        "key.pem": foreign.pem(),
        "locked.pem": foreign.pem(b"open sesame"),
        "other.pem": other.pem(),
        "weak.pem": weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "chain.pem": (foreign.root + foreign.certificate).encode(),
        "other-chain.pem": (other.root + other.certificate).encode(),
        "locked.p12": pkcs12.serialize_key_and_certificates(
            b"x", foreign.key, load(foreign.certificate), None, BestAvailableEncryption(b"open sesame")
        ),
        "keyless.p12": pkcs12.serialize_key_and_certificates(
            None, None, load(foreign.certificate), None, NoEncryption()
        ),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def refused(*words: str, passphrase: bytes = b"") -> str:
        given = [str(tmp_path / word) if "." in word else word for word in words]
        return keys.refused("import", "--name", "old", *given, more=passphrase + b"\n")

    chain = ("--chain", "chain.pem")
    assert refused(*chain) == "either --pkcs12 or --key with --chain is needed"
    assert refused("--key", "key.pem") == "none of the certificates is for this key"
    assert refused("--key", "other.pem", *chain) == "none of the certificates is for this key"
    assert refused("--key", "locked.pem", *chain) == "the key does not open: its passphrase is missing"
    given = "the key does not open: it is not encrypted, and a passphrase was given"
    assert refused("--key", "key.pem", *chain, passphrase=b"x") == given
    assert "the passphrase is wrong" in refused("--key", "locked.pem", *chain, passphrase=b"x")
    assert refused("--key", "weak.pem", *chain) == "the key is of a kind or strength that no certificate may carry"
    assert refused("--key", "chain.pem", *chain).startswith("the key does not open")
    assert "the passphrase is wrong" in refused("--pkcs12", "locked.p12", passphrase=b"x")
    assert refused("--pkcs12", "chain.pem").startswith("the PKCS#12 file does not open")
    assert refused("--pkcs12", "keyless.p12") == "the PKCS#12 file holds no private key"
    assert "the chain is not complete" in refused("--pkcs12", "locked.p12", passphrase=b"open sesame")
    assert "No such file" in refused("--pkcs12", "absent.p12")
    assert keys.store().names() == ()
    keys.do(
        "import",
        "--name",
        "old",
        "--key",
        str(tmp_path / "key.pem"),
        "--chain",
        str(tmp_path / "chain.pem"),
        more=b"\n",
    )
    assert refused("--key", "other.pem", "--chain", "other-chain.pem") == "the key old exists and is another"
    requested(keys)
    waiting = ("--name", "ext", "--key", str(tmp_path / "key.pem"), "--chain", str(tmp_path / "chain.pem"))
    assert "waits for its certificate" in keys.refused("import", *waiting, more=b"\n")


def test_a_post_quantum_authority_is_imported(keys, tmp_path):
    other = Keys(tmp_path / "others")
    root = other.ceremony(NOW).authority(Plan("r", [(COMMON_NAME, "R")], "ML-DSA-65", None, 0, 900))
    (tmp_path / "key.pem").write_bytes(
        root.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "root.pem").write_bytes(root.certificate.public_bytes(Encoding.PEM))
    keys.do(
        "import", "--name", "pq", "--key", str(tmp_path / "key.pem"), "--chain", str(tmp_path / "root.pem"), more=b"\n"
    )
    load(leaf(keys, "pq")).verify_directly_issued_by(root.certificate)
