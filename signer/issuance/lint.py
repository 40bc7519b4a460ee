"""Whether a certificate would break RFC 5280 or one of its companions, found before anything is signed. Texts only.

A linter that reads finished certificates runs in the tests. This one reads what the certificate will be built from, so
it costs microseconds and stands before the signature.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NoReturn

from signer.contract.messages import GeneralName, IssueCertificate
from signer.contract.refusal import SignerRefusal
from signer.issuance.refused import Refused
from signer.issuance.usage import check_usages

SERIAL_LENGTHS: Final = range(8, 21)  # bytes; RFC 5280, 4.1.2.2: at most 20 octets, and positive
_SERIAL_BITS: Final = 159
_LAST_SECOND: Final = 253_402_300_799  # 9999-12-31T23:59:59Z, the end of GeneralizedTime

# Attributes of a subject by OID, with their upper bounds in characters (RFC 5280, appendix A.1; X.520).
ATTRIBUTES: Final[dict[str, int]] = {
    "2.5.4.3": 64,  # commonName
    "2.5.4.4": 32768,  # surname
    "2.5.4.5": 64,  # serialNumber
    "2.5.4.6": 2,  # countryName
    "2.5.4.7": 128,  # localityName
    "2.5.4.8": 128,  # stateOrProvinceName
    "2.5.4.9": 128,  # streetAddress
    "2.5.4.10": 64,  # organizationName
    "2.5.4.11": 64,  # organizationalUnitName
    "2.5.4.12": 64,  # title
    "2.5.4.17": 40,  # postalCode
    "2.5.4.42": 32768,  # givenName
    "2.5.4.97": 128,  # organizationIdentifier
    "0.9.2342.19200300.100.1.1": 256,  # userId
    "0.9.2342.19200300.100.1.25": 63,  # domainComponent
    "1.2.840.113549.1.9.1": 255,  # emailAddress
}
# Those that are not UTF8String hold fewer characters.
_SHAPES: Final[dict[str, re.Pattern[str]]] = {
    "2.5.4.5": re.compile(r"[A-Za-z0-9 '()+,./:=?-]+", re.ASCII),  # PrintableString
    "2.5.4.6": re.compile(r"[A-Za-z]{2}", re.ASCII),  # ISO 3166
    "0.9.2342.19200300.100.1.25": re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?", re.ASCII),  # a DNS label
}
_EMAIL_ADDRESS: Final = "1.2.840.113549.1.9.1"  # IA5String
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# 1 to 63 letters, digits and inner hyphens. Each label can be found in one way, so that matching is linear; both cases
# are spelled out, since to ignore them takes twice the time.
_LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_DNS: Final = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_ATOM: Final = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
# RFC 5321, 4.1.2: Dot-string "@" Domain, the first part of 64 octets at most (4.5.3.1.1).
_EMAIL: Final = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)*{_LABEL}", re.ASCII | re.IGNORECASE)
# RFC 3986, 2.1 to 2.3: what a URI is written with.
_OCTET: Final = r"(?:[a-z0-9._~:@!$&'()*+,;=/?\[\]-]|%[0-9a-f]{2})"
# Schemes that lead to a host name it (RFC 5280, 4.2.1.6); a URN has a namespace (RFC 8141, 2).
_HOSTED: Final = r"(?!(?:https?|wss?|ldaps?|ftps?|spiffe|coaps?):(?!//[^/?#]))(?!urn:(?![a-z0-9][a-z0-9-]{0,31}:.))"
_URI: Final = re.compile(rf"{_HOSTED}[a-z][a-z0-9+.-]*:{_OCTET}+(?:#{_OCTET}*)?", re.ASCII | re.IGNORECASE)
_WEB: Final = re.compile(
    rf"(?=.{{1,2008}}\Z)https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[1-9][0-9]{{0,4}})?(?:[/?]{_OCTET}*)?",
    re.ASCII | re.IGNORECASE,
)
_UPN: Final = re.compile(r"[^@\x00-\x20\x7f-\x9f]+@[^@\x00-\x20\x7f-\x9f]+")


def check(ask: IssueCertificate, algorithm: str) -> None:
    """Raises `Refused` (LINT) for the first fault found. `algorithm` is that of the subject's key."""
    _check_serial(ask.serial)
    if not 0 <= ask.not_before < ask.not_after <= _LAST_SECOND:
        _refuse("the validity does not begin before it ends (RFC 5280, 4.1.2.5)")
    _check_subject(ask.subject)
    _check_sans(ask)
    _check_constraints(ask)
    # A few shapes of usages recur for every certificate of a profile, so their verdicts are kept.
    fault = check_usages(tuple(ask.key_usages), tuple(ask.extended_key_usages), algorithm, ask.ca)
    if fault is not None:
        _refuse(fault)
    _check_urls((*ask.crl_urls, *ask.issuer_urls, *ask.ocsp_urls))


def _check_serial(serial: bytes) -> None:
    if len(serial) not in SERIAL_LENGTHS:
        _refuse("the serial number is not of 8 to 20 bytes (RFC 5280, 4.1.2.2)")
    if not 0 < int.from_bytes(serial, "big").bit_length() <= _SERIAL_BITS:
        _refuse("the serial number is zero or does not fit into 20 bytes as a positive number (RFC 5280, 4.1.2.2)")


def _check_subject(subject: list[tuple[str, str]]) -> None:
    for oid, value in subject:
        bound = ATTRIBUTES.get(oid)
        if bound is None:
            _refuse(f"the subject's attribute {oid} is unknown")
        if not value or len(value) > bound:
            _refuse(f"the subject's attribute {oid} is not of 1 to {bound} characters (RFC 5280, A.1)")
        shape = _EMAIL if oid == _EMAIL_ADDRESS else _SHAPES.get(oid)
        if _CONTROL.search(value) if shape is None else not shape.fullmatch(value):
            _refuse(f"the subject's attribute {oid} holds a character that it must not")


def _check_sans(ask: IssueCertificate) -> None:
    if not ask.sans and not ask.subject:
        _refuse("neither a subject nor an alternative name (RFC 5280, 4.1.2.6)")
    # RFC 5280, 4.2.1.6: critical with an empty subject. Apple's clients refuse anything else.
    if ask.sans and ask.san_critical is not (not ask.subject):
        _refuse("alternative names are critical exactly where the subject is empty (RFC 5280, 4.2.1.6)")
    seen: set[tuple[str, str]] = set()
    for each in ask.sans:
        fault = san_fault(each)
        if fault is not None:
            _refuse(fault)
        mark = (each.type, each.value.lower())
        if mark in seen:
            _refuse(f"the alternative name {each.value!r} occurs twice")
        seen.add(mark)


def san_fault(name: GeneralName) -> str | None:
    """What is wrong with an alternative name, as a sentence, or None."""
    value = name.value
    fits: object
    match name.type:
        case "dns_name":
            fits = len(value) <= 253 and _DNS.fullmatch(value) and not value.rpartition(".")[2].isdigit()
        case "ip_address":
            fits = _is_address(value)
        case "email":
            fits = (
                len(value) <= 254 and _EMAIL.fullmatch(value) and not value.rpartition("@")[2].split(".")[-1].isdigit()
            )
        case "uri":
            fits = _URI.fullmatch(value)
        case "upn":
            fits = len(value) <= 1024 and _UPN.fullmatch(value)
        case _:
            return f"alternative names of the type {name.type!r} are unknown"
    return None if fits else f"{value!r} is not a {name.type} (RFC 5280, 4.2.1.6)"


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return "%" not in value  # a zone has no place in the octets of an iPAddress


def _check_constraints(ask: IssueCertificate) -> None:
    if ask.ca:
        if not ask.subject:
            _refuse("an authority has no subject (RFC 5280, 4.1.2.6)")
        if ask.path_length is not None and ask.path_length < 0:
            _refuse("a path length is negative (RFC 5280, 4.2.1.9)")
    elif ask.path_length is not None:
        _refuse("a path length without an authority (RFC 5280, 4.2.1.9)")


@lru_cache(maxsize=256)
def _check_urls(urls: tuple[str, ...]) -> None:
    for each in urls:
        if not _WEB.fullmatch(each):
            _refuse(f"{each[:200]!r} is not the URL of a publication (RFC 5280, 4.2.1.13 and 4.2.2.1)")


def _refuse(fault: str) -> NoReturn:
    raise Refused(SignerRefusal.LINT, fault)
