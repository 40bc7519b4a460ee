"""Certificate revocation lists (RFC 5280, section 5): built and signed by the issuer itself. No list is kept here.

A list may have some 100,000 entries: their DER is written by hand, a microsecond each, and in slices, between which the
worker serves whoever waits.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from itertools import islice
from typing import Final, NoReturn

from cryptography import x509

from signer.contract.entries import ENTRY
from signer.contract.messages import SignCrl
from signer.contract.refusal import SignerRefusal
from signer.issuance import der
from signer.issuance.issuer import Issuer
from signer.issuance.refused import Refused
from signer.issuance.signature import signed

MAX_VALIDITY: Final = 400 * 86400  # seconds; an offline root publishes once a year
SLICE: Final = 500  # entries; half a millisecond to a millisecond, less than a batch of certificates
_NUMBER_BITS: Final = 159  # RFC 5280, 5.2.3: 20 octets
_SERIAL_OCTETS: Final = 20
_LAST_SECOND: Final = 253_402_300_799  # the end of GeneralizedTime
_DAY: Final = 86400  # seconds; clocks of several gateways differ, by less
_AHEAD: Final = 60  # seconds; a gateway's clock and its signer's are one machine's
_MAX_URLS: Final = 32  # names of one list: one an address that it ever had
_URL: Final = re.compile(r"https?://[!-~]{1,2000}")

# RFC 5280, 5.3.1. 7 is not used; 0 is left out instead of said.
_REASONS: Final = (1, 2, 3, 4, 5, 6, 9, 10)
_REMOVED: Final = 8  # removeFromCRL: in delta lists alone
_REASON_OID: Final = bytes.fromhex("0603551d15")
_NUMBER_OID: Final = bytes.fromhex("0603551d14")
_DELTA_OID: Final = bytes.fromhex("0603551d1b")
_POINT_OID: Final = bytes.fromhex("0603551d1c")
_FRESHEST_OID: Final = bytes.fromhex("0603551d2e")
_IDENTIFIER_OID: Final = bytes.fromhex("0603551d23")


def _reason(code: int) -> bytes:
    return der.sequence(der.extension(_REASON_OID, der.tagged(der.ENUMERATED, bytes((code,))), critical=False))


_EXTENSIONS: Final = {0: b"", **{code: _reason(code) for code in _REASONS}}
_DELTA_EXTENSIONS: Final = {**_EXTENSIONS, _REMOVED: _reason(_REMOVED)}


def check_present(ask: SignCrl, now: int) -> None:
    """Raises `Refused` (LINT) unless the list of `ask` is for now, in seconds since the epoch.

    A compromised gateway must not collect lists for times to come, in which what is revoked then is missing.
    """
    if not now - _DAY <= ask.this_update <= now + _AHEAD:
        raise Refused(SignerRefusal.LINT, "the list's time is not the present")


def sign_crl(issuer: Issuer, ask: SignCrl) -> bytes:
    """The list of `ask`, signed by `issuer`, DER, in one go. Raises `Refused` (CEILING, LINT)."""
    slices = sign_in_slices(issuer, ask)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: bytes = end.value
            return result


def sign_in_slices(issuer: Issuer, ask: SignCrl) -> Generator[None, None, bytes]:
    """The same, a slice at each step; the list is what is returned. Nothing is signed before the last step."""
    if not issuer.signs_lists:
        raise Refused(SignerRefusal.CEILING, "this issuer's certificate does not let it sign revocation lists")
    if not 0 <= ask.number < 1 << _NUMBER_BITS:
        raise Refused(SignerRefusal.LINT, "the list's number does not fit into 20 bytes (RFC 5280, 5.2.3)")
    if not 0 <= ask.this_update < ask.next_update <= min(ask.this_update + MAX_VALIDITY, _LAST_SECOND):
        raise Refused(SignerRefusal.LINT, "the list's next update does not follow within 400 days")
    extensions = _list_extensions(issuer, ask)
    entries = yield from _entries(ask)
    members = (
        der.integer(1),  # version 2
        issuer.heading,
        der.time(ask.this_update),
        der.time(ask.next_update),
        # RFC 5280, 5.1.2.6: absent where nothing is revoked.
        *((der.header(der.SEQUENCE, sum(map(len, entries))), *entries) if entries else ()),
        der.tagged(0xA0, der.sequence(*extensions)),
    )
    tbs = der.sequence(*members)
    yield
    return signed(issuer.signature, issuer.algorithm, tbs)


def _list_extensions(issuer: Issuer, ask: SignCrl) -> list[bytes]:
    """RFC 5280, 5.2: identifier, number, and what makes the list a partition's, a delta, or one that has a delta."""
    found = [
        der.extension(_IDENTIFIER_OID, issuer.identifier.value.public_bytes(), critical=False),
        der.extension(_NUMBER_OID, der.integer(ask.number), critical=False),
    ]
    if ask.base_number is not None:
        if not 0 <= ask.base_number < ask.number:
            raise Refused(SignerRefusal.LINT, "a delta's base has a lower number than the delta (RFC 5280, 5.2.4)")
        if ask.freshest:
            raise Refused(SignerRefusal.LINT, "a delta does not name another delta (RFC 5280, 5.2.6)")
        found.append(der.extension(_DELTA_OID, der.integer(ask.base_number), critical=True))
    if ask.distribution_points:
        point = x509.IssuingDistributionPoint(_names(ask.distribution_points), None, False, False, None, False, False)
        found.append(der.extension(_POINT_OID, point.public_bytes(), critical=True))
    if ask.freshest:
        points = x509.FreshestCRL([x509.DistributionPoint(_names(ask.freshest), None, None, None)])
        found.append(der.extension(_FRESHEST_OID, points.public_bytes(), critical=False))
    return found


def _names(urls: list[str]) -> list[x509.GeneralName]:
    if len(urls) > _MAX_URLS:
        raise Refused(SignerRefusal.LINT, f"a list has at most {_MAX_URLS} names")
    for each in urls:
        if _URL.fullmatch(each) is None:
            raise Refused(SignerRefusal.LINT, f"{each[:200]!r} is not the URL of a list (RFC 5280, 5.2.5)")
    return [x509.UniformResourceIdentifier(each) for each in urls]


def _entries(ask: SignCrl) -> Generator[None, None, list[bytes]]:
    """The DER of the entries, in the order of the ask, a slice in each chunk."""
    if len(ask.packed) % ENTRY.size:
        raise Refused(SignerRefusal.LINT, f"packed entries take {ENTRY.size} bytes each")
    triples: Iterable[tuple[bytes, int, int]] = ask.revoked or ENTRY.iter_unpack(ask.packed)
    if ask.revoked and ask.packed:
        raise Refused(SignerRefusal.LINT, "a list's entries are packed, or not packed")
    extensions = _EXTENSIONS if ask.base_number is None else _DELTA_EXTENSIONS
    latest = ask.this_update + _DAY
    times = _Times()
    seen: set[bytes] = set()
    heads = _Heads()
    chunks: list[bytes] = []
    remaining = iter(triples)
    while some := list(islice(remaining, SLICE)):
        chunk: list[bytes] = []
        for octets, when, reason in some:
            serial = octets.lstrip(b"\0")
            size = len(serial)
            if not size or size > _SERIAL_OCTETS or (size == _SERIAL_OCTETS and serial[0] >= 0x80) or serial in seen:
                _refuse(octets, "is impossible or listed twice")
            if not 0 <= when <= latest:
                _refuse(octets, "is revoked at an impossible time")
            extension = extensions.get(reason)
            if extension is None:
                _refuse(octets, f"is revoked for the reason {reason}, which has no place here (RFC 5280, 5.3.1)")
            seen.add(serial)
            if serial[0] >= 0x80:
                serial = b"\0" + serial
                size += 1
            moment = times[when]
            chunk += (heads[size, len(moment) + len(extension)], serial, moment, extension)
        chunks.append(b"".join(chunk))
        yield
    return chunks


def _refuse(octets: bytes, what: str) -> NoReturn:
    raise Refused(SignerRefusal.LINT, f"the serial number {int.from_bytes(octets, 'big'):x} {what}")


class _Heads(dict[tuple[int, int], bytes]):
    """What stands before an entry's serial, by the serial's size and that of what follows; one byte of length each."""

    def __missing__(self, sizes: tuple[int, int]) -> bytes:
        made = self[sizes] = bytes((der.SEQUENCE, 2 + sum(sizes), der.INTEGER, sizes[0]))
        return made


class _Times(dict[int, bytes]):
    """Times in DER, each made once: many entries were revoked in the same second."""

    def __missing__(self, seconds: int) -> bytes:
        made = self[seconds] = der.time(seconds)
        return made
