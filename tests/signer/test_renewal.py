"""Renewal with the same key, and a new key in an authority's place: chains, links (RFC 4210, 4.4), interruptions."""

import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from signer.ceremony.certify import issued
from signer.ceremony.plan import DAY, Plan
from signer.ceremony.renewal import behind, follow, rekey, renew
from signer.contract.messages import GeneralName
from signer.issuance.issuer import issuer_of
from signer.issuance.names import Bounds
from signer.keystore.failures import KeyStoreError
from signer.keystore.key import NameRange, StoredKey
from tests.doubles import verification
from tests.doubles.verification import lint
from tests.signer.authorities import Keys, load, verified
from tests.signer.kit import COMMON_NAME, SECRET, good_ask, running_signer

NOW = int(time.time())
MIXED = ["EC_prime256v1", "RSA_2048", "EC_secp384r1", "EC_secp521r1", "ED25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


def make(keys: Keys, *, now: int = NOW, root: str = "EC_prime256v1", issuing: str = "EC_prime256v1", days: int = 1000):
    at = keys.ceremony(now)
    bounds = Bounds((NameRange("dns_name", "test.example"),))
    top = at.authority(Plan("root", [(COMMON_NAME, "Root")], root, None, 1, 2 * days, bounds=bounds))
    below = at.authority(Plan("issuing", [(COMMON_NAME, "Issuing")], issuing, top, 0, days))
    return at, top, below, at.ra("issuing-ra", below)


def leaf(authority: StoredKey, now: int = NOW, **changes) -> x509.Certificate:
    name = changes.pop("name", "server.test.example")
    ask = good_ask(
        sans=[GeneralName("dns_name", name)], subject=[], san_critical=True, not_before=now - 300, not_after=now + DAY
    )
    return issued(authority, ask, [], lambda *_: None)


def identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def signer_identifier(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def rest(certificate: x509.Certificate) -> dict:
    return {each.oid: (each.critical, each.value) for each in certificate.extensions}


def test_a_renewed_authority_is_the_same_but_for_serial_and_validity(keys, tmp_path):
    _, root, issuing, _ = make(keys, now=NOW - 400 * DAY)
    old_leaf = leaf(issuing)
    at = keys.ceremony(NOW)
    renewed = renew(at, "issuing", 1200)
    assert renewed.private_key.private_numbers() == issuing.private_key.private_numbers()
    before, after = issuing.certificate, renewed.certificate
    assert (after.subject, after.issuer, rest(after)) == (before.subject, before.issuer, rest(before))
    assert after.serial_number != before.serial_number
    assert after.not_valid_before_utc.timestamp() == NOW - DAY
    assert after.not_valid_after_utc.timestamp() == NOW + 1199 * DAY
    assert lint(pem(after)) == []
    for each in (old_leaf, leaf(renewed)):
        assert verified(tmp_path / "v", pem(each), [pem(root.certificate)], [pem(after)]) == ""
    verification._cryptography(leaf(renewed), [pem(after)], pem(root.certificate), "server.test.example")


def test_a_renewal_lasts_as_long_as_before_unless_it_is_told_and_no_longer_than_its_parent(keys):
    make(keys, now=NOW - 400 * DAY)
    at = keys.ceremony(NOW)
    renewed = renew(at, "issuing", None)
    assert renewed.certificate.not_valid_after_utc.timestamp() == NOW + 999 * DAY
    follow(at, renewed)
    end = at.store.find("root").certificate.not_valid_after_utc
    longer = renew(at, "issuing", 5000)
    assert longer.certificate.not_valid_after_utc == end
    follow(at, longer)
    with pytest.raises(ValueError, match=r"would end no later than the one that it has .*: renew root first"):
        renew(at, "issuing", 5000)
    with pytest.raises(ValueError, match="ask for more days"):
        renew(at, "root", 100)


def test_everything_below_a_renewed_root_gets_its_chain_and_so_does_the_ra(keys, tmp_path):
    make(keys, now=NOW - 400 * DAY)
    at = keys.ceremony(NOW)
    root = renew(at, "root", 5000)
    told = follow(at, root)
    assert [each.key for each in told] == ["issuing", "issuing-ra"]
    store = keys.store()
    assert store.find("issuing").chain[1:] == store.find("issuing-ra").chain[2:] == root.chain
    assert [load(each) for each in told[1].chain] == list(store.find("issuing-ra").chain)
    assert behind(at, root) == []
    assert verified(tmp_path / "v", pem(store.find("issuing").certificate), [pem(root.certificate)], []) == ""


def test_an_ra_is_renewed_as_well(keys):
    make(keys, now=NOW - 400 * DAY)
    assert "renew issuing first" in keys.refused("renew", "--name", "issuing-ra", "--days", "900")
    keys.do("renew", "--name", "issuing", "--days", "1100")
    made = keys.do("renew", "--name", "issuing-ra", "--days", "900")
    assert made["issuing"]["key"] == "issuing"
    ra = load(made["ra"]["certificate"])
    ra.verify_directly_issued_by(load(made["issuing"]["certificate"]))
    assert keys.store().find("issuing-ra").certificate == ra


@pytest.mark.parametrize("done", [1, 2])
def test_a_renewal_that_was_interrupted_is_finished_and_not_made_again(keys, done, monkeypatch):
    make(keys, now=NOW - 400 * DAY)
    store = keys.store()
    whole = store.replace

    class Crash(Exception):
        pass

    def replace(name, **what):
        nonlocal done
        if not done:
            raise Crash
        done -= 1
        whole(name, **what)

    monkeypatch.setattr(store, "replace", replace)
    at = keys.ceremony(NOW, store)
    with pytest.raises(Crash):
        follow(at, renew(at, "root", 5000))
    certificate = keys.store().find("root").certificate
    made = keys.do("renew", "--name", "root", "--days", "5000")
    assert load(made["root"]["certificate"]) == certificate, "no second certificate"
    assert any("was interrupted; it is finished now" in line for line in made["transcript"])
    store = keys.store()
    assert {store.find(name).chain[-1] for name in store.names()} == {certificate}
    again = keys.do("renew", "--name", "root", "--days", "6000")
    assert load(again["root"]["certificate"]) != certificate, "finished, so that a renewal is one again"


def test_a_renewal_that_nobody_recorded_is_given_again_to_whoever_knows_the_certificate_before_it(keys):
    """Else it could not be renewed at all where it ends with the authority above it, nor recorded."""
    _, _, issuing, _ = make(keys, days=1000)
    before = issuing.certificate.fingerprint(SHA256()).hex()
    words = ("--name", "issuing", "--days", "9000")
    first = keys.do("renew", *words, "--known", before)
    lost = load(first["issuing"]["certificate"])
    assert lost != issuing.certificate
    found = keys.do("renew", *words, "--known", before)
    assert load(found["issuing"]["certificate"]) == lost
    assert any("was interrupted; it is finished now" in line for line in found["transcript"])
    after = lost.fingerprint(SHA256()).hex()
    assert "renew root first" in keys.refused("renew", *words, "--known", after)


@pytest.mark.parametrize(("algorithm", "successor"), [("EC_prime256v1", "RSA_3072"), ("RSA_2048", "EC_secp384r1")])
def test_a_new_root_key_and_the_old_one_certify_each_other(keys, tmp_path, algorithm, successor):
    """RFC 4210, 4.4.1; leaves of both generations are good for who trusts either root."""
    at, old, issuing, _ = make(keys, root=algorithm)
    new = rekey(at, "root", "root-g2", algorithm=successor)
    old_with_new, new_with_old = new.links
    assert new.certificate.subject == old.certificate.subject
    assert new.private_key.public_key() != old.private_key.public_key()
    assert old_with_new.public_key() == old.certificate.public_key()
    assert new_with_old.public_key() == new.certificate.public_key()
    assert identifier(old_with_new) == identifier(old.certificate) == signer_identifier(new_with_old)
    assert identifier(new_with_old) == identifier(new.certificate) == signer_identifier(old_with_new)
    terms = [(each.not_valid_before_utc, each.not_valid_after_utc) for each in (old_with_new, new_with_old)]
    assert terms[0] == (old.certificate.not_valid_before_utc, old.certificate.not_valid_after_utc)
    assert terms[1] == (new.certificate.not_valid_before_utc, old.certificate.not_valid_after_utc)
    for each in (new.certificate, *new.links):
        assert lint(pem(each)) == []
    below = at.authority(Plan("next", [(COMMON_NAME, "Next")], "EC_prime256v1", new, 0, 900))
    roots, links = (pem(old.certificate), pem(new.certificate)), [pem(each) for each in new.links]
    for issuer in (issuing, below):
        for root in roots:
            outcome = verified(tmp_path / "v", pem(leaf(issuer)), [root], [pem(issuer.certificate), *links])
            assert outcome == "", (issuer.name, roots.index(root))
    assert keys.store().find("root").links == keys.store().find("root-g2").links == new.links


def test_a_new_key_for_an_issuing_authority_has_the_same_parent_constraints_and_an_ra(keys, tmp_path):
    at, root, issuing, _ = make(keys)
    new = rekey(at, "issuing", "issuing-g2", algorithm="ED25519")
    assert new.links == ()
    assert new.predecessor == "issuing"
    assert new.ceiling == issuing.ceiling
    assert new.certificate.subject == issuing.certificate.subject
    assert verified(tmp_path / "v", pem(leaf(new)), [pem(root.certificate)], [pem(new.certificate)]) == ""
    ra = keys.store().find("issuing-g2-ra")
    ra.certificate.verify_directly_issued_by(new.certificate)
    assert keys.store().find("issuing").chain == issuing.chain, "the old one stays, for its lists"


def test_a_rekey_that_is_held_again_gives_the_same(keys):
    make(keys)
    once = keys.do("rekey", "--name", "root", "--as", "root-g2")
    store = keys.store()
    store.replace("root", links=())  # as if it had been interrupted before that
    again = keys.do("rekey", "--name", "root", "--as", "root-g2")
    assert {**again, "transcript": 0} == {**once, "transcript": 0}
    assert len(once["links"]) == 2
    assert keys.store().find("root").links == keys.store().find("root-g2").links


def test_a_root_between_two_others_keeps_the_links_to_both(keys):
    """Who trusts the first generation finds its way to the third by way of the second."""
    at, *_ = make(keys)
    second = rekey(at, "root", "root-g2")
    third = rekey(at, "root-g2", "root-g3")
    assert keys.store().find("root-g2").links == (*second.links, *third.links)
    rekey(at, "root-g2", "root-g3")
    assert keys.store().find("root-g2").links == (*second.links, *third.links)


def test_an_authority_moves_below_a_root_s_new_key(keys, tmp_path):
    at, _, issuing, _ = make(keys)
    new = rekey(at, "root", "root-g2")
    with pytest.raises(ValueError, match="would end no later"):
        renew(at, "issuing", None, new)
    moved = renew(at, "issuing", 1500, new)
    assert moved.chain[1:] == new.chain
    assert verified(tmp_path / "v", pem(leaf(issuing)), [pem(new.certificate)], [pem(moved.certificate)]) == ""
    follow(at, moved)
    assert keys.store().find("issuing-ra").chain[1:] == moved.chain


def test_an_expired_root_gets_a_successor_without_links(keys):
    make(keys, now=NOW - 3000 * DAY)
    at = keys.ceremony(NOW)
    new = rekey(at, "root", "root-g2")
    assert new.links == ()
    assert any("has expired: no links" in line for line in at.transcript.closed())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["renew", "--name", "nobody"], "there is no key named nobody"),
        (["renew", "--name", "issuing", "--parent", "issuing"], "issuing signs no authorities"),
        (["renew", "--name", "issuing", "--parent", "narrow"], "path length: narrow has no room for issuing below it"),
        (["rekey", "--name", "issuing-ra", "--as", "x"], "wrong-kind: the key 'issuing-ra' is not an issuer's"),
        (["rekey", "--name", "issuing", "--as", "root"], "the key root exists and does not follow issuing"),
        (["rekey", "--name", "issuing", "--as", "x", "--algorithm", "DSA"], "'DSA' is none of "),
    ],
)
def test_what_cannot_be_renewed_is_told_in_a_sentence(keys, arguments, sentence):
    at, root, _, _ = make(keys)
    narrow = at.authority(Plan("narrow", [(COMMON_NAME, "N")], "EC_prime256v1", None, 0, 5000))
    ceiling = issuer_of(narrow).key.ceiling
    import msgspec

    at.store.replace("narrow", ceiling=msgspec.structs.replace(ceiling, authorities=True))
    assert sentence in keys.refused(*arguments)
    assert root.chain == keys.store().find("root").chain


def test_a_name_constraint_stands_in_a_new_parent_s_way(keys):
    at, _, _, _ = make(keys)
    free = at.authority(Plan("free", [(COMMON_NAME, "F")], "EC_prime256v1", None, 2, 5000))
    bounds = Bounds((NameRange("dns_name", "elsewhere"),))
    at.authority(Plan("mine", [(COMMON_NAME, "M")], "EC_prime256v1", free, 0, 1000, bounds=bounds))
    with pytest.raises(
        ValueError, match="permitted dns_name:elsewhere of mine is not within the name constraints of root"
    ):
        renew(at, "mine", 1500, at.store.find("root"))
    with pytest.raises(KeyStoreError, match="does not follow"):
        rekey(at, "mine", "free")


@pytest.mark.parametrize("algorithm", MIXED)
def test_authorities_of_every_algorithm_live_their_life(keys, algorithm):
    """Self-signed, below another kind, above another kind, renewed, rekeyed with links: verified by cryptography."""
    at, root, issuing, _ = make(keys, now=NOW - 10 * DAY, root=algorithm, issuing="EC_prime256v1")
    below = at.authority(Plan("same", [(COMMON_NAME, "Same")], algorithm, root, 0, 900))
    for each in (issuing, below):
        each.certificate.verify_directly_issued_by(root.certificate)
        leaf(each).verify_directly_issued_by(each.certificate)
    now = keys.ceremony(NOW)
    renewed = renew(now, "same", None)
    renewed.certificate.verify_directly_issued_by(root.certificate)
    new = rekey(now, "root", "root-g2")
    old_with_new, new_with_old = new.links
    old_with_new.verify_directly_issued_by(new.certificate)
    new_with_old.verify_directly_issued_by(root.certificate)
    new.certificate.verify_directly_issued_by(new.certificate)
    if not algorithm.startswith("ML-DSA"):
        assert lint(pem(renewed.certificate)) == []


def test_a_running_worker_follows_a_renewal_without_a_failed_ask(keys):
    """Renewed under load: every ask gets its certificate, and within moments they are cut to the new chain's end."""
    import socket

    from signer.contract.framing import MAX_ANSWERS, Frames, decode_answers, encode_batch
    from signer.contract.messages import Ask, Batch, Certificate

    make(keys, now=NOW - 900 * DAY)  # the issuing authority ends in a hundred days
    with running_signer(keys.folder, "--workers", "1") as signer, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(signer.sockets[0])
        frames = Frames(MAX_ANSWERS)

        def signed(days: int):
            name, now = "a.test.example", int(time.time())
            subject, sans = [(COMMON_NAME, name)], [GeneralName("dns_name", name)]
            verb = good_ask(deadline=now + 60, not_before=now, not_after=now + days * DAY, subject=subject, sans=sans)
            connection.sendall(encode_batch(Batch(1, [Ask(1, verb)])))
            while not (payloads := frames.feed(connection.recv(65536))):
                pass
            return decode_answers(payloads[0]).answers[0].outcome

        assert isinstance(signed(30), Certificate)
        assert not isinstance(signed(300), Certificate), "beyond the issuer's own end"
        keys.do("renew", "--name", "issuing", "--days", "900")
        limit = time.monotonic() + 30
        while not isinstance(signed(300), Certificate):
            assert isinstance(signed(30), Certificate), "no ask fails meanwhile"
            assert time.monotonic() < limit, "the worker never noticed"
            time.sleep(0.05)


def test_a_transcript_says_what_was_made_and_binds_itself(keys):
    import hashlib

    from cryptography.hazmat.primitives import hashes

    make(keys)
    made = keys.do("rekey", "--name", "root", "--as", "root-g2")
    lines = made["transcript"]
    assert [int(line[:3]) for line in lines] == list(range(1, len(lines) + 1))
    whole = "\n".join(lines)
    certificate = load(made["root"]["certificate"])
    spki = keys.do("show", "--name", "root-g2")["spki_sha256"]
    facts = [certificate.fingerprint(hashes.SHA256()).hex(), spki, "EC_prime256v1", "in software", "OldWithNew"]
    facts += [
        "Key ceremony: a new key for root, named root-g2",
        "names permitted: dns_name:test.example",
        "cryptography ",
    ]
    assert [each for each in facts if each not in whole] == []
    assert lines[-1].endswith(hashlib.sha256("\n".join(lines[:-1]).encode()).hexdigest())
    assert SECRET.decode() not in whole
    assert "PRIVATE" not in whole
