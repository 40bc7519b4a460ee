"""`muster authority add-token` and `remove-token` beside a running gateway: it follows, with PINs that it learns by itself."""

import datetime as dt
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.conformance.test_authority_life import Operator
from tests.doubles.gateway import muster, running_gateway
from tests.doubles.programs import installed
from tests.hsm.kit import MODULE
from tests.serve.test_metrics import figures

pytestmark = pytest.mark.conformance

PINS = {"a": "2468-a", "b": "1357-b"}


def elsewhere(folder: Path) -> None:
    """An authority that was made elsewhere: `ca.key` (PKCS#8) and `chain.pem`."""
    now = dt.datetime.now(dt.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Elsewhere {each}")]) for each in ("Root", "Issuing")]
    chain = []
    for subject, key, length in zip(names, keys, (1, 0), strict=True):
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = (
            x509.CertificateBuilder()
            .issuer_name(names[0])
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
        )
        chain.append(builder.sign(keys[0], hashes.SHA256()))
    (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in reversed(chain)))
    key = keys[1].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "ca.key").write_bytes(key)


class Tokens:
    """Two tokens with PINs of their own."""

    def __init__(self, hsm) -> None:
        self.hsm = hsm
        self.folder_of = {}
        for label, pin in PINS.items():
            before = set(hsm.tokens.iterdir())
            hsm.make(label, pin)
            [self.folder_of[label]] = set(hsm.tokens.iterdir()) - before

    def write(self, file: Path, label: str) -> None:
        """As the token's own tool does it."""
        words = ["softhsm2-util", "--import", str(file), "--token", label, "--label", "twice", "--id", "a1b2"]
        self.hsm._do(*words, "--pin", PINS[label])

    def take(self, label: str) -> None:
        self.folder_of[label].rename(self.hsm.folder / f"away-{label}")

    def give_back(self, label: str) -> None:
        (self.hsm.folder / f"away-{label}").rename(self.folder_of[label])


def test_a_running_gateway_follows_a_token_that_is_added_and_one_that_is_removed(hsm, tmp_path):
    """Its PIN, added to the file of PINs while the gateway runs, is learnt without a restart. D17: both are audited."""
    installed("curl", "openssl", "softhsm2-util")
    tokens = Tokens(hsm)
    elsewhere(tmp_path)
    pins = tmp_path / "pins"
    pins.write_text(f"# PINs of the tokens\na={PINS['a']}\n")
    data = tmp_path / "data"
    variables = {"SOFTHSM2_CONF": str(hsm.configuration), "MUSTER_SIGNER_PINS_FILE": str(pins)}
    with running_gateway(data, variables=variables) as gateway:
        operator = Operator(gateway, tmp_path)
        on_a = ("--module", MODULE, "--token", "a")
        files = ("--key", "ca.key", "--chain", "chain.pem", "--no-passphrase")
        operator.authority("import", "twice", *files, *on_a, **variables)
        operator.issued(operator.profile("twice"))

        def token(verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
            return muster("authority", verb, "twice", "--module", MODULE, *words, "--data", str(data), **variables)

        tokens.write(tmp_path / "ca.key", "b")
        without = token("add-token", "--token", "b", "--label", "twice")
        assert (without.returncode, without.stderr.count("\n")) == (2, 1)
        assert "no PIN was given for the token b" in without.stderr
        pins.write_text(f"a={PINS['a']}\nb={PINS['b']}\n")
        added = token("add-token", "--token", "b", "--label", "twice")
        assert added.returncode == 0, added.stderr
        assert (
            added.stdout == f"key twice is served by the token a through {MODULE}, then the token b through {MODULE}\n"
        )
        assert "the token a through" in operator.shown("twice")
        wait_until(lambda: ("b", "closed") in states(gateway))
        tokens.take("a")
        operator.issued("twice")
        page = figures(gateway)
        assert page.value("muster_signer_failovers_total") >= 1
        assert page.value("muster_token_failures_total", token="a", failure="unavailable") >= 1
        removed = token("remove-token", "--token", "a")
        assert removed.stdout == f"key twice is served by the token b through {MODULE}\n"
        operator.issued("twice")
        last = token("remove-token", "--token", "b")
        assert (last.returncode, "only place" in last.stderr) == (2, True)
        assert not any(pin in gateway.log for pin in PINS.values())
    with sqlite3.connect(f"file:{data}/store.sqlite?mode=ro", uri=True) as database:
        found = database.execute("SELECT action, detail FROM audit WHERE action LIKE '%-token'").fetchall()
    assert found == [
        ("authority.add-token", f"key twice, token b through {MODULE}"),
        ("authority.remove-token", f"key twice, token a through {MODULE}"),
    ]


def states(gateway) -> set[tuple[str, str]]:
    """The tokens that workers know, and the states that they are in; asked for by issuing."""
    Operator(gateway, gateway.folder.parent).issued("twice")
    figures_of = figures(gateway).all("muster_token_workers")
    return {(labels["token"], labels["state"]) for labels, value in figures_of if value}


def wait_until(true) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--module", MODULE), "which token is meant"),
        (("--module", MODULE, "--token", "b"), "the key issuing rests in software"),
        (("--module", MODULE, "--token", "b", "--scep"), "the key issuing-ra rests in software"),
    ],
)
def test_what_cannot_be_is_one_sentence(folder, words, sentence):
    done = muster("authority", "add-token", "issuing", *words, "--data", str(folder))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway") / "data"
    with running_gateway(folder):
        pass
    return folder
