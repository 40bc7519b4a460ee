"""Two tokens with one key: the first that works signs. One is taken away under load; nothing is lost, nothing twice."""

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pkcs11
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa

from signer.ceremony.places import add_place, remove_place
from signer.client import SignerClient, WorkerLost
from signer.contract.messages import Certificate, No
from signer.contract.refusal import SignerRefusal
from signer.keystore.failures import StoreFailure
from signer.keystore.key import StoredKey
from signer.keystore.mechanism import PrivateKey
from tests.hsm.kit import MODULE, PIN, Store, kill_sessions, place, run
from tests.hsm.test_token_failures import begin_anew, refused, signs
from tests.signer.kit import running_signer
from tests.signer.test_processes import live_ask


class Pair:
    """Two tokens, `a` and `b`, with one key on both: an issuing authority below a root in software."""

    def __init__(self, hsm, folder: Path) -> None:
        self.hsm = hsm
        self.folder_of = {}
        for label in ("a", "b"):
            before = set(hsm.tokens.iterdir())
            hsm.make(label)
            [self.folder_of[label]] = set(hsm.tokens.iterdir()) - before
        begin_anew()
        self.store = Store(folder)

    def key(self, private_key: PrivateKey | None = None) -> StoredKey:
        """The authority's key, made elsewhere and written to both tokens by C_CreateObject; it does not leave them."""
        private_key = private_key or ec.generate_private_key(ec.SECP256R1())
        self.store.tokens.take_in(place("issuing", "a"), private_key)
        self.store.tokens.take_in(place("issuing", "b"), private_key)
        on_a = self.store.tokens.find(place("issuing", "a"), private_key.public_key())
        made = self.store.issuing()  # whose own key is on `hsm`, and is left there
        chain = self.certified(made, private_key)
        self.store.keys.add(replace(made, name="twice", private_key=on_a, chain=chain))
        return self.store.keys.find("twice")

    def certified(self, made: StoredKey, private_key: PrivateKey) -> tuple[x509.Certificate, ...]:
        """The authority's certificate for another key."""
        builder = x509.CertificateBuilder(
            made.certificate.issuer,
            made.certificate.subject,
            private_key.public_key(),
            x509.random_serial_number(),
            made.certificate.not_valid_before_utc,
            made.certificate.not_valid_after_utc,
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        root = self.store.keys.find("root")
        return (builder.sign(root.private_key, hashes.SHA256()), *root.chain)

    def take(self, label: str) -> None:
        where = self.folder_of[label]
        where.rename(self.hsm.folder / f"away-{label}")

    def give_back(self, label: str) -> None:
        away = self.hsm.folder / f"away-{label}"
        shutil.rmtree(self.folder_of[label], ignore_errors=True)
        away.rename(self.folder_of[label])


@pytest.fixture
def pair(hsm, tmp_path):
    return Pair(hsm, tmp_path / "keys")


@pytest.fixture
def pin_file(tmp_path):
    path = tmp_path / "pin"
    path.write_text(PIN + "\n")
    return path


def both(pair: Pair) -> StoredKey:
    pair.key()
    add_place(pair.store.keys, pair.store.tokens, "twice", place("", "b"))
    return pair.store.keys.find("twice")


def sessions(pair: Pair, label: str):
    return pair.store.tokens.token(place("issuing", label))


def test_a_place_is_added_and_removed_and_older_code_refuses_the_file(pair):
    key = both(pair)
    assert [each.token for each in key.private_key.places] == ["a", "b"]
    file = pair.store.folder / "twice.key"
    assert file.read_bytes().startswith(b'{"version":3')
    signs(pair.store.again().find("twice").private_key)
    assert add_place(pair.store.keys, pair.store.tokens, "twice", place("", "b")) == key.private_key.places
    [left] = remove_place(pair.store.keys, "twice", place("", "a"))
    assert left.token == "b"
    assert file.read_bytes().startswith(b'{"version":2')
    signs(pair.store.again().find("twice").private_key)
    refused(StoreFailure.UNSUPPORTED, lambda: remove_place(pair.store.keys, "twice", place("", "b")))
    refused(StoreFailure.MISSING, lambda: remove_place(pair.store.keys, "twice", place("", "a")))


def test_another_key_by_the_same_name_is_not_a_place(pair):
    pair.key()
    pair.store.tokens.generate(place("other", "b"), "EC_prime256v1")
    before = (pair.store.folder / "twice.key").read_bytes()
    add = lambda where: add_place(pair.store.keys, pair.store.tokens, "twice", where)  # noqa: E731
    refused(StoreFailure.DAMAGED, lambda: add(place("other", "b")))
    refused(StoreFailure.MISSING, lambda: add(place("nothing", "b")))
    refused(StoreFailure.UNAVAILABLE, lambda: add(place("issuing", "nobody")))
    assert (pair.store.folder / "twice.key").read_bytes() == before


def test_a_key_in_software_has_no_places(pair, keys_folder):
    from signer.keystore.softkey import SoftKeyStore, unlock
    from tests.signer.kit import SECRET

    keys = SoftKeyStore(keys_folder, unlock(keys_folder, SECRET))
    refused(StoreFailure.UNSUPPORTED, lambda: add_place(keys, pair.store.tokens, "issuing", place("", "b")))
    refused(StoreFailure.UNSUPPORTED, lambda: remove_place(keys, "issuing", place("", "b")))


def test_the_second_token_signs_in_the_same_ask_and_the_first_again_when_it_is_back(pair):
    key = both(pair).private_key
    signs(key)
    pair.take("a")
    kill_sessions(sessions(pair, "a").session())
    signs(key)
    signs(key)  # without another look at the token that is away
    assert sessions(pair, "a").state.value == "open"
    pair.give_back("a")
    pair.store.clock.now += 9
    signs(key)
    assert sessions(pair, "a").state.value == "closed"


def test_when_both_are_away_that_is_told_with_a_time(pair):
    key = both(pair).private_key
    pair.take("a")
    pair.take("b")
    for label in ("a", "b"):
        kill_sessions(sessions(pair, label).session())
    refused(StoreFailure.UNAVAILABLE, lambda: signs(key))
    with pytest.raises(Exception, match="left alone") as caught:
        signs(key)
    assert caught.value.retry_after == 1
    for label in ("a", "b"):
        pair.give_back(label)
    pair.store.clock.now += 9
    signs(key)


def test_a_key_that_is_deleted_on_one_token_is_served_by_the_other(pair):
    key = both(pair).private_key
    session = sessions(pair, "a").session()
    for each in list(session.get_objects({pkcs11.Attribute.LABEL: "issuing"})):
        each.destroy()
    sessions(pair, "a").drop()
    for _ in range(3):
        signs(key)
    assert sessions(pair, "a").state.value == "closed"  # its other keys are served


def test_a_store_opens_with_one_token_of_two_and_not_with_another_s_key(pair):
    both(pair)
    pair.take("a")
    begin_anew()
    signs(pair.store.again().find("twice").private_key)
    pair.take("b")
    begin_anew()
    refused(StoreFailure.UNAVAILABLE, lambda: pair.store.again().find("twice"))


def test_an_rsa_key_signs_and_decrypts_on_either(pair):
    key = rsa.generate_private_key(65537, 2048)
    pair.store.tokens.take_in(place("ra", "a"), key)
    pair.store.tokens.take_in(place("ra", "b"), key)
    shared = pair.store.tokens.find_any([place("ra", "a"), place("ra", "b")], key.public_key())
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)):
        key.public_key().verify(shared.sign(b"data", scheme, hashes.SHA256()), b"data", scheme, hashes.SHA256())
    pair.take("a")
    for scheme in (padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)):
        key.public_key().verify(shared.sign(b"data", scheme, hashes.SHA256()), b"data", scheme, hashes.SHA256())


def test_a_key_that_no_token_can_hold_is_told(pair):
    public_key = ed448.Ed448PrivateKey.generate().public_key()
    refused(StoreFailure.UNSUPPORTED, lambda: pair.store.tokens.find_any([place("key", "a")], public_key))


def test_places_are_added_and_removed_on_the_command_line(pair, pin_file):
    pair.key()
    where = ["--keys", str(pair.store.folder), "--name", "twice", "--module", MODULE, "--pin", f"file:{pin_file}"]
    done = run("add-place", *where, "--token", "b")
    assert done.returncode == 0, done.stderr.decode()
    assert [each["token"] for each in json.loads(done.stdout)["places"]] == ["a", "b"]
    done = run("add-place", *where, "--token", "nobody")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    done = run("remove-place", *where, "--token", "a")
    assert json.loads(done.stdout)["place"]["token"] == "b"
    done = run("remove-place", *where, "--token", "b")
    assert b"only place" in done.stderr


async def test_a_token_that_is_taken_away_under_load_costs_nothing_and_is_used_again(pair, pin_file):
    """Eight askers, two workers: every ask is answered by a certificate, and no serial is signed twice."""
    both(pair)
    signed: Counter[int] = Counter()
    refusals: list[No] = []
    with running_signer(pair.store.folder, "--workers", "2", "--pin", f"file:{pin_file}") as signer:
        client = SignerClient(signer.sockets)
        ended = trio.Event()

        async def asker(share: str) -> None:
            while not ended.is_set():
                ask = live_ask(issuer="twice")
                try:
                    outcome = await client.ask(ask, share=share, deadline=trio.current_time() + 30)
                except WorkerLost:
                    continue
                if isinstance(outcome, No):
                    refusals.append(outcome)
                    continue
                assert isinstance(outcome, Certificate)
                serial = x509.load_der_x509_certificate(outcome.der).serial_number
                assert serial == int.from_bytes(ask.serial, "big")
                signed[serial] += 1

        async def count(more: int) -> None:
            goal = len(signed) + more
            with trio.fail_after(60):
                while len(signed) < goal:
                    await trio.sleep(0.01)

        async with trio.open_nursery() as serving:
            await serving.start(client.run)
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(asker, f"app-{number}")
                await count(100)
                pair.take("a")
                await count(300)
                pair.give_back("a")
                await count(100)
                assert refusals == []
                pair.take("b")  # from now on only the one that came back can sign; it may still rest for a moment
                await count(100)
                ended.set()
            told = client.statistics().told
            assert told.failovers >= 1
            assert told.tokens["a"].openings >= 1
            assert told.tokens["a"].failures["unavailable"] >= 1
            assert told.tokens["b"].openings == 0 or refusals
            serving.cancel_scope.cancel()
        signer.process.send_signal(15)
        said = signer.process.stderr.read().decode()
    assert max(signed.values()) == 1
    assert all(each.reason is SignerRefusal.TOKEN for each in refusals)
    assert "the token a is left alone" in said
    assert "the token a works again" in said


async def test_both_tokens_away_are_refusals_with_a_time_and_serve_again(pair, pin_file):
    both(pair)
    with running_signer(pair.store.folder, "--pin", f"file:{pin_file}") as signer:
        client = SignerClient(signer.sockets)
        async with trio.open_nursery() as serving:
            await serving.start(client.run)

            async def ask():
                return await client.ask(live_ask(issuer="twice"), share="a", deadline=trio.current_time() + 20)

            assert isinstance(await ask(), Certificate)
            pair.take("a")
            pair.take("b")
            await ask()
            outcome = await ask()
            assert isinstance(outcome, No)
            assert outcome.reason is SignerRefusal.TOKEN
            assert outcome.retry_after >= 1
            pair.give_back("a")
            until = time.monotonic() + 30
            while not isinstance(await ask(), Certificate):
                assert time.monotonic() < until
                await trio.sleep(0.2)
            serving.cancel_scope.cancel()
