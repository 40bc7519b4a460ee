"""Keys at rest: what is written, what opens it, and what a person with write access to the folder cannot do."""

import hashlib
import json
import os
import stat
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from signer.contract.refusal import SignerRefusal
from signer.journal.entry import ISSUED, Signed
from signer.journal.journal import Journal
from signer.keystore import seal
from signer.keystore.failures import REFUSALS, KeyExists, KeyStoreError, StoreFailure
from signer.keystore.key import KeyKind
from signer.keystore.mechanism import GENERATORS, algorithm_of, digest_of
from signer.keystore.pin import Logins
from signer.keystore.secret import read_secret
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.signer.kit import SECRET, issuing, ra, root


@pytest.fixture
def folder(tmp_path):
    create(tmp_path / "keys", SECRET)
    return tmp_path / "keys"


def opened(folder) -> SoftKeyStore:
    return SoftKeyStore(folder, unlock(folder, SECRET))


def refused(failure: StoreFailure, do) -> str:
    with pytest.raises(KeyStoreError) as caught:
        do()
    assert caught.value.failure is failure
    assert caught.value.refusal is REFUSALS[failure]
    return str(caught.value)


def test_a_key_is_found_as_it_was_stored(folder):
    opened(folder).add(issuing())
    found = opened(folder).find("issuing")
    assert (found.name, found.kind, found.chain, found.ceiling) == (
        "issuing",
        KeyKind.ISSUER,
        issuing().chain,
        issuing().ceiling,
    )
    assert found.private_key.private_numbers() == issuing().private_key.private_numbers()


def test_a_key_that_is_stored_after_the_opening_is_found(folder):
    store = opened(folder)
    refused(StoreFailure.MISSING, lambda: store.find("issuing"))
    opened(folder).add(issuing())
    assert store.find("issuing").name == "issuing"
    assert store.names() == ("issuing",)


def test_files_are_for_their_owner_alone(folder):
    opened(folder).add(ra())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert {each.name for each in folder.iterdir()} == {"keystore.json", "issuing-ra.key"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files in another user's folder that he cannot read")
def test_what_root_makes_in_another_user_s_folder_is_that_user_s(folder):
    """A ceremony by sudo must leave nothing that keeps the signer from starting."""
    os.chown(folder, 65534, 65534)
    store = opened(folder)
    with store.ceremony():
        store.add(issuing())
        store.replace("issuing", links=[issuing().certificate])
    logins = Logins(folder, b"k" * 32, {"": "1234"})
    with logins.turn(), pytest.raises(KeyStoreError), logins.attempt(b"serial", "1234"):
        raise KeyStoreError(StoreFailure.LOCKED, "refused")
    kept = Journal(folder / "journal", b"k" * 32)
    kept.record(Signed(ISSUED, "issuing", 1, issuing().certificate.public_bytes(Encoding.DER)))
    kept.close()
    made = {each.name: each.stat().st_uid for each in folder.rglob("*") if each.name != "keystore.json"}
    assert len(made) == 7
    assert set(made.values()) == {65534}


def test_a_lock_is_no_way_to_another_file(folder, tmp_path):
    """Whoever owns the folder must not be given a file of root's by a link in it."""
    (tmp_path / "secret").write_text("secret")
    before = (tmp_path / "secret").stat()
    mark = f".pin-refused-{hashlib.sha256(b'serial').hexdigest()[:16]}"
    for name in (".ceremony.lock", ".pin.lock", mark):
        (folder / name).symlink_to(tmp_path / "secret")
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
    logins = Logins(folder, b"k" * 32, {"": "1234"})
    with opened(folder).ceremony():
        pass
    with logins.turn(), pytest.raises(KeyStoreError), logins.attempt(b"serial", "1234"):
        pytest.fail("no refusal could be remembered")
    assert ((tmp_path / "secret").stat().st_uid, (tmp_path / "secret").read_text()) == (before.st_uid, "secret")


def test_no_private_key_stands_in_the_folder(folder):
    opened(folder).add(issuing())
    content = (folder / "issuing.key").read_bytes()
    plain = issuing().private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    scalar = issuing().private_key.private_numbers().private_value.to_bytes(32, "big")
    assert plain not in content
    assert scalar not in content
    assert scalar not in json.dumps(json.loads(content)).encode()


def test_a_key_is_never_overwritten(folder):
    store = opened(folder)
    store.add(issuing())
    before = (folder / "issuing.key").read_bytes()
    with pytest.raises(KeyExists):
        store.add(replace(root(), name="issuing"))
    assert (folder / "issuing.key").read_bytes() == before
    assert [each.name for each in folder.iterdir() if each.name.startswith(".")] == []


def test_a_store_is_made_once(folder):
    before = (folder / "keystore.json").read_bytes()
    create(folder, b"another secret")
    assert (folder / "keystore.json").read_bytes() == before


def test_a_wrong_secret_is_told_at_once(folder):
    sentence = refused(StoreFailure.LOCKED, lambda: unlock(folder, b"wrong"))
    assert "secret does not open" in sentence


def test_a_folder_that_is_no_store_is_told(tmp_path):
    assert "not a key store" in refused(StoreFailure.MISSING, lambda: unlock(tmp_path, SECRET))


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    refused(StoreFailure.UNAVAILABLE, lambda: create(tmp_path / "file" / "keys", SECRET))


@pytest.mark.parametrize("name", ["", "../root", ".hidden", "a/b", "a" * 101, "ä", "a\n"])
def test_a_name_never_leaves_the_folder(folder, name):
    refused(StoreFailure.MISSING, lambda: opened(folder).find(name))
    refused(StoreFailure.MISSING, lambda: opened(folder).add(replace(root(), name=name)))


def test_a_ceiling_cannot_be_raised_without_the_secret(folder):
    opened(folder).add(issuing())
    path = folder / "issuing.key"
    path.write_bytes(path.read_bytes().replace(b'"authorities": false', b'"authorities": true'))
    assert b'"authorities": true' in path.read_bytes()
    assert "damaged" in refused(StoreFailure.DAMAGED, lambda: opened(folder).find("issuing"))


def test_a_key_cannot_be_put_in_another_one_s_place(folder):
    store = opened(folder)
    store.add(issuing())
    (folder / "other.key").write_bytes((folder / "issuing.key").read_bytes())
    assert "named issuing" in refused(StoreFailure.DAMAGED, lambda: store.find("other"))


def test_a_certificate_of_another_key_is_noticed(folder):
    opened(folder).add(replace(issuing(), chain=root().chain))
    assert "another key" in refused(StoreFailure.DAMAGED, lambda: opened(folder).find("issuing"))


def test_a_key_without_a_certificate_is_noticed(folder):
    opened(folder).add(replace(issuing(), chain=()))
    refused(StoreFailure.DAMAGED, lambda: opened(folder).find("issuing"))


def test_a_key_of_an_algorithm_that_nobody_knows_is_told(folder):
    opened(folder).add(replace(issuing(), private_key=x25519.X25519PrivateKey.generate()))
    refused(StoreFailure.UNSUPPORTED, lambda: opened(folder).find("issuing"))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"x" * 1_100_000])
def test_a_damaged_key_file_is_told_by_its_name(folder, content):
    (folder / "root.key").write_bytes(content)
    assert "root.key" in refused(StoreFailure.DAMAGED, lambda: opened(folder).find("root"))


def test_a_key_whose_bytes_are_no_key_is_told(folder):
    store = opened(folder)
    store.add(issuing())
    path = folder / "issuing.key"
    whole = json.loads(path.read_bytes())
    facts = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])["facts"]
    whole["sealed"] = seal.close_box(unlock(folder, SECRET), b"no key", b"muster private key\0" + bytes(facts))
    path.write_bytes(msgspec.json.encode({"version": 1, "facts": msgspec.Raw(bytes(facts)), "sealed": whole["sealed"]}))
    refused(StoreFailure.DAMAGED, lambda: store.find("issuing"))


def test_files_of_a_newer_version_are_told(folder):
    store = opened(folder)
    store.add(issuing())
    key, header = folder / "issuing.key", folder / "keystore.json"
    key.write_bytes(key.read_bytes().replace(b'{"version":1', b'{"version":4'))
    refused(StoreFailure.UNSUPPORTED, lambda: store.find("issuing"))
    header.write_bytes(header.read_bytes().replace(b'"version": 1', b'"version": 2'))
    assert "newer" in refused(StoreFailure.UNSUPPORTED, lambda: unlock(folder, SECRET))


def test_a_damaged_header_is_told(folder):
    (folder / "keystore.json").write_text("{")
    refused(StoreFailure.DAMAGED, lambda: unlock(folder, SECRET))


def test_a_header_whose_box_is_of_a_newer_version_is_told_apart_from_a_wrong_secret(folder):
    header = json.loads((folder / "keystore.json").read_bytes())
    header["sealing"] = "Ag" + header["sealing"][2:]
    (folder / "keystore.json").write_text(json.dumps(header))
    refused(StoreFailure.UNSUPPORTED, lambda: unlock(folder, SECRET))


@pytest.mark.parametrize(
    "change", [{"n": 3}, {"n": 1}, {"n": 2**21}, {"r": 0}, {"r": 17}, {"p": 0}, {"salt": b"short"}]
)
def test_a_header_cannot_make_the_derivation_cheap_or_endless(change):
    derivation = msgspec.structs.replace(seal.Derivation(bytes(16)), **change)
    refused(StoreFailure.DAMAGED, lambda: seal.derive(SECRET, derivation))


def test_what_is_sealed_for_the_inventory_opens_after_a_restart_and_not_elsewhere(folder, tmp_path):
    sealed = opened(folder).seal(b"a subject's key")
    assert b"subject" not in sealed
    assert opened(folder).unseal(sealed) == b"a subject's key"
    create(tmp_path / "other", SECRET)
    refused(StoreFailure.DAMAGED, lambda: opened(tmp_path / "other").unseal(sealed))


@pytest.mark.parametrize("change", [lambda box: box[:20], lambda box: box[:-1] + bytes((box[-1] ^ 1,)), lambda _: b""])
def test_a_box_that_was_changed_does_not_open(change):
    box = seal.close_box(bytes(32), b"plain", b"purpose")
    assert seal.open_box(bytes(32), box, b"purpose") == b"plain"
    refused(StoreFailure.DAMAGED, lambda: seal.open_box(bytes(32), change(box), b"purpose"))


def test_a_box_opens_for_its_purpose_only():
    box = seal.close_box(bytes(32), b"plain", b"purpose")
    refused(StoreFailure.DAMAGED, lambda: seal.open_box(bytes(32), box, b"another"))


def test_every_failure_has_its_answer():
    assert set(REFUSALS) == set(StoreFailure)
    assert set(REFUSALS.values()) <= set(SignerRefusal)


@pytest.mark.parametrize("algorithm", sorted(GENERATORS))
def test_every_key_that_can_be_made_is_known_by_its_name(algorithm):
    assert algorithm_of(GENERATORS[algorithm]().public_key()) == algorithm


def test_keys_that_no_certificate_may_carry_have_no_name():
    """D7."""
    assert algorithm_of(x25519.X25519PrivateKey.generate().public_key()) is None
    assert algorithm_of(ec.generate_private_key(ec.SECP224R1()).public_key()) is None
    assert algorithm_of(ec.generate_private_key(ec.SECP256K1()).public_key()) is None
    assert algorithm_of(rsa.generate_private_key(3, 2048).public_key()) is None
    assert algorithm_of(rsa.generate_private_key(65537, 1024).public_key()) is None
    assert algorithm_of(dsa.generate_private_key(1024).public_key()) is None


def test_odd_but_permitted_keys_have_a_name():
    """D7."""
    assert algorithm_of(rsa.generate_private_key(65537, 2304).public_key()) == "RSA_OTHER"
    assert algorithm_of(ed448.Ed448PrivateKey.generate().public_key()) == "ED448"


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("RSA_2048", "sha256"),
        ("EC_prime256v1", "sha256"),
        ("EC_secp384r1", "sha384"),
        ("EC_secp521r1", "sha512"),
        ("ED25519", None),
        ("ML-DSA-65", None),
    ],
)
def test_each_key_signs_with_the_digest_of_its_strength(algorithm, digest):
    chosen = digest_of(GENERATORS[algorithm]().public_key())
    assert (chosen.name if chosen else None) == digest


@pytest.mark.parametrize(
    ("sent", "secret"),
    [(b"secret\n", b"secret"), (b"secret\r\nmore", b"secret"), (b"secret", b"secret"), (b"", None), (b"\n", None)],
)
def test_the_secret_is_the_first_line_and_what_follows_is_left(sent, secret):
    reading, writing = os.pipe()
    os.write(writing, sent)
    os.close(writing)
    try:
        if secret is None:
            refused(StoreFailure.LOCKED, lambda: read_secret(reading))
        else:
            assert read_secret(reading) == secret
            assert os.read(reading, 10) == (b"more" if b"more" in sent else b"")
    finally:
        os.close(reading)


def test_a_secret_without_end_is_not_read_for_ever():
    reading, writing = os.pipe()
    os.write(writing, b"x" * 5000)
    try:
        refused(StoreFailure.LOCKED, lambda: read_secret(reading))
    finally:
        os.close(reading)
        os.close(writing)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(folder):
    """A store as a worker has it open, its clock, and what it said."""
    clock, said = Clock(), []
    return SoftKeyStore(folder, unlock(folder, SECRET), clock=clock, say=said.append), clock, said


def kept(folder) -> SoftKeyStore:
    store = opened(folder)
    for each in (root(), issuing()):
        store.add(each)
    return store


def renewed(store, name: str, seconds: int):
    key = store.find(name)
    store.replace(name, ceiling=msgspec.structs.replace(key.ceiling, max_validity=seconds))


def test_a_file_that_was_exchanged_is_seen_within_a_second_and_not_looked_for_before(folder):
    kept(folder)
    worker, clock, said = watched(folder)
    before = worker.find("issuing")
    renewed(opened(folder), "issuing", 11)
    clock.now += 0.9
    assert worker.find("issuing") is before
    clock.now += 0.2
    after = worker.find("issuing")
    assert after.ceiling.max_validity == 11
    assert worker.find("issuing") is after
    clock.now += 5
    assert worker.find("issuing") is after, "an unchanged file is not read again"
    assert said == []


@pytest.mark.parametrize("content", [b"", b"{}", b"rubbish", None])
def test_a_file_that_became_damaged_keeps_the_key_in_use_and_is_said_once(folder, content):
    kept(folder)
    worker, clock, said = watched(folder)
    before = worker.find("issuing")
    path = folder / "issuing.key"
    good = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for _ in range(3):
        clock.now += 1.1
        assert worker.find("issuing") is before
    assert len(said) == 1
    assert "the key issuing is used as it was read before" in said[0]
    path.write_bytes(good)
    renewed(opened(folder), "issuing", 12)
    clock.now += 1.1
    assert worker.find("issuing").ceiling.max_validity == 12
    path.write_bytes(b"again")
    clock.now += 1.1
    worker.find("issuing")
    assert len(said) == 2


def test_a_replaced_file_has_the_same_key_or_is_refused(folder):
    store = kept(folder)
    for chain in (root().chain, ()):
        with pytest.raises(KeyStoreError, match="keys are not overwritten"):
            store.replace("issuing", chain=chain)
    with pytest.raises(KeyStoreError, match="no key named nobody"):
        store.replace("nobody", chain=root().chain)
    assert store.find("issuing").chain == issuing().chain


def test_links_and_a_predecessor_rest_beside_a_key(folder):
    kept(folder).add(replace(root(), name="next", links=(root().certificate,), predecessor="root"))
    again = opened(folder).find("next")
    assert (again.links, again.predecessor) == ((root().certificate,), "root")
    opened(folder).replace("root", links=again.links)
    assert opened(folder).find("root").links == again.links
    # Absent where there is none: code of an earlier version reads such a file.
    assert b'"predecessor"' not in (folder / "issuing.key").read_bytes()
