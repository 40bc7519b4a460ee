"""Certification requests: what is read, what is refused, and in which words (RFC 2986; D7, A83, A85)."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix import csr
from protocols.pkix.names import AlternativeName, Attribute
from tests.doubles import pkcs10
from tests.doubles.mutation import mutations
from tests.doubles.pkcs10 import attribute, extension, p256, raw_request, request, rsa2048, tlv


def refused(der: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        csr.parse(der)
    return caught.value


def malformed(der: bytes) -> Malformed:
    with pytest.raises(Malformed) as caught:
        csr.parse(der)
    assert caught.value.field == "csr"
    return caught.value


def test_everything_that_a_request_asks_for_is_read():
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=True,
    )
    der = request(
        "A.Example",
        "b.example",
        common_name="a.example",
        ips=("192.0.2.1", "2001:DB8::1"),
        extensions=(usage, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), x509.OCSPNoCheck()),
        challenge=b"secret",
    )
    read = csr.parse(der)
    key = p256().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert read == csr.CertificationRequest(
        der=der,
        sha256=hashlib.sha256(der).digest(),
        spki=key,
        spki_sha256=hashlib.sha256(key).digest(),
        key_algorithm="EC_prime256v1",
        key_bits=256,
        signature_algorithm="1.2.840.10045.4.3.2",
        subject=(Attribute("2.5.4.3", "a.example"),),
        sans=(
            AlternativeName("dns_name", "a.example"),
            AlternativeName("dns_name", "b.example"),
            AlternativeName("ip_address", "192.0.2.1"),
            AlternativeName("ip_address", "2001:db8::1"),
        ),
        key_usages=("digitalSignature", "keyAgreement", "decipherOnly"),
        extended_key_usages=("1.3.6.1.5.5.7.3.1",),
        ca=False,
        challenge="secret",
        extensions=("2.5.29.17", "2.5.29.15", "2.5.29.37", "1.3.6.1.5.5.7.48.1.5"),
    )


def test_a_request_that_asks_for_nothing_has_an_empty_subject_and_no_names():
    read = csr.parse(request())
    assert (read.subject, read.sans, read.key_usages, read.extended_key_usages) == ((), None, None, None)
    assert (read.challenge, read.extensions) == (None, ())


def test_a_request_without_the_attributes_field_is_malformed():
    # RFC 2986, 4.1 has the field, empty where there are none; whoever leaves it out must not be taken for a bug.
    malformed(pkcs10.request_without_attributes())


def test_a_wish_to_be_an_authority_is_kept_so_that_it_can_be_refused():
    # A86, E44
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    assert csr.parse(request("a.example", extensions=(constraints,))).ca
    usage = x509.KeyUsage(True, True, False, False, False, True, True, False, False)
    assert csr.parse(request("a.example", extensions=(usage,))).key_usages == (
        "digitalSignature",
        "nonRepudiation",
        "keyCertSign",
        "cRLSign",
    )


@pytest.mark.parametrize(
    ("key", "algorithm", "bits"),
    [
        (rsa2048, "RSA_2048", 2048),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072), "RSA_3072", 3072),
        (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2056), "RSA_OTHER", 2056),
        (p256, "EC_prime256v1", 256),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "EC_secp384r1", 384),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "EC_secp521r1", 521),
        (ed25519.Ed25519PrivateKey.generate, "ED25519", 256),
        (ed448.Ed448PrivateKey.generate, "ED448", 456),
        (mldsa.MLDSA44PrivateKey.generate, "ML-DSA-44", 10496),
        (mldsa.MLDSA65PrivateKey.generate, "ML-DSA-65", 15616),
        (mldsa.MLDSA87PrivateKey.generate, "ML-DSA-87", 20736),
    ],
)
def test_each_kind_of_key_is_read_under_its_name(key, algorithm, bits):
    # D7
    read = csr.parse(request("a.example", key=key()))
    assert (read.key_algorithm, read.key_bits) == (algorithm, bits)


def test_keys_of_other_kinds_are_refused_by_what_they_are():
    # D7, A85: RSA below 2048, e = 3, P-224, secp256k1, DSA
    assert "1024 bits" in _bad_key(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    assert "exponent" in _bad_key(rsa.generate_private_key(public_exponent=3, key_size=2048))
    assert "secp224r1" in _bad_key(ec.generate_private_key(ec.SECP224R1()))
    assert "secp256k1" in _bad_key(ec.generate_private_key(ec.SECP256K1()))


def _bad_key(key: pkcs10.PrivateKey) -> str:
    refusal = refused(request("a.example", key=key))
    assert refusal.reason is Reason.BAD_KEY
    return refusal.detail


def test_a_dsa_request_is_refused():
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    der = builder.sign(dsa.generate_private_key(1024), hashes.SHA256()).public_bytes(Encoding.DER)
    assert refused(der).reason is Reason.BAD_CSR


def test_a_point_that_is_not_on_its_curve_is_a_bad_key():
    # D7
    spki = bytearray(p256().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    spki[-1] ^= 1
    assert refused(raw_request(spki=bytes(spki))).reason is Reason.BAD_KEY


def test_a_signature_by_another_key_is_refused():
    # D7: whoever asks must hold the private key (RFC 2986, 4.2)
    spki = p256(1).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refused(raw_request(spki=spki)).reason is Reason.BAD_CSR


def test_a_signature_algorithm_of_another_kind_than_the_key_is_refused():
    spki = rsa2048().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert refused(raw_request(spki=spki)).reason is Reason.BAD_CSR


@pytest.mark.parametrize(
    ("sound", "broken"),
    [
        ("2a864886f70d01010b", "2a864886f70d010105"),  # sha1WithRSAEncryption
        ("2a864886f70d01010b", "2a864886f70d010104"),  # md5WithRSAEncryption
        ("2a864886f70d01010b", "2a864886f70d01010e"),  # sha224WithRSAEncryption
    ],
)
def test_broken_digests_are_refused_before_the_signature_is_looked_at(sound, broken):
    # D7, A83
    der = request("a.example", key=rsa2048()).replace(bytes.fromhex(sound), bytes.fromhex(broken))
    refusal = refused(der)
    assert refusal.reason is Reason.BAD_CSR
    assert "not accepted" in refusal.detail


def test_pss_is_accepted_with_a_sound_digest_only():
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    der = builder.sign(rsa2048(), hashes.SHA256(), rsa_padding=pss).public_bytes(Encoding.DER)
    assert csr.parse(der).signature_algorithm == "1.2.840.113549.1.1.10"
    sha256, sha224 = bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040204")
    assert refused(der.replace(sha256, sha224)).reason is Reason.BAD_CSR
    unknown = bytes.fromhex("060960864801650304027f")
    assert refused(der.replace(sha256, unknown)).reason is Reason.BAD_CSR


def test_what_is_not_one_request_is_malformed():
    # A83
    der = request("a.example")
    for wrong in (b"", b"0\0", der[:-1], der + b"\0", b"-----BEGIN", raw_request(version=1)):
        malformed(wrong)


def test_the_size_is_capped_before_anything_is_parsed():
    # D7, A83
    assert "16384" in malformed(b"\x30" * (csr.LIMIT + 1)).detail
    many = request(*(f"{'a' * 60}{number}.example" for number in range(100)))
    assert len(csr.parse(many).sans or ()) == 100


@pytest.mark.parametrize(
    ("tag", "octets", "text"),
    [
        (0x0C, "gehéim".encode(), "gehéim"),  # UTF8String
        (0x13, b"secret", "secret"),  # PrintableString
        (0x16, b"secret", "secret"),  # IA5String
        (0x14, "gehéim".encode("latin-1"), "gehéim"),  # T61String
        (0x1E, "gehéim".encode("utf-16-be"), "gehéim"),  # BMPString
        (0x1C, "gehéim".encode("utf-32-be"), "gehéim"),  # UniversalString
    ],
)
def test_a_challenge_is_read_whatever_its_string_type(tag, octets, text):
    # RFC 2985, 5.4.1
    assert csr.parse(raw_request(attribute(pkcs10.CHALLENGE_PASSWORD, tlv(tag, octets)))).challenge == text


@pytest.mark.parametrize(
    "values",
    [
        (tlv(0x0C, b"one"), tlv(0x0C, b"two")),  # RFC 2985, 5.4.1: single-valued
        (tlv(0x04, b"octets"),),
        (tlv(0x0C, b"\xff"),),
        (),
    ],
)
def test_a_challenge_of_no_one_text_is_malformed(values):
    malformed(raw_request(attribute(pkcs10.CHALLENGE_PASSWORD, *values)))


def test_two_challenges_are_malformed():
    one = attribute(pkcs10.CHALLENGE_PASSWORD, tlv(0x0C, b"one"))
    assert "more than one" in malformed(raw_request(one, one)).detail


SAN = tlv(0x30, extension("2.5.29.17", tlv(0x30, tlv(0x82, b"a.example"))))


def test_two_lists_of_extensions_are_malformed_even_under_two_names():
    pkcs, microsoft = attribute(pkcs10.EXTENSION_REQUEST, SAN), attribute(pkcs10.MICROSOFT_EXTENSIONS, SAN)
    assert csr.parse(raw_request(pkcs)).sans == (AlternativeName("dns_name", "a.example"),)
    assert csr.parse(raw_request(microsoft)).sans == (AlternativeName("dns_name", "a.example"),)
    for both in ((pkcs, microsoft), (microsoft, pkcs), (pkcs, pkcs)):
        malformed(raw_request(*both))


def test_an_extension_twice_or_unreadable_is_malformed():
    san = extension("2.5.29.17", tlv(0x30, tlv(0x82, b"a.example")))
    malformed(raw_request(attribute(pkcs10.EXTENSION_REQUEST, tlv(0x30, san, san))))
    broken = extension("2.5.29.17", tlv(0x30, tlv(0x82, b"\xff")))
    malformed(raw_request(attribute(pkcs10.EXTENSION_REQUEST, tlv(0x30, broken))))


def test_other_attributes_are_passed_over():
    name = attribute(bytes.fromhex("06092a864886f70d010902"), tlv(0x0C, b"unstructured"))
    assert csr.parse(raw_request(name)).challenge is None


def test_a_name_that_nobody_can_validate_is_refused():
    # x400Address: cryptography cannot hold it, and it must not be lost
    address = tlv(0x30, extension("2.5.29.17", tlv(0x30, tlv(0xA3, b""))))
    refusal = refused(raw_request(attribute(pkcs10.EXTENSION_REQUEST, address)))
    assert refusal.reason is Reason.BAD_CSR
    assert "kind" in refusal.detail


def test_a_subject_that_cannot_be_judged_attribute_by_attribute_is_refused():
    one = tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, b"a"))
    two = tlv(0x30, bytes.fromhex("060355040a"), tlv(0x0C, b"b"))
    refusal = refused(raw_request(subject=tlv(0x30, tlv(0x31, one, two))))
    assert refusal.reason is Reason.BAD_CSR
    assert "several attributes" in refusal.detail
    nul = tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, b"good.example\0.bad"))
    assert "control" in refused(raw_request(subject=tlv(0x30, tlv(0x31, nul)))).detail


def test_damaged_requests_are_malformed_or_refused_and_nothing_else():
    # A120
    names = (
        x509.RFC822Name("a@example.com"),
        x509.UniformResourceIdentifier("https://a.example/x"),
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), tlv(0x0C, b"user@example.com")),
    )
    corpus = (
        request("a.example", common_name="a.example", challenge=b"secret", ips=("192.0.2.1",), others=names),
        request("a.example", key=ed25519.Ed25519PrivateKey.generate()),
        request("a.example", key=rsa2048(), extensions=(x509.BasicConstraints(ca=False, path_length=None),)),
        raw_request(attribute(pkcs10.CHALLENGE_PASSWORD, tlv(0x1E, b"\0a"))),
    )
    outcomes = set()
    for damaged in mutations(b"csr", 3000, corpus):
        try:
            csr.parse(damaged)
        except (Malformed, Refused) as fault:
            outcomes.add(type(fault))
    assert outcomes == {Malformed, Refused}


def test_damage_inside_a_signed_request_is_malformed_or_refused():
    # The damage is under a true signature here, so that what comes after its verification is reached.
    names = tlv(
        0x30, tlv(0x82, b"a.example"), tlv(0xA0, bytes.fromhex("060a2b060104018237140203"), tlv(0xA0, b"\x0c\0"))
    )
    usages = extension("2.5.29.15", bytes.fromhex("03020780"))
    corpus = (
        attribute(pkcs10.EXTENSION_REQUEST, tlv(0x30, extension("2.5.29.17", names), usages)),
        attribute(pkcs10.CHALLENGE_PASSWORD, tlv(0x13, b"secret")),
    )
    seen = 0
    for damaged in mutations(b"attributes", 1500, corpus):
        try:
            csr.parse(raw_request(damaged))
            seen += 1
        except (Malformed, Refused):
            pass
    assert seen > 0


def test_a_key_that_is_held_already_is_used_for_its_own_requests_alone():
    """S61: the same key is not loaded again; another one verifies nothing."""
    own, other = rsa2048(), p256()
    der = request("a.example", key=own)
    for key in (own, other):
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert csr.parse(der, (spki, key.public_key())) == csr.parse(der)
    spki = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(Refused) as caught:
        csr.parse(der[:-1] + bytes((der[-1] ^ 1,)), (spki, own.public_key()))
    assert caught.value.reason is Reason.BAD_CSR
