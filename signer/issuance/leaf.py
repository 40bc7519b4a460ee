"""A leaf's TBSCertificate (RFC 5280, 4.1), written as DER by hand: what a worker signs, thousands of times a second.

Byte for byte what `template.build` would have cryptography's builder write; the tests hold the two together. Going
through the builder cost twice the signature: a dozen objects, each of them looked at again from Rust. Nothing is
decided here; `ceiling` and `lint` have spoken before, so no text is looked at again.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from signer.contract.messages import GeneralName, IssueCertificate
from signer.issuance.der import (
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    UTF8_STRING,
    extension,
    object_identifier,
    sequence,
    tagged,
    time,
)
from signer.issuance.issuer import Extensions, Issuer, written
from signer.issuance.lint import ATTRIBUTES
from signer.issuance.template import addresses, key_identifier, leaf_usages

_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_SET: Final = 0x31

# The types that RFC 5280, appendix A.1 gives to an attribute, where it is not UTF8String's turn.
_PRINTABLE: Final = 0x13
_IA5: Final = 0x16
_STRINGS: Final = {
    "2.5.4.5": _PRINTABLE,  # serialNumber
    "2.5.4.6": _PRINTABLE,  # countryName
    "0.9.2342.19200300.100.1.25": _IA5,  # domainComponent
    "1.2.840.113549.1.9.1": _IA5,  # emailAddress
}

_ATTRIBUTES: Final = {oid: (object_identifier(oid), _STRINGS.get(oid, UTF8_STRING)) for oid in ATTRIBUTES}
_UPN: Final = object_identifier("1.3.6.1.4.1.311.20.2.3")
_ALTERNATIVE_NAMES: Final = object_identifier("2.5.29.17")
_IDENTIFIER: Final = extension(object_identifier("2.5.29.14"), tagged(OCTET_STRING, bytes(20)), critical=False)[:-20]


def tbs(issuer: Issuer, ask: IssueCertificate, spki: bytes) -> bytes:
    """The TBSCertificate of `ask`, a leaf. `spki` is the subject's key as cryptography writes it, DER.

    Extensions and their order: see `template.build`.
    """
    usages, published = _recurring(
        (*ask.key_usages,), (*ask.extended_key_usages,), (*ask.crl_urls,), (*ask.issuer_urls,), (*ask.ocsp_urls,)
    )
    names = _names(ask.sans, critical=ask.san_critical) if ask.sans else b""
    extensions = tagged(SEQUENCE, issuer.mark + _IDENTIFIER + key_identifier(spki) + usages + names + published)
    heading = _VERSION_3 + _serial(ask.serial) + issuer.heading + _validity(ask.not_before, ask.not_after)
    return tagged(SEQUENCE, heading + _subject(ask.subject) + spki + tagged(0xA3, extensions))


def _serial(serial: bytes) -> bytes:
    """An INTEGER of big-endian octets, in the fewest (X.690, 8.3.2)."""
    fewest = serial.lstrip(b"\0")
    return tagged(INTEGER, b"\0" + fewest if fewest[0] & 0x80 else fewest)


# Whoever enrolls in the same second for the same profile has the same validity.
@lru_cache(maxsize=256)
def _validity(not_before: int, not_after: int) -> bytes:
    return sequence(time(not_before), time(not_after))


def _subject(subject: list[tuple[str, str]]) -> bytes:
    """A Name of single-valued attributes, in their order."""
    content = b""
    for oid, value in subject:
        kind, string = _ATTRIBUTES[oid]
        content += tagged(_SET, tagged(SEQUENCE, kind + tagged(string, value.encode())))
    return tagged(SEQUENCE, content)


def _names(sans: list[GeneralName], *, critical: bool) -> bytes:
    """The extension of alternative names."""
    content = b"".join([_general_name(each) for each in sans])
    return extension(_ALTERNATIVE_NAMES, tagged(SEQUENCE, content), critical=critical)


def _general_name(name: GeneralName) -> bytes:
    match name.type:
        case "dns_name":
            return tagged(0x82, name.value.encode())
        case "ip_address":
            return tagged(0x87, ip_address(name.value).packed)
        case "email":
            return tagged(0x81, name.value.encode())
        case "uri":
            return tagged(0x86, name.value.encode())
        case _:  # lint has let nothing else through but upn
            return tagged(0xA0, _UPN + tagged(0xA0, tagged(UTF8_STRING, name.value.encode())))


# One of a few sets for each profile, times its issuer's partitions.
@lru_cache(maxsize=1024)
def _recurring(
    usages: tuple[str, ...],
    extended: tuple[str, ...],
    crl: tuple[str, ...],
    issuer: tuple[str, ...],
    ocsp: tuple[str, ...],
) -> tuple[bytes, bytes]:
    """What stands before the alternative names (basic constraints, usages), and what behind them (addresses)."""
    return _all_written(leaf_usages(usages, extended)), _all_written(addresses(crl, issuer, ocsp))


def _all_written(extensions: Extensions) -> bytes:
    return b"".join([written(each) for each in extensions])
