"""SignedData with one signer: reading and verifying what clients sign, building what the RA signs (RFC 5652, 5).

Never here: a private key. `attributes` prepares what is to be signed, somebody else signs it, `build` puts it together.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum, unique
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from protocols.cms import algorithms, ber, certificate, der, usual
from protocols.cms.algorithms import Digest
from protocols.cms.ber import ABSENT, Element, Field
from protocols.cms.certificate import Certificate
from protocols.exchange import Malformed

MAX_CERTIFICATES: Final = 8  # S52
MAX_ATTRIBUTES: Final = 32  # S52

_VERSION_1: Final = der.integer(1)

CONTENT_INFO: Final = (Field(der.OBJECT_IDENTIFIER), Field(0xA0))
_SIGNED_DATA: Final = (
    Field(der.INTEGER, wanted=False),  # version: clients write 1 where 3 is due, and the other way round
    Field(der.SET, wanted=False),  # digestAlgorithms, said again by the SignerInfo
    Field(der.SEQUENCE),
    Field(0xA0, needed=False),
    Field(0xA1, needed=False, wanted=False),  # crls
    Field(der.SET),
)
_ENCAPSULATED: Final = (Field(der.OBJECT_IDENTIFIER), Field(0xA0, needed=False))
_SIGNER_INFO: Final = (
    Field(der.INTEGER, wanted=False),
    Field(None),
    Field(der.SEQUENCE),
    Field(0xA0, needed=False),
    Field(der.SEQUENCE),
    Field(der.OCTET_STRING),
    Field(0xA1, needed=False, wanted=False),  # unsigned attributes say nothing that could be believed
)
_ISSUER_AND_SERIAL: Final = (Field(der.SEQUENCE), Field(der.INTEGER))
_ATTRIBUTE: Final = (Field(der.OBJECT_IDENTIFIER), Field(der.SET))

# The same all together: of one signer, who is named by issuer and serial, and whose certificate stands alone.
_USUAL: Final = usual.content_info(
    usual.passed(der.INTEGER, der.SET),
    usual.into(der.SEQUENCE, usual.kept(der.OBJECT_IDENTIFIER), usual.into(0xA0, usual.kept(der.OCTET_STRING))),
    usual.into(0xA0, usual.kept(der.SEQUENCE)),
    usual.named(der.SEQUENCE, 0xA0, der.SEQUENCE, der.OCTET_STRING),
)
_ATTRIBUTES_DEPTH: Final = 6


@unique
class Verdict(Enum):
    """What verifying a signature found."""

    VALID = "valid"
    ALTERED = "altered"  # the content is not what was signed
    FORGED = "forged"  # the signature is not the signer's, or the signer's certificate is not in the message
    UNSUPPORTED = "unsupported"  # a digest, signature algorithm or key that is not spoken here


class SignerIdentifier(msgspec.Struct, frozen=True):
    """IssuerAndSerialNumber, or a subject key identifier (RFC 5652, 5.3 and 6.2.1)."""

    issuer: bytes | None
    serial: bytes | None
    key_identifier: bytes | None

    def names(self, candidate: Certificate) -> bool:
        """Whether this is the candidate's name."""
        if self.key_identifier is not None:
            return self.key_identifier == candidate.key_identifier
        return self.serial == candidate.serial and self.issuer == candidate.issuer


class SignedMessage(msgspec.Struct, frozen=True):
    """A SignedData as it was read; nothing is verified yet.

    `attributes` holds the values of the signed attributes by OID (the whole element), `signed_attributes` them all as
    they came, under a tag of their own. `signer` is None where the message does not carry its signer's certificate.
    """

    content_type: bytes
    content: bytes | None
    signer: Certificate | None
    attributes: Mapping[bytes, tuple[Element, ...]]
    signed_attributes: Element
    digest: Digest | None
    signature_algorithm: bytes
    signature_parameters: Element | None
    signature: bytes


def identifier(element: Element) -> SignerIdentifier:
    """Read a SignerIdentifier or RecipientIdentifier. Raises Malformed."""
    if element.tag in (0x80, 0xA0):
        return SignerIdentifier(None, None, element.octets())
    issuer, serial = element.fields(_ISSUER_AND_SERIAL)
    return SignerIdentifier(issuer.received, serial.received, None)


def parse(octets: bytes) -> SignedMessage:
    """Read a ContentInfo with SignedData, in DER or BER, with exactly one signer who signed attributes (S39-S41).

    NULs and line ends after it are forgiven, since some clients send their whole buffer (S40). Raises Malformed.
    """
    return _parse_usual(octets) or _parse_any(octets)


def _parse_usual(octets: bytes) -> SignedMessage | None:
    """A message as nearly all are; None for any other, be it good or bad."""
    found = usual.places(octets, _USUAL) if len(octets) <= ber.MAX_SIZE else None
    if found is None:
        return None
    kind, content_type, content, bag, issuer, serial, digest, attributes, algorithm, signature = found
    if octets[kind[0] : kind[2]] != algorithms.SIGNED_DATA:
        return None
    hashed = algorithms.USUAL.get(octets[digest[0] : digest[2]])
    signed = algorithms.USUAL.get(octets[algorithm[0] : algorithm[2]])
    source = ber.Source(octets, ber.MAX_ELEMENTS)
    by_type = _by_type_usual(source, attributes[1], attributes[2])
    if hashed is None or signed is None or by_type is None:
        return None
    named = SignerIdentifier(octets[issuer[0] : issuer[2]], octets[serial[0] : serial[2]], None)
    return SignedMessage(
        octets[content_type[0] : content_type[2]],
        octets[content[1] : content[2]],
        _find_signer(named, (octets[bag[0] : bag[2]],)),
        by_type,
        Element(source, 0xA0, *attributes, attributes[2], _ATTRIBUTES_DEPTH, None),
        algorithms.DIGESTS.get(hashed[0]),
        signed[0],
        None,
        octets[signature[1] : signature[2]],
    )


def _by_type_usual(source: ber.Source, at: int, end: int) -> dict[bytes, tuple[Element, ...]] | None:
    """Values by type, where no attribute is longer than 127 octets or has several values, and no type comes twice.

    `source` has more octets behind the attributes: those of the signature, whose place is known.
    """
    octets = source.octets
    found: dict[bytes, tuple[Element, ...]] = {}
    while at < end:
        values = at + 4 + octets[at + 3]
        if values + 4 > end:
            return None
        value, stop = values + 2, values + 4 + octets[values + 3]
        kind = octets[at + 2 : values]
        if not (
            octets[at] == der.SEQUENCE
            and octets[at + 1] == stop - at - 2 < 0x80  # so that none of the lengths inside has several octets
            and kind[0] == der.OBJECT_IDENTIFIER
            and octets[values] == der.SET
            and octets[values + 1] == stop - value
            and octets[value] in ber.PLAIN
            and kind not in found
        ):
            return None
        found[kind] = (Element(source, octets[value], value, value + 2, stop, stop, _ATTRIBUTES_DEPTH + 3, None),)
        at = stop
    return found if at == end and len(found) <= MAX_ATTRIBUTES else None


def _parse_any(octets: bytes) -> SignedMessage:
    kind, explicit = ber.parse(octets, padding=b"\0\r\n").fields(CONTENT_INFO)
    if kind.received != algorithms.SIGNED_DATA:
        raise Malformed("The message is not a CMS SignedData.")
    wrapped = explicit.children(1)
    if not wrapped:
        raise Malformed("The message has no content.")
    encapsulated, bag, signers = wrapped[0].fields(_SIGNED_DATA)
    content_type, content = _encapsulated(encapsulated)
    infos = signers.children(MAX_CERTIFICATES)
    if len(infos) != 1:
        raise Malformed("The message must have exactly one signer.")
    certificates = () if bag is ABSENT else bag.children(MAX_CERTIFICATES)
    return _signer_info(
        infos[0], content_type, content, [element.received for element in certificates if element.tag == der.SEQUENCE]
    )


def _encapsulated(element: Element) -> tuple[bytes, bytes | None]:
    content_type, wrapped = element.fields(_ENCAPSULATED)
    if wrapped is ABSENT:
        return content_type.received, None
    inner = wrapped.children(1)
    if not inner or inner[0].tag not in (der.OCTET_STRING, der.OCTET_STRING | 0x20):
        raise Malformed("The content of the signed message is not an OCTET STRING.")
    return content_type.received, inner[0].octets()


def _signer_info(
    element: Element, content_type: bytes, content: bytes | None, certificates: list[bytes]
) -> SignedMessage:
    signer, digest, attributes, signature_algorithm, signature = element.fields(_SIGNER_INFO)
    if attributes is ABSENT:
        raise Malformed("The message has no signed attributes.")
    algorithm, parameters = algorithms.identifier(signature_algorithm)
    return SignedMessage(
        content_type,
        content,
        _find_signer(identifier(signer), certificates),
        _by_type(attributes.children(MAX_ATTRIBUTES)),
        attributes,
        algorithms.DIGESTS.get(algorithms.identifier(digest)[0]),
        algorithm,
        parameters,
        signature.contents,
    )


def _find_signer(signer: SignerIdentifier, certificates: Iterable[bytes]) -> Certificate | None:
    for encoded in certificates:
        try:
            candidate = certificate.read(encoded)
            if signer.names(candidate):
                return candidate
        except Malformed:
            continue  # a chain that cannot be read is no reason to refuse a signer that can
    return None


def _by_type(attributes: Iterable[Element]) -> dict[bytes, tuple[Element, ...]]:
    """Values by type. Raises Malformed where a type comes twice: readers disagree which one counts (S53)."""
    found: dict[bytes, tuple[Element, ...]] = {}
    for attribute in attributes:
        named, values = attribute.fields(_ATTRIBUTE)
        kind = named.received
        if kind in found:
            raise Malformed("A signed attribute comes twice.")
        found[kind] = values.children(MAX_ATTRIBUTES)
    return found


def _to_be_signed(attributes: Element) -> Iterator[bytes]:
    """What may have been signed: the SET OF as it came, and its DER (S43).

    RFC 5652, 5.4 says DER. Some clients sign the order that they send instead, and most send DER, so that one
    attempt is enough.
    """
    received = der.tlv(der.SET, attributes.inside)
    yield received
    canonical = der.set_of(*(element.encoded() for element in attributes.children(MAX_ATTRIBUTES)))
    if canonical != received:
        yield canonical


def verify(message: SignedMessage) -> Verdict:
    """Check content type, message digest and signature with the key of the certificate that the signer names.

    Says nothing about whether that certificate is to be trusted.
    """
    if message.signer is None:
        return Verdict.FORGED
    digest = message.digest
    key = message.signer.key()
    if digest is None or key is None:
        return Verdict.UNSUPPORTED
    hashed = digest.of(message.content or b"")
    claimed = message.attributes.get(algorithms.MESSAGE_DIGEST, ())
    content_type = message.attributes.get(algorithms.CONTENT_TYPE, ())
    if len(claimed) != 1 or len(content_type) != 1 or content_type[0].received != message.content_type:
        return Verdict.ALTERED
    if not hmac.compare_digest(claimed[0].octets(), hashed):
        return Verdict.ALTERED
    if isinstance(key, rsa.RSAPublicKey):
        return _verify_rsa(message, digest, key)
    return _verify_ecdsa(message, key)


def _verify_rsa(message: SignedMessage, digest: Digest, key: rsa.RSAPublicKey) -> Verdict:
    scheme: tuple[Digest, padding.AsymmetricPadding] | None
    if message.signature_algorithm == algorithms.PSS:
        scheme = algorithms.pss(message.signature_parameters)
    elif message.signature_algorithm == algorithms.RSA:
        scheme = digest, padding.PKCS1v15()
    else:
        named = algorithms.RSA_SIGNATURES.get(message.signature_algorithm)
        scheme = None if named is None else (named, padding.PKCS1v15())
    if scheme is None:
        return Verdict.UNSUPPORTED
    for signed in _to_be_signed(message.signed_attributes):
        try:
            key.verify(message.signature, signed, scheme[1], scheme[0].hash)
        except InvalidSignature:
            continue
        return Verdict.VALID
    return Verdict.FORGED


def _verify_ecdsa(message: SignedMessage, key: ec.EllipticCurvePublicKey) -> Verdict:
    digest = algorithms.ECDSA_SIGNATURES.get(message.signature_algorithm)
    if digest is None:
        return Verdict.UNSUPPORTED
    for signed in _to_be_signed(message.signed_attributes):
        try:
            key.verify(message.signature, signed, ec.ECDSA(digest.hash))
        except InvalidSignature:
            continue
        except UnsupportedAlgorithm:
            return Verdict.UNSUPPORTED
        return Verdict.VALID
    return Verdict.FORGED


def attribute(kind: bytes, value: bytes) -> bytes:
    """An Attribute with one value; both are whole elements, DER."""
    return der.sequence(kind, der.tlv(der.SET, value))


def attribute_head(kind: bytes, tag: int, length: int) -> bytes:
    """What stands before the contents of an Attribute with one value, of this tag and so many octets; for constants."""
    whole = attribute(kind, der.tlv(tag, bytes(length)))
    return whole[: len(whole) - length]


_CONTENT_TYPE_DATA: Final = attribute(algorithms.CONTENT_TYPE, algorithms.DATA)
_MESSAGE_DIGEST: Final = {
    digest.name: attribute_head(algorithms.MESSAGE_DIGEST, der.OCTET_STRING, digest.hash.digest_size)
    for digest in algorithms.DIGESTS.values()
}


def attributes(content: bytes | None, digest: Digest, others: Iterable[bytes]) -> bytes:
    """The SET OF signed attributes for content of type data, DER: what the signer has to sign (RFC 5652, 5.4).

    `others` are Attributes beside contentType and messageDigest. Absent content is hashed as none.
    """
    return der.set_of(_CONTENT_TYPE_DATA, _MESSAGE_DIGEST[digest.name] + digest.of(content or b""), *others)


def build(content: bytes | None, digest: Digest, signer: Certificate, to_be_signed: bytes, signature: bytes) -> bytes:
    """A ContentInfo with SignedData of `signer`, who signed `to_be_signed` (from `attributes`) with an RSA key, DER."""
    lengths = -1 if content is None else len(content), len(to_be_signed), len(signature)
    first, second, third = _around(signer, digest.identifier, *lengths)
    # The attributes as one value: the tag [0] IMPLICIT in place of SET OF, length and contents the same.
    return b"".join((first, content or b"", second, b"\xa0", to_be_signed[1:], third, signature))


# A server's messages have few lengths among them: the eleven elements around what differs are written once for each.
@lru_cache(maxsize=256)
def _around(
    signer: Certificate, digest: bytes, content: int, attributes: int, signature: int
) -> tuple[bytes, bytes, bytes]:
    """What stands before the content, the attributes and the signature of so many octets; a content of -1 is absent."""
    encapsulated = algorithms.DATA if content < 0 else algorithms.DATA + der.tlv(0xA0, der.octet_string(bytes(content)))
    signed_by = _VERSION_1 + signer.issuer_and_serial + digest
    sealed = algorithms.RSA_IDENTIFIER + der.octet_string(bytes(signature))
    info = der.tlv(der.SET, der.sequence(signed_by, bytes(attributes), sealed))
    bag = der.tlv(0xA0, signer.encoded)
    signed = der.sequence(_VERSION_1, der.tlv(der.SET, digest), der.sequence(encapsulated), bag, info)
    whole = der.sequence(algorithms.SIGNED_DATA, der.tlv(0xA0, signed))
    after = len(whole) - len(bag) - len(info)  # the content
    return (
        whole[: after - max(content, 0)],
        whole[after : len(whole) - len(sealed) - attributes],
        sealed[: len(sealed) - signature],
    )
