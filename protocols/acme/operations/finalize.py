"""Finalize (RFC 8555, 7.4): a CSR for exactly what the order names, and nothing that nobody validated.

The names of the CSR and of the order are compared as sets after normalisation: servers that compared lengths, or DNS
names only, have issued for names that nobody proved (A84; CVE-2022-34831).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from protocols.acme import failures
from protocols.acme.failures import Failure
from protocols.acme.messages import FINALIZATION, Finalization, Site
from protocols.acme.needs import Finalize
from protocols.acme.operations import orders, signed
from protocols.acme.states import Account, IdentifierType, Order, OrderStatus
from protocols.exchange import Exchange, Malformed, Refused, Reply, ask
from protocols.jose import base64url, jwk
from protocols.pkix import csr as pkcs10
from protocols.pkix.csr import CertificationRequest
from protocols.pkix.names import COMMON_NAME, DNS_NAME, IP_ADDRESS, AlternativeName, Attribute, canonical_ip

_SAN_TYPES: Final = {DNS_NAME: IdentifierType.DNS, IP_ADDRESS: IdentifierType.IP}
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]+")
_TYPES: Final = {IdentifierType.DNS: DNS_NAME, IdentifierType.IP: IP_ADDRESS}
_READY: Final = OrderStatus.READY


def finalize(site: Site, by: signed.ByAccount, order_id: str) -> Exchange[Reply]:
    """Issue for an order that is ready. The same CSR again gets the order as it now is (A90).

    Raises:
        Failure: 404, unauthorized, orderNotReady, badCSR.
    """
    order = yield from orders.find(by.account, order_id, claiming=True)
    wish = FINALIZATION.exact(by.payload) or signed.payload(by.payload, Finalization)
    der = _decode(wish.csr)
    if order.status is not _READY:
        return _again(site, order, der)
    request = _accept(by.account, order, der)
    try:
        order = yield from ask(Finalize(by.account, order, request))
    except Refused as refusal:
        return failures.refused(site, refusal, failures.FINALIZE_REASONS)
    return orders.answer(site, order)


def _again(site: Site, order: Order, der: bytes) -> Reply:
    """A81: no second issuance; who repeats himself sees what became of the first."""
    accepted = order.status in {OrderStatus.PROCESSING, OrderStatus.VALID}
    if accepted and order.csr_hash == hashlib.sha256(der).digest():
        return orders.answer(site, order)
    raise Failure("orderNotReady", f"The order is {order.status}, not ready.")


def _decode(text: str) -> bytes:
    # RFC 8555, 7.4 has no padding; Synology's client sends it (A83).
    return base64url.decode(text.rstrip("="), field="csr")


def _accept(account: Account, order: Order, der: bytes) -> CertificationRequest:
    """The CSR, once it is sound and asks for the order's names.

    Raises:
        Failure: badCSR.
    """
    try:
        request = pkcs10.parse(der)
    except (Malformed, Refused) as fault:
        raise _bad(fault.detail) from None
    if request.ca:
        raise _bad("The CSR asks for a CA certificate.")
    if request.spki == jwk.spki(account.jwk):
        # RFC 8555, 11.1: what signs for the account must not be in every server that it has certificates for.
        raise _bad("The CSR's key is the account's key; make another one for the certificate.")
    # Compared as the request spells them: no name of it has to be told in the order's words first.
    ordered = tuple([AlternativeName(_TYPES[each.type], each.value) for each in order.identifiers])
    subject, asked = _subject(request.subject)
    for san in request.sans or ():
        if san.type not in _SAN_TYPES:
            raise _bad(f"The CSR asks for a name of type {san.type}, which no order can prove.")
        asked.add(san)
    _compare(set(ordered), asked)
    if request.sans is None:
        # Only common names were given: the certificate names what was ordered, as RFC 9525 wants it.
        return msgspec.structs.replace(request, subject=subject, sans=ordered)
    return request if subject == request.subject else msgspec.structs.replace(request, subject=subject)


def _subject(subject: tuple[Attribute, ...]) -> tuple[tuple[Attribute, ...], set[AlternativeName]]:
    """The subject with each common name as its SAN spells it, and those SANs.

    Who compares the two, compares octets (CA/Browser Forum BR, 7.1.4.3).
    """
    names = set()
    spelled = []
    for attribute in subject:
        if attribute.oid == COMMON_NAME:
            name = _common_name(attribute.value)
            names.add(name)
            spelled.append(Attribute(COMMON_NAME, name.value))
        else:
            spelled.append(attribute)
    return tuple(spelled), names


def _common_name(value: str) -> AlternativeName:
    # To have a name refused as an address costs ten times what telling it by its letters does.
    if _ADDRESS.fullmatch(value):
        try:
            return AlternativeName(IP_ADDRESS, canonical_ip(value))
        except ValueError:
            pass
    # Only ASCII is folded: the lower case of the Kelvin sign is a k, and nobody proved a name with that sign in it.
    return AlternativeName(DNS_NAME, value.lower() if value.isascii() else value)


def _compare(ordered: set[AlternativeName], asked: set[AlternativeName]) -> None:
    """Raises:
    Failure: badCSR, naming what is too much and what is missing.
    """
    if asked == ordered:
        return
    parts = []
    if asked - ordered:
        parts.append(f"it asks for {_list(asked - ordered)}, which the order does not name")
    if ordered - asked:
        parts.append(f"it does not ask for {_list(ordered - asked)}, which the order names")
    raise _bad(f"The CSR does not match its order: {'; '.join(parts)}.")


def _list(names: set[AlternativeName]) -> str:
    first = sorted(names, key=lambda each: each.value)[:10]
    return ", ".join(f"{_SAN_TYPES[each.type]} {each.value[:80]!r}" for each in first)


def _bad(detail: str) -> Failure:
    return Failure("badCSR", detail)
