"""Keys on a real token: what they sign verifies, they do not leave it, and a key of another certificate is noticed."""

import os
from dataclasses import replace

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pkcs11 import Attribute, KeyType, ObjectClass

from signer.contract.messages import UnwrapKey
from signer.issuance.issue import prepare, sign
from signer.issuance.issuer import issuer_of
from signer.issuance.ra import unwrap
from signer.issuance.refused import Refused
from signer.keystore.failures import TOKEN_FAILURES, KeyStoreError, StoreFailure, token_failure
from signer.keystore.key import TokenPlace
from signer.keystore.pkcs11 import unpadded
from tests.hsm.kit import MODULE, PIN, Store, place
from tests.signer.kit import good_ask

EC = ["EC_prime256v1", "EC_secp384r1", "EC_secp521r1"]
RSA = ["RSA_2048", "RSA_3072", "RSA_4096"]


def refused(failure: StoreFailure, do) -> str:
    with pytest.raises(KeyStoreError) as caught:
        do()
    assert caught.value.failure is failure, caught.value
    return str(caught.value)


def issued(key) -> x509.Certificate:
    now = int(key.certificate.not_valid_before_utc.timestamp()) + 86400
    ask = good_ask(issuer=key.name, not_before=now - 300, not_after=now + 86400)
    issuer = issuer_of(key)
    return x509.load_der_x509_certificate(sign(issuer, prepare(issuer, ask)))


@pytest.mark.parametrize("algorithm", [*EC, "RSA_2048", "RSA_4096", "ED25519"])
def test_an_authority_on_a_token_issues_certificates_that_verify(store, algorithm):
    made = store.issuing(algorithm)
    made.certificate.verify_directly_issued_by(store.root().certificate)
    found = store.again().find("issuing")
    assert (found.chain, found.ceiling, found.kind) == (made.chain, made.ceiling, made.kind)
    issued(found).verify_directly_issued_by(found.certificate)


@pytest.mark.parametrize("algorithm", EC)
@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_a_curve_s_key_signs_every_digest(store, algorithm, digest):
    """FIPS 186-5, 6.4.1: a digest longer than the curve is cut."""
    key = store.tokens.generate(place("key"), algorithm)
    key.public_key().verify(key.sign(b"data", ec.ECDSA(digest)), b"data", ec.ECDSA(digest))
    hashed = hashes.Hash(digest)
    hashed.update(b"data")
    key.public_key().verify(key.sign(hashed.finalize(), ec.ECDSA(Prehashed(digest))), b"data", ec.ECDSA(digest))


@pytest.mark.parametrize("algorithm", RSA)
def test_an_rsa_key_signs_by_both_paddings(store, algorithm):
    key = store.tokens.generate(place("key"), algorithm)
    assert (key.key_size, key.public_key().public_numbers().e) == (int(algorithm[4:]), 65537)
    for digest in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        pkcs1 = padding.PKCS1v15()
        key.public_key().verify(key.sign(b"data", pkcs1, digest), b"data", pkcs1, digest)
        for salt in (padding.PSS.DIGEST_LENGTH, padding.PSS.MAX_LENGTH, 20):
            if digest.name != "sha1" or salt == 20:
                pss = padding.PSS(padding.MGF1(digest), salt)
                key.public_key().verify(key.sign(b"data", pss, digest), b"data", pss, digest)


def test_a_certificate_can_be_signed_by_pss(store):
    key = store.root("RSA_2048")
    builder = prepare(issuer_of(replace(key, ceiling=replace_leaves(key.ceiling))), good_for(key))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    certificate = builder.sign(key.private_key, hashes.SHA256(), rsa_padding=pss)
    certificate.verify_directly_issued_by(key.certificate)


def replace_leaves(ceiling):
    import msgspec

    return msgspec.structs.replace(ceiling, leaves=True)


def good_for(key):
    now = int(key.certificate.not_valid_before_utc.timestamp()) + 86400
    return good_ask(issuer=key.name, not_before=now - 300, not_after=now + 86400)


def test_a_key_on_a_token_is_sensitive_and_stays_there(store, hsm):
    made = store.issuing()
    with pytest.raises(KeyStoreError):
        made.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyStoreError):
        made.private_key.private_numbers()
    session = store.tokens.token(made.private_key.place).session()
    [key] = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "issuing"})
    assert (key[Attribute.SENSITIVE], key[Attribute.EXTRACTABLE], key[Attribute.ALWAYS_SENSITIVE]) == (
        True,
        False,
        True,
    )
    assert key[Attribute.DECRYPT] is False  # an issuer's key unwraps nothing
    with pytest.raises(pkcs11.AttributeSensitive):
        key[Attribute.VALUE]
    file = (store.folder / "issuing.key").read_bytes()
    assert file.startswith(b'{"version":2')
    assert len(file) < 4000  # facts and two certificates


def test_a_place_cannot_be_changed_without_the_secret(store):
    """Who can write to the folder, but has not the secret, leads no authority to another key or module."""
    store.issuing()
    path = store.folder / "issuing.key"
    path.write_bytes(path.read_bytes().replace(b'"token": "hsm"', b'"token": "his"'))
    assert "damaged" in refused(StoreFailure.DAMAGED, lambda: store.again().find("issuing"))


def test_a_token_s_file_is_not_read_as_a_software_key_s(store):
    store.issuing()
    path = store.folder / "issuing.key"
    path.write_bytes(path.read_bytes().replace(b'{"version":2', b'{"version":1'))
    refused(StoreFailure.DAMAGED, lambda: store.again().find("issuing"))


def test_a_key_that_is_not_its_certificate_s_is_noticed(store):
    """The certificate of one authority beside the place of another's key, as after a careless restore."""
    issuing, root = store.issuing(), store.root()
    store.keys.add(replace(root, name="mixed", private_key=issuing.private_key))
    assert "not the one of its certificate" in refused(StoreFailure.DAMAGED, lambda: store.again().find("mixed"))
    store.issuing("RSA_2048", "other")
    store.keys.add(replace(root, name="kinds", private_key=store.keys.find("other").private_key))
    assert "not the one of its certificate" in refused(StoreFailure.DAMAGED, lambda: store.again().find("kinds"))


def test_a_key_that_is_gone_is_missing(store):
    made = store.issuing()
    session = store.tokens.token(made.private_key.place).session()
    [key] = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: "issuing"})
    key.destroy()
    assert "0 private keys 'issuing'" in refused(StoreFailure.MISSING, lambda: store.again().find("issuing"))


def test_two_keys_of_one_label_are_told_apart_by_their_id(store):
    """What an interrupted ceremony left on the token is never taken for the key."""
    one, two = (store.tokens.generate(place("twin"), "EC_prime256v1") for _ in range(2))
    assert one.place.id != two.place.id
    for key in (one, two):
        found = store.tokens.find(key.place, key.public_key())
        key.public_key().verify(found.sign(b"data", ec.ECDSA(hashes.SHA256())), b"data", ec.ECDSA(hashes.SHA256()))
    refused(StoreFailure.MISSING, lambda: store.tokens.find(place("twin"), one.public_key()))


def test_a_key_is_found_by_label_alone_and_by_the_token_s_serial_number(store):
    key = store.tokens.generate(place("key"), "EC_prime256v1")
    serial = store.tokens.token(key.place).session().token.serial.decode()
    by_serial = TokenPlace(MODULE, "", serial, "key", b"")
    for where in (place("key"), by_serial, TokenPlace(MODULE, "hsm", serial, "", key.place.id)):
        assert store.tokens.find(where, key.public_key()).place == where
    wrong = TokenPlace(MODULE, "hsm", "0000", "key", b"")
    refused(StoreFailure.UNAVAILABLE, lambda: store.tokens.find(wrong, key.public_key()))


def test_a_key_that_can_be_taken_out_is_not_for_authorities(store):
    software = ec.generate_private_key(ec.SECP256R1())
    session = store.tokens.token(place("soft")).session()
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.PRIVATE_KEY,
            Attribute.KEY_TYPE: KeyType.EC,
            Attribute.TOKEN: True,
            Attribute.LABEL: "soft",
            Attribute.SENSITIVE: False,
            Attribute.EXTRACTABLE: True,
            Attribute.SIGN: True,
            Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107"),
            Attribute.VALUE: software.private_numbers().private_value.to_bytes(32, "big"),
        }
    )
    assert "taken out" in refused(StoreFailure.DAMAGED, lambda: store.tokens.find(place("soft"), software.public_key()))


@pytest.mark.parametrize("algorithm", ["ML-DSA-65", "DSA", ""])
def test_a_key_that_no_token_makes_is_told(store, algorithm):
    refused(StoreFailure.UNSUPPORTED, lambda: store.tokens.generate(place("key"), algorithm))


def test_keys_on_tokens_refuse_what_no_verb_needs(store):
    curve = store.tokens.generate(place("curve"), "EC_prime256v1")
    number = store.tokens.generate(place("number"), "RSA_2048")
    edwards = store.tokens.generate(place("edwards"), "ED25519")
    refused(StoreFailure.UNSUPPORTED, lambda: curve.exchange(ec.ECDH(), curve.public_key()))
    refused(StoreFailure.UNSUPPORTED, edwards.private_bytes_raw)
    refused(StoreFailure.UNSUPPORTED, lambda: number.sign(b"d", padding.PKCS1v15(), NoDigestInfo()))
    refused(StoreFailure.UNSUPPORTED, lambda: number.sign(b"d", padding.PKCS1v15(), hashes.MD5()))
    for key in (curve, number, edwards):
        assert key.__copy__() is key.__deepcopy__({}) is key


def wrapped(key, plain: bytes, chosen) -> bytes:
    return key.private_key.public_key().encrypt(plain, chosen)


def test_an_ra_s_key_on_a_token_unwraps(store):
    """S49; RFC 5652, 6.2.1."""
    ra = store.ceremony().ra("issuing-ra", store.issuing())
    assert isinstance(ra.private_key, rsa.RSAPrivateKey)
    for length in (16, 24, 32):
        plain = os.urandom(length)
        ask = UnwrapKey("issuing-ra", wrapped(ra, plain, padding.PKCS1v15()), "pkcs1v15", length)
        assert unwrap(ra, ask, substitutes=bytes(32)) == plain
        sha1 = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
        ask = UnwrapKey("issuing-ra", wrapped(ra, plain, sha1), "oaep-sha1", length)
        assert unwrap(ra, ask, substitutes=bytes(32)) == plain


def test_a_wrong_padding_looks_like_a_right_one_and_costs_no_session(store):
    """Bleichenbacher; RFC 8017, 7.2.2; S49: the same answer each time, of the same length, and no new session."""
    ra = store.ceremony().ra("issuing-ra", store.issuing())
    session = store.tokens.token(ra.private_key.place).session()
    numbers = ra.private_key.public_key().public_numbers()
    length = (numbers.n.bit_length() + 7) // 8
    forged = [
        pow(int.from_bytes(block, "big"), numbers.e, numbers.n).to_bytes(length, "big")
        for block in (
            b"\0\1" + b"\xff" * (length - 3) + b"\0",
            b"\0\2" + b"\xff" * (length - 2),
            b"\0\2" + b"\xff" * 5 + b"\0" + b"k" * (length - 8),
            b"\0" * (length - 1) + b"\5",
        )
    ]
    forged += [b"\xff" * length, wrapped(ra, b"k" * 20, padding.PKCS1v15())]
    for each in forged:
        ask = UnwrapKey("issuing-ra", each, "pkcs1v15", 16)
        first = unwrap(ra, ask, substitutes=bytes(32))
        assert len(first) == 16
        assert unwrap(ra, ask, substitutes=bytes(32)) == first
        assert unwrap(ra, ask, substitutes=b"\1" * 32) != first
    assert store.tokens.token(ra.private_key.place).session() is session
    for each in forged:
        with pytest.raises(Refused):
            unwrap(ra, UnwrapKey("issuing-ra", each, "oaep-sha1", 16), substitutes=bytes(32))


@pytest.mark.parametrize("raw", [True, False])
def test_a_token_that_gives_no_bare_number_takes_the_padding_off_itself(store, monkeypatch, raw):
    """CKM_RSA_X_509 is switched off on many tokens (FIPS 140)."""
    ra = store.ceremony().ra("issuing-ra", store.issuing())
    token = store.tokens.token(ra.private_key.place)
    assert token._raw_rsa  # SoftHSM2 has it
    monkeypatch.setattr(token, "_raw_rsa", raw)
    plain = os.urandom(16)
    ask = UnwrapKey("issuing-ra", wrapped(ra, plain, padding.PKCS1v15()), "pkcs1v15", 16)
    assert unwrap(ra, ask, substitutes=bytes(32)) == plain
    forged = UnwrapKey("issuing-ra", b"\1" * 256, "pkcs1v15", 16)
    assert unwrap(ra, forged, substitutes=bytes(32)) == unwrap(ra, forged, substitutes=bytes(32))


@pytest.mark.parametrize(
    ("block", "plain"),
    [
        (b"\0\2" + b"p" * 8 + b"\0key", b"key"),
        (b"\0\2" + b"p" * 20 + b"\0a\0b", b"a\0b"),
        (b"\0\2" + b"p" * 7 + b"\0key", b""),
        (b"\0\1" + b"p" * 8 + b"\0key", b""),
        (b"\1\2" + b"p" * 8 + b"\0key", b""),
        (b"\0\2" + b"p" * 30, b""),
        (b"\0\2\0" + b"p" * 8 + b"\0key", b""),
        (b"\0\2" + b"p" * 8 + b"\0", b""),
    ],
)
def test_padding_is_taken_off_as_rfc_8017_says(block, plain):
    """RFC 8017, 7.2.2, step 3."""
    assert unpadded(block) == plain


def test_an_oaep_that_the_token_has_not_is_unsupported(store):
    """SoftHSM2 knows OAEP with SHA-1 only."""
    ra = store.ceremony().ra("issuing-ra", store.issuing())
    chosen = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    ask = UnwrapKey("issuing-ra", wrapped(ra, bytes(16), chosen), "oaep-sha256", 16)
    refused(StoreFailure.UNSUPPORTED, lambda: unwrap(ra, ask, substitutes=bytes(32)))


def test_an_issuer_s_key_decrypts_nothing_even_on_the_token(store):
    key = store.issuing("RSA_2048").private_key
    refused(StoreFailure.UNSUPPORTED, lambda: key.decrypt(bytes(256), padding.PKCS1v15()))


def test_software_and_token_keys_stand_in_one_folder(store):
    from signer.ceremony import Ceremony, Plan

    soft = Ceremony(store.keys, now=int(store.root().certificate.not_valid_before_utc.timestamp()) + 86400)
    below = soft.authority(Plan("soft", [("2.5.4.3", "Soft")], "EC_prime256v1", store.root(), 0, 365))
    below.certificate.verify_directly_issued_by(store.root().certificate)
    assert store.again().names() == ("root", "soft")
    assert (store.folder / "soft.key").read_bytes().startswith(b'{"version":1')


def test_a_store_without_tokens_says_so(store):
    from signer.keystore.softkey import SoftKeyStore

    store.root()
    refused(StoreFailure.UNSUPPORTED, lambda: SoftKeyStore(store.folder, store.kek).find("root"))


def test_every_code_of_pkcs11_has_its_reason():
    """A code that python-pkcs11 gives a name stands in the table; a vendor's own costs the session."""
    named = {each.__name__ for each in pkcs11.PKCS11Error.__subclasses__()}
    left_out = {  # of verbs that are never asked
        each for each in named if each.startswith(("Wrap", "Unwrap", "Key", "Encrypted", "Random", "SessionExists"))
    }
    never = {
        "ExceededMaxIterations",
        "FunctionRejected",
        "NoEvent",
        "SessionReadOnlyExists",
        "SessionReadWriteSOExists",
    }
    assert named - left_out - never <= set(TOKEN_FAILURES)
    assert set(TOKEN_FAILURES) <= named
    assert token_failure(pkcs11.PinIncorrect()) is StoreFailure.LOCKED
    assert token_failure(pkcs11.PKCS11Error("CKR_VENDOR_DEFINED")) is StoreFailure.SESSION
    assert set(TOKEN_FAILURES.values()) == set(StoreFailure)


def test_the_public_key_of_a_p521_key_is_read_from_its_long_octet_string(store):
    """CKA_EC_POINT of P-521 has a length of two bytes in DER."""
    key = store.tokens.generate(place("key"), "EC_secp521r1")
    assert len(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)) == 133


def test_two_tokens_are_opened_side_by_side(hsm, tmp_path):
    hsm.make("second", "another")
    pkcs11.lib(MODULE).reinitialize()
    store = Store(tmp_path / "keys", {"hsm": PIN, "second": "another"})
    one = store.tokens.generate(place("key"), "EC_prime256v1")
    two = store.tokens.generate(place("key", "second"), "EC_prime256v1")
    for key in (one, two, one, two):
        key.public_key().verify(key.sign(b"data", ec.ECDSA(hashes.SHA256())), b"data", ec.ECDSA(hashes.SHA256()))
