"""Ceremonies: what is made, that it is kept, and that an interrupted one goes on."""

import datetime as dt
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from signer.__main__ import main
from signer.ceremony import DAY, Manifest, Plan, first, parse_subject
from signer.issuance.refused import Refused
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import KeyKind
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.doubles import verification
from tests.doubles.verification import lint
from tests.signer.kit import NOW, SECRET, MemoryStore, ceremony

ROOT = Path(__file__).parents[2]


def run(*arguments: str, secret: bytes = SECRET) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "signer", *arguments],
        input=secret + b"\n",
        capture_output=True,
        check=False,
        cwd=ROOT,
        timeout=60,
    )


def facts(shown: bytes) -> dict:
    """What a ceremony told, without its transcript, which has times."""
    return {name: value for name, value in json.loads(shown).items() if name != "transcript"}


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def constraints(certificate: x509.Certificate) -> x509.BasicConstraints:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value


def days(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days


def test_the_first_ceremony_makes_everything_that_a_gateway_starts_with(tmp_path):
    done = run("first", "--keys", str(tmp_path / "keys"), "--tls", str(tmp_path / "tls"), "--host", "gw.example")
    assert done.returncode == 0, done.stderr.decode()
    made = json.loads(done.stdout)
    root, issuing, ra = (load(made[name]["certificate"]) for name in ("root", "issuing", "ra"))
    assert [made[name]["key"] for name in ("root", "issuing", "ra")] == ["root", "issuing", "issuing-ra"]
    assert [load(each) for each in made["issuing"]["chain"]] == [issuing, root]
    issuing.verify_directly_issued_by(root)
    ra.verify_directly_issued_by(issuing)
    assert (constraints(root).path_length, constraints(issuing).path_length) == (1, 0)
    assert (days(root), days(issuing), days(ra)) == (7305, 3653, 1826)
    assert isinstance(issuing.public_key().curve, ec.SECP256R1)
    assert isinstance(ra.public_key(), rsa.RSAPublicKey)
    usage = ra.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
    assert {each.serial_number.bit_length() for each in (root, issuing, ra)} == {127}
    for name in ("root", "issuing", "ra"):
        assert lint(made[name]["certificate"]) == []


def test_the_listener_s_certificate_is_good_for_this_machine(tmp_path):
    done = run("first", "--keys", str(tmp_path / "keys"), "--tls", str(tmp_path / "tls"), "--host", "GW.example.")
    made = json.loads(done.stdout)
    key_file, chain_file = Path(made["tls"]["key_file"]), Path(made["tls"]["chain_file"])
    assert (key_file, chain_file) == (tmp_path / "tls" / "key.pem", tmp_path / "tls" / "chain.pem")
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    chain = x509.load_pem_x509_certificates(chain_file.read_bytes())
    assert chain == [load(made["tls"]["certificate"]), load(made["issuing"]["certificate"])]
    leaf = chain[0]
    assert load_pem_private_key(key_file.read_bytes(), None).public_key() == leaf.public_key()
    assert days(leaf) == 397
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    root = made["root"]["certificate"]
    for name in ("gw.example", "localhost", "127.0.0.1", "::1"):
        verification._openssl(made["tls"]["certificate"], [made["issuing"]["certificate"]], root, name, None)
        verification._cryptography(leaf, [made["issuing"]["certificate"]], root, name)
    # pkilint wants two labels in every name; "localhost" has one, and a newcomer's client connects to it.
    assert [each for each in lint(made["tls"]["certificate"]) if '"localhost"' not in each] == []


def test_a_ceremony_that_is_held_again_changes_nothing(tmp_path):
    arguments = ["first", "--keys", str(tmp_path / "keys"), "--tls", str(tmp_path / "tls")]
    once = run(*arguments)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    again = run(*arguments)
    assert (again.returncode, facts(again.stdout)) == (0, facts(once.stdout))
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_ceremony_that_was_interrupted_goes_on(tmp_path, done):
    """Whatever was written before the crash is kept; nothing is half written, since files appear whole."""
    create(tmp_path / "keys", SECRET)
    store = SoftKeyStore(tmp_path / "keys", unlock(tmp_path / "keys", SECRET))

    class Crash(Exception):
        pass

    class Crashing:
        writes = 0

        def __getattr__(self, name):
            return getattr(store, name)

        def add(self, key):
            if self.writes == done:
                raise Crash
            self.writes += 1
            store.add(key)

    if done < 3:
        with pytest.raises(Crash):
            first(ceremony(Crashing()), tmp_path / "tls", [])
    else:
        first(ceremony(store), tmp_path / "tls", [])
        (tmp_path / "tls" / ("key.pem" if done == 3 else "chain.pem")).unlink()
    kept = {name: store.find(name).certificate for name in store.names()}
    made = first(ceremony(SoftKeyStore(tmp_path / "keys", unlock(tmp_path / "keys", SECRET))), tmp_path / "tls", [])
    for name, certificate in kept.items():
        assert store.find(name).certificate == certificate
    load(made.issuing.certificate).verify_directly_issued_by(load(made.root.certificate))
    assert made.tls is not None
    chain = x509.load_pem_x509_certificates((tmp_path / "tls" / "chain.pem").read_bytes())
    key = load_pem_private_key((tmp_path / "tls" / "key.pem").read_bytes(), None)
    assert key.public_key() == chain[0].public_key() == load(made.tls.certificate).public_key()
    mark = load(made.root.certificate).subject.rfc4514_string().split(",", 1)[0][-8:]
    assert mark in load(made.issuing.certificate).subject.rfc4514_string()


def test_the_tls_certificate_is_renewed_by_a_verb_of_its_own(tmp_path):
    arguments = ["--keys", str(tmp_path / "keys"), "--tls", str(tmp_path / "tls")]
    before = json.loads(run("first", *arguments).stdout)["tls"]["certificate"]
    done = run("tls", *arguments, "--host", "new.example")
    after = json.loads(done.stdout)["certificate"]
    assert load(after).serial_number != load(before).serial_number
    assert (tmp_path / "tls" / "chain.pem").read_text().startswith(after)


def test_an_authority_with_its_ra_is_made_below_another(tmp_path):
    keys = ["--keys", str(tmp_path / "keys")]
    top = run("create-authority", *keys, "--name", "top", "--subject", "CN=Top,O=Example", "--path-length", "1")
    assert top.returncode == 0, top.stderr.decode()
    shown = json.loads(top.stdout)
    assert shown["root"]["key"] == shown["issuing"]["key"] == "top"
    assert "ra" not in shown
    more = ["--parent", "top", "--algorithm", "RSA_2048", "--days", "100", "--with-ra", "--leaf-days", "30"]
    arguments = [*keys, "--name", "devices", "--subject", "CN=Devices,O=Example,C=DE", *more]
    below = run("create-authority", *arguments)
    assert below.returncode == 0, below.stderr.decode()
    made = json.loads(below.stdout)
    assert (made["root"]["key"], made["issuing"]["key"], made["ra"]["key"]) == ("top", "devices", "devices-ra")
    certificate = load(made["issuing"]["certificate"])
    certificate.verify_directly_issued_by(load(made["root"]["certificate"]))
    assert certificate.subject.rfc4514_string() == "CN=Devices,O=Example,C=DE"
    assert (days(certificate), constraints(certificate).path_length) == (100, 0)
    assert load(made["ra"]["certificate"]).subject.rfc4514_string() == "CN=Devices RA,O=Example,C=DE"
    assert load(made["ra"]["certificate"]).not_valid_after_utc == certificate.not_valid_after_utc
    again = run("create-authority", *arguments)
    assert facts(again.stdout) == facts(below.stdout)
    store = SoftKeyStore(tmp_path / "keys", unlock(tmp_path / "keys", SECRET))
    assert store.find("devices").ceiling.max_validity == 30 * DAY
    assert not store.find("devices").ceiling.authorities
    assert not store.find("top").ceiling.leaves


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--name", "x", "--subject", "nonsense"], "is not a name such as"),
        (["--name", "x", "--subject", "CN=a+O=b"], "one attribute"),
        (["--name", "x", "--subject", "CN=X", "--algorithm", "DSA"], "none of"),
        (["--name", "x", "--subject", "CN=X", "--parent", "nobody"], "no key named nobody"),
        (["--name", "../x", "--subject", "CN=X"], "name"),
        (["--name", "x", "--subject", "CN=" + "x" * 65], "length"),
        (["--name", "x", "--subject", "CN=X", "--with-ra"], "never signs anything but authorities"),
    ],
)
def test_what_cannot_be_made_is_told_in_a_sentence(tmp_path, arguments, sentence):
    done = run("create-authority", "--keys", str(tmp_path / "keys"), *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("list", []),
        ("show", ["--name", "root"]),
        ("renew", ["--name", "root"]),
        ("rekey", ["--name", "root", "--as", "root-g2"]),
        ("install", ["--name", "root", "--certificate", "chain.pem"]),
        ("add-place", ["--name", "root", "--module", "/lib/hsm.so", "--token", "t"]),
        ("remove-place", ["--name", "root", "--module", "/lib/hsm.so", "--token", "t"]),
        ("tls", ["--tls", "tls"]),
    ],
)
def test_a_folder_that_was_mistyped_is_told_and_not_made(tmp_path, verb, arguments):
    """Whatever secret was typed with it would have become that folder's."""
    done = run(verb, "--keys", str(tmp_path / "kyes"), *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert "is not a key store" in done.stderr.decode()
    assert not (tmp_path / "kyes").exists()


def test_a_wrong_secret_makes_nothing(tmp_path):
    create(tmp_path / "keys", SECRET)
    done = run("first", "--keys", str(tmp_path / "keys"), "--tls", str(tmp_path / "tls"), secret=b"wrong")
    assert done.returncode == 2
    assert "secret" in done.stderr.decode()
    assert [each.name for each in (tmp_path / "keys").iterdir()] == ["keystore.json"]
    assert not (tmp_path / "tls").exists()


def test_the_ceiling_of_each_authority_follows_from_its_place():
    at = ceremony(MemoryStore())
    root = at.authority(Plan("root", [("2.5.4.3", "R")], "EC_prime256v1", None, None, 7300))
    middle = at.authority(Plan("middle", [("2.5.4.3", "M")], "EC_prime256v1", root, 3, 3650))
    last = at.authority(Plan("last", [("2.5.4.3", "L")], "EC_prime256v1", middle, 0, 36500))
    facts = [(each.ceiling.leaves, each.ceiling.authorities, each.ceiling.path_length) for each in (root, middle, last)]
    assert facts == [(False, True, None), (True, True, 2), (True, False, None)]
    assert last.certificate.not_valid_after_utc == middle.certificate.not_valid_after_utc
    assert last.certificate.not_valid_before_utc == dt.datetime.fromtimestamp(NOW - DAY, dt.UTC)
    with pytest.raises(Refused):
        at.authority(Plan("too-deep", [("2.5.4.3", "D")], "EC_prime256v1", last, 0, 365))


def test_a_name_of_one_kind_is_not_taken_for_the_other():
    at = ceremony(MemoryStore())
    root = at.authority(Plan("root", [("2.5.4.3", "R")], "EC_prime256v1", None, 1, 7300))
    issuing = at.authority(Plan("issuing", [("2.5.4.3", "I")], "EC_prime256v1", root, 0, 3650))
    assert at.ra("ra", issuing).kind is KeyKind.RA
    with pytest.raises(Refused):
        at.authority(Plan("ra", [("2.5.4.3", "R")], "EC_prime256v1", root, 0, 3650))
    with pytest.raises(KeyStoreError):
        at.ra("issuing", issuing)


def test_a_subject_keeps_the_order_of_a_certificate():
    assert parse_subject(r"CN=Devices\, all,O=Example") == [("2.5.4.10", "Example"), ("2.5.4.3", "Devices, all")]


def test_a_machine_s_odd_name_is_left_out(tmp_path):
    made = first(ceremony(_stored(tmp_path)), tmp_path / "tls", ["build_box", "192.0.2.1", "localhost"])
    assert isinstance(made, Manifest)
    leaf = load(made.tls.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each.value) for each in names] == ["192.0.2.1", "localhost", "127.0.0.1", "::1"]


def _stored(tmp_path) -> SoftKeyStore:
    create(tmp_path / "keys", SECRET)
    return SoftKeyStore(tmp_path / "keys", unlock(tmp_path / "keys", SECRET))


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit):
        main(["create-authority", "--help"])
    assert "example: python -m signer create-authority" in " ".join(capsys.readouterr().out.split())


def test_two_ceremonies_at_once_wait_for_each_other(tmp_path):
    """One makes the authority, the other finds it: never two keys, never half of one."""
    words = ["create-authority", "--keys", str(tmp_path / "keys"), "--name", "top", "--subject", "CN=Top"]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "signer", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(3)
    ]
    told = [json.loads(each.communicate(SECRET + b"\n", 60)[0]) for each in started]
    assert len({each["root"]["certificate"] for each in told}) == 1
    assert sum(any("Made the key top" in line for line in each["transcript"]) for each in told) == 1
