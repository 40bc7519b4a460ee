"""OCSP responses (RFC 6960, 4.2): built here from structured entries, signed by the issuer's responder. None is kept.

Written as DER by hand: cryptography's builder makes responses about one certificate, of an issuer that it is given.
Never signed here: anything but `unknown` about another issuer's certificate; times that this process's clock denies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from time import gmtime
from typing import Final, NoReturn

from signer.contract.messages import OcspEntry, SignOcsp
from signer.contract.refusal import SignerRefusal
from signer.issuance.der import ENUMERATED, INTEGER, OCTET_STRING, bit_string, extension, sequence, tagged
from signer.issuance.issuer import Issuer
from signer.issuance.refused import Refused
from signer.issuance.responder import Responder
from signer.issuance.template import key_bits

MAX_VALIDITY: Final = 7 * 86400  # seconds; what is left of a responder's certificate, at least
MAX_ENTRIES: Final = 64
MAX_NONCE: Final = 32  # octets; RFC 8954, 2.1
MAX_SERIAL: Final = 32  # octets; some issuers exceed RFC 5280's 20, and may be asked about here
# A compromised gateway must not collect answers for times to come, when what they speak of may be revoked.
_AHEAD: Final = 60  # seconds; both clocks are one machine's
_BEHIND: Final = 86400  # seconds

_GENERALIZED: Final = b"\x18\x0f%04d%02d%02d%02d%02d%02dZ"
_LAST_SECOND: Final = 253_402_300_799
_BASIC: Final = bytes.fromhex("06092b0601050507300101")  # id-pkix-ocsp-basic
_NONCE: Final = bytes.fromhex("06092b0601050507300102")  # id-pkix-ocsp-nonce
_SUCCESSFUL: Final = b"\x0a\x01\x00"
_GOOD: Final = b"\x80\x00"
_UNKNOWN: Final = b"\x82\x00"
_REVOKED: Final = 0xA1
_REASONS: Final = frozenset({1, 2, 3, 4, 5, 6, 9, 10})  # RFC 5280, 5.3.1; unspecified is left out
_NULL: Final = b"\x05\x00"

_DIGESTS: Final[dict[str, tuple[bytes, Callable[[bytes], bytes]]]] = {
    "sha1": (bytes.fromhex("06052b0e03021a"), lambda data: hashlib.sha1(data, usedforsecurity=False).digest()),
    "sha256": (bytes.fromhex("0609608648016503040201"), lambda data: hashlib.sha256(data).digest()),
    "sha384": (bytes.fromhex("0609608648016503040202"), lambda data: hashlib.sha384(data).digest()),
    "sha512": (bytes.fromhex("0609608648016503040203"), lambda data: hashlib.sha512(data).digest()),
}


class Speaker:
    """What recurs in the answers about one issuer's certificates: the hashes that name it."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._prefixes: dict[tuple[str, bool], bytes] = {}

    def named(self, digest: str, *, parameters: bool) -> bytes:
        """A CertID of this issuer up to the serial, without the SEQUENCE around it."""
        known = self._prefixes.get((digest, parameters))
        if known is None:
            _, hashed = _digest(digest)
            name, key = hashed(self.issuer.name.public_bytes()), hashed(key_bits(self.issuer.spki))
            known = self._prefixes[digest, parameters] = _named(digest, name, key, parameters=parameters)
        return known


def sign_ocsp(speaker: Speaker, responder: Responder, ask: SignOcsp, *, now: int) -> bytes:
    """The OCSPResponse of `ask`, DER. Raises `Refused` (LINT, CEILING); `now` is in seconds since the epoch."""
    _check(ask, responder, now)
    times = _time(ask.this_update) + tagged(0xA0, _time(ask.next_update))
    data = sequence(
        responder.identity,
        _time(ask.produced_at),
        sequence(*[sequence(_certificate_id(speaker, each), _status(each, ask), times) for each in ask.entries]),
        _extensions(ask.nonce),
    )
    basic = sequence(
        data,
        responder.algorithm,
        bit_string(responder.signature(data)),
        responder.certificates,
    )
    return sequence(_SUCCESSFUL, tagged(0xA0, sequence(_BASIC, tagged(OCTET_STRING, basic))))


def _check(ask: SignOcsp, responder: Responder, now: int) -> None:
    if not 1 <= len(ask.entries) <= MAX_ENTRIES:
        _refuse(f"a response speaks of 1 to {MAX_ENTRIES} certificates")
    if len(ask.nonce) > MAX_NONCE:
        _refuse("the nonce is longer than 32 octets (RFC 8954, 2.1)")
    if not now - _BEHIND <= ask.this_update <= ask.produced_at <= now + _AHEAD:
        _refuse("the response's times are not the present")
    if not ask.this_update < ask.next_update <= ask.this_update + MAX_VALIDITY:
        _refuse("the next update does not follow within seven days")
    if ask.next_update > responder.not_after:
        raise Refused(SignerRefusal.CEILING, "the response would outlive its responder's certificate")


def _certificate_id(speaker: Speaker, entry: OcspEntry) -> bytes:
    serial = entry.serial
    if not 1 <= len(serial) <= MAX_SERIAL or (
        len(serial) > 1 and (serial[0], serial[1] >> 7) in {(0x00, 0), (0xFF, 1)}
    ):
        _refuse("a serial number is not an INTEGER in its shortest form (X.690, 8.3.2)")
    if not entry.name_hash and not entry.key_hash:
        return sequence(speaker.named(entry.digest, parameters=entry.parameters), tagged(INTEGER, serial))
    if entry.status != "unknown":
        raise Refused(SignerRefusal.CEILING, "this responder knows nothing of another issuer's certificates")
    _, hashed = _digest(entry.digest)
    if not len(entry.name_hash) == len(entry.key_hash) == len(hashed(b"")):
        _refuse("a CertID's hashes are not of their digest's length")
    prefix = _named(entry.digest, entry.name_hash, entry.key_hash, parameters=entry.parameters)
    return sequence(prefix, tagged(INTEGER, serial))


def _status(entry: OcspEntry, ask: SignOcsp) -> bytes:
    match entry.status:
        case "good":
            return _GOOD
        case "unknown":
            return _UNKNOWN
        case "revoked":
            if not 0 <= entry.revoked_at <= ask.produced_at + _AHEAD:
                _refuse("a certificate is revoked at an impossible time")
            if entry.reason and entry.reason not in _REASONS:
                _refuse(f"the reason {entry.reason} has no place in a response (RFC 5280, 5.3.1)")
            reason = tagged(0xA0, tagged(ENUMERATED, bytes((entry.reason,)))) if entry.reason else b""
            return tagged(_REVOKED, _time(entry.revoked_at) + reason)
        case _:
            raise Refused(SignerRefusal.LINT, f"the status {entry.status!r} is unknown")


def _extensions(nonce: bytes) -> bytes:
    if not nonce:
        return b""
    return tagged(0xA1, sequence(extension(_NONCE, tagged(OCTET_STRING, nonce), critical=False)))


def _named(digest: str, name: bytes, key: bytes, *, parameters: bool) -> bytes:
    oid, _ = _digest(digest)
    algorithm = sequence(oid, _NULL) if parameters else sequence(oid)
    return algorithm + tagged(OCTET_STRING, name) + tagged(OCTET_STRING, key)


def _digest(name: str) -> tuple[bytes, Callable[[bytes], bytes]]:
    known = _DIGESTS.get(name)
    if known is None:
        _refuse(f"the digest {name!r} is unknown")
    return known


def _time(seconds: int) -> bytes:
    """RFC 5019, 2.2.4: GeneralizedTime with seconds and without fractions."""
    if not 0 <= seconds <= _LAST_SECOND:
        _refuse("a time is outside of GeneralizedTime")
    return _GENERALIZED % gmtime(seconds)[:6]


def _refuse(fault: str) -> NoReturn:
    raise Refused(SignerRefusal.LINT, fault)
