"""What nearly every certification request asks for, read straight from its DER. Never here: a guess.

Common attributes in plain letters, DNS names, and no other extension. What stands before a name has one form for each
length, so it is compared whole instead of being read element by element: a tenth of what the library's objects cost.
Whatever looks different in any way is None here, and is the library's to read or to refuse; so what this file takes is
less than what the library takes, and means the same (tests hold it to that).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from protocols.pkix.der import OCTET_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING
from protocols.pkix.names import DNS_NAME, AlternativeName, Attribute

SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"

# Attribute types by the DER of their OIDs (RFC 5280, 4.1.2.4 and appendix A.1).
_TYPES: Final = {
    bytes.fromhex("0603550403"): "2.5.4.3",  # commonName
    bytes.fromhex("0603550405"): "2.5.4.5",  # serialNumber
    bytes.fromhex("0603550406"): "2.5.4.6",  # countryName
    bytes.fromhex("0603550407"): "2.5.4.7",  # localityName
    bytes.fromhex("0603550408"): "2.5.4.8",  # stateOrProvinceName
    bytes.fromhex("060355040a"): "2.5.4.10",  # organizationName
    bytes.fromhex("060355040b"): "2.5.4.11",  # organizationalUnitName
}
# An RDN with one of them, as long as its lengths take one octet: what is before the type, and how long the value is.
_RDN: Final = {bytes((SET, length + 9, SEQUENCE, length + 7)): length for length in range(0x80 - 9)}
_RDN_HEAD: Final = 11  # and behind the type the tag and the length of the value
_STRINGS: Final = frozenset({UTF8_STRING, PRINTABLE_STRING})
# PrintableString's letters (X.680, 41.4): the same text in both types of string.
_PRINTABLE: Final = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]+")

# [2] IMPLICIT IA5String (RFC 5280, 4.2.1.6), whose length takes one octet.
_HOST: Final = re.compile(rb"\x82[\x01-\x7f][A-Za-z0-9.*_-]+")
_MOST: Final = 1024  # octets of contents; more than a page of names is not usual


def _heads(*around: tuple[int, str]) -> Mapping[int, bytes]:
    """What is before contents of each usual length, by how much it is with them.

    `around` are the elements that hold nothing else, the innermost first: a tag, and in hex what is before it.
    """
    heads = {}
    for contents in range(_MOST):
        head = b""
        for tag, before in around:
            head = bytes.fromhex(before) + bytes((tag, *_length(contents + len(head)))) + head
        heads[len(head) + contents] = head
    return heads


def _length(octets: int) -> tuple[int, ...]:
    """X.690, 10.1: in the shortest form."""
    if octets < 0x80:
        return (octets,)
    return (0x81, octets) if octets < 0x100 else (0x82, octets >> 8, octets & 0xFF)


# Up to the first GeneralName: extnValue with it, the OID (an extension that is critical is not usual), and Extensions.
_NAMES: Final = _heads((SEQUENCE, ""), (OCTET_STRING, "0603551d11"), (SEQUENCE, ""), (SEQUENCE, ""))
# An attribute up to its one value: PKCS#9's extensionRequest (RFC 2985, 5.4.2).
_REQUEST: Final = _heads((SET, "06092a864886f70d01090e"), (SEQUENCE, ""))


def subject(data: bytes, start: int, stop: int) -> tuple[Attribute, ...] | None:
    """The attributes of the RDNs between `start` and `stop`; None where the library is to read them."""
    found = []
    while start < stop:
        length = _RDN.get(data[start : start + 4])
        kind = _TYPES.get(data[start + 4 : start + 9])
        if length is None or kind is None:
            return None
        first = start + _RDN_HEAD
        start = first + length
        if start > stop or data[first - 2] not in _STRINGS or data[first - 1] != length:
            return None
        if _PRINTABLE.fullmatch(data, first, start) is None:
            return None
        found.append(Attribute(kind, data[first:start].decode("ascii")))
    return tuple(found)


def extension_request(attributes: bytes) -> tuple[int, int] | None:
    """Where the values of the attribute start and stop, if one list of extensions is all that is asked for."""
    head = _REQUEST.get(len(attributes))
    return (len(head), len(attributes)) if head is not None and attributes.startswith(head) else None


def alternative_names(data: bytes, start: int, stop: int) -> tuple[AlternativeName, ...] | None:
    """The DNS names of the Extensions between `start` and `stop`, where subjectAltName is all that they are.

    None where the library is to read them.
    """
    head = _NAMES.get(stop - start)
    if head is None or not data.startswith(head, start):
        return None
    found = []
    at = start + len(head)
    while at < stop:
        first = at + 2
        at = first + data[first - 1] if first < stop else first
        if at > stop or _HOST.fullmatch(data, first - 2, at) is None:
            return None
        found.append(AlternativeName(DNS_NAME, data[first:at].decode("ascii").lower()))
    return tuple(found) or None
