"""Modules that hang, crash, fail and crawl: a real token behind one that does so when it is told to (`trouble.c`)."""

import os
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from signer.ceremony.places import add_place
from signer.contract.messages import Certificate, No
from signer.contract.refusal import SignerRefusal
from signer.keystore.circuit import State
from signer.keystore.failures import StoreFailure
from signer.keystore.key import TokenPlace
from tests.hsm.kit import PIN, place, run
from tests.hsm.test_failover import Pair
from tests.hsm.test_token_failures import refused, signs
from tests.hsm.trouble import Trouble
from tests.signer.kit import running_signer, start_signer
from tests.signer.test_processes import asked, connected, ended, figures, gone, live_ask

CODES = [  # PKCS#11 2.40, 11.1: what a module answers to C_Sign, and what that means
    ("5", StoreFailure.SESSION),  # CKR_GENERAL_ERROR
    ("6", StoreFailure.SESSION),  # CKR_FUNCTION_FAILED
    ("30", StoreFailure.SESSION),  # CKR_DEVICE_ERROR
    ("b3", StoreFailure.SESSION),  # CKR_SESSION_HANDLE_INVALID
    ("101", StoreFailure.SESSION),  # CKR_USER_NOT_LOGGED_IN
    ("80000001", StoreFailure.SESSION),  # CKR_VENDOR_DEFINED and what a vendor adds
    ("32", StoreFailure.UNAVAILABLE),  # CKR_DEVICE_REMOVED
    ("e0", StoreFailure.UNAVAILABLE),  # CKR_TOKEN_NOT_PRESENT
    ("31", StoreFailure.UNAVAILABLE),  # CKR_DEVICE_MEMORY
    ("70", StoreFailure.UNSUPPORTED),  # CKR_MECHANISM_INVALID
]


@pytest.fixture
def trouble(hsm, tmp_path, monkeypatch):
    made = Trouble(tmp_path / "trouble")
    monkeypatch.setenv("TROUBLE", str(made.file))
    return made


@pytest.fixture
def key(store, trouble):
    return store.tokens.generate(TokenPlace(trouble.module, "hsm", "", "key", b""), "EC_prime256v1")


@pytest.fixture
def pin_file(tmp_path):
    path = tmp_path / "pin"
    path.write_text(PIN + "\n")
    return path


@pytest.fixture
def keys(hsm, trouble, tmp_path, pin_file):
    """A root on the token that will be in trouble, and an issuing authority in software."""
    folder = ["--keys", str(tmp_path / "keys")]
    token = ["--module", trouble.module, "--token", "hsm", "--pin", f"file:{pin_file}"]
    root = ["create-authority", *folder, "--name", "root", "--subject", "CN=Root", "--path-length", "1"]
    on_token = ["--name", "issuing", "--subject", "CN=On a token", "--parent", "root", *token]
    in_software = ["--name", "soft", "--subject", "CN=In software", "--parent", "root"]
    for command in (root, ["create-authority", *folder, *on_token], ["create-authority", *folder, *in_software]):
        done = run(*command)
        assert done.returncode == 0, done.stderr.decode()
    return tmp_path / "keys"


@pytest.mark.parametrize(("code", "failure"), CODES)
def test_what_a_module_answers_has_its_reason(key, trouble, code, failure):
    signs(key)
    trouble.begin(f"sign fail {code}")
    refused(failure, lambda: key.sign(b"data", ecdsa()))
    trouble.end()


def ecdsa():
    from tests.hsm.test_token_failures import ECDSA

    return ECDSA


def test_a_token_that_fails_again_and_again_is_left_alone_and_tried_again(key, trouble, store):
    """Three troubles in ten seconds; then asks cost nothing, and one of them a second is the probe."""
    token = store.tokens.token(key.place)
    trouble.begin("sign fail 30")
    for _ in range(3):
        refused(StoreFailure.SESSION, lambda: signs(key))
    assert token.state is State.OPEN
    assert token.openings == 1
    trouble.begin("sign crash")  # proof that it is not asked: this process would be gone
    for _ in range(10):
        assert "left alone" in refused(StoreFailure.SESSION, lambda: signs(key))
    trouble.end()
    store.clock.now += 1.1
    signs(key)
    assert token.state is State.CLOSED


def test_a_token_that_was_killed_once_is_not_left_alone(key, trouble, store):
    """A session that failed is replaced; the ask did not fail, and nothing is counted against the token."""
    from tests.hsm.kit import kill_sessions

    for _ in range(5):
        kill_sessions(store.tokens.token(key.place).session(), str(trouble.file.with_name("real.so")))
        signs(key)
    assert store.tokens.token(key.place).state is State.CLOSED
    assert store.tokens.token(key.place).failures[StoreFailure.SESSION] == 5


def test_a_pin_that_locked_itself_is_told_and_not_tried_again(store, trouble, key):
    """CKR_PIN_LOCKED: the same sentence for every process that comes after, without another try."""
    store.root()
    trouble.begin("login fail a4")
    tokens = store.fresh_tokens()
    assert "PinLocked" in refused(StoreFailure.LOCKED, lambda: tokens.find(key.place, key.public_key()))
    trouble.end()
    sentence = refused(StoreFailure.LOCKED, lambda: store.fresh_tokens().find(key.place, key.public_key()))
    assert "has refused this PIN before" in sentence


@pytest.mark.parametrize(("code", "name"), [("31", "DeviceMemory"), ("e2", "TokenWriteProtected")])
def test_a_token_that_is_full_or_write_protected_makes_no_key(store, trouble, key, code, name):
    trouble.begin(f"generate fail {code}")
    where = TokenPlace(trouble.module, "hsm", "", "another", b"")
    assert name in refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.generate(where, "EC_prime256v1"))
    trouble.end()
    signs(key)  # what it has serves on


def test_a_worker_whose_token_hangs_is_ended_and_software_keys_go_on(keys, trouble, pin_file):
    """Nothing interrupts a call into a module: the process ends, its batch is lost, the next one lets the token rest."""
    with running_signer(keys, "--pin", f"file:{pin_file}", "--stuck-after", "1") as signer:
        with connected(signer.sockets[0]) as connection:
            assert isinstance(asked(connection, live_ask())[0], Certificate)
            trouble.begin("sign hang")
            with pytest.raises((IndexError, OSError, AssertionError)):
                lost(connection)
        assert gone(signer.workers[0])
        with connected(signer.sockets[0]) as connection:
            connection.settimeout(30)
            software, away = asked(connection, live_ask(issuer="soft"), live_ask())
            assert isinstance(software, Certificate)
            assert isinstance(away, No)
            assert away.reason is SignerRefusal.TOKEN
            assert 1 <= away.retry_after <= 15
        told = figures(signer.sockets[0])
        assert told.ended == {"stuck": 1}
        assert told.tokens["hsm"].states == {"open": 1}
        signer.process.send_signal(15)
        said = signer.process.stderr.read().decode()
        assert "the token hsm gave no answer within 1 s" in said


def lost(connection, issuer: str = "issuing") -> None:
    """An ask of which nothing comes back but the end of the connection."""
    from signer.contract.framing import encode_batch
    from signer.contract.messages import VERSION, Ask, Batch

    connection.settimeout(30)
    connection.sendall(encode_batch(Batch(VERSION, [Ask(0, live_ask(issuer=issuer))])))
    if connection.recv(65536) == b"":
        raise ConnectionResetError


def test_a_token_whose_module_kills_workers_again_and_again_rests(keys, trouble, pin_file):
    """SIGSEGV in C_Sign: the first costs a batch; after the second the token is left alone, and the rest goes on."""
    with running_signer(keys, "--pin", f"file:{pin_file}") as signer:
        trouble.begin("sign crash")
        with connected(signer.sockets[0]) as connection, pytest.raises(OSError):
            lost(connection)
        assert gone(signer.workers[0])
        until = time.monotonic() + 60
        while True:  # the next one dies as it opens its keys; the one after that knows better
            assert time.monotonic() < until
            try:
                with connected(signer.sockets[0]) as connection:
                    connection.settimeout(30)
                    software, away = asked(connection, live_ask(issuer="soft"), live_ask())
            except OSError:
                continue
            break
        assert isinstance(software, Certificate)
        assert away.reason is SignerRefusal.TOKEN
        assert figures(signer.sockets[0]).ended["crashed"] >= 2
        signer.process.send_signal(15)
        assert "die again and again with the token hsm" in signer.process.stderr.read().decode()


def test_a_token_that_hangs_at_the_start_is_one_sentence(keys, trouble, pin_file):
    trouble.begin("open hang")
    status, sentence = ended(start_signer(keys, "--pin", f"file:{pin_file}", "--stuck-after", "0.5"))
    assert (status, sentence.count("\n")) == (2, 1)
    assert "the token hsm gives no answer" in sentence


def test_a_slow_token_is_left_alone_after_three_operations(keys, trouble, pin_file):
    """Each took longer than two seconds: the fourth ask of the batch does not wait behind them."""
    with running_signer(keys, "--pin", f"file:{pin_file}") as signer, connected(signer.sockets[0]) as connection:
        connection.settimeout(60)
        trouble.begin("sign sleep 2.1")
        outcomes = asked(connection, *(live_ask() for _ in range(6)))
        trouble.end()
        assert [type(each) for each in outcomes[:3]] == [Certificate] * 3
        assert {each.reason for each in outcomes[3:]} == {SignerRefusal.TOKEN}
        os.kill(signer.workers[0], 0)
        told = figures(signer.sockets[0]).tokens["hsm"]
        assert (told.failures["slow"], told.openings, told.states) == (3, 1, {"open": 1})
        until = time.monotonic() + 30
        while not isinstance(asked(connection, live_ask())[0], Certificate):
            assert time.monotonic() < until
            time.sleep(0.2)


def test_a_token_that_hangs_costs_one_batch_and_the_second_one_goes_on(hsm, trouble, tmp_path, pin_file):
    """Two tokens with one key; the first one's module never comes back: its worker ends, the next leaves it alone."""
    pair = Pair(hsm, tmp_path / "pair")
    private_key = ec.generate_private_key(ec.SECP256R1())
    for label in ("a", "b"):
        pair.store.tokens.take_in(place("issuing", label), private_key)
    hanging = TokenPlace(trouble.module, "a", "", "issuing", b"")
    on_a = pair.store.tokens.find(hanging, private_key.public_key())
    made = pair.store.issuing()
    pair.store.keys.add(
        replace(made, name="twice", private_key=on_a, chain=pair.certified(made, private_key)),
    )
    add_place(pair.store.keys, pair.store.tokens, "twice", place("issuing", "b"))
    arguments = ("--pin", f"file:{pin_file}", "--stuck-after", "1")
    with running_signer(pair.store.folder, *arguments) as signer:
        with connected(signer.sockets[0]) as connection:
            assert isinstance(asked(connection, live_ask(issuer="twice"))[0], Certificate)
            trouble.begin("sign hang")
            with pytest.raises((IndexError, OSError, AssertionError)):
                lost(connection, issuer="twice")
        assert gone(signer.workers[0])
        with connected(signer.sockets[0]) as connection:
            connection.settimeout(30)
            outcomes = asked(connection, *(live_ask(issuer="twice") for _ in range(5)))
            assert [type(each) for each in outcomes] == [Certificate] * 5
        told = figures(signer.sockets[0])
        assert told.ended == {"stuck": 1}
        assert told.failovers >= 5
        assert told.tokens["a"].states == {"open": 1}
        assert told.tokens["b"].states == {"closed": 1}
