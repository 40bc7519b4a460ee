"""ML-DSA in the signer from end to end (RFC 9881): authorities, leaves, lists, mixed chains, and keys at rest.

OpenSSL 3.0 does not know it; cryptography verifies here, and the encodings are looked at byte by byte.
"""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from signer.ceremony import Ceremony, Plan
from signer.contract.messages import VERSION, Ask, Batch, Certificate, GenerateKey, RevocationList, SignCrl
from signer.contract.refusal import SignerRefusal
from signer.desk import Desk
from signer.issuance.refused import Refused
from signer.issuance.ticket import Tickets
from signer.keystore.mechanism import GENERATORS
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.doubles.verification import lint
from tests.signer.kit import COMMON_NAME, NOW, SECRET, good_ask, issue, issuer, journal, pem, spki

# RFC 9881, 2: the identifiers have no parameters, not even NULL.
IDENTIFIERS = {f"ML-DSA-{size}": bytes.fromhex(f"300b06096086480165030403{last}") for size, last in ((44, "11"), (65, "12"), (87, "13"))}  # fmt: skip
PUBLIC = {"ML-DSA-44": 1312, "ML-DSA-65": 1952, "ML-DSA-87": 2592}  # bytes (FIPS 204, table 2)
SIGNATURE = {"ML-DSA-44": 2420, "ML-DSA-65": 3309, "ML-DSA-87": 4627}
CHAINS = [*[(each, each) for each in IDENTIFIERS], ("ML-DSA-87", "EC_prime256v1"), ("RSA_2048", "ML-DSA-44")]


def made(folder, root: str, issuing: str) -> SoftKeyStore:
    create(folder, SECRET)
    store = SoftKeyStore(folder, unlock(folder, SECRET))
    ceremony = Ceremony(store, now=NOW)
    above = ceremony.authority(Plan("root", [(COMMON_NAME, "Root")], root, None, 1, 7300))
    ceremony.authority(Plan("issuing", [(COMMON_NAME, "Issuing")], issuing, above, 0, 3650))
    return SoftKeyStore(folder, unlock(folder, SECRET))  # read anew, from the files


def answered(store: SoftKeyStore, *verbs):
    desk = Desk(store, journal(), now=lambda: NOW)
    return [
        each.outcome for each in desk.answer(Batch(VERSION, [Ask(n, verb) for n, verb in enumerate(verbs)])).answers
    ]


@pytest.mark.parametrize(("root", "issuing"), CHAINS)
def test_a_chain_issues_leaves_of_every_kind_and_lists(root, issuing, tmp_path):
    """D7, D12: authorities of one kind and of two, with leaves of ML-DSA and of others under each."""
    store = made(tmp_path / "keys", root, issuing)
    chain = store.find("issuing").chain
    chain[0].verify_directly_issued_by(chain[1])
    chain[1].verify_directly_issued_by(chain[1])
    *leaves, crl = answered(
        store,
        *[good_ask(spki=spki(each)) for each in (*IDENTIFIERS, "EC_prime256v1", "RSA_2048")],
        SignCrl("issuing", 7, NOW, NOW + 86400, [(b"\x01" * 16, NOW, 1)]),
    )
    for each in leaves:
        assert isinstance(each, Certificate), each
        x509.load_der_x509_certificate(each.der).verify_directly_issued_by(chain[0])
        assert [found for found in lint(pem(each.der)) if not found.startswith("WARNING")] == []
    assert isinstance(crl, RevocationList), crl
    listed = x509.load_der_x509_crl(crl.der)
    assert listed.is_signature_valid(chain[0].public_key())
    assert listed.get_revoked_certificate_by_serial_number(int.from_bytes(b"\x01" * 16, "big")) is not None


@pytest.mark.parametrize("algorithm", IDENTIFIERS)
def test_identifiers_have_no_parameters_and_keys_and_signatures_their_length(algorithm, tmp_path):
    """RFC 9881, 2 and 4; the same identifier thrice in a certificate: of its signature, inside and out, and of its key."""
    store = made(tmp_path / "keys", algorithm, algorithm)
    certificate, crl = answered(store, good_ask(spki=spki(algorithm)), SignCrl("issuing", 1, NOW, NOW + 86400, []))
    assert certificate.der.count(IDENTIFIERS[algorithm]) == 3
    assert crl.der.count(IDENTIFIERS[algorithm]) == 2
    leaf = x509.load_der_x509_certificate(certificate.der)
    assert leaf.signature_algorithm_parameters is None
    assert len(leaf.signature) == SIGNATURE[algorithm]
    assert len(leaf.public_key().public_bytes_raw()) == PUBLIC[algorithm]
    assert leaf.signature_hash_algorithm is None


@pytest.mark.parametrize("algorithm", IDENTIFIERS)
def test_a_key_rests_as_its_seed(algorithm):
    """RFC 9881, 6: the private key of 32 bytes, `[0] IMPLICIT OCTET STRING`, from which all else follows."""
    key = GENERATORS[algorithm]()
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert IDENTIFIERS[algorithm] in plain
    assert plain.endswith(b"\x80\x20" + key.private_bytes_raw())
    assert len(plain) < 64
    assert load_der_private_key(plain, None).public_key() == key.public_key()


@pytest.mark.parametrize("algorithm", IDENTIFIERS)
@pytest.mark.parametrize(
    "usage", ["keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"]
)
def test_its_keys_sign_and_do_nothing_else(algorithm, usage):
    """RFC 9881, 5."""
    with pytest.raises(Refused) as caught:
        issue(issuer(), good_ask(spki=spki(algorithm), key_usages=["digitalSignature", usage]), Tickets(), now=NOW)
    assert caught.value.reason is SignerRefusal.LINT
    good = good_ask(spki=spki(algorithm), key_usages=["digitalSignature", "nonRepudiation"])
    assert issue(issuer(), good, Tickets(), now=NOW)


@pytest.mark.parametrize("algorithm", IDENTIFIERS)
def test_a_managed_key_is_generated_sealed_and_certified(algorithm, tmp_path):
    """D12."""
    store = made(tmp_path / "keys", algorithm, algorithm)
    [generated] = answered(store, GenerateKey(algorithm))
    [certificate] = answered(store, good_ask(spki=generated.spki))
    leaf = x509.load_der_x509_certificate(certificate.der)
    key = load_der_private_key(generated.private_key, None)
    assert leaf.public_key() == key.public_key()
    assert store.unseal(generated.sealed) == generated.private_key
    leaf.public_key().verify(key.sign(b"message"), b"message")
