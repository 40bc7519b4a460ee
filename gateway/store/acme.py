"""ACME's records: accounts, orders, authorizations and their challenges. Never here: a wire form, a proof of control.

Every change of state names the state it starts from; what somebody else has moved meanwhile is left as it is. What
has passed its end is read as `invalid` or `expired`, without a write.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from gateway.store.unit import Row, StateConflict, Unit, from_millis, maybe_millis, millis
from protocols.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Identifier,
    IdentifierType,
    Order,
    OrderStatus,
    Problem,
)

_encode = msgspec.json.Encoder().encode
_contacts = msgspec.json.Decoder(tuple[str, ...]).decode
_identifiers = msgspec.json.Decoder(tuple[Identifier, ...]).decode
_ids = msgspec.json.Decoder(tuple[str, ...]).decode
_challenges = msgspec.json.Decoder(tuple[Challenge, ...]).decode
_problem = msgspec.json.Decoder(Problem).decode

_OPEN: Final = frozenset({AuthorizationStatus.PENDING, AuthorizationStatus.VALID})


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A validation that was under way when the gateway stopped."""

    pair_id: str
    account: Account
    authorization: Authorization
    challenge_id: str


def create_account(unit: Unit, account: Account) -> tuple[Account, bool]:
    """Create an account, or find the pair's account with the same key; the flag says whether it is new (A32)."""
    created = unit.run(
        "acme.create_account",
        id=account.id,
        pair_id=account.pair_id,
        thumbprint=account.thumbprint,
        jwk=account.jwk,
        status=account.status.value,
        contact=_text(account.contact),
        at=millis(account.created_at),
    )
    if created:
        return account, True
    found = find_account_by_key(unit, account.pair_id, account.thumbprint)
    if found is None:
        raise StateConflict("an account vanished while it was looked up")
    return found, False


def find_account(unit: Unit, pair_id: str, account_id: str) -> Account | None:
    """The account with this id, of this pair."""
    return _maybe_account(unit.one("acme.find_account", id=account_id, pair_id=pair_id))


def find_account_by_key(unit: Unit, pair_id: str, thumbprint: str) -> Account | None:
    """The pair's account with this key."""
    return _maybe_account(unit.one("acme.find_account_by_key", pair_id=pair_id, thumbprint=thumbprint))


def update_account(
    unit: Unit,
    account_id: str,
    *,
    contact: tuple[str, ...] | None,
    status: AccountStatus | None,
    at: datetime,  # noqa: ARG001, of the signature that all changes of state share
) -> Account:
    """Change an account's contacts (None keeps them), or end it with all its unfinished work (A34, A36).

    Raises:
        StateConflict: there is no such account.
    """
    if contact is not None:
        unit.run("acme.set_contact", id=account_id, contact=_text(contact))
    if status is not None and unit.run("acme.end_account", id=account_id, status=status.value):
        unit.run("acme.end_authorizations", account_id=account_id)
        unit.run("acme.end_orders", account_id=account_id)
    found = _maybe_account(unit.one("acme.account", id=account_id))
    if found is None:
        raise StateConflict("there is no such account")
    return found


def create_order(
    unit: Unit,
    order: Order,
    authorizations: Sequence[Authorization],
    pair_id: str,
    at: datetime,
    *,
    found: Sequence[Authorization] = (),
) -> None:
    """Write an order and those of its authorizations that are new.

    The others were `found` by `reusable_authorizations` in this unit, and stay as they were until its end; any that are
    in neither are looked up.

    The order must be `ready` exactly if all its authorizations are valid.
    """
    known = {each.id: each.status for each in (*authorizations, *found)}
    for authorization in authorizations:
        _create_authorization(unit, authorization, pair_id, at)
    unproved = 0
    for authorization_id in order.authorization_ids:
        status = known.get(authorization_id) or _authorization_now(unit, authorization_id).status
        unproved += status is not AuthorizationStatus.VALID
        unit.run("acme.link", authorization_id=authorization_id, order_id=order.id)
    if (unproved == 0) is not (order.status is OrderStatus.READY):
        raise StateConflict(f"an order of which {unproved} authorizations are not valid cannot be {order.status}")
    unit.run(
        "acme.create_order",
        id=order.id,
        pair_id=pair_id,
        account_id=order.account_id,
        status=order.status.value,
        identifiers=_text(order.identifiers),
        authorization_ids=_text(order.authorization_ids),
        unproved=unproved,
        at=millis(at),
        expires=millis(order.expires),
        not_before=maybe_millis(order.not_before),
        not_after=maybe_millis(order.not_after),
        error=None if order.error is None else _text(order.error),
        certificate_id=order.certificate_id,
        csr_hash=order.csr_hash,
    )


def find_order(unit: Unit, pair_id: str, order_id: str, at: datetime) -> Order | None:
    """The order with this id, of this pair, as it stands at `at`: one that has passed its end unfinished is invalid."""
    row = unit.one("acme.find_order", id=order_id, pair_id=pair_id)
    if row is None:
        return None
    order = _order(row)
    if order.status in (OrderStatus.PENDING, OrderStatus.READY) and order.expires <= at:
        return msgspec.structs.replace(order, status=OrderStatus.INVALID)
    return order


def list_orders(
    unit: Unit, account_id: str, cursor: str | None, limit: int, at: datetime
) -> tuple[tuple[str, ...], str | None]:
    """One page of the ids of an account's orders that are neither invalid nor expired, and the cursor of the next."""
    rows = unit.all("acme.list_orders", account_id=account_id, after=cursor or "", at=millis(at), limit=limit + 1)
    ids = tuple(row.text("id") for row in rows[:limit])
    return ids, ids[-1] if len(rows) > limit else None


def claim_order(unit: Unit, order_id: str, csr_hash: bytes, at: datetime, holder: int | None = None) -> bool:
    """`ready -> processing`, for one caller (A82); false if the order is not ready, or has expired."""
    return unit.run("acme.claim_order", id=order_id, csr_hash=csr_hash, at=millis(at), holder=holder) == 1


def finish_order(unit: Unit, order_id: str, *, certificate_id: str) -> bool:
    """`processing -> valid`; false if it had ended.

    What was issued is issued, also where a release that came too late has made the order ready meanwhile.
    """
    return unit.run("acme.finish_order", id=order_id, certificate_id=certificate_id) == 1


def fail_order(unit: Unit, order_id: str, problem: Problem) -> bool:
    """Make an unfinished order `invalid`, and say why; false if it had ended."""
    return unit.run("acme.fail_order", id=order_id, error=_text(problem)) == 1


def release_order(unit: Unit, order_id: str, holder: int | None = None) -> bool:
    """`processing -> ready`: nothing was issued, and the client may finalize again (A89).

    False if it was not processing, or is claimed by another `holder`: the claim was undone, and theirs came after it.
    """
    return unit.run("acme.release_order", id=order_id, holder=holder) == 1


def find_authorization(unit: Unit, pair_id: str, authorization_id: str, at: datetime) -> Authorization | None:
    """The authorization with this id, of this pair, as it stands at `at`."""
    row = unit.one("acme.find_authorization", id=authorization_id, pair_id=pair_id)
    if row is None:
        return None
    authorization = _authorization(row)
    if authorization.status in _OPEN and authorization.expires <= at:
        return msgspec.structs.replace(authorization, status=AuthorizationStatus.EXPIRED)
    return authorization


def reusable_authorizations(
    unit: Unit, account_id: str, identifiers: Sequence[Identifier], *, since: datetime, at: datetime
) -> list[Authorization]:
    """The account's valid authorizations for `identifiers` (as ordered, with `*.`) that are younger than `since`.

    The youngest for each identifier that has any (A50). A pending one is nobody's proof.
    """
    found = []
    for identifier in identifiers:
        row = unit.one(
            "acme.reusable",
            account_id=account_id,
            type=identifier.type.value,
            value=identifier.value.removeprefix("*."),
            wildcard=int(identifier.value.startswith("*.")),
            since=millis(since),
            at=millis(at),
        )
        if row is not None:
            found.append(_authorization(row))
    return found


def deactivate_authorization(unit: Unit, authorization_id: str, at: datetime) -> Authorization | None:
    """Deactivate an authorization and invalidate the orders that stand on it (A59); None if it is not open any more."""
    if unit.run("acme.deactivate_authorization", id=authorization_id, at=millis(at)) != 1:
        return None
    unit.run("acme.fail_orders", authorization_id=authorization_id, error=None)
    return _authorization_now(unit, authorization_id)


def begin_challenge(unit: Unit, authorization_id: str, challenge_id: str) -> bool:
    """`pending -> processing`, for one caller (A61); false if the challenge has begun or its authorization ended."""
    row = _authorization_row(unit, authorization_id)
    before = _authorization(row)
    begun = tuple(
        msgspec.structs.replace(each, status=ChallengeStatus.PROCESSING)
        if each.id == challenge_id and each.status is ChallengeStatus.PENDING
        else each
        for each in before.challenges
    )
    return begun != before.challenges and _settle(
        unit, row.text("challenges"), msgspec.structs.replace(before, challenges=begun)
    )


def finish_challenge(
    unit: Unit, authorization_id: str, challenge_id: str, *, error: Problem | None, at: datetime
) -> Authorization:
    """End a challenge that is processing, and move its authorization and the orders that stand on it, in one go.

    Without `error` the orders that lack nothing else become ready; the siblings stay pending (A63). With one,
    challenge, authorization and orders are invalid (A62). Gives the authorization as it then is; where it had
    ended already, or the challenge had, nothing changes.
    """
    row = _authorization_row(unit, authorization_id)
    before = _authorization(row)
    if before.status is not AuthorizationStatus.PENDING:
        return before
    after = _ended(before, challenge_id, {ChallengeStatus.PROCESSING}, error, at)
    if after is None or not _settle(unit, row.text("challenges"), after):
        return _authorization_now(unit, authorization_id)
    _move_orders(unit, after, error)
    return after


def settle_challenge(
    unit: Unit, seen: Authorization, challenge_id: str, *, error: Problem | None, at: datetime
) -> Authorization:
    """`begin_challenge` and `finish_challenge` in one. Where all is as it was `seen` nothing is read again.

    A validation that is over at once has the authorization from a moment ago: to read it twice more, and to write it
    as processing in between for nobody, was half of what its unit cost.
    """
    if seen.status is AuthorizationStatus.PENDING:
        after = _ended(seen, challenge_id, {ChallengeStatus.PENDING, ChallengeStatus.PROCESSING}, error, at)
        if after is not None and _settle(unit, _text(seen.challenges), after):
            _move_orders(unit, after, error)
            return after
    begin_challenge(unit, seen.id, challenge_id)
    return finish_challenge(unit, seen.id, challenge_id, error=error, at=at)


def _ended(
    before: Authorization,
    challenge_id: str,
    of: Collection[ChallengeStatus],
    error: Problem | None,
    at: datetime,
) -> Authorization | None:
    """The authorization with that challenge ended; None where it has none by this id and `of` these states."""
    valid = error is None
    status = ChallengeStatus.VALID if valid else ChallengeStatus.INVALID
    challenges = tuple(
        msgspec.structs.replace(each, status=status, validated=at if valid else None, error=error)
        if each.id == challenge_id and each.status in of
        else each
        for each in before.challenges
    )
    if challenges == before.challenges:
        return None
    return msgspec.structs.replace(
        before,
        status=AuthorizationStatus.VALID if valid else AuthorizationStatus.INVALID,
        challenges=challenges,
    )


def _move_orders(unit: Unit, ended: Authorization, error: Problem | None) -> None:
    if error is None:
        unit.run("acme.prove_orders", authorization_id=ended.id)
    else:
        unit.run("acme.fail_orders", authorization_id=ended.id, error=_text(error))


def unfinished_challenges(unit: Unit, at: datetime) -> list[Unfinished]:
    """Validations that were under way when the gateway stopped, of accounts that still count."""
    found = []
    for row in unit.all("acme.unfinished", at=millis(at)):
        account = _maybe_account(unit.one("acme.account", id=row.text("account_id")))
        if account is None or account.status is not AccountStatus.VALID:
            continue
        authorization = _authorization(row)
        found += [
            Unfinished(row.text("pair_id"), account, authorization, challenge.id)
            for challenge in authorization.challenges
            if challenge.status is ChallengeStatus.PROCESSING
        ]
    return found


def collect(unit: Unit, before: datetime, *, limit: int = 500) -> int:
    """Delete orders and authorizations that ended before `before` (A115); how many rows went.

    At most `limit` of each, so that one unit never holds the store for long: call again while it is not 0.
    """
    end = millis(before)
    orders = unit.run("acme.collect_orders", before=end, limit=limit)
    unit.run("acme.collect_links", before=end, limit=limit)
    return orders + unit.run("acme.collect_authorizations", before=end, limit=limit)


def _create_authorization(unit: Unit, authorization: Authorization, pair_id: str, at: datetime) -> None:
    unit.run(
        "acme.create_authorization",
        id=authorization.id,
        pair_id=pair_id,
        account_id=authorization.account_id,
        status=authorization.status.value,
        identifier_type=authorization.identifier.type.value,
        identifier_value=authorization.identifier.value,
        wildcard=int(authorization.wildcard),
        at=millis(at),
        expires=millis(authorization.expires),
        challenges=_text(authorization.challenges),
        validating=_validating(authorization),
    )


def _settle(unit: Unit, before: str, after: Authorization) -> bool:
    """Compare and set: the challenges must still be stored as they were read, to the letter."""
    return (
        unit.run(
            "acme.settle",
            id=after.id,
            before=before,
            status=after.status.value,
            challenges=_text(after.challenges),
            validating=_validating(after),
        )
        == 1
    )


def _validating(authorization: Authorization) -> int:
    pending = authorization.status is AuthorizationStatus.PENDING
    return int(pending and any(each.status is ChallengeStatus.PROCESSING for each in authorization.challenges))


def _authorization_row(unit: Unit, authorization_id: str) -> Row:
    row = unit.one("acme.authorization", id=authorization_id)
    if row is None:
        raise StateConflict("there is no such authorization")
    return row


def _authorization_now(unit: Unit, authorization_id: str) -> Authorization:
    return _authorization(_authorization_row(unit, authorization_id))


def _maybe_account(row: Row | None) -> Account | None:
    if row is None:
        return None
    return Account(
        id=row.text("id"),
        pair_id=row.text("pair_id"),
        jwk=row.blob("jwk"),
        thumbprint=row.text("thumbprint"),
        status=AccountStatus(row.text("status")),
        contact=_contacts(row.text("contact")),
        created_at=row.time("created_at"),
    )


class _OrderRow(msgspec.Struct, frozen=True, array_like=True):
    """The columns of `acme.find_order`, checked and told in one call: one by one they took as long as the query."""

    id: str
    account_id: str
    status: OrderStatus
    identifiers: str
    authorization_ids: str
    expires: int
    not_before: int | None
    not_after: int | None
    error: str | None
    certificate_id: str | None
    csr_hash: bytes | None


def _order(row: Row) -> Order:
    told = msgspec.convert(row.values, _OrderRow)
    return Order(
        id=told.id,
        account_id=told.account_id,
        status=told.status,
        identifiers=_identifiers(told.identifiers),
        authorization_ids=_ids(told.authorization_ids),
        expires=from_millis(told.expires),
        not_before=None if told.not_before is None else from_millis(told.not_before),
        not_after=None if told.not_after is None else from_millis(told.not_after),
        error=None if told.error is None else _problem(told.error),
        certificate_id=told.certificate_id,
        csr_hash=told.csr_hash,
    )


class _AuthorizationRow(msgspec.Struct, frozen=True, array_like=True):
    """The columns that all queries of authorizations begin with."""

    id: str
    account_id: str
    identifier_type: IdentifierType
    identifier_value: str
    wildcard: int
    status: AuthorizationStatus
    expires: int
    challenges: str


def _authorization(row: Row) -> Authorization:
    told = msgspec.convert(row.values, _AuthorizationRow)
    return Authorization(
        id=told.id,
        account_id=told.account_id,
        identifier=Identifier(told.identifier_type, told.identifier_value),
        wildcard=told.wildcard == 1,
        status=told.status,
        expires=from_millis(told.expires),
        challenges=_challenges(told.challenges),
    )


def _text(value: object) -> str:
    return _encode(value).decode()
