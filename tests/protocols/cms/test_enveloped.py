"""EnvelopedData: what clients encrypt, and what is encrypted to them, with OpenSSL and asn1crypto as the other side."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from asn1crypto import algos, cms, core
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.cms import algorithms, certificate, der, enveloped
from protocols.cms.certificate import Certificate
from protocols.cms.enveloped import Envelope, Recipient
from protocols.exchange import Malformed
from tests.doubles.client_keys import rsa_key
from tests.doubles.mutation import mutations
from tests.doubles.scep_client import ScepClient, self_signed

RA = self_signed(rsa_key("ra"), "RA", ski=True)


def ra() -> Certificate:
    return certificate.read(RA.public_bytes(Encoding.DER))


def client(**how: object) -> ScepClient:
    return ScepClient(rsa_key("client"), self_signed(rsa_key("client")), **how)


def opened(octets: bytes, padder: padding.AsymmetricPadding | None = None) -> bytes:
    envelope = enveloped.parse(octets)
    recipient = envelope.recipient(ra())
    assert recipient is not None
    assert envelope.cipher is not None
    key = rsa_key("ra").decrypt(recipient.wrapped, padder or padding.PKCS1v15())
    return enveloped.decrypt(envelope, envelope.cipher, key)


@pytest.mark.parametrize("cipher", ["aes128_cbc", "aes192_cbc", "aes256_cbc"])
@pytest.mark.parametrize("transport", ["pkcs1v15", "oaep-sha1", "oaep-sha256"])
@pytest.mark.parametrize("by_key_identifier", [False, True])
def test_every_cipher_with_every_key_transport_opens(cipher: str, transport: str, by_key_identifier: bool):
    """S49, S50, S41."""
    sender = client(cipher=cipher, transport=transport, by_key_identifier=by_key_identifier)
    octets = sender.envelope(b"content", RA)
    envelope = enveloped.parse(octets)
    assert envelope.recipients[0].transport is not None
    assert envelope.recipients[0].transport.name == transport
    assert envelope.cipher is not None
    assert envelope.cipher.name == cipher.replace("_", "-").replace("aes", "aes-")
    assert opened(octets, sender._padding()) == b"content"


@pytest.mark.parametrize("stream", [[], ["-stream"]])
@pytest.mark.parametrize("cipher", ["-aes-128-cbc", "-aes-256-cbc"])
def test_an_envelope_of_openssl_opens_in_der_and_in_ber(tmp_path: Path, stream: list[str], cipher: str):
    """S39, S47: two recipients, of whom we are the second; `-stream` writes indefinite lengths and pieces."""
    other = self_signed(rsa_key("client"), "other")
    (tmp_path / "ra.pem").write_bytes(RA.public_bytes(Encoding.PEM))
    (tmp_path / "other.pem").write_bytes(other.public_bytes(Encoding.PEM))
    content = bytes(range(256)) * 50
    command = ["openssl", "cms", "-encrypt", "-binary", "-outform", "DER", cipher, *stream, "other.pem", "ra.pem"]
    octets = subprocess.run(command, cwd=tmp_path, input=content, capture_output=True, check=True).stdout
    assert (octets[1] == 0x80) is bool(stream)
    assert len(enveloped.parse(octets).recipients) == 2
    assert opened(octets) == content


def test_what_is_encrypted_to_a_client_opens_with_openssl(tmp_path: Path):
    """S85, S86, S93."""
    key = rsa_key("client")
    cert = self_signed(key)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    for cipher in algorithms.CIPHERS.values():
        for transport in (algorithms.PKCS1V15, algorithms.OAEP_SHA1, algorithms.OAEP_SHA256):
            octets = enveloped.encrypt(
                b"to you alone",
                certificate.read(cert.public_bytes(Encoding.DER)),
                key.public_key(),
                cipher,
                transport,
                key=bytes(range(cipher.key_length)),
                iv=bytes(16),
            )
            assert cms.ContentInfo.load(octets, strict=True).dump(force=True) == octets
            command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-recip", "cert.pem", "-inkey", "key.pem"]
            done = subprocess.run(command, cwd=tmp_path, input=octets, capture_output=True, check=False)
            assert done.stdout == b"to you alone", done.stderr


@given(st.binary(max_size=100))
@settings(max_examples=60)
def test_padding_is_put_on_and_taken_off(content: bytes):
    """RFC 5652, 6.3: also where the content fills its last block."""
    cipher = algorithms.CIPHERS[next(iter(algorithms.CIPHERS))]
    octets = enveloped.encrypt(
        content, ra(), rsa_key("ra").public_key(), cipher, algorithms.PKCS1V15, key=bytes(16), iv=bytes(16)
    )
    assert opened(octets) == content


@pytest.mark.parametrize("octets", [0, 15, 100, 111, 112, 127, 128, 255, 256, 65_519, 65_520])
@pytest.mark.parametrize("cipher", algorithms.CIPHERS.values(), ids=lambda each: each.name)
def test_an_envelope_is_der_at_every_length_of_its_content(octets: int, cipher: algorithms.ContentCipher):
    """X.690, 10.1; S85: also where an envelope of these lengths was closed before, with other octets."""
    public_key = rsa_key("ra").public_key()
    for letter in (b"x", b"y"):
        key, iv, content = letter * cipher.key_length, letter * 16, letter * octets
        closed = enveloped.encrypt(content, ra(), public_key, cipher, algorithms.OAEP_SHA256, key=key, iv=iv)
        assert cms.ContentInfo.load(closed, strict=True).dump(force=True) == closed
        scheme = algorithms.OAEP_SHA256.padding
        assert (opened(closed, scheme), enveloped.parse(closed).iv) == (content, iv)


@given(st.binary(min_size=16, max_size=16))
@settings(max_examples=200)
def test_a_wrong_key_gives_noise_and_never_an_error(key: bytes):
    """S122: nothing tells a wrong key from wrong padding."""
    octets = client().envelope(b"content" * 9, RA)
    envelope = enveloped.parse(octets)
    assert envelope.cipher is not None
    noise = enveloped.decrypt(envelope, envelope.cipher, key)
    assert b"content" not in noise
    assert 0 <= len(noise) <= 64


@pytest.mark.parametrize("last", [0, 17, 255])
def test_a_padding_that_cannot_be_is_left_on(last: int):
    cipher = algorithms.CIPHERS[next(iter(algorithms.CIPHERS))]
    block = bytes(15) + bytes([last])
    encryptor = Cipher(AES(bytes(16)), modes.CBC(bytes(16))).encryptor()
    envelope = Envelope((), cipher, bytes(16), encryptor.update(block) + encryptor.finalize())
    assert enveloped.decrypt(envelope, cipher, bytes(16)) == block


def _envelope(**changes: bytes) -> bytes:
    """An EnvelopedData written field by field, any of them changed."""
    cipher = algorithms.CIPHERS[next(iter(algorithms.CIPHERS))]
    parts = {
        "version": der.integer(0),
        "originator": b"",
        "rid": ra().issuer_and_serial,
        "transport": algorithms.RSA_IDENTIFIER,
        "wrapped": der.octet_string(bytes(256)),
        "cipher": der.sequence(cipher.oid, der.octet_string(bytes(16))),
        "content": der.tlv(0x80, bytes(32)),
        "others": b"",
        "unprotected": b"",
    } | changes
    recipient = der.sequence(der.integer(0), parts["rid"], parts["transport"], parts["wrapped"])
    body = der.sequence(
        parts["version"],
        parts["originator"],
        der.tlv(der.SET, parts["others"] + recipient),
        der.sequence(algorithms.DATA, parts["cipher"], parts["content"]),
        parts["unprotected"],
    )
    return der.sequence(algorithms.ENVELOPED_DATA, der.tlv(0xA0, body))


def test_the_parts_that_say_nothing_are_passed_over():
    """Originator, unprotected attributes, recipients of other kinds."""
    octets = _envelope(
        originator=der.tlv(0xA0, b""), unprotected=der.tlv(0xA1, b""), others=der.tlv(0xA1, der.integer(3))
    )
    envelope = enveloped.parse(octets)
    assert len(envelope.recipients) == 1
    assert envelope.recipient(ra()) is envelope.recipients[0]
    assert envelope.recipient(certificate.read(self_signed(rsa_key("ra")).public_bytes(Encoding.DER))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"content": b""},  # S60
        {"content": der.tlv(0x80, b"")},
        {"content": der.tlv(0x80, bytes(33))},
        {"cipher": der.sequence(next(iter(algorithms.CIPHERS)))},
        {"cipher": der.sequence(next(iter(algorithms.CIPHERS)), der.octet_string(bytes(8)))},
        {"cipher": der.sequence(next(iter(algorithms.CIPHERS)), der.integer(5))},
        {"others": der.tlv(0xA1, b"") * 9},
        {"rid": der.integer(1)},
        {"wrapped": b""},
        {"transport": der.sequence(algorithms.RSA, der.NULL, der.NULL)},
        {"transport": der.sequence(algorithms.RSA, der.integer(1), der.NULL)},
    ],
)
def test_an_envelope_that_means_nothing_is_malformed(changes: dict[str, bytes]):
    with pytest.raises(Malformed):
        enveloped.parse(_envelope(**changes))


@pytest.mark.parametrize(
    "octets",
    [
        der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, der.sequence())),
        der.sequence(algorithms.ENVELOPED_DATA, der.tlv(0xA0, b"")),
        b"",
    ],
)
def test_what_is_not_enveloped_data_is_malformed(octets: bytes):
    with pytest.raises(Malformed):
        enveloped.parse(octets)


def test_a_cipher_that_is_not_spoken_is_none():
    """S50: 3DES and DES are off; their IVs and blocks are not looked at."""
    envelope = enveloped.parse(client(cipher="tripledes_3key").envelope(b"content", RA))
    assert envelope.cipher is None


def _transport(parameters: bytes) -> algorithms.KeyTransport | None:
    oid = core.ObjectIdentifier("1.2.840.113549.1.1.7").dump()
    return enveloped.parse(_envelope(transport=der.sequence(oid, parameters))).recipients[0].transport


def test_oaep_is_known_by_its_parameters():
    """S49: SHA-1 and SHA-256, the mask's hash the same, no label. OpenSSL's defaults are left out (RFC 8017, A.2.1)."""
    sha256 = algorithms.SHA256.identifier
    mgf1 = core.ObjectIdentifier("1.2.840.113549.1.1.8").dump()
    specified = core.ObjectIdentifier("1.2.840.113549.1.1.9").dump()
    md5 = algos.DigestAlgorithm({"algorithm": "md5"}).dump()
    mask = der.tlv(0xA1, der.sequence(mgf1, sha256))
    assert _transport(b"") is algorithms.OAEP_SHA1
    assert _transport(der.NULL) is algorithms.OAEP_SHA1
    assert _transport(der.sequence()) is algorithms.OAEP_SHA1
    assert _transport(der.sequence(der.tlv(0xA0, sha256), mask)) is algorithms.OAEP_SHA256
    empty = der.tlv(0xA2, der.sequence(specified, der.octet_string(b"")))
    assert _transport(der.sequence(der.tlv(0xA0, sha256), mask, empty)) is algorithms.OAEP_SHA256
    for label in (
        der.sequence(specified, der.octet_string(b"label")),
        der.sequence(specified),
        der.sequence(mgf1, der.octet_string(b"")),
    ):
        assert _transport(der.sequence(der.tlv(0xA2, label))) is None
    assert _transport(der.sequence(mask)) is None  # hash and mask differ
    assert _transport(der.sequence(der.tlv(0xA0, md5))) is None
    assert _transport(der.sequence(der.tlv(0xA1, der.sequence(mgf1)))) is None
    assert _transport(der.sequence(der.tlv(0xA1, der.sequence(specified, sha256)))) is None
    sha512 = algorithms.SHA512.identifier
    both = der.sequence(der.tlv(0xA0, sha512), der.tlv(0xA1, der.sequence(mgf1, sha512)))
    assert _transport(both) is None
    assert enveloped.parse(_envelope(transport=der.sequence(mgf1))).recipients[0].transport is None


def test_the_key_has_the_length_of_the_cipher():
    """A host that unwraps to another length has broken its contract; that must be loud."""
    envelope = enveloped.parse(_envelope())
    assert envelope.cipher is not None
    with pytest.raises(AssertionError):
        enveloped.decrypt(envelope, envelope.cipher, bytes(15))


def test_damage_never_raises_anything_else():
    """S55."""
    corpus = [client().envelope(bytes(100), RA), client(transport="oaep-sha256").envelope(bytes(10), RA)]
    found: list[Recipient] = []
    for damaged in mutations(b"enveloped", 3000, corpus):
        try:
            envelope = enveloped.parse(damaged)
        except Malformed:
            continue
        found.extend(envelope.recipients)
        if envelope.cipher is not None:
            enveloped.decrypt(envelope, envelope.cipher, bytes(envelope.cipher.key_length))
    assert found
