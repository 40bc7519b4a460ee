"""Revocation: why a certificate is no longer to be trusted, and what is known of a serial. No lookup here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final


@unique
class RevocationReason(StrEnum):
    """RFC 5280, 5.3.1, in the names that it gives them and that the REST API takes."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    REMOVE_FROM_CRL = "removeFromCRL"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"

    @property
    def code(self) -> int:
        """The value of CRLReason."""
        return _CODES[self]


_CODES: Final[dict[RevocationReason, int]] = {
    RevocationReason.UNSPECIFIED: 0,
    RevocationReason.KEY_COMPROMISE: 1,
    RevocationReason.CA_COMPROMISE: 2,
    RevocationReason.AFFILIATION_CHANGED: 3,
    RevocationReason.SUPERSEDED: 4,
    RevocationReason.CESSATION_OF_OPERATION: 5,
    RevocationReason.CERTIFICATE_HOLD: 6,
    RevocationReason.REMOVE_FROM_CRL: 8,
    RevocationReason.PRIVILEGE_WITHDRAWN: 9,
    RevocationReason.AA_COMPROMISE: 10,
}
_REASONS: Final = {code: reason for reason, code in _CODES.items()}


def reason_of(code: int) -> RevocationReason:
    """The reason with this value of CRLReason. Raises KeyError: 7 is not used, and above 10 there is none."""
    return _REASONS[code]


@unique
class SerialKind(StrEnum):
    """What a relying party may be told of a serial. What is reserved or burnt may exist, and is not `good`."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SerialState:
    """What is known of a serial of an issuer; time and reason where it is revoked."""

    kind: SerialKind
    revoked_at: datetime | None = None
    reason: RevocationReason | None = None


GOOD: Final = SerialState(SerialKind.GOOD)
UNKNOWN: Final = SerialState(SerialKind.UNKNOWN)


@unique
class Change(StrEnum):
    """What asking for a revocation comes to."""

    NONE = "none"  # it is so already
    REVOKE = "revoke"
    RELEASE = "release"
    CONFLICT = "conflict"


def change(before: RevocationReason | None, asked: RevocationReason) -> Change:
    """What `asked` does to a certificate that is revoked for `before`; None: it is good.

    A hold ends in either way. Any other revocation is for good; its reason changes to keyCompromise alone, which says
    that signatures from before may be forged (RFC 5280, 5.2.4: lists are made for a reason that changes).
    """
    if asked is RevocationReason.REMOVE_FROM_CRL:
        return Change.RELEASE if before is RevocationReason.CERTIFICATE_HOLD else Change.CONFLICT
    if before is asked:
        return Change.NONE
    if before in _CHANGEABLE or asked is RevocationReason.KEY_COMPROMISE:
        return Change.REVOKE
    return Change.CONFLICT


_CHANGEABLE: Final = (None, RevocationReason.CERTIFICATE_HOLD)
