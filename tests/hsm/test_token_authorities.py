"""An authority's life with its key on SoftHSM2: imported, requested, renewed, followed by another key."""

import json
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pkcs11 import Attribute, ObjectClass

from signer.ceremony import Plan
from signer.ceremony.certify import issued
from signer.ceremony.plan import DAY
from signer.ceremony.renewal import follow, rekey, renew
from signer.contract.messages import GeneralName
from signer.keystore.failures import KeyStoreError
from signer.keystore.keyfile import place_of
from tests.hsm.kit import MODULE, PIN, place, run
from tests.signer.authorities import ExternalAuthority, Keys, load, verified
from tests.signer.kit import COMMON_NAME, SECRET, good_ask

NOW = int(time.time())
TOKEN = ("--module", MODULE, "--token", "hsm", "--pin", "env:TEST_PIN")


def do(verb: str, *arguments: str, more: bytes = b""):
    done = run(verb, *arguments, stdin=SECRET + b"\n" + more, TEST_PIN=PIN)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def leaf(key) -> str:
    names = [GeneralName("dns_name", "server.example.com")]
    ask = good_ask(subject=[], sans=names, san_critical=True, not_before=NOW, not_after=NOW + DAY)
    return issued(key, ask, [], lambda *_: None).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("algorithm", ["EC_prime256v1", "EC_secp521r1", "RSA_2048", "ED25519"])
def test_an_imported_key_goes_to_a_token_and_does_not_leave_it(store, hsm, tmp_path, algorithm):
    other = Keys(tmp_path / "others")
    own = other.ceremony(NOW).authority(Plan("own", [(COMMON_NAME, "Own")], algorithm, None, 0, 900))
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    key.write_bytes(own.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    chain.write_bytes(own.certificate.public_bytes(Encoding.PEM))
    given = ["--keys", str(store.folder), "--name", "old", "--key", str(key), "--chain", str(chain), *TOKEN]
    made = do("import", *given, more=b"\n")
    assert load(made["issuing"]["certificate"]) == own.certificate
    found = store.again().find("old")
    assert place_of(found.private_key) is not None
    session = store.tokens.token(place("old")).session()
    [stored] = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "old"})
    assert (stored[Attribute.SENSITIVE], stored[Attribute.EXTRACTABLE], stored[Attribute.SIGN]) == (True, False, True)
    assert (
        own.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        not in (store.folder / "old.key").read_bytes()
    )
    load(leaf(found)).verify_directly_issued_by(own.certificate)
    assert any("Token: hsm, serial number" in line and "SoftHSM" in line for line in made["transcript"])
    again = do("import", *given, more=b"\n")
    assert again["issuing"] == made["issuing"]
    assert len(list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "old"}))) == 1


def test_a_key_that_no_token_takes_is_refused(store, hsm, tmp_path):
    other = Keys(tmp_path / "others")
    own = other.ceremony(NOW).authority(Plan("own", [(COMMON_NAME, "Own")], "ML-DSA-44", None, 0, 900))
    with pytest.raises(KeyStoreError, match="no token holds keys such as"):
        store.tokens.take_in(place("own"), own.private_key)


def test_a_key_on_a_token_waits_for_a_certificate_from_elsewhere(store, hsm, tmp_path):
    elsewhere = ExternalAuthority(tmp_path / "elsewhere")
    given = ["--keys", str(store.folder), "--name", "ext", *TOKEN]
    told = do("request", *given, "--subject", "CN=Ext,O=Example")
    x509.load_pem_x509_csr(told["csr"].encode())
    certificate = elsewhere.sign(told["csr"])
    made = do("install", *given, "--with-ra", more=(elsewhere.pem + certificate).encode())
    assert made["ra"]["key"] == "ext-ra"
    found = store.again().find("ext")
    assert verified(tmp_path / "v", leaf(found), [elsewhere.pem], [certificate]) == ""
    shown = {each["key"]: each for each in do("list", "--keys", str(store.folder))}
    assert shown["ext"]["place"]["token"] == "hsm"
    assert shown["ext"]["place"]["label"] == "ext"
    assert shown["ext"]["algorithm"] == "EC_prime256v1"


def test_authorities_on_a_token_are_renewed_and_followed_by_new_keys(store, hsm, tmp_path):
    issuing = store.issuing("RSA_2048")
    at = store.ceremony()
    root = renew(at, "root", 9000)
    follow(at, root)
    worker = store.again()
    before = worker.find("issuing")
    assert before.chain[1:] == root.chain
    new = rekey(at, "root", "root-g2", algorithm="EC_secp384r1")
    assert place_of(new.private_key) is not None
    old_with_new, new_with_old = new.links
    old_with_new.verify_directly_issued_by(new.certificate)
    new_with_old.verify_directly_issued_by(root.certificate)
    pems = [each.public_bytes(Encoding.PEM).decode() for each in (new.certificate, issuing.certificate, old_with_new)]
    assert verified(tmp_path / "v", leaf(before), pems[:1], pems[1:]) == ""


def test_a_worker_takes_a_renewed_chain_without_asking_the_token(store, hsm):
    """The object on the token stays what it was: with the token away, the new chain is in use all the same."""
    store.issuing()
    ceremony, worker = store.ceremony(), store.again()
    worker._clock = store.clock
    before = worker.find("issuing")
    renewed = renew(ceremony, "root", 9000)
    follow(ceremony, renewed)
    hsm.remove()
    store.clock.now += 1_000_000
    after = worker.find("issuing")
    assert after is not before
    assert after.chain[1:] == renewed.chain
    assert after.private_key is before.private_key


def test_what_is_below_on_a_token_follows_without_its_pin(store, hsm):
    """A root in software above an authority on a token: the root's ceremony needs no token."""
    folder = ["--keys", str(store.folder)]
    do("create-authority", *folder, "--name", "top", "--subject", "CN=Top", "--path-length", "1")
    do("create-authority", *folder, "--name", "low", "--subject", "CN=Low", "--parent", "top", *TOKEN)
    done = run("renew", *folder, "--name", "top", "--days", "9000")
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    assert [each["key"] for each in made["below"]] == ["low"]
    assert store.again().find("low").chain[1] == load(made["root"]["certificate"])
    refused = run("renew", *folder, "--name", "low", "--parent", "top")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert "no PIN" in refused.stderr.decode()
