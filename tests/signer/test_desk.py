"""What a worker answers to a batch, with keys in memory: one failing ask is its own affair."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from cryptography.x509.ocsp import load_der_ocsp_response

from signer.contract.messages import (
    VERSION,
    Ask,
    Batch,
    Certificate,
    GeneratedKey,
    GenerateKey,
    No,
    OcspEntry,
    OcspResponse,
    RevocationList,
    SignAttributes,
    Signature,
    SignCrl,
    SignOcsp,
    UnwrapKey,
    Unwrapped,
)
from signer.contract.refusal import SignerRefusal
from signer.desk import Desk
from signer.keystore.failures import KeyStoreError
from signer.keystore.mechanism import GENERATORS, algorithm_of
from tests.signer.kit import NOW, MemoryStore, good_ask, issuing, journal, memory_store, ra, root
from tests.signer.test_ra import attributes


def desk(store: MemoryStore | None = None) -> Desk:
    return Desk(store or memory_store(), journal(), now=lambda: NOW)


def answers(*verbs, at: Desk | None = None, version: int = VERSION):
    made = (at or desk()).answer(Batch(version, [Ask(n + 10, verb) for n, verb in enumerate(verbs)]))
    assert [each.id for each in made.answers] == [n + 10 for n in range(len(verbs))]
    return [each.outcome for each in made.answers]


def test_every_verb_has_its_answer():
    wrapped = ra().private_key.public_key().encrypt(bytes(16), padding.PKCS1v15())
    certificate, key, signature, crl, generated = answers(
        good_ask(),
        UnwrapKey("issuing-ra", wrapped, "pkcs1v15", 16),
        SignAttributes("issuing-ra", attributes(), "sha256"),
        SignCrl("issuing", 1, NOW, NOW + 60, []),
        GenerateKey("ED25519"),
    )
    assert isinstance(certificate, Certificate)
    x509.load_der_x509_certificate(certificate.der).verify_directly_issued_by(issuing().certificate)
    assert key == Unwrapped(bytes(16))
    assert isinstance(signature, Signature)
    assert isinstance(crl, RevocationList)
    assert isinstance(generated, GeneratedKey)


def status(issuer: str = "issuing", **changes: object) -> SignOcsp:
    fields = {"produced_at": NOW, "this_update": NOW - 300, "next_update": NOW + 3600, **changes}
    return SignOcsp(issuer, entries=[OcspEntry("sha1", b"\x05", "good")], **fields)


def test_a_status_is_signed_by_a_responder_whose_certificate_is_in_the_journal_before(tmp_path: Path):
    """RFC 6960, 4.2.2.2; one certificate for each issuer, however many answers."""
    at = Desk(memory_store(), journal(tmp_path), now=lambda: NOW)
    made = answers(status(), status("root"), status(), status("issuing-ra"), status("nobody"), at=at)
    assert [type(each) for each in made] == [OcspResponse, OcspResponse, OcspResponse, No, No]
    [issuing_first, by_root, issuing_second] = [load_der_ocsp_response(each.der) for each in made[:3]]
    assert issuing_first.certificates == issuing_second.certificates
    issuing_first.certificates[0].verify_directly_issued_by(issuing().certificate)
    by_root.certificates[0].verify_directly_issued_by(root().certificate)
    written = [line for file in tmp_path.rglob("*.log") for line in file.read_text().splitlines()]
    for each in (issuing_first, by_root):
        serial = f"{each.certificates[0].serial_number:x}"
        assert [line for line in written if '"verb":"certify-responder"' in line and f'"serial":"{serial}"' in line]
    assert "".join(written).count("certify-responder") == 2


def test_a_status_for_another_time_is_refused():
    """A compromised gateway collects no answers for times to come."""
    at = Desk(memory_store(), journal(), now=lambda: NOW - 86400)
    assert [each.reason for each in answers(status(), at=at)] == [SignerRefusal.LINT]


def test_one_refused_ask_leaves_its_neighbours_alone():
    good, bad, last = answers(good_ask(), good_ask(serial=b""), good_ask())
    assert isinstance(good, Certificate)
    assert (type(bad), bad.reason) == (No, SignerRefusal.LINT)
    assert isinstance(last, Certificate)


def test_the_same_ask_twice_in_a_batch_is_signed_once():
    ask = good_ask()
    first, second = answers(ask, ask)
    assert isinstance(first, Certificate)
    assert (type(second), second.reason) == (No, SignerRefusal.TICKET)


def test_a_bug_or_a_broken_token_fails_one_ask_and_says_nothing_of_itself(capfd):
    class Broken(MemoryStore):
        def find(self, name):
            if name == "issuing":
                raise RuntimeError("CKR_DEVICE_ERROR: pin 1234")
            return super().find(name)

    bad, good = answers(good_ask(), GenerateKey("ED25519"), at=desk(Broken(root(), issuing(), ra())))
    assert (type(bad), bad.reason) == (No, SignerRefusal.TOKEN)
    assert "1234" not in bad.detail
    assert isinstance(good, GeneratedKey)
    assert "CKR_DEVICE_ERROR" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("verb", "reason"),
    [
        (good_ask(issuer="nobody"), SignerRefusal.UNKNOWN_KEY),
        (good_ask(issuer="issuing-ra"), SignerRefusal.WRONG_KIND),
        (UnwrapKey("nobody", b"", "pkcs1v15", 16), SignerRefusal.UNKNOWN_KEY),
        (UnwrapKey("issuing", bytes(256), "pkcs1v15", 16), SignerRefusal.WRONG_KIND),
        (SignAttributes("root", attributes(), "sha256"), SignerRefusal.WRONG_KIND),
        (SignCrl("issuing-ra", 1, NOW, NOW + 1, []), SignerRefusal.WRONG_KIND),
        (SignCrl("nobody", 1, NOW, NOW + 1, []), SignerRefusal.UNKNOWN_KEY),
        (GenerateKey("DSA"), SignerRefusal.UNSUPPORTED),
        (GenerateKey("RSA_1024"), SignerRefusal.UNSUPPORTED),
    ],
)
def test_each_misuse_of_a_key_has_its_reason(verb, reason):
    [answer] = answers(verb)
    assert (type(answer), answer.reason) == (No, reason)


def test_neither_another_worker_nor_another_ra_tells_a_wrong_padding_from_a_right_one():
    """S49: who may ask them all would find the right one as that which all give alike, or each RA by itself."""
    private_key = GENERATORS["RSA_2048"]()
    second = replace(ra(), name="second-ra", private_key=private_key)
    store = MemoryStore(ra(), second)
    wrong = UnwrapKey("issuing-ra", b"\x01" * 256, "pkcs1v15", 16)
    one, other = desk(store), desk(store)
    [here, elsewhere] = answers(wrong, msgspec.structs.replace(wrong, ra="second-ra"), at=one)
    assert answers(wrong, at=other) == [here] != [elsewhere]
    wider = answers(msgspec.structs.replace(wrong, length=32), at=one)[0]
    assert wider.key[:16] != here.key


def test_a_batch_of_another_version_is_refused_ask_by_ask():
    outcomes = answers(good_ask(), GenerateKey("ED25519"), version=VERSION + 1)
    assert [each.reason for each in outcomes] == [SignerRefusal.UNSUPPORTED] * 2


def test_a_key_that_was_made_meanwhile_is_found():
    store = MemoryStore(root())
    at = desk(store)
    [before] = answers(good_ask(), at=at)
    assert (type(before), before.reason) == (No, SignerRefusal.UNKNOWN_KEY)
    store.add(issuing())
    [after] = answers(good_ask(), at=at)
    assert isinstance(after, Certificate)


@pytest.mark.parametrize("algorithm", sorted(GENERATORS))
def test_a_subject_s_key_is_made_by_its_name_and_sealed(algorithm):
    """D12."""
    store = memory_store()
    [made] = answers(GenerateKey(algorithm), at=desk(store))
    key = load_der_private_key(made.private_key, None)
    assert algorithm_of(key.public_key()) == algorithm
    assert key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == made.spki
    assert made.private_key not in made.sealed
    assert store.unseal(made.sealed) == made.private_key


def test_a_warm_desk_has_looked_at_every_key():
    class Counting(MemoryStore):
        def __init__(self, *keys):
            super().__init__(*keys)
            self.looked = []

        def find(self, name):
            self.looked.append(name)
            return super().find(name)

    store = Counting(root(), issuing(), ra())
    desk(store).warm()
    assert set(store.looked) == {"root", "issuing", "issuing-ra"}


def test_an_issuer_whose_chain_was_exchanged_signs_with_the_new_one():
    """A renewal reaches a running worker: the store gives another key object, and the issuer is made ready anew."""
    store = memory_store()
    at = desk(store)
    [before] = answers(good_ask(), at=at)
    key = store.find("issuing")
    store.add(replace(key, chain=key.chain[:1], ceiling=msgspec.structs.replace(key.ceiling, max_validity=1)))
    [after] = answers(good_ask(), at=at)
    assert isinstance(before, Certificate)
    assert after.reason is SignerRefusal.CEILING


def test_a_store_with_a_damaged_key_is_not_served():
    class Damaged(MemoryStore):
        def names(self):
            return ("gone", *super().names())

    with pytest.raises(KeyStoreError):
        desk(Damaged(root())).warm()
