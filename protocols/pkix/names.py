"""Distinguished names and alternative names, as the protocols read them (RFC 5280, 4.1.2.4 and 4.2.1.6)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a distinguished name: dotted OID and text."""

    oid: str
    value: str


@dataclass(frozen=True, slots=True)
class AlternativeName:
    """A subject alternative name. `type` is dns_name, ip_address, email, uri, upn, or `other:` and what it is.

    `value` is text, in canonical form where `type` has one; a name of another kind keeps its DER, in hex, so that the
    policy can refuse it by name instead of losing it (a kind that nobody validated must never pass through).
    """

    type: str
    value: str
