"""OCSP requests, read as RFC 6960 (4.1), RFC 5019 (2.1) and RFC 8954 want it; the answers that nobody signs.

A request's signature is passed by (RFC 5019, 2.1.2): a certificate's status is everybody's to know. Every number of
things is bounded before it is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from enum import IntEnum, unique
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from protocols.exchange import Malformed, Reason, Refused
from protocols.pkix.der import OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, elements, expect, read

MAX_REQUEST: Final = 8192  # bytes; 32 CertIDs with SHA-512 take 5,600
MAX_IDS: Final = 32  # what is asked together is signed together
MAX_SERIAL: Final = 32  # octets; RFC 5280 allows 20, and some issuers do not keep to that
MAX_EXTENSIONS: Final = 16
MAX_NONCE: Final = 32  # octets; RFC 8954, 2.1: at least 1, at most 32
RESPONSE_TYPE: Final = "application/ocsp-response"  # RFC 6960, A.2
REQUEST_TYPE: Final = "application/ocsp-request"

_INTEGER: Final = 0x02
_BOOLEAN: Final = 0x01
_NULL: Final = b"\x05\x00"
_TRUE: Final = b"\xff"

# id-pkix-ocsp (RFC 6960, 4.4): what is understood, and so may be critical.
_NONCE: Final = bytes.fromhex("2b0601050507300102")
_UNDERSTOOD: Final = frozenset(
    {
        _NONCE,
        bytes.fromhex("2b0601050507300104"),  # acceptable responses: the basic one is what everybody takes
        bytes.fromhex("2b0601050507300107"),  # service locator: nothing is forwarded
        bytes.fromhex("2b0601050507300108"),  # preferred signature algorithms: a preference (RFC 6960, 4.4.7)
    }
)

DIGESTS: Final[dict[bytes, str]] = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
"""Digests of CertIDs by the content of their OID. SHA-1 names an issuer here, and protects nothing (RFC 6960, 4.3)."""


@unique
class ResponseStatus(IntEnum):
    """OCSPResponseStatus (RFC 6960, 4.2.1): what is said without a signature."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


class CertId(msgspec.Struct, frozen=True):
    """Whose status is asked. `serial` is the content of the INTEGER; `parameters`: the digest came with a NULL."""

    digest: str
    name_hash: bytes
    key_hash: bytes
    serial: bytes
    parameters: bool = True

    @property
    def hexadecimal(self) -> str:
        """The serial as the inventory keeps it: lower-case hex without leading zeros; empty if it is not positive."""
        number = int.from_bytes(self.serial, "big", signed=True)
        return f"{number:x}" if number > 0 else ""


class StatusRequest(msgspec.Struct, frozen=True):
    """An OCSPRequest. `nonce` is empty where there was none."""

    ids: tuple[CertId, ...]
    nonce: bytes = b""


def failure(status: ResponseStatus) -> bytes:
    """An OCSPResponse that says why there is no other, DER."""
    return bytes((0x30, 0x03, 0x0A, 0x01, status))


def from_path(segment: bytes) -> bytes:
    """The request in the path of a GET (RFC 6960, A.1): base64, then URL-encoded, as far as the client did.

    Raises:
        Malformed: not base64, or too long.
    """
    if len(segment) > 4 * MAX_REQUEST:
        raise Malformed("The request is too long.")
    # Some clients begin with a second slash, since the URL ended with one; some leave `+`, `/` and `=` as they are.
    text = unquote_to_bytes(segment).lstrip(b"/").replace(b"\r", b"").replace(b"\n", b"").rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise Malformed("The request in the path is not base64.") from None


def read_request(data: bytes) -> StatusRequest:
    """The OCSPRequest in `data`, DER.

    Raises:
        Malformed: not an OCSPRequest, more than 32 CertIDs, a nonce of 0 or more than 32 octets (RFC 8954, 2.1), a
            critical extension that nobody here understands (RFC 6960, 4.1.2).
        Refused: NOT_FOUND, a CertID under a digest that is not known here.
    """
    return usual(data) or read_elements(data)


def usual(data: bytes) -> StatusRequest | None:
    """The question that nearly all clients ask: about one certificate, unsigned, with nothing else but maybe a nonce.

    None where it is another one, or none at all. What is taken here is, octet for octet, what would be written of its
    parts: so it is read as `read_elements` reads it, in a sixth of the time.
    """
    for algorithm, digest in _ALGORITHMS.items():  # noqa: B007 - the one that was found counts
        name = data.find(algorithm, 0, _MOST_BEFORE) + len(algorithm)
        if name >= len(algorithm):
            break
    else:
        return None
    length = _LENGTHS[digest]
    key = name + length + 2
    serial = key + length + 2
    end = serial + (data[serial - 1] if serial <= len(data) else 0)
    nonce = end + _NONCE_HEAD if end < len(data) else end
    number = data[serial:end]
    if not _is_shortest(number) or not 0 <= len(data) - nonce <= MAX_NONCE:
        return None
    before, between, behind = _frame(algorithm, length, end - serial, len(data) - nonce)
    names, keys, nonces = data[name : name + length], data[key : key + length], data[nonce:]
    if data != b"".join((before, names, between[:2], keys, between[2:], number, behind, nonces)):
        return None
    return StatusRequest((CertId(digest, names, keys, number),), nonces)


@lru_cache(maxsize=1024)  # two digests, serials of 1 to 32 octets, nonces of 0 to 32; most have one of a few lengths
def _frame(algorithm: bytes, length: int, serial: int, nonce: int) -> tuple[bytes, bytes, bytes]:
    """What stands before the hash of the name, before and after that of the key, and before the nonce."""
    behind = b""
    if nonce:
        value = bytes((OCTET_STRING, nonce + 2, OCTET_STRING, nonce))
        oid = bytes((OBJECT_IDENTIFIER, len(_NONCE))) + _NONCE
        inside = nonce + len(value) + len(oid)
        behind = bytes((0xA2, inside + 4, SEQUENCE, inside + 2, SEQUENCE, inside)) + oid + value
    between = bytes((OCTET_STRING, length, _INTEGER, serial))
    before = algorithm
    inside = length + len(between) + length + serial
    for _ in range(3):  # CertID, Request, requestList
        before = _sequence(len(before) + inside) + before
    for _ in range(2):  # TBSRequest, OCSPRequest
        before = _sequence(len(before) + inside + len(behind) + nonce) + before
    return before, between, behind


def _sequence(length: int) -> bytes:
    """The head of a SEQUENCE of less than 256 octets."""
    return bytes((SEQUENCE, length)) if length < 0x80 else bytes((SEQUENCE, 0x81, length))


def read_elements(data: bytes) -> StatusRequest:
    """The OCSPRequest in `data`, whatever of its many forms it has; raises as `read_request`."""
    if len(data) > MAX_REQUEST:
        raise Malformed("The request is too long.")
    start, stop = expect(data, 0, len(data), SEQUENCE)
    if stop != len(data):
        raise Malformed("Something follows the request.")
    first, last = expect(data, start, stop, SEQUENCE)
    _optional_signature(data, last, stop)
    return _to_be_signed(data, first, last)


def _optional_signature(data: bytes, at: int, stop: int) -> None:
    rest = [tag for tag, _, _ in elements(data, at, stop)]
    if rest not in ([], [0xA0]):
        raise Malformed("Something other than a signature follows the request.")


def _to_be_signed(data: bytes, at: int, stop: int) -> StatusRequest:
    tag, first, last = read(data, at, stop)
    if tag == 0xA0:
        # v1 is the default, and DER leaves it out; some clients write it all the same.
        if data[first:last] != b"\x02\x01\x00":
            raise Malformed("The request is of a version other than 1.")
        tag, first, last = read(data, last, stop)
    if tag == 0xA1:
        tag, first, last = read(data, last, stop)
    if tag != SEQUENCE:
        raise Malformed("The request has no list of certificates.")
    ids = _request_list(data, first, last)
    if last == stop:
        return StatusRequest(ids)
    first, after = expect(data, last, stop, 0xA2)
    if after != stop:
        raise Malformed("Something follows the request's extensions.")
    return StatusRequest(ids, _extensions(data, first, after))


def _request_list(data: bytes, at: int, stop: int) -> tuple[CertId, ...]:
    ids: list[CertId] = []
    for tag, first, last in elements(data, at, stop):
        if tag != SEQUENCE or len(ids) == MAX_IDS:
            raise Malformed(f"The list of certificates has something else in it, or more than {MAX_IDS}.")
        start, end = expect(data, first, last, SEQUENCE)
        ids.append(_certificate_id(data, start, end))
        if end != last:
            start, after = expect(data, end, last, 0xA0)
            if after != last:
                raise Malformed("Something follows the extensions for one certificate.")
            _extensions(data, start, after)
    if not ids:
        raise Malformed("The request asks about no certificate.")
    return tuple(ids)


def _certificate_id(data: bytes, at: int, stop: int) -> CertId:
    first, last = expect(data, at, stop, SEQUENCE)
    start, end = expect(data, first, last, OBJECT_IDENTIFIER)
    parameters = data[end:last]
    digest = DIGESTS.get(data[start:end])
    if digest is not None and parameters not in {b"", _NULL}:
        raise Malformed("A digest has parameters that it does not take.")
    name = expect(data, last, stop, OCTET_STRING)
    key = expect(data, name[1], stop, OCTET_STRING)
    serial = expect(data, key[1], stop, _INTEGER)
    if serial[1] != stop:
        raise Malformed("Something follows a serial number.")
    number = data[serial[0] : serial[1]]
    if not _is_shortest(number):
        raise Malformed("A serial number is too long, or not in its shortest form.")
    if digest is None:
        # RFC 5019, 2.2.3: not capable of an authoritative answer. None could be signed that the client understands.
        raise Refused(Reason.NOT_FOUND, "The digest of a CertID is not known here.")
    length = _LENGTHS[digest]
    hashes = data[slice(*name)], data[slice(*key)]
    if any(len(each) != length for each in hashes):
        raise Malformed("A hash is not of its digest's length.")
    return CertId(digest, *hashes, number, parameters=parameters == _NULL)


def _is_shortest(number: bytes) -> bool:
    """Whether these are the contents of a serial number (X.690, 8.3.2), of a length that is taken."""
    if len(number) < 2:
        return bool(number)
    return len(number) <= MAX_SERIAL and (number[0], number[1] >> 7) not in {(0x00, 0), (0xFF, 1)}


def _extensions(data: bytes, at: int, stop: int) -> bytes:
    """Read Extensions; the nonce in them, empty if there is none."""
    first, last = expect(data, at, stop, SEQUENCE)
    if last != stop:
        raise Malformed("Something follows the extensions.")
    seen: set[bytes] = set()
    nonce = b""
    for tag, start, end in elements(data, first, last):
        if tag != SEQUENCE or len(seen) == MAX_EXTENSIONS:
            raise Malformed(f"The extensions have something else in them, or are more than {MAX_EXTENSIONS}.")
        oid, critical, value = _extension(data, start, end)
        if oid in seen:
            raise Malformed("An extension occurs twice.")
        seen.add(oid)
        if critical and oid not in _UNDERSTOOD:
            raise Malformed("A critical extension is not understood here.")
        if oid == _NONCE:
            nonce = _nonce(value)
    return nonce


def _extension(data: bytes, at: int, stop: int) -> tuple[bytes, bool, bytes]:
    start, end = expect(data, at, stop, OBJECT_IDENTIFIER)
    oid = data[start:end]
    tag, start, end = read(data, end, stop)
    critical = False
    if tag == _BOOLEAN:
        # FALSE is the default, and not written in DER; some write it.
        critical = data[start:end] == _TRUE
        if not critical and data[start:end] != b"\x00":
            raise Malformed("An extension is neither critical nor not.")
        tag, start, end = read(data, end, stop)
    if tag != OCTET_STRING or end != stop:
        raise Malformed("An extension's value is not an OCTET STRING, or something follows it.")
    return oid, critical, data[start:end]


def _nonce(value: bytes) -> bytes:
    start, stop = expect(value, 0, len(value), OCTET_STRING)
    if stop != len(value) or not 1 <= stop - start <= MAX_NONCE:
        raise Malformed("The nonce is not of 1 to 32 octets (RFC 8954, 2.1).")
    return value[start:stop]


@lru_cache(maxsize=1024)  # a few for each authority
def issuer_hashes(certificate: bytes, digest: str) -> tuple[bytes, bytes]:
    """What a CertID under `digest` (of `DIGESTS`) says of this issuer: the hashes of its subject and of its key.

    `certificate` is the issuer's own, DER, and ours. The key is hashed without tag, length and the octet of unused bits
    (RFC 6960, 4.1.1).
    """
    hashed = _DIGESTED[digest]
    start, stop = expect(certificate, *expect(certificate, 0, len(certificate), SEQUENCE), SEQUENCE)
    ends = [start, *(last for _, _, last in elements(certificate, start, stop))]
    # version [0], serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280, 4.1); the version
    # is always there, as all authorities have extensions.
    subject = certificate[ends[5] : ends[6]]
    inside = expect(certificate, ends[6], ends[7], SEQUENCE)
    [_, (_, first, last)] = elements(certificate, *inside)
    return hashed(subject), hashed(certificate[first + 1 : last])


_DIGESTED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha384": lambda data: hashlib.sha384(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
}
_LENGTHS: Final = {name: len(hashed(b"")) for name, hashed in _DIGESTED.items()}
# AlgorithmIdentifiers as clients write them, with a NULL, and the head of the OCTET STRING that follows each.
_ALGORITHMS: Final = {
    bytes.fromhex("300906052b0e03021a05000414"): "sha1",
    bytes.fromhex("300d060960864801650304020105000420"): "sha256",
}
_MOST_BEFORE: Final = 40  # octets, in which an AlgorithmIdentifier ends: five heads of three, and itself with 17
_NONCE_HEAD: Final = 21  # octets from the end of the requestList to those of the nonce
