"""What nearly every certification request asks for, read straight from its DER. Never here: a guess.

Common attributes in plain letters, DNS names, and no other extension: read so, they cost a fifth of what the library's
objects cost, a tenth of a whole request. Whatever looks different in any way is None here, and is the library's to read
or to refuse; so what this file takes is less than what the library takes, and means the same (tests hold it to that).
"""

from __future__ import annotations

import re
from typing import Final

from protocols.exchange import Malformed
from protocols.pkix import der, names
from protocols.pkix.names import AlternativeName, Attribute

# Attribute types by the contents of their OIDs (RFC 5280, 4.1.2.4 and appendix A.1).
_TYPES: Final = {
    bytes.fromhex("550403"): "2.5.4.3",  # commonName
    bytes.fromhex("550405"): "2.5.4.5",  # serialNumber
    bytes.fromhex("550406"): "2.5.4.6",  # countryName
    bytes.fromhex("550407"): "2.5.4.7",  # localityName
    bytes.fromhex("550408"): "2.5.4.8",  # stateOrProvinceName
    bytes.fromhex("55040a"): "2.5.4.10",  # organizationName
    bytes.fromhex("55040b"): "2.5.4.11",  # organizationalUnitName
}
_STRINGS: Final = frozenset({der.UTF8_STRING, der.PRINTABLE_STRING})
# PrintableString's letters (X.680, 41.4): the same text in both types of string.
_PRINTABLE: Final = re.compile(rb"[A-Za-z0-9 '()+,./:=?-]+")

_SUBJECT_ALTERNATIVE_NAME: Final = bytes.fromhex("551d11")
SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
_DNS_NAME: Final = 0x82  # [2] IMPLICIT IA5String (RFC 5280, 4.2.1.6)
_HOST: Final = re.compile(rb"[A-Za-z0-9.*_-]+")


def subject(data: bytes, start: int, stop: int) -> tuple[Attribute, ...] | None:
    """The attributes of the RDNs between `start` and `stop`; None where the library is to read them."""
    try:
        return _subject(data, start, stop)
    except Malformed:
        return None


def _subject(data: bytes, start: int, stop: int) -> tuple[Attribute, ...] | None:
    found = []
    while start < stop:
        tag, inner, start = der.read(data, start, stop)
        kind, first, after = der.read(data, inner, start)
        if tag != der.SET or kind != der.SEQUENCE or after != start:
            return None
        tag, first, last = der.read(data, first, after)
        known = _TYPES.get(data[first:last])
        string, first, last = der.read(data, last, after)
        value = data[first:last]
        if tag != der.OBJECT_IDENTIFIER or known is None or string not in _STRINGS or last != after:
            return None
        if _PRINTABLE.fullmatch(value) is None:
            return None
        found.append(Attribute(known, value.decode("ascii")))
    return tuple(found)


def alternative_names(data: bytes, start: int, stop: int) -> tuple[AlternativeName, ...] | None:
    """The DNS names of the Extensions between `start` and `stop`, where subjectAltName is all that they are.

    None where the library is to read them.
    """
    try:
        return _alternative_names(data, start, stop)
    except Malformed:
        return None


def _alternative_names(data: bytes, start: int, stop: int) -> tuple[AlternativeName, ...] | None:
    at, end = start, stop
    for expected in (der.SEQUENCE, der.SEQUENCE):  # Extensions, and the only Extension in it
        tag, at, last = der.read(data, at, end)
        if tag != expected or last != end:
            return None
    tag, first, last = der.read(data, at, end)
    if tag != der.OBJECT_IDENTIFIER or data[first:last] != _SUBJECT_ALTERNATIVE_NAME:
        return None
    at = last
    for expected in (der.OCTET_STRING, der.SEQUENCE):  # extnValue (a critical one is not usual), GeneralNames
        tag, at, last = der.read(data, at, end)
        if tag != expected or last != end:
            return None
    found = []
    while at < end:
        tag, first, at = der.read(data, at, end)
        value = data[first:at]
        if tag != _DNS_NAME or _HOST.fullmatch(value) is None:
            return None
        found.append(AlternativeName(names.DNS_NAME, value.decode("ascii").lower()))
    return tuple(found) or None
