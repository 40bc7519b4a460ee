"""Accounts (RFC 8555, 7.3): create, find, read, update, deactivate, and list their orders.

An account is its key: nothing here takes a name, an address or an id from a payload as proof of who is asking.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from protocols.acme.failures import Failure, foreign
from protocols.acme.messages import JSON, AccountUpdate, NewAccount, OrderList, Site, account_body, encode
from protocols.acme.needs import CreateAccount, FindAccountByKey, ListOrders, UpdateAccount
from protocols.acme.operations import signed
from protocols.acme.states import Account, AccountStatus
from protocols.exchange import Exchange, Reply, ask
from protocols.pkix.names import canonical_dns

_CONTACTS: Final = 10
_CONTACT_LENGTH: Final = 320  # RFC 5321, 4.5.3.1: 64 for the local part, 255 for the domain, and the sign between

# RFC 6068 would allow lists and header fields; RFC 8555, 7.3 forbids both. No white space, quotes or brackets either:
# what is mailed to one day must be one plain address.
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$&'*+/=^_`{|}~.-]{1,64}@([A-Za-z0-9.-]{1,255})")


def create(site: Site, by: signed.ByKey) -> Exchange[Reply]:
    """NewAccount (RFC 8555, 7.3): 201 for a new account, 200 for the one that has this key already.

    Raises:
        Failure: accountDoesNotExist, userActionRequired, externalAccountRequired, unsupportedContact, invalidContact.
        Refused: what `CreateAccount` may be refused for.
    """
    wish = signed.payload(by.payload, NewAccount)
    account = yield from ask(FindAccountByKey(by.key.thumbprint))
    if account is not None:
        return _found(site, account)
    if wish.only_return_existing:
        # A31: nothing else is demanded of a client that only looks.
        raise Failure("accountDoesNotExist", "There is no account with this key.")
    _agree(site, wish)
    _bind(site, wish)
    contact = _contacts(wish.contact or ())
    account, new = yield from ask(CreateAccount(by.key.canonical, by.key.thumbprint, contact))
    if not new:
        return _found(site, account)
    return Reply(201, account_body(site, account), JSON, _headers(site, account))


def operate(site: Site, by: signed.ByAccount, account_id: str) -> Exchange[Reply]:
    """An account read by its owner, updated (7.3.2) or deactivated (7.3.6). A status of another kind is ignored (A34).

    Raises:
        Failure: unauthorized for another's account, unsupportedContact, invalidContact.
    """
    account = _own(by, account_id)
    if by.payload:
        wish = signed.payload(by.payload, AccountUpdate)
        contact = None if wish.contact is None else _contacts(wish.contact)
        deactivate = wish.status == AccountStatus.DEACTIVATED
        if deactivate or contact is not None:
            account = yield from ask(UpdateAccount(account.id, contact, deactivate))
    return Reply(200, account_body(site, account), JSON, (site.index,))


def orders(site: Site, by: signed.ByAccount, account_id: str, cursor: str | None) -> Exchange[Reply]:
    """One page of an account's orders (RFC 8555, 7.1.2.1).

    Raises:
        Failure: unauthorized for another's account.
    """
    account = _own(by, account_id)
    signed.expect_empty(by.payload)
    ids, following = yield from ask(ListOrders(account.id, cursor))
    body = encode(OrderList(tuple([site.order(each) for each in ids])))
    if following is None:
        return Reply(200, body, JSON, (site.index,))
    more = ("Link", f'<{site.account(account.id)}/orders/{following}>;rel="next"')
    return Reply(200, body, JSON, (site.index, more))


def _own(by: signed.ByAccount, account_id: str) -> Account:
    if account_id != by.account.id:
        # A41: said of every other id, so that nobody learns which accounts exist.
        raise foreign("account")
    return by.account


def _found(site: Site, account: Account) -> Reply:
    """The account that has the key already: unchanged, whatever the payload says (A30)."""
    if account.status is not AccountStatus.VALID:
        raise Failure("unauthorized", f"The account with this key is {account.status}.")
    return Reply(200, account_body(site, account), JSON, _headers(site, account))


def _headers(site: Site, account: Account) -> tuple[tuple[str, str], ...]:
    return (("Location", site.account(account.id)), site.index, *_terms(site))


def _terms(site: Site) -> tuple[tuple[str, str], ...]:
    if site.terms_of_service is None:
        return ()
    return (("Link", f'<{site.terms_of_service}>;rel="terms-of-service"'),)


def _agree(site: Site, wish: NewAccount) -> None:
    """A35."""
    if site.terms_of_service is not None and not wish.terms_of_service_agreed:
        raise Failure(
            "userActionRequired",
            f"Read the terms of service, {site.terms_of_service}, and agree to them (termsOfServiceAgreed).",
            instance=site.terms_of_service,
            headers=_terms(site),
        )


def _bind(site: Site, wish: NewAccount) -> None:
    """A binding is never accepted without a check of its MAC, and there is nobody yet who could check it."""
    if site.external_account_required:
        raise Failure(
            "externalAccountRequired", "New accounts must be bound to an external account; ask for your account's key."
        )
    if wish.external_account_binding is not None:
        raise Failure("malformed", "External account binding is not offered here; register without it.")


def _contacts(contacts: Sequence[str]) -> tuple[str, ...]:
    """A33."""
    if len(contacts) > _CONTACTS:
        raise Failure("invalidContact", f"There are {len(contacts)} contacts; at most {_CONTACTS} are kept.")
    return tuple(_contact(each) for each in contacts)


def _contact(contact: str) -> str:
    scheme, _, address = contact.partition(":")
    if scheme.lower() != "mailto":
        raise Failure("unsupportedContact", "A contact must be a mailto: URL (RFC 8555, 7.3).")
    found = _ADDRESS.fullmatch(address) if len(address) <= _CONTACT_LENGTH else None
    if found is None:
        raise Failure("invalidContact", "A contact must be mailto: with one plain address and no header fields.")
    try:
        canonical_dns(found[1])
    except ValueError as fault:
        raise Failure("invalidContact", f"The domain of a contact's address {fault}.") from None
    return f"mailto:{address}"
