"""ACME's messages: what a request's payload may say, and the bodies of answers (RFC 8555, 7.1).

Forms only, no decisions. Members that a type does not know are ignored (A26); none is ever written as null (A56).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from protocols.acme.states import (
    Account,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Identifier,
    Order,
    OrderStatus,
    Problem,
)
from protocols.jose.strict import Form

ERROR: Final = "urn:ietf:params:acme:error:"

JSON: Final = "application/json"
"""Exactly so, without a charset: acmez compares it."""

_ENCODER: Final = msgspec.json.Encoder()

# By name: to look a member up in its enumeration takes CPython 3.11 ten times as long.
_VALID: Final = OrderStatus.VALID
_PENDING: Final = AuthorizationStatus.PENDING
_PROCESSING: Final = ChallengeStatus.PROCESSING


@dataclass(frozen=True, slots=True)
class Site:
    """One pair's ACME service.

    `url` is the absolute https prefix of its resources, without a slash at the end; it comes from configuration, never
    from a request (A2). `terms_of_service` and `website` are URLs. `wildcards`: whether a wildcard can be proved here.
    Made of these once, for every request: `accounts`, what all accounts' URLs begin with, and `index`, the header that
    leads back to the directory (A11).
    """

    url: str
    pair_id: str
    terms_of_service: str | None = None
    website: str | None = None
    external_account_required: bool = False
    wildcards: bool = False
    accounts: str = field(init=False)
    index: tuple[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accounts", f"{self.url}/account/")
        object.__setattr__(self, "index", ("Link", f'<{self.url}/directory>;rel="index"'))

    def account(self, account_id: str) -> str:
        """The URL of an account, which is also its key id (RFC 8555, 6.2)."""
        return f"{self.accounts}{account_id}"

    def order(self, order_id: str) -> str:
        """The URL of an order."""
        return f"{self.url}/order/{order_id}"

    def authorization(self, authorization_id: str) -> str:
        """The URL of an authorization."""
        return f"{self.url}/authorization/{authorization_id}"

    def challenge(self, authorization_id: str, challenge_id: str) -> str:
        """The URL of a challenge."""
        return f"{self.url}/challenge/{authorization_id}/{challenge_id}"

    def certificate(self, certificate_id: str) -> str:
        """The URL of a certificate."""
        return f"{self.url}/certificate/{certificate_id}"


# What requests say. Empty and null members are what old acmez sends for those that it does not use.


class NewAccount(msgspec.Struct, rename="camel", frozen=True):
    """RFC 8555, 7.3."""

    contact: list[str] | None = None
    terms_of_service_agreed: bool | None = None
    only_return_existing: bool | None = None
    external_account_binding: dict[str, object] | None = None


class AccountUpdate(msgspec.Struct, frozen=True):
    """RFC 8555, 7.3.2 and 7.3.6."""

    contact: list[str] | None = None
    status: str | None = None


class WireIdentifier(msgspec.Struct, frozen=True):
    """RFC 8555, 7.1.3."""

    type: str
    value: str


class NewOrder(msgspec.Struct, rename="camel", frozen=True):
    """RFC 8555, 7.4."""

    identifiers: Sequence[WireIdentifier]
    not_before: str | None = None
    not_after: str | None = None


class OneName(msgspec.Struct, frozen=True):
    """The commonest `NewOrder`."""

    identifiers: tuple[WireIdentifier]


class Finalization(msgspec.Struct, frozen=True):
    """RFC 8555, 7.4."""

    csr: str


class AuthorizationUpdate(msgspec.Struct, frozen=True):
    """RFC 8555, 7.5.2."""

    status: str


ONE_NAME: Final = Form(OneName, strings=5)
FINALIZATION: Final = Form(Finalization, strings=2)


# What answers say.


class Meta(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """RFC 8555, 7.1.1."""

    terms_of_service: str | None = None
    website: str | None = None
    external_account_required: bool = False


class Directory(msgspec.Struct, rename="camel", frozen=True):
    """RFC 8555, 7.1.1: only what works is advertised (A1)."""

    new_nonce: str
    new_account: str
    new_order: str
    meta: Meta


class AccountBody(msgspec.Struct, frozen=True):
    """RFC 8555, 7.1.2."""

    status: str
    contact: tuple[str, ...]
    orders: str


class OrderList(msgspec.Struct, frozen=True):
    """RFC 8555, 7.1.2.1."""

    orders: tuple[str, ...]


class ProblemBody(msgspec.Struct, frozen=True):
    """RFC 8555, 6.7, over RFC 7807: the members in the order in which people read them."""

    type: str
    detail: str
    status: int
    instance: str | UnsetType = UNSET
    identifier: WireIdentifier | Identifier | UnsetType = UNSET
    algorithms: tuple[str, ...] | UnsetType = UNSET
    subproblems: tuple[ProblemBody, ...] | UnsetType = UNSET


class OrderBody(msgspec.Struct, rename="camel", frozen=True):
    """RFC 8555, 7.1.3."""

    status: str
    expires: datetime
    identifiers: tuple[Identifier, ...]
    authorizations: list[str]
    finalize: str
    not_before: datetime | UnsetType = UNSET
    not_after: datetime | UnsetType = UNSET
    certificate: str | UnsetType = UNSET
    error: ProblemBody | UnsetType = UNSET


class ChallengeBody(msgspec.Struct, frozen=True):
    """RFC 8555, 8. `error` stands last: acme.sh reads type, url and token by pattern, from the left."""

    type: str
    url: str
    token: str
    status: str
    validated: datetime | UnsetType = UNSET
    error: ProblemBody | UnsetType = UNSET


class AuthorizationBody(msgspec.Struct, frozen=True):
    """RFC 8555, 7.1.4. `wildcard` is there only where it is true."""

    identifier: Identifier
    status: str
    expires: datetime
    challenges: tuple[ChallengeBody, ...]
    wildcard: bool | UnsetType = UNSET


def encode(body: msgspec.Struct) -> bytes:
    """A body's JSON."""
    return _ENCODER.encode(body)


def account_body(site: Site, account: Account) -> bytes:
    """The body of an account."""
    return encode(AccountBody(account.status, account.contact, f"{site.account(account.id)}/orders"))


def order_body(site: Site, order: Order) -> bytes:
    """The body of an order. The certificate's URL is shown once the order is valid, not before."""
    certificate_id = order.certificate_id if order.status is _VALID else None
    return encode(
        OrderBody(
            status=order.status,
            expires=_seconds(order.expires),
            identifiers=order.identifiers,
            authorizations=[f"{site.url}/authorization/{each}" for each in order.authorization_ids],
            finalize=f"{site.url}/order/{order.id}/finalize",
            not_before=UNSET if order.not_before is None else _seconds(order.not_before),
            not_after=UNSET if order.not_after is None else _seconds(order.not_after),
            certificate=UNSET if certificate_id is None else site.certificate(certificate_id),
            error=UNSET if order.error is None else problem_body(order.error),
        )
    )


def authorization_body(site: Site, authorization: Authorization) -> bytes:
    """The body of an authorization."""
    return encode(
        AuthorizationBody(
            identifier=authorization.identifier,
            status=authorization.status,
            expires=_seconds(authorization.expires),
            challenges=tuple([_challenge(site, authorization.id, each) for each in authorization.challenges]),
            wildcard=authorization.wildcard or UNSET,
        )
    )


def challenge_body(site: Site, authorization_id: str, challenge: Challenge) -> bytes:
    """The body of a challenge."""
    return encode(_challenge(site, authorization_id, challenge))


def is_validating(authorization: Authorization) -> bool:
    """Whether a client should come back soon to see how a validation ended (A55)."""
    return authorization.status is _PENDING and any(each.status is _PROCESSING for each in authorization.challenges)


def problem_body(problem: Problem) -> ProblemBody:
    """A problem as it stands in an order, in a challenge, or below another problem."""
    return ProblemBody(
        type=ERROR + problem.type,
        detail=problem.detail,
        status=problem.status,
        identifier=UNSET if problem.identifier is None else problem.identifier,
    )


def _challenge(site: Site, authorization_id: str, challenge: Challenge) -> ChallengeBody:
    return ChallengeBody(
        type=challenge.type,
        url=site.challenge(authorization_id, challenge.id),
        token=challenge.token,
        status=challenge.status,
        validated=UNSET if challenge.validated is None else _seconds(challenge.validated),
        error=UNSET if challenge.error is None else problem_body(challenge.error),
    )


def _seconds(time: datetime) -> datetime:
    """Whole seconds: some clients read RFC 3339 without a fraction only."""
    return time.replace(microsecond=0) if time.microsecond else time
