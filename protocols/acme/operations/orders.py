"""Orders (RFC 8555, 7.4): create and read. Whether the names may be certified is the host's to say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec

from protocols.acme.failures import Failure, foreign, missing
from protocols.acme.messages import JSON, ONE_NAME, NewOrder, Site, order_body
from protocols.acme.needs import CreateOrder, FindOrder
from protocols.acme.operations import identifiers, signed
from protocols.acme.states import Account, Order, OrderStatus
from protocols.exchange import Exchange, Reply, ask

# Seconds. certbot asks every second whatever it is told; the others wait as long as this.
RETRY_AFTER: Final = "1"

_PROCESSING: Final = OrderStatus.PROCESSING

_Time = Annotated[datetime, msgspec.Meta(tz=True)]

# What Go's acmez writes for a time that was not given: its language's zero, or nothing.
_NO_TIME: Final = frozenset({"", "0001-01-01T00:00:00Z"})


def create(site: Site, by: signed.ByAccount, now: datetime) -> Exchange[Reply]:
    """newOrder: 201 and the order's URL (A42).

    Raises:
        Failure: malformed, and the identifiers' own.
        Refused: what `CreateOrder` may be refused for.
    """
    one = ONE_NAME.exact(by.payload)
    wish = NewOrder(one.identifiers) if one is not None else signed.payload(by.payload, NewOrder)
    names = identifiers.accept(wish.identifiers, wildcards=site.wildcards)
    not_before, not_after = _time(wish.not_before, "notBefore"), _time(wish.not_after, "notAfter")
    if not_after is not None and not_after <= max(now, not_before or now):
        raise Failure("malformed", "The order's notAfter is in the past or not after its notBefore.")
    order = yield from ask(CreateOrder(by.account, names, not_before, not_after))
    return answer(site, order, status=201)


def read(site: Site, by: signed.ByAccount, order_id: str) -> Exchange[Reply]:
    """An order as it is now.

    Raises:
        Failure: 404 for an unknown one, unauthorized for another's.
    """
    order = yield from find(by.account, order_id)
    signed.expect_empty(by.payload)
    return answer(site, order)


def find(account: Account, order_id: str, *, claiming: bool = False) -> Exchange[Order]:
    """An order of this account (A52, A53); `claiming` as in the need."""
    # Without `ask`, which takes a generator of its own: this is what nearly every request needs.
    order: Order | None = yield FindOrder(order_id, claiming)
    if order is None:
        raise missing("order")
    if order.account_id != account.id:
        raise foreign("order")
    return order


def answer(site: Site, order: Order, *, status: int = 200) -> Reply:
    """An order's answer. Location is on all of them: x/crypto and cert-manager poll the one of finalize's (A54)."""
    headers: tuple[tuple[str, str], ...] = (("Location", site.order(order.id)), site.index)
    if order.status is _PROCESSING:
        headers = (*headers, ("Retry-After", RETRY_AFTER))
    return Reply(status, order_body(site, order), JSON, headers)


def _time(text: str | None, name: str) -> datetime | None:
    """RFC 3339, with its zone."""
    if text is None or text in _NO_TIME:
        return None
    try:
        # In UTC from here on: a moment of the year 0 or 10000 is one that only its offset keeps within the calendar.
        return msgspec.convert(text, _Time).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise Failure("malformed", f"The order's {name} is not a time as RFC 3339 writes it.") from None
