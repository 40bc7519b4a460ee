"""ACME's records and their states (RFC 8555, 7.1.6), as data.

The tables are the RFC's pictures: what is not listed cannot happen. The same names stand in the store's CHECKs.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum, unique
from typing import Final, TypeVar

import msgspec

S = TypeVar("S", bound=StrEnum)


@unique
class AccountStatus(StrEnum):
    """RFC 8555, 7.1.2."""

    VALID = "valid"
    DEACTIVATED = "deactivated"
    REVOKED = "revoked"


@unique
class OrderStatus(StrEnum):
    """RFC 8555, 7.1.3."""

    PENDING = "pending"
    READY = "ready"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


@unique
class AuthorizationStatus(StrEnum):
    """RFC 8555, 7.1.4."""

    PENDING = "pending"
    VALID = "valid"
    INVALID = "invalid"
    DEACTIVATED = "deactivated"
    EXPIRED = "expired"
    REVOKED = "revoked"


@unique
class ChallengeStatus(StrEnum):
    """RFC 8555, 8."""

    PENDING = "pending"
    PROCESSING = "processing"
    VALID = "valid"
    INVALID = "invalid"


@unique
class ChallengeType(StrEnum):
    """Challenges that this server offers."""

    HTTP_01 = "http-01"


@unique
class IdentifierType(StrEnum):
    """RFC 8555, 7.1.4 and RFC 8738."""

    DNS = "dns"
    IP = "ip"


class Identifier(msgspec.Struct, frozen=True):
    """What is to be certified.

    A DNS value is lower-case A-labels, maybe with a leading `*.`; an IP value is as in RFC 5952.
    """

    type: IdentifierType
    value: str


class Problem(msgspec.Struct, frozen=True):
    """An error kept with an order or a challenge. `type` is the part after `urn:ietf:params:acme:error:`."""

    type: str
    detail: str
    status: int
    identifier: Identifier | None = None


class Account(msgspec.Struct, frozen=True):
    """An account. `jwk` is the canonical JSON of RFC 7638; `thumbprint` its SHA-256, base64url."""

    id: str
    pair_id: str
    jwk: bytes
    thumbprint: str
    status: AccountStatus
    contact: tuple[str, ...]
    created_at: datetime


class Challenge(msgspec.Struct, frozen=True):
    """One way to prove control of an authorization's identifier."""

    id: str
    type: ChallengeType
    token: str
    status: ChallengeStatus
    validated: datetime | None = None
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True):
    """An account's right to an identifier. `identifier` never has the `*.`; `wildcard` says that it was asked for."""

    id: str
    account_id: str
    identifier: Identifier
    wildcard: bool
    status: AuthorizationStatus
    expires: datetime
    challenges: tuple[Challenge, ...]


class Order(msgspec.Struct, frozen=True):
    """An order. `csr_hash` is set by the finalize that was accepted; `certificate_id` once issued."""

    id: str
    account_id: str
    status: OrderStatus
    identifiers: tuple[Identifier, ...]
    authorization_ids: tuple[str, ...]
    expires: datetime
    not_before: datetime | None = None
    not_after: datetime | None = None
    error: Problem | None = None
    certificate_id: str | None = None
    csr_hash: bytes | None = None


ORDER_TRANSITIONS: Final[Mapping[OrderStatus, frozenset[OrderStatus]]] = {
    OrderStatus.PENDING: frozenset({OrderStatus.READY, OrderStatus.INVALID}),
    OrderStatus.READY: frozenset({OrderStatus.PROCESSING, OrderStatus.INVALID}),
    OrderStatus.PROCESSING: frozenset({OrderStatus.VALID, OrderStatus.INVALID, OrderStatus.READY}),
    OrderStatus.VALID: frozenset(),
    OrderStatus.INVALID: frozenset(),
}
"""`processing -> ready` is ours, not the RFC's: the signer was busy or gone, nothing was issued, and the client may
finalize again (A89: a passing fault is never made final)."""

AUTHORIZATION_TRANSITIONS: Final[Mapping[AuthorizationStatus, frozenset[AuthorizationStatus]]] = {
    AuthorizationStatus.PENDING: frozenset(
        {
            AuthorizationStatus.VALID,
            AuthorizationStatus.INVALID,
            AuthorizationStatus.DEACTIVATED,
            AuthorizationStatus.EXPIRED,
        }
    ),
    AuthorizationStatus.VALID: frozenset(
        {AuthorizationStatus.DEACTIVATED, AuthorizationStatus.EXPIRED, AuthorizationStatus.REVOKED}
    ),
    AuthorizationStatus.INVALID: frozenset(),
    AuthorizationStatus.DEACTIVATED: frozenset(),
    AuthorizationStatus.EXPIRED: frozenset(),
    AuthorizationStatus.REVOKED: frozenset(),
}

CHALLENGE_TRANSITIONS: Final[Mapping[ChallengeStatus, frozenset[ChallengeStatus]]] = {
    ChallengeStatus.PENDING: frozenset({ChallengeStatus.PROCESSING}),
    ChallengeStatus.PROCESSING: frozenset({ChallengeStatus.VALID, ChallengeStatus.INVALID}),
    ChallengeStatus.VALID: frozenset(),
    ChallengeStatus.INVALID: frozenset(),
}

ACCOUNT_TRANSITIONS: Final[Mapping[AccountStatus, frozenset[AccountStatus]]] = {
    AccountStatus.VALID: frozenset({AccountStatus.DEACTIVATED, AccountStatus.REVOKED}),
    AccountStatus.DEACTIVATED: frozenset(),
    AccountStatus.REVOKED: frozenset(),
}


def advance(table: Mapping[S, frozenset[S]], before: S, after: S) -> S:
    """The next status, where the table allows it.

    Raises:
        ValueError: it does not; a bug of the caller's, who asks the table before he promises a peer anything.
    """
    if after not in table[before]:
        raise ValueError(f"what is {before} cannot become {after}")
    return after
