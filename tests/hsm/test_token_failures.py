"""A token that misbehaves: a wrong PIN is tried once, a lost session is replaced, a token that is away is refused at once."""

import ctypes
import os
import resource
import signal
import stat

import pkcs11
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.pin import Logins, lists, read_pins
from signer.keystore.pkcs11 import Tokens
from tests.hsm.kit import MODULE, PIN, Store, kill_sessions, place

ECDSA = ec.ECDSA(hashes.SHA256())


def refused(failure: StoreFailure, do) -> str:
    with pytest.raises(KeyStoreError) as caught:
        do()
    assert caught.value.failure is failure, caught.value
    return str(caught.value)


def signs(key) -> None:
    key.public_key().verify(key.sign(b"data", ECDSA), b"data", ECDSA)


def begin_anew() -> None:
    """What a new process does: the module's logins are gone."""
    from signer.keystore.pkcs11 import module

    pkcs11.lib(MODULE).reinitialize()
    module(MODULE).generation += 1


def test_a_wrong_pin_is_tried_once(store, hsm):
    """The token is asked once, whoever asks again, and however often processes start: it cannot lock itself.

    Proved by making the wrong PIN the right one: who tried it again would be let in.
    """
    store.issuing()
    begin_anew()
    assert "refuses the PIN" in refused(StoreFailure.LOCKED, lambda: store.again({"": "wrong-pin"}).find("issuing"))
    hsm.change_pin("hsm", PIN, "wrong-pin")
    begin_anew()
    for _ in range(3):
        sentence = refused(StoreFailure.LOCKED, lambda: store.again({"": "wrong-pin"}).find("issuing"))
        assert "has refused this PIN before" in sentence
    [mark] = store.folder.glob(".pin-refused-*")
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600
    assert b"wrong-pin" not in mark.read_bytes()
    assert str(mark) in sentence  # it says what to do
    mark.unlink()
    signs(store.again({"": "wrong-pin"}).find("issuing").private_key)


def test_a_wrong_pin_is_counted_as_such_and_the_token_left_alone(store):
    key = store.issuing().private_key
    begin_anew()
    tokens = store.fresh_tokens({"": "wrong-pin"})
    refused(StoreFailure.LOCKED, lambda: tokens.find(key.place, key.public_key()))
    [token] = tokens.known
    assert token.failures == {StoreFailure.LOCKED: 1}
    assert (token.openings, token.state.value) == (1, "open")


def test_another_pin_is_tried_after_a_wrong_one(store):
    store.issuing()
    begin_anew()
    refused(StoreFailure.LOCKED, lambda: store.again({"": "wrong-pin"}).find("issuing"))
    signs(store.again().find("issuing").private_key)
    assert list(store.folder.glob(".pin-refused-*")) == []


def test_a_wrong_pin_is_not_repeated_in_a_sentence(store):
    store.issuing()
    begin_anew()
    assert "wrong-pin" not in refused(StoreFailure.LOCKED, lambda: store.again({"": "wrong-pin"}).find("issuing"))


def test_a_token_without_a_pin_is_told(store):
    store.issuing()
    assert "no PIN was given for the token hsm" in refused(
        StoreFailure.LOCKED, lambda: store.again({"other": PIN}).find("issuing")
    )


def test_a_token_that_is_about_to_lock_itself_is_not_tried(store, monkeypatch):
    """CKF_USER_PIN_FINAL_TRY (PKCS#11 2.40, 4.4); SoftHSM2 never sets it, so the flag to look for is one that it has set."""
    from signer.keystore import pkcs11 as tokens

    store.issuing()
    begin_anew()

    class Flags:
        USER_PIN_FINAL_TRY = pkcs11.TokenFlag.TOKEN_INITIALIZED

    monkeypatch.setattr(tokens, "TokenFlag", Flags)
    assert "locks itself" in refused(StoreFailure.LOCKED, lambda: store.again().find("issuing"))


@pytest.mark.parametrize("times", [1, 3])
def test_a_session_that_was_killed_is_replaced(store, times):
    """C_CloseAllSessions: every session and the login are gone. The ask is answered all the same."""
    key = store.issuing().private_key
    token = store.tokens.token(key.place)
    for _ in range(times):
        before = token.session()
        kill_sessions(before)
        signs(key)
        assert token.session() is not before


def test_an_ra_s_session_that_was_killed_is_replaced(store):
    from cryptography.hazmat.primitives.asymmetric import padding

    key = store.tokens.generate(place("ra"), "RSA_2048", decrypts=True)
    wrapped = key.public_key().encrypt(bytes(16), padding.PKCS1v15())
    kill_sessions(store.tokens.token(key.place).session())
    assert key.decrypt(wrapped, padding.PKCS1v15()) == bytes(16)


def test_a_login_that_was_lost_is_made_again(store):
    """C_Logout by another part of the process: private objects are gone, the session is not."""
    key = store.issuing().private_key
    session = store.tokens.token(key.place).session()
    assert ctypes.CDLL(MODULE).C_Logout(ctypes.c_ulong(session.handle)) == 0
    signs(key)


def test_a_module_that_began_again_does_not_mix_up_keys(store):
    """Handles are small numbers that begin anew: the old number of one key is another key's in the new session."""
    keys = [store.tokens.generate(place(f"key-{n}"), "EC_prime256v1") for n in range(4)]
    for key in keys:
        signs(key)
    begin_anew()
    for key in reversed(keys):
        signs(key)


def test_a_token_that_was_taken_away_is_refused_and_found_when_it_comes_back(store, hsm):
    key = store.issuing().private_key
    signs(key)
    hsm.remove()
    kill_sessions(store.tokens.token(key.place).session())
    assert "hsm" in refused(StoreFailure.UNAVAILABLE, lambda: signs(key))
    hsm.bring_back()
    refused(StoreFailure.UNAVAILABLE, lambda: signs(key))  # within the second in which it is left in peace
    store.clock.now += 1.1
    signs(key)


def test_a_token_that_is_away_is_not_asked_for_a_second(store, hsm):
    """Asks are refused at once, whatever a module's time to find that out is."""
    key = store.issuing().private_key
    hsm.remove()
    kill_sessions(store.tokens.token(key.place).session())
    refused(StoreFailure.UNAVAILABLE, lambda: signs(key))
    from signer.keystore.pkcs11 import module

    before = module(MODULE).generation
    for _ in range(50):
        refused(StoreFailure.UNAVAILABLE, lambda: signs(key))
    assert module(MODULE).generation == before
    store.clock.now += 1.1
    refused(StoreFailure.UNAVAILABLE, lambda: signs(key))
    assert module(MODULE).generation == before + 1


def test_one_token_s_loss_does_not_end_another_one_s_work(hsm, tmp_path):
    """Two tokens of one module: looking again for the lost one begins the module anew, and the other goes on."""
    hsm.make("second")
    begin_anew()
    store = Store(tmp_path / "keys")
    kept = store.tokens.generate(place("kept", "second"), "EC_prime256v1")
    gone = TokenPlace(MODULE, "nowhere", "", "key", b"")
    for _ in range(3):
        refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.find(gone, kept.public_key()))
        store.clock.now += 1.1
        signs(kept)


@pytest.mark.parametrize("path", ["/nowhere/libtoken.so", "libsofthsm2.so", "", __file__])
def test_a_module_that_is_not_there_is_one_sentence(store, path):
    where = TokenPlace(path, "hsm", "", "key", b"")
    sentence = refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.generate(where, "EC_prime256v1"))
    assert "module" in sentence


def test_a_token_of_no_name_we_know_is_told(store):
    where = TokenPlace(MODULE, "nobody", "", "key", b"")
    assert "nobody" in refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.generate(where, "EC_prime256v1"))


def test_two_tokens_of_one_label_are_not_guessed_between(hsm, tmp_path):
    hsm.make("hsm")
    begin_anew()
    store = Store(tmp_path / "keys")
    sentence = refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.generate(place("key"), "EC_prime256v1"))
    assert "MultipleTokensReturned" in sentence


def test_pins_come_from_files_variables_and_standard_input(tmp_path, monkeypatch):
    (tmp_path / "pin").write_bytes(b"from file\r\nmore")
    monkeypatch.setenv("HSM_PIN", "from variable")
    reading, writing = os.pipe()
    os.write(writing, b"first\nsecond\nrest")
    os.close(writing)
    sources = [f"file:{tmp_path / 'pin'}", "a=env:HSM_PIN", "b=stdin", "c=stdin"]
    assert read_pins(sources, reading) == {"": "from file", "a": "from variable", "b": "first", "c": "second"}
    assert os.read(reading, 10) == b"rest"
    os.close(reading)
    assert "HSM_PIN" not in os.environ  # no child inherits it


def test_pins_come_from_a_file_of_several_which_is_read_again_at_each_login(store, tmp_path):
    """A PIN that was mended, or a token that was added, is followed by a process that runs."""
    file = tmp_path / "pins"
    file.write_text("# tokens\n\nhsm=wrong-pin\nother=a=b \n")
    assert read_pins([f"list:{file}"], 0) == {"hsm": "wrong-pin", "other": "a=b "}
    assert lists([f"list:{file}", "stdin"]) == [str(file)]
    key = store.issuing().private_key
    begin_anew()
    tokens = Tokens(Logins(store.folder, store.kek, {}, [str(file)]), clock=store.clock)
    refused(StoreFailure.LOCKED, lambda: tokens.find(key.place, key.public_key()))
    file.write_text(f"hsm={PIN}\n")
    store.clock.now += 1.1
    signs(tokens.find(key.place, key.public_key()))
    file.unlink()  # what is known is known
    begin_anew()
    signs(tokens.find(key.place, key.public_key()))


@pytest.mark.parametrize("content", [b"2468\n", b"=2468\n", b"hsm=\n", b"hsm=" + b"x" * 256, b"\xff=2468\n"])
def test_a_file_of_pins_that_is_none_is_refused_and_not_repeated(tmp_path, content):
    (tmp_path / "pins").write_bytes(content)
    sentence = refused(StoreFailure.LOCKED, lambda: read_pins([f"list:{tmp_path / 'pins'}"], 0))
    assert "2468" not in sentence
    assert str(tmp_path / "pins") in sentence


def test_a_file_of_pins_is_no_one_token_s(tmp_path):
    refused(StoreFailure.LOCKED, lambda: read_pins([f"hsm=list:{tmp_path / 'pins'}"], 0))
    refused(StoreFailure.UNAVAILABLE, lambda: read_pins(["list:/nowhere/pins"], 0))


def test_a_prompt_asks_for_the_token_s_pin(monkeypatch):
    asked = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "typed")
    assert read_pins(["prompt", "hsm=prompt"], 0) == {"": "typed", "hsm": "typed"}
    assert asked == ["PIN: ", "PIN of the token hsm: "]


@pytest.mark.parametrize(
    "source", ["2468", "hsm=2468", "file", "env", "stdin:2468", "file:", "", "file:/nowhere/pin", "env:NOBODY"]
)
def test_a_pin_given_by_mistake_is_refused_and_not_repeated(source):
    with pytest.raises(KeyStoreError) as caught:
        read_pins([source], 0)
    assert "2468" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 256, b"\xff\n"])
def test_a_pin_that_cannot_be_one_is_refused(tmp_path, content):
    (tmp_path / "pin").write_bytes(content)
    refused(StoreFailure.LOCKED, lambda: read_pins([f"file:{tmp_path / 'pin'}"], 0))


def test_logins_of_several_processes_come_one_after_another(store, tmp_path):
    """Four workers with one wrong PIN make one attempt: each waits for the one before, and then sees the mark."""
    import multiprocessing

    store.issuing()
    begin_anew()
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        sentences = pool.map(attempt, [(str(store.folder), store.kek)] * 4)
    assert sum("refuses the PIN" in each for each in sentences) == 1
    assert sum("has refused this PIN before" in each for each in sentences) == 3


def attempt(known) -> str:
    from pathlib import Path

    from signer.keystore.softkey import SoftKeyStore

    folder, kek = Path(known[0]), known[1]
    store = SoftKeyStore(folder, kek, Tokens(Logins(folder, kek, {"": "wrong"})))
    return refused(StoreFailure.LOCKED, lambda: store.find("issuing"))


def test_a_full_disk_lets_nobody_log_in_or_remembers_all_the_same(store, tmp_path):
    """A refusal that found no room would be forgotten, and the PIN be tried again until the token locks itself."""
    logins = Logins(tmp_path, store.kek, {"": PIN})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def tried(limit: int) -> StoreFailure:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with logins.attempt(b"serial", PIN):
                raise KeyStoreError(StoreFailure.LOCKED, "the token refuses the PIN")
        except KeyStoreError as error:
            return error.failure
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert [tried(0), tried(31)] == [StoreFailure.UNAVAILABLE] * 2
    with pytest.raises(KeyStoreError), logins.attempt(b"serial", PIN):
        raise KeyStoreError(StoreFailure.UNAVAILABLE, "the token is away")
    assert list(tmp_path.glob(".pin-refused-*")) == []
    assert tried(32) is StoreFailure.LOCKED
    with pytest.raises(KeyStoreError, match="has refused this PIN before"), logins.attempt(b"serial", PIN):
        pytest.fail("it was tried again")
    with pytest.raises(KeyStoreError), logins.attempt(b"serial", "another"):
        raise KeyStoreError(StoreFailure.UNAVAILABLE, "the token is away")
    with pytest.raises(KeyStoreError, match="has refused this PIN before"), logins.attempt(b"serial", PIN):
        pytest.fail("it was tried again")
    with logins.attempt(b"serial", "another"):
        pass
    assert list(tmp_path.glob(".pin-refused-*")) == []
    signal.signal(signal.SIGXFSZ, ignored)


def test_a_folder_that_cannot_remember_lets_nobody_log_in(store, tmp_path):
    """Without the mark a wrong PIN would be tried for ever."""
    store.issuing()
    begin_anew()
    logins = Logins(tmp_path / "nowhere", store.kek, {"": PIN})
    where = store.keys.find("issuing")
    tokens = Tokens(logins)
    refused(StoreFailure.UNAVAILABLE, lambda: tokens.find(where.private_key.place, where.private_key.public_key()))
