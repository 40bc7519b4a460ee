"""An RA's key: what it unwraps, what it signs, and what neither a gateway nor a client can make it do."""

import hashlib

import pytest
from asn1crypto import cms
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.contract.messages import SignAttributes, UnwrapKey
from signer.contract.refusal import SignerRefusal
from signer.issuance.attributes import MAX_ATTRIBUTES, MAX_LENGTH, check_signed_attributes
from signer.issuance.ra import sign_attributes, unwrap
from signer.issuance.refused import Refused
from signer.keystore.key import KeyKind
from tests.signer.kit import issuing, ra, stored

SECRET = bytes(32)
KEY = bytes(range(16))
PKCS1 = padding.PKCS1v15()


def oaep(digest: hashes.HashAlgorithm) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(digest), digest, None)


def wrapped(key: bytes = KEY, scheme=PKCS1) -> bytes:
    return ra().private_key.public_key().encrypt(key, scheme)


def unwrapped(ask: UnwrapKey, secret: bytes = SECRET) -> bytes:
    return unwrap(ra(), ask, substitutes=secret)


def refuses(reason: SignerRefusal, do) -> None:
    with pytest.raises(Refused) as caught:
        do()
    assert caught.value.reason is reason, caught.value


@pytest.mark.parametrize(
    ("algorithm", "scheme"),
    [("pkcs1v15", PKCS1), ("oaep-sha1", oaep(hashes.SHA1())), ("oaep-sha256", oaep(hashes.SHA256()))],
)
@pytest.mark.parametrize("length", [16, 24, 32])
def test_a_wrapped_key_comes_back(algorithm, scheme, length):
    """S49."""
    key = bytes(range(length))
    assert unwrapped(UnwrapKey("issuing-ra", wrapped(key, scheme), algorithm, length)) == key


def test_a_wrong_padding_gives_a_key_that_nobody_can_tell_from_a_right_one():
    """RFC 5652, 6.2.1 and RFC 8017, 7.2.2; S49: implicit rejection, the same answer each time."""
    wrong = bytearray(wrapped())
    wrong[-1] ^= 1
    ask = UnwrapKey("issuing-ra", bytes(wrong), "pkcs1v15", 16)
    first, second, elsewhere = unwrapped(ask), unwrapped(ask), unwrapped(ask, b"\1" * 32)
    assert len(first) == 16
    assert first == second != elsewhere
    assert first != KEY


@pytest.mark.parametrize("length", [0, 1, 5, 15, 17, 32, 100])
def test_a_right_padding_around_a_wrong_length_looks_like_a_wrong_padding(length):
    """Bleichenbacher: whoever knows the plaintext must not know the answer, or a good padding can be told."""
    answer = unwrapped(UnwrapKey("issuing-ra", wrapped(bytes(length)), "pkcs1v15", 16))
    assert len(answer) == 16
    assert answer != bytes(16)


def test_a_number_beyond_the_modulus_is_answered_alike():
    assert len(unwrapped(UnwrapKey("issuing-ra", b"\xff" * 256, "pkcs1v15", 24))) == 24


@given(st.binary(min_size=256, max_size=256), st.sampled_from([16, 24, 32]))
@settings(max_examples=30, deadline=None)
def test_every_ciphertext_of_the_right_length_gives_a_key_of_the_right_length(content, length):
    assert len(unwrapped(UnwrapKey("issuing-ra", content, "pkcs1v15", length))) == length


@pytest.mark.parametrize("content", [b"", bytes(255), bytes(257)])
def test_a_ciphertext_of_another_length_is_refused(content):
    refuses(SignerRefusal.UNWRAP, lambda: unwrapped(UnwrapKey("issuing-ra", content, "pkcs1v15", 16)))


def test_oaep_refuses_what_is_not_for_it_and_what_has_another_length():
    ask = UnwrapKey("issuing-ra", bytes(256), "oaep-sha256", 16)
    refuses(SignerRefusal.UNWRAP, lambda: unwrapped(ask))
    long = UnwrapKey("issuing-ra", wrapped(bytes(32), oaep(hashes.SHA256())), "oaep-sha256", 16)
    refuses(SignerRefusal.UNWRAP, lambda: unwrapped(long))


@pytest.mark.parametrize("length", [0, -1, 8, 48, 190])
def test_only_a_cipher_s_key_is_unwrapped(length):
    """An RA's key is not a decryption service."""
    refuses(SignerRefusal.UNSUPPORTED, lambda: unwrapped(UnwrapKey("issuing-ra", wrapped(), "pkcs1v15", length)))


def test_another_scheme_is_refused():
    refuses(SignerRefusal.UNSUPPORTED, lambda: unwrapped(UnwrapKey("issuing-ra", wrapped(), "raw", 16)))


def test_an_issuer_s_key_neither_unwraps_nor_signs_attributes():
    refuses(
        SignerRefusal.WRONG_KIND,
        lambda: unwrap(issuing(), UnwrapKey("issuing", bytes(256), "pkcs1v15", 16), substitutes=SECRET),
    )
    refuses(
        SignerRefusal.WRONG_KIND,
        lambda: sign_attributes(issuing(), SignAttributes("issuing", attributes(), "sha256")),
    )


def test_a_key_that_is_not_rsa_cannot_unwrap():
    key = stored(KeyKind.RA, "EC_prime256v1", issuing().chain)
    refuses(
        SignerRefusal.UNSUPPORTED,
        lambda: unwrap(key, UnwrapKey("odd", bytes(256), "pkcs1v15", 16), substitutes=SECRET),
    )


# Signed attributes (RFC 5652, 5.3, 5.4, 11)


def attributes(*more: bytes, digest: int = 32) -> bytes:
    """A SET OF signed attributes, made by asn1crypto."""
    made = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [bytes(digest)]}),
        ]
    )
    content = sorted([each.dump() for each in made] + list(more))
    return tlv(0x31, b"".join(content))


def tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 128:
        return bytes((tag, length)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


CONTENT_TYPE = tlv(0x06, bytes.fromhex("2a864886f70d010903"))
MESSAGE_DIGEST = tlv(0x06, bytes.fromhex("2a864886f70d010904"))
TRANSACTION = tlv(0x30, tlv(0x06, bytes.fromhex("6086480186f845010907")) + tlv(0x31, tlv(0x13, b"t" * 200)))


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512"])
def test_signed_attributes_are_signed(digest):
    algorithm = getattr(hashes, digest.upper())()
    content = attributes(TRANSACTION, digest=algorithm.digest_size)
    signature = sign_attributes(ra(), SignAttributes("issuing-ra", content, digest))
    ra().private_key.public_key().verify(signature, content, PKCS1, algorithm)


def test_an_ec_ra_signs_attributes_with_ecdsa():
    key = stored(KeyKind.RA, "EC_prime256v1", issuing().chain)
    signature = sign_attributes(key, SignAttributes("odd", attributes(), "sha256"))
    key.private_key.public_key().verify(signature, attributes(), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        key.private_key.public_key().verify(signature, attributes(TRANSACTION), ec.ECDSA(hashes.SHA256()))


def test_a_key_that_takes_no_digest_signs_no_attributes():
    key = stored(KeyKind.RA, "ED25519", issuing().chain)
    refuses(SignerRefusal.UNSUPPORTED, lambda: sign_attributes(key, SignAttributes("odd", attributes(), "sha256")))


def test_another_digest_is_refused():
    refuses(SignerRefusal.UNSUPPORTED, lambda: sign_attributes(ra(), SignAttributes("ra", attributes(), "md5")))


def attribute(kind: bytes = CONTENT_TYPE, values: bytes = tlv(0x31, tlv(0x06, b"\x2a"))) -> bytes:
    return tlv(0x30, kind + values)


DIGEST = tlv(0x30, MESSAGE_DIGEST + tlv(0x31, tlv(0x04, bytes(32))))
NOT_ATTRIBUTES = {
    "nothing": b"",
    "one byte": b"\x31",
    "an empty set": tlv(0x31, b""),
    "a certificate's kind of thing": tlv(0x30, attribute() + DIGEST),
    "trailing bytes": attributes() + b"\0",
    "a truncated set": attributes()[:-1],
    "an indefinite length": b"\x31\x80" + attribute() + DIGEST + b"\0\0",
    "a length of three bytes": b"\x31\x83\x00\x00\x40" + bytes(64),
    "a length without its bytes": b"\x31\x82\x01",
    "a long form for a short length": b"\x31\x81\x05" + bytes(5),
    "a two-byte form for a short length": b"\x31\x82\x00\x90" + bytes(0x90),
    "a tag of several bytes": b"\x3f\x81\x01\x00",
    "members of another kind": tlv(0x31, tlv(0x04, b"x")),
    "no content type": tlv(0x31, DIGEST),
    "no digest": tlv(0x31, attribute()),
    "a digest of another length": attributes(digest=20),
    "a digest of another kind": tlv(0x31, attribute() + tlv(0x30, MESSAGE_DIGEST + tlv(0x31, tlv(0x0C, bytes(32))))),
    "a content type of another kind": tlv(0x31, attribute(values=tlv(0x31, tlv(0x04, b"x"))) + DIGEST),
    "no values": tlv(0x31, attribute(values=tlv(0x31, b"")) + DIGEST),
    "no set of values": tlv(0x31, attribute(values=tlv(0x04, b"x")) + DIGEST),
    "something after the values": tlv(0x31, attribute(values=tlv(0x31, tlv(0x06, b"*")) + b"\5\0") + DIGEST),
    "two values": tlv(0x31, attribute(values=tlv(0x31, tlv(0x06, b"*") * 2)) + DIGEST),
    "a type that is none": tlv(0x31, attribute(kind=tlv(0x04, b"x")) + DIGEST),
    "an empty type": tlv(0x31, attribute(kind=b"\x06\x00") + DIGEST),
    "the same twice": tlv(0x31, attribute() + attribute() + DIGEST),
    "another order": tlv(0x31, DIGEST + attribute()),
    "too long": attributes(tlv(0x30, tlv(0x06, b"*") + tlv(0x31, tlv(0x04, bytes(MAX_LENGTH))))),
    "too many": attributes(*(attribute(tlv(0x06, bytes((n,))), tlv(0x31, b"\5\0")) for n in range(MAX_ATTRIBUTES))),
}


@pytest.mark.parametrize("name", NOT_ATTRIBUTES)
def test_what_is_not_signed_attributes_is_not_signed(name):
    refuses(SignerRefusal.LINT, lambda: sign_attributes(ra(), SignAttributes("ra", NOT_ATTRIBUTES[name], "sha256")))


def test_what_a_certificate_is_made_of_is_never_signed():
    """The oracle that this verb must not be: bytes to be signed for somebody else."""
    for content in (issuing().certificate.tbs_certificate_bytes, hashlib.sha256(b"x").digest(), b"text"):
        refuses(
            SignerRefusal.LINT, lambda content=content: sign_attributes(ra(), SignAttributes("ra", content, "sha256"))
        )


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(content):
    try:
        check_signed_attributes(content, 32)
    except Refused:
        return
    assert cms.CMSAttributes.load(content, strict=True)


@given(st.data())
def test_bent_attributes_are_refused_or_still_attributes(data):
    content = bytearray(attributes(TRANSACTION))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_signed_attributes(bytes(content), 32)
    except Refused:
        return
    assert content[0] == 0x31
    assert bytes.fromhex("2a864886f70d010904") in content
