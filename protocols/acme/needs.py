"""Everything that ACME can make this server do. A closed list: `AtHand`, and the needs."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from protocols.acme.states import Account, Authorization, Identifier, Order
from protocols.exchange import Need
from protocols.pkix.csr import CertificationRequest


class AtHand(Protocol):
    """What the host does at once, out of its own memory. Each signed request asks for both: as needs they would take
    longer on their way than the answer does.
    """

    def spend(self, nonce: str) -> bool:
        """Spend an anti-replay nonce. True once for each that this server made and that has not aged out."""

    def known_account(self, account_id: str) -> Account | None:
        """What `FindAccount` told a moment ago, where that is remembered."""


class FindAccount(Need[Account | None], msgspec.Struct, frozen=True):
    """The account with this id, of this directory's pair."""

    id: str


class FindAccountByKey(Need[Account | None], msgspec.Struct, frozen=True):
    """The account with this key thumbprint, of this directory's pair."""

    thumbprint: str


class CreateAccount(Need[tuple[Account, bool]], msgspec.Struct, frozen=True):
    """Create an account for a key, or find the one that has it; the flag says whether it is new (A32)."""

    jwk: bytes
    thumbprint: str
    contact: tuple[str, ...]


class UpdateAccount(Need[Account], msgspec.Struct, frozen=True):
    """Change an account's contacts (None keeps them), or deactivate it with its pending work (A34, A36)."""

    account_id: str
    contact: tuple[str, ...] | None
    deactivate: bool


class CreateOrder(Need[Order], msgspec.Struct, frozen=True):
    """Judge the names and create an order with its authorizations. Refused: POLICY, RATE_LIMITED, BUSY."""

    account: Account
    identifiers: tuple[Identifier, ...]
    not_before: datetime | None
    not_after: datetime | None


class FindOrder(Need[Order | None], msgspec.Struct, frozen=True):
    """The order with this id, of this directory's pair, its status as of now (`ready` as soon as it is).

    To claim it, what was ready a moment ago may be given as it was: `Finalize` is refused where it no longer is.
    """

    id: str
    claiming: bool = False


class ListOrders(Need[tuple[tuple[str, ...], str | None]], msgspec.Struct, frozen=True):
    """One page of the ids of an account's orders that are neither invalid nor expired, and the next cursor."""

    account_id: str
    cursor: str | None


class FindAuthorization(Need[Authorization | None], msgspec.Struct, frozen=True):
    """The authorization with this id, of this directory's pair.

    To begin its validation, it may be given as it was a moment ago: `BeginValidation` tells what has become of it.
    """

    id: str
    beginning: bool = False


class DeactivateAuthorization(Need[Authorization], msgspec.Struct, frozen=True):
    """Deactivate an authorization and invalidate the orders that stand on it (A59)."""

    id: str


class BeginValidation(Need[Authorization], msgspec.Struct, frozen=True):
    """Start validating a challenge, once; wait a moment for the outcome, and give the authorization as it then is."""

    account: Account
    authorization: Authorization
    challenge_id: str


class Finalize(Need[Order], msgspec.Struct, frozen=True):
    """Issue for an order that is ready, at most once (A82), and give the order as it then is.

    Refused: POLICY, BAD_KEY, BAD_CSR, CONFLICT (not ready), BUSY, UNAVAILABLE. A refused CSR leaves the order ready.
    """

    account: Account
    order: Order
    csr: CertificationRequest


class ReadChain(Need[tuple[bytes, ...] | None], msgspec.Struct, frozen=True):
    """A certificate of this account, DER, and the chain below the root; None if there is none that it owns."""

    account_id: str
    certificate_id: str
