"""Real workers on a real token: they start, sign side by side, outlive a lost session, and a wrong PIN costs one try."""

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import trio
from cryptography import x509

from signer.client import SignerClient, WorkerLost
from signer.contract.messages import Certificate, No, SignAttributes, UnwrapKey
from signer.contract.refusal import SignerRefusal
from tests.hsm.kit import MODULE, PIN, run
from tests.signer.kit import SECRET, running_signer, start_signer
from tests.signer.test_processes import asked, connected, ended, figures, live_ask

# A contentType and a messageDigest of 32 zeros (RFC 5652, 11.1 and 11.2), DER.
ATTRIBUTES = bytes.fromhex(
    "314b301806092a864886f70d010903310b06092a864886f70d010701302f06092a864886f70d01090431220420"
) + bytes(32)


@pytest.fixture
def pin_file(tmp_path):
    path = tmp_path / "pin"
    path.write_text(PIN + "\n")
    return path


@pytest.fixture
def keys(hsm, tmp_path, pin_file):
    """The first ceremony, held on the token by the command line."""
    folder = tmp_path / "keys"
    done = run("first", "--keys", str(folder), "--tls", str(tmp_path / "tls"), *on_token(pin_file))
    assert done.returncode == 0, done.stderr.decode()
    return folder


def on_token(pin_file) -> list[str]:
    return ["--module", MODULE, "--token", "hsm", "--pin", f"file:{pin_file}"]


def on_token_objects() -> Counter[str]:
    listed = subprocess.run(
        [
            "pkcs11-tool",
            "--module",
            MODULE,
            "--token-label",
            "hsm",
            "--login",
            "--pin",
            PIN,
            "--list-objects",
            "--type",
            "privkey",
        ],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return Counter(line.split()[-1] for line in listed.splitlines() if line.strip().startswith("label:"))


def test_a_gateway_s_first_authorities_are_made_on_the_token(keys, tmp_path):
    assert on_token_objects() == {"root": 1, "issuing": 1, "issuing-ra": 1}
    for name in ("root", "issuing", "issuing-ra"):
        assert (keys / f"{name}.key").read_bytes().startswith(b'{"version":2')


def test_a_ceremony_on_a_token_that_is_held_again_changes_nothing(keys, tmp_path, pin_file):
    before = {each: each.read_bytes() for each in keys.rglob("*") if each.is_file()}
    again = run("first", "--keys", str(keys), "--tls", str(tmp_path / "tls"), *on_token(pin_file))
    assert again.returncode == 0, again.stderr.decode()
    assert {each: each.read_bytes() for each in keys.rglob("*") if each.is_file()} == before
    assert on_token_objects() == {"root": 1, "issuing": 1, "issuing-ra": 1}


def test_an_authority_on_the_token_stands_below_one_in_software(hsm, tmp_path, pin_file):
    folder = ["--keys", str(tmp_path / "keys")]
    top = run("create-authority", *folder, "--name", "top", "--subject", "CN=Top", "--path-length", "1")
    assert top.returncode == 0, top.stderr.decode()
    more = ["--name", "devices", "--subject", "CN=Devices", "--parent", "top", "--algorithm", "RSA_2048", "--with-ra"]
    made = run("create-authority", *folder, *more, *on_token(pin_file))
    assert made.returncode == 0, made.stderr.decode()
    shown = json.loads(made.stdout)
    issuing, root = (
        x509.load_pem_x509_certificate(shown[each]["certificate"].encode()) for each in ("issuing", "root")
    )
    issuing.verify_directly_issued_by(root)
    assert on_token_objects() == {"devices": 1, "devices-ra": 1}


def test_the_pin_can_come_by_standard_input_or_a_variable(hsm, tmp_path):
    arguments = ["create-authority", "--subject", "CN=Top", "--path-length", "1", "--module", MODULE, "--token", "hsm"]
    for number, (source, stdin, environment) in enumerate(
        [("stdin", SECRET + b"\n" + PIN.encode() + b"\n", {}), ("hsm=env:HSM_PIN", SECRET + b"\n", {"HSM_PIN": PIN})]
    ):
        place = ["--keys", str(tmp_path / "keys"), "--name", f"top-{number}"]
        done = run(*arguments, *place, "--pin", source, stdin=stdin, **environment)
        assert done.returncode == 0, done.stderr.decode()
    assert on_token_objects() == {"top-0": 1, "top-1": 1}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--token", "hsm"], "--module goes with --token"),
        (["--module", MODULE], "--module goes with --token"),
        (["--module", "/nowhere.so", "--token", "hsm", "--pin", "env:HSM_PIN"], "no PKCS#11 module /nowhere.so"),
        (["--module", MODULE, "--token", "nobody", "--pin", "env:HSM_PIN"], "nobody"),
        (["--module", MODULE, "--token", "hsm"], "no PIN was given"),
        (["--module", MODULE, "--token", "hsm", "--pin", PIN], "a PIN is named by"),
        (["--module", MODULE, "--token", "hsm", "--pin", "env:HSM_PIN", "--algorithm", "ML-DSA-65"], "ML-DSA-65"),
    ],
)
def test_a_ceremony_that_cannot_be_held_on_a_token_is_one_sentence(hsm, tmp_path, arguments, sentence):
    place = ["--keys", str(tmp_path / "keys"), "--name", "top", "--subject", "CN=Top"]
    done = run("create-authority", *place, *arguments, HSM_PIN=PIN)
    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert PIN.encode() not in done.stderr
    assert list((tmp_path / "keys").glob("*.key")) == []


async def test_four_workers_sign_on_one_token_at_once(keys, pin_file):
    with running_signer(keys, "--workers", "4", "--pin", f"file:{pin_file}") as signer:
        client = SignerClient(signer.sockets)
        signed: Counter[int] = Counter()

        async def asker(share: str) -> None:
            for _ in range(25):
                ask = live_ask()
                outcome = await client.ask(ask, share=share, deadline=trio.current_time() + 30)
                assert isinstance(outcome, Certificate), outcome
                signed[x509.load_der_x509_certificate(outcome.der).serial_number] += 1

        async with trio.open_nursery() as serving:
            await serving.start(client.run)
            async with trio.open_nursery() as nursery:
                for number in range(16):
                    nursery.start_soon(asker, f"app-{number % 3}")
            serving.cancel_scope.cancel()
        assert len(signed) == 400
        assert max(signed.values()) == 1
        for path in signer.sockets:  # each of them has a session of its own
            with connected(path) as connection:
                [outcome] = asked(connection, live_ask())
                issuer = x509.load_pem_x509_certificate(run_show(keys))
                x509.load_der_x509_certificate(outcome.der).verify_directly_issued_by(issuer)


def run_show(keys) -> bytes:
    """The issuing authority's certificate, by the verb that shows what exists."""
    done = run("show", "--keys", str(keys), "--name", "issuing")
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)["certificate"].encode()


def test_an_ra_s_key_on_the_token_serves_scep(keys, pin_file):
    """S49: what does not open is answered with a key of that length all the same."""
    with running_signer(keys, "--pin", f"file:{pin_file}") as signer, connected(signer.sockets[0]) as connection:
        forged = b"\x01" * 256
        signature, unwrapped, again, wrong_kind = asked(
            connection,
            SignAttributes("issuing-ra", ATTRIBUTES, "sha256"),
            UnwrapKey("issuing-ra", forged, "pkcs1v15", 16),
            UnwrapKey("issuing-ra", forged, "pkcs1v15", 16),
            UnwrapKey("issuing", forged, "pkcs1v15", 16),
        )
        assert len(signature.signature) == 256, signature
        assert len(unwrapped.key) == 16
        assert unwrapped == again
        assert wrong_kind.reason is SignerRefusal.WRONG_KIND


def test_a_worker_refuses_while_the_token_is_away_and_goes_on_when_it_is_back(keys, pin_file, hsm):
    """SoftHSM2 notices a token that went away when an object is used: the worker answers, and does not end."""
    with running_signer(keys, "--pin", f"file:{pin_file}") as signer, connected(signer.sockets[0]) as connection:
        assert isinstance(asked(connection, live_ask())[0], Certificate)
        hsm.remove()
        [refused] = asked(connection, live_ask())
        assert isinstance(refused, No), "SoftHSM2 went on signing"
        assert refused.reason is SignerRefusal.TOKEN
        hsm.bring_back()
        until = time.monotonic() + 60
        while not isinstance(asked(connection, live_ask())[0], Certificate):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert signer.process.poll() is None
        os.kill(signer.workers[0], 0)  # it is the same process
        told = figures(signer.sockets[0]).tokens["hsm"]
        assert told.failures["unavailable"] >= 1
        assert told.openings >= 1
        assert told.states == {"closed": 1}


async def test_a_worker_that_crashed_in_its_module_comes_back_with_the_token(keys, pin_file):
    """A module that takes its process with it (SIGSEGV) costs the asks in flight, and no more."""
    with running_signer(keys, "--workers", "2", "--pin", f"file:{pin_file}") as signer:
        client = SignerClient(signer.sockets)
        async with trio.open_nursery() as serving:
            await serving.start(client.run)
            assert isinstance(await client.ask(live_ask(), share="a", deadline=trio.current_time() + 20), Certificate)
            os.kill(signer.workers[0], signal.SIGSEGV)
            answered = 0
            with trio.fail_after(30):
                while answered < 50 or client.statistics().workers < 2:
                    try:
                        outcome = await client.ask(live_ask(), share="a", deadline=trio.current_time() + 20)
                    except WorkerLost:
                        continue
                    assert isinstance(outcome, Certificate), outcome
                    answered += 1
            assert client.statistics().told.ended == {"crashed": 1}
            assert client.statistics().outcomes["issue-certificate", "answered"] == answered + 1
            serving.cancel_scope.cancel()


def test_four_workers_with_a_wrong_pin_cost_one_try_and_one_sentence(keys, tmp_path, hsm):
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-pin")
    status, sentence = ended(start_signer(keys, "--workers", "4", "--pin", f"file:{wrong}"))
    assert status == 2
    assert sentence.count("refuses the PIN") == 1
    assert "wrong-pin" not in sentence
    # Proof that the token is left in peace from now on: even when that PIN is right, it is not tried.
    hsm.change_pin("hsm", PIN, "wrong-pin")
    status, sentence = ended(start_signer(keys, "--pin", f"file:{wrong}"))
    assert (status, sentence.count("\n")) == (2, 1)
    assert "has refused this PIN before" in sentence


@pytest.mark.parametrize("fault", ["no token", "no pin", "no module", "no key"])
def test_a_token_that_cannot_serve_stops_the_start_with_one_sentence(keys, pin_file, hsm, fault, tmp_path):
    arguments = ["--pin", f"file:{pin_file}"]
    if fault == "no token":
        hsm.remove()
    if fault == "no pin":
        arguments = []
    if fault == "no module":
        moved(keys, tmp_path)
    if fault == "no key":
        tool = ["pkcs11-tool", "--module", MODULE, "--token-label", "hsm", "--login", "--pin", PIN]
        subprocess.run(
            [*tool, "--delete-object", "--type", "privkey", "--label", "issuing"], check=True, capture_output=True
        )
    status, sentence = ended(start_signer(keys, *arguments))
    assert (status, sentence.count("\n")) == (2, 1)
    assert {"no token": "hsm", "no pin": "no PIN", "no module": "module", "no key": "0 private keys"}[fault] in sentence


def moved(keys: Path, tmp_path: Path) -> None:
    """A key file whose module has gone, as after an upgrade: written anew, with the secret, by the store itself."""
    from dataclasses import replace

    import msgspec

    from signer.keystore.softkey import SoftKeyStore, unlock
    from signer.keystore.token import tokens_of

    kek = unlock(keys, SECRET)
    store = SoftKeyStore(keys, kek, tokens_of(keys, kek, {"": PIN}))
    key = store.find("root")
    key.private_key.places = (msgspec.structs.replace(key.private_key.place, module=str(tmp_path / "gone.so")),)
    store.add(replace(key, name="moved"))


def test_no_pin_stands_in_a_process_s_arguments_or_environment(keys, monkeypatch):
    monkeypatch.setenv("HSM_PIN", PIN)
    with running_signer(keys, "--pin", "env:HSM_PIN") as signer:
        for pid in signer.workers:
            assert PIN.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        for pid in (signer.process.pid, *signer.workers):
            assert PIN.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_token_s_code_is_not_loaded_for_software_keys(keys_folder):
    with running_signer(keys_folder) as signer:
        assert "pkcs11" not in Path(f"/proc/{signer.workers[0]}/maps").read_text()
