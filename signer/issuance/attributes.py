"""A strict reader of CMS signed attributes (RFC 5652, 5.3 and 11): DER only, and only what must be there is understood.

It exists so that an RA's key signs nothing of another shape. A certificate or a request begins with a SEQUENCE; what
passes here is a SET.
"""

from __future__ import annotations

from typing import Final, NoReturn

from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused

MAX_LENGTH: Final = 16 * 1024  # bytes; SCEP's eight attributes take 400
MAX_ATTRIBUTES: Final = 32  # S52

_OCTET_STRING: Final = 0x04
_OBJECT_IDENTIFIER: Final = 0x06
_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_CONTENT_TYPE: Final = bytes.fromhex("2a864886f70d010903")  # 1.2.840.113549.1.9.3
_MESSAGE_DIGEST: Final = bytes.fromhex("2a864886f70d010904")  # 1.2.840.113549.1.9.4


def check_signed_attributes(der: bytes, digest_length: int) -> None:
    """Raises `Refused` (LINT) unless `der` is a SET OF Attribute in DER, with one contentType and one messageDigest.

    `digest_length` is in bytes: that of the digest which the signature uses.
    """
    if len(der) > MAX_LENGTH:
        _refuse("they are too long")
    tag, start, end = _element(der, 0, len(der))
    if tag != _SET or end != len(der):
        _refuse("they are not one SET")
    attributes = _elements(der, start, end, _SEQUENCE)
    if len(attributes) > MAX_ATTRIBUTES:
        _refuse("they are too many")
    encodings = [der[start:end] for start, _, end in attributes]
    if encodings != sorted(encodings):
        _refuse("they are not in the order of DER (X.690, 11.6)")
    values: dict[bytes, bytes] = {}
    for _, inside, end in attributes:
        kind, value = _attribute(der, inside, end)
        if kind in values:
            _refuse("one occurs twice")
        values[kind] = value
    if values.get(_CONTENT_TYPE, b"")[:1] != bytes((_OBJECT_IDENTIFIER,)):
        _refuse("there is no contentType")
    if values.get(_MESSAGE_DIGEST, b"")[:2] != bytes((_OCTET_STRING, digest_length)):
        _refuse("there is no messageDigest of this digest's length")


def _attribute(der: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """An attribute's type and its one value, a whole element (RFC 5652, 11: they have one value each)."""
    tag, inside, after = _element(der, start, end)
    if tag != _OBJECT_IDENTIFIER or inside == after:
        _refuse("one has no type")
    kind = der[inside:after]
    tag, inside, after = _element(der, after, end)
    if tag != _SET or after != end:
        _refuse("one has no set of values")
    _, _, last = _element(der, inside, after)
    if last != after:
        _refuse("one has several values")
    return kind, der[inside:after]


def _elements(der: bytes, start: int, end: int, expected: int) -> list[tuple[int, int, int]]:
    """The elements that fill `der` from `start` to `end`: where each, its content and its end are."""
    found: list[tuple[int, int, int]] = []
    while start < end:
        tag, inside, after = _element(der, start, end)
        if tag != expected:
            _refuse("one of them is of another kind")
        found.append((start, inside, after))
        start = after
    return found


def _element(der: bytes, start: int, end: int) -> tuple[int, int, int]:
    """The tag of the element at `start`, where its content begins and ends; in DER, and not beyond `end`."""
    if end - start < 2:
        _refuse("an element is cut short")
    tag, length, inside = der[start], der[start + 1], start + 2
    if tag & 0x1F == 0x1F:
        _refuse("a tag has several bytes")
    if length >= 0x80:
        count = length & 0x7F
        if count not in (1, 2) or end - inside < count:
            _refuse("a length is indefinite or too long")
        length = int.from_bytes(der[inside : inside + count], "big")
        inside += count
        if length < 0x80 or (count == 2 and length < 0x100):
            _refuse("a length is not in its shortest form")
    if inside + length > end:
        _refuse("an element is cut short")
    return tag, inside, inside + length


def _refuse(fault: str) -> NoReturn:
    raise Refused(SignerRefusal.LINT, f"these are not signed attributes: {fault}")
