"""What a key may ever sign, whatever a gateway asks: its stored ceiling, and its own certificate's bounds.

The product's policy is judged in the gateway. This is what still holds when the gateway is somebody else's.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Final, NoReturn

from signer.contract.messages import IssueCertificate
from signer.contract.refusal import SignerRefusal
from signer.issuance.issuer import Issuer
from signer.issuance.names import Bounds, host_kind, is_address, outside, subject_outside
from signer.issuance.refused import Refused
from signer.keystore.key import NameRange

# Certificates with these speak for their issuer: OCSP responders (RFC 6960, 4.2.2.2), CMC's certification and
# registration authorities (RFC 6402, 2.10) and whatever accepts any usage. A ceiling must name them before they are
# signed.
AUTHORITATIVE: Final = frozenset({"1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.27", "1.3.6.1.5.5.7.3.28", "2.5.29.37.0"})

_COMMON_NAME: Final = "2.5.4.3"
_EMAIL_ADDRESS: Final = "1.2.840.113549.1.9.1"


def check(issuer: Issuer, ask: IssueCertificate, spki: bytes, algorithm: str) -> None:
    """Raises `Refused` (CEILING, TERM) where the ask is beyond the issuer.

    `spki` is the subject's key as it will stand in the certificate, DER, and `algorithm` its algorithm: a key has many
    spellings (compressed and hybrid points, named and written-out curves), and the ask's may be any of them.
    """
    ceiling = issuer.key.ceiling
    if ask.not_after - ask.not_before > ceiling.max_validity:
        _refuse(f"a validity of more than {ceiling.max_validity} seconds")
    if ask.not_before < issuer.not_before or ask.not_after > issuer.not_after:
        # A gateway that knows the issuer's certificate never asks for it.
        raise Refused(SignerRefusal.TERM, "this issuer never signs a validity outside of its own")
    if ceiling.algorithms is not None and algorithm not in ceiling.algorithms:
        _refuse(f"a key of the algorithm {algorithm}")
    if spki == issuer.spki:
        _refuse("the issuer's own key as the subject's")
    if ask.ca:
        _check_authority(issuer, ask)
    elif not ceiling.leaves:
        _refuse("anything but authorities")
    _check_extended_key_usages(ask.extended_key_usages, ceiling.extended_key_usages)
    if ceiling.names is not None:
        _check_names(ask, ceiling.names)
    if issuer.bounds:
        _check_bounds(ask, issuer.bounds)


def _check_authority(issuer: Issuer, ask: IssueCertificate) -> None:
    ceiling = issuer.key.ceiling
    if not ceiling.authorities:
        _refuse("an authority")
    # An authority's path length counts those below it, so it is one less than its issuer's at most (RFC 5280, 4.2.1.9).
    own = None if issuer.path_length is None else issuer.path_length - 1
    for bound in (own, ceiling.path_length):
        if bound is not None and (bound < 0 or ask.path_length is None or ask.path_length > bound):
            _refuse("an authority with so long a path below it")


def _check_extended_key_usages(asked: list[str], allowed: list[str] | None) -> None:
    for each in asked:
        if each in AUTHORITATIVE if allowed is None else each not in allowed:
            _refuse(f"the extended key usage {each}")
    if allowed is not None and not asked:
        _refuse("a certificate without extended key usages, which is good for all of them")


def _check_names(ask: IssueCertificate, ranges: list[NameRange]) -> None:
    for san in ask.sans:
        if not any(_within(san.type, san.value, each) for each in ranges):
            _refuse(f"the name {san.value!r}")
    for oid, value in ask.subject:
        kind = "email" if oid == _EMAIL_ADDRESS else host_kind(value) if oid == _COMMON_NAME else None
        if kind is not None and not any(_within(kind, value, each) for each in ranges):
            _refuse(f"the subject's {value!r}")


def _check_bounds(ask: IssueCertificate, bounds: tuple[Bounds, ...]) -> None:
    for san in ask.sans:
        if outside(bounds, san.type, san.value):
            _refuse(f"the name {san.value!r}: it is outside the name constraints (RFC 5280, 4.2.1.10)")
    subject = subject_outside(bounds, ask.subject)
    if subject is not None:
        _refuse(f"the subject {subject!r}: it is outside the name constraints (RFC 5280, 4.2.1.10)")


def _within(kind: str, value: str, allowed: NameRange) -> bool:
    if kind != allowed.type:
        return False
    match kind:
        case "dns_name":
            # A wildcard is within a range if everything that it matches is.
            return f".{value.lower().removeprefix('*.')}".endswith(f".{allowed.value.lower()}")
        case "ip_address":
            return is_address(value) and ip_address(value) in ip_network(allowed.value)
        case "email":
            return value.rpartition("@")[2].lower() == allowed.value.lower()
        case _:
            return False


def _refuse(what: str) -> NoReturn:
    raise Refused(SignerRefusal.CEILING, f"this issuer never signs {what}")
