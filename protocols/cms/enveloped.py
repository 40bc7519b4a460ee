"""EnvelopedData for one RSA recipient: reading what clients encrypt to the RA, building what is encrypted to a client.

Never here: a private key (the signer unwraps), dice (content key and IV are arguments), or an answer that tells a
wrong key from wrong padding: `decrypt` always gives octets back, and only their meaning can be refused (S122).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers import algorithms as block_ciphers

from protocols.cms import algorithms, ber, der, signed, usual
from protocols.cms.algorithms import ContentCipher, KeyTransport
from protocols.cms.ber import Element, Field
from protocols.cms.certificate import Certificate
from protocols.cms.signed import SignerIdentifier
from protocols.exchange import Malformed

MAX_RECIPIENTS: Final = 8  # S52
BLOCK: Final = 16

_VERSION_0: Final = der.integer(0)

_ENVELOPED_DATA: Final = (
    Field(der.INTEGER, wanted=False),
    Field(0xA0, needed=False, wanted=False),  # originatorInfo
    Field(der.SET),
    Field(der.SEQUENCE),
    Field(0xA1, needed=False, wanted=False),  # unprotected attributes
)
# The ciphertext is of tag 0x80, or 0xA0 where it comes in pieces.
_ENCRYPTED_CONTENT: Final = (Field(der.OBJECT_IDENTIFIER, wanted=False), Field(der.SEQUENCE), Field(None))
_RECIPIENT: Final = (Field(der.INTEGER, wanted=False), Field(None), Field(der.SEQUENCE), Field(der.OCTET_STRING))
# The same all together: one recipient, who is named by issuer and serial, and a cipher with an IV.
_USUAL: Final = usual.content_info(
    usual.passed(der.INTEGER),
    usual.named(der.SEQUENCE, der.OCTET_STRING),
    usual.into(
        der.SEQUENCE,
        usual.passed(der.OBJECT_IDENTIFIER),
        usual.into(der.SEQUENCE, usual.kept(der.OBJECT_IDENTIFIER, der.OCTET_STRING)),
        usual.kept(0x80),
    ),
)


class Recipient(msgspec.Struct, frozen=True):
    """A KeyTransRecipientInfo. `transport` is None where the algorithm is not supported."""

    identifier: SignerIdentifier
    transport: KeyTransport | None
    wrapped: bytes


class Envelope(msgspec.Struct, frozen=True):
    """An EnvelopedData, still closed. `cipher` is None where it is not supported; then `iv` means nothing."""

    recipients: tuple[Recipient, ...]
    cipher: ContentCipher | None
    iv: bytes
    ciphertext: bytes

    def recipient(self, ours: Certificate) -> Recipient | None:
        """The recipient that is us, whichever place it has (S47)."""
        return next((recipient for recipient in self.recipients if recipient.identifier.names(ours)), None)


def parse(octets: bytes) -> Envelope:
    """Read a ContentInfo with EnvelopedData, DER or BER (S39). Raises Malformed."""
    return _parse_usual(octets) or _parse_any(octets)


def _parse_usual(octets: bytes) -> Envelope | None:
    """An envelope as nearly all are, AES in CBC and PKCS #1 v1.5; None for any other, be it good or bad."""
    found = usual.places(octets, _USUAL) if len(octets) <= ber.MAX_SIZE else None
    if found is None:
        return None
    kind, issuer, serial, transport, wrapped, algorithm, iv, ciphertext = found
    cipher = algorithms.CIPHERS.get(octets[algorithm[0] : algorithm[2]])
    if (
        cipher is None
        or octets[kind[0] : kind[2]] != algorithms.ENVELOPED_DATA
        or octets[transport[0] : transport[2]] != algorithms.RSA_IDENTIFIER
        or iv[2] - iv[1] != BLOCK
    ):
        return None
    named = SignerIdentifier(octets[issuer[0] : issuer[2]], octets[serial[0] : serial[2]], None)
    return Envelope(
        (Recipient(named, algorithms.PKCS1V15, octets[wrapped[1] : wrapped[2]]),),
        cipher,
        octets[iv[1] : iv[2]],
        _whole_blocks(octets[ciphertext[1] : ciphertext[2]]),
    )


def _parse_any(octets: bytes) -> Envelope:
    kind, explicit = ber.parse(octets, padding=b"\0\r\n").fields(signed.CONTENT_INFO)
    if kind.received != algorithms.ENVELOPED_DATA:
        raise Malformed("The signed content is not a CMS EnvelopedData.")
    wrapped = explicit.children(1)
    if not wrapped:
        raise Malformed("The envelope is empty.")
    recipients, content = wrapped[0].fields(_ENVELOPED_DATA)
    algorithm, ciphertext = content.fields(_ENCRYPTED_CONTENT)
    if ciphertext.tag not in (0x80, 0xA0):
        raise Malformed("An ASN.1 field is missing, or of a wrong type.")
    oid, parameters = algorithms.identifier(algorithm)
    cipher = algorithms.CIPHERS.get(oid)
    return Envelope(
        # Other kinds of recipient have other tags; they are none of ours, so they are passed over.
        tuple(_recipient(each) for each in recipients.children(MAX_RECIPIENTS) if each.tag == der.SEQUENCE),
        cipher,
        b"" if cipher is None else _iv(parameters),
        _whole_blocks(ciphertext.octets()) if cipher is not None else b"",
    )


def _recipient(element: Element) -> Recipient:
    identifier, transport, wrapped = element.fields(_RECIPIENT)
    return Recipient(signed.identifier(identifier), algorithms.key_transport(transport), wrapped.contents)


def _iv(parameters: Element | None) -> bytes:
    if parameters is None or parameters.tag != der.OCTET_STRING or len(parameters.contents) != BLOCK:
        raise Malformed("The envelope's cipher needs an IV of 16 octets.")
    return parameters.contents


def _whole_blocks(ciphertext: bytes) -> bytes:
    if not ciphertext or len(ciphertext) % BLOCK:
        raise Malformed("The encrypted content is empty, or not a whole number of blocks.")
    return ciphertext


def decrypt(envelope: Envelope, cipher: ContentCipher, key: bytes) -> bytes:
    """Open the envelope with its content key, and take the padding off where there is any (RFC 5652, 6.3).

    Never fails on a wrong key or padding: what comes out then is noise, to be refused by whoever reads it, on the same
    path as a readable nonsense. `key` has `cipher.key_length` octets.
    """
    assert len(key) == cipher.key_length
    # Whole blocks: `update` gives them all, and nothing is left to finalize.
    padded = Cipher(block_ciphers.AES(key), modes.CBC(envelope.iv)).decryptor().update(envelope.ciphertext)
    count = padded[-1]
    good = 1 <= count <= BLOCK and padded.endswith(bytes((count,)) * count)
    return padded[: len(padded) - count * good]


def encrypt(
    content: bytes,
    recipient: Certificate,
    public_key: rsa.RSAPublicKey,
    cipher: ContentCipher,
    transport: KeyTransport,
    *,
    key: bytes,
    iv: bytes,
) -> bytes:
    """A ContentInfo with EnvelopedData of type data for one recipient, DER.

    `key` (of the cipher's length) and `iv` (16 octets) must be fresh and random. The random part of the key's own
    padding comes from the library.
    """
    count = BLOCK - len(content) % BLOCK
    # Whole blocks: `update` gives them all, and nothing is left to finalize.
    ciphertext = Cipher(block_ciphers.AES(key), modes.CBC(iv)).encryptor().update(content + bytes((count,)) * count)
    wrapped = public_key.encrypt(key, transport.padding)
    named = recipient.issuer_and_serial
    first, second, third, fourth = _around(cipher.oid, transport.identifier, len(named), len(wrapped), len(ciphertext))
    return b"".join((first, named, second, wrapped, third, iv, fourth, ciphertext))


# As in `signed.build`: few lengths come up, and eleven elements are written once for them.
@lru_cache(maxsize=256)
def _around(
    cipher: bytes, transport: bytes, named: int, wrapped: int, ciphertext: int
) -> tuple[bytes, bytes, bytes, bytes]:
    """What stands before the recipient's name, the wrapped key, the IV and the ciphertext of so many octets."""
    key = transport + der.octet_string(bytes(wrapped))
    info = der.tlv(der.SET, der.sequence(_VERSION_0, bytes(named), key))
    algorithm = der.sequence(cipher, der.octet_string(bytes(BLOCK)))
    content = der.tlv(0x80, bytes(ciphertext))
    encrypted = der.sequence(algorithms.DATA, algorithm, content)
    enveloped = der.sequence(_VERSION_0, info, encrypted)
    whole = der.sequence(algorithms.ENVELOPED_DATA, der.tlv(0xA0, enveloped))
    after = len(whole) - len(encrypted)  # the wrapped key
    return (
        whole[: after - len(key) - named],
        key[: len(key) - wrapped],
        whole[after : len(whole) - len(content) - BLOCK],
        content[: len(content) - ciphertext],
    )
