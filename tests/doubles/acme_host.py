"""A host for ACME's exchanges, in memory: accounts, orders, authorizations and certificates as dictionaries."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Mapping

import msgspec

from protocols.acme import needs
from protocols.acme.messages import Site
from protocols.acme.operations import post
from protocols.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    ChallengeType,
    Order,
    OrderStatus,
)
from protocols.exchange import Need, Refused, Reply
from protocols.jose import jwk
from tests.doubles.account_key import AccountKey, account_key
from tests.doubles.play import play

NOW = dt.datetime(2025, 6, 1, 12, 0, 0, 250_000, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=7)
SITE = Site("https://muster.example/acme/demo/tls-server", "pair-1")
JOSE = "application/jose+json"


class AcmeHost:
    """Answers every need. `asked` lists them; `refusals` are thrown instead of an answer, by the need's type.

    `tried` lists the nonces that were to be spent, good and bad; no account is `AtHand` unless it is `known`.
    """

    def __init__(self, site: Site = SITE) -> None:
        self.site = site
        self.accounts: dict[str, Account] = {}
        self.orders: dict[str, Order] = {}
        self.authorizations: dict[str, Authorization] = {}
        self.chains: dict[tuple[str, str], tuple[bytes, ...]] = {}
        self.nonces: set[str] = set()
        self.asked: list[Need[object]] = []
        self.tried: list[str] = []
        self.known: dict[str, Account] = {}
        self.refusals: dict[type[Need[object]], Refused] = {}
        self.pages: dict[str | None, tuple[tuple[str, ...], str | None]] = {}
        self.race: Account | None = None
        self._numbers = itertools.count(1)

    def id(self, kind: str) -> str:
        """A new id."""
        return f"{kind}-{next(self._numbers)}"

    def nonce(self) -> str:
        """A nonce that can be spent once."""
        nonce = f"nonce{next(self._numbers)}00"
        nonce = nonce[: len(nonce) // 4 * 4]
        self.nonces.add(nonce)
        return nonce

    def account(self, key: AccountKey | None = None, status: AccountStatus = AccountStatus.VALID) -> Account:
        """A registered account."""
        key = jwk.parse((key or account_key()).jwk)
        account = Account(self.id("a"), self.site.pair_id, key.canonical, key.thumbprint, status, (), NOW)
        self.accounts[account.id] = account
        return account

    def order(self, account: Account, **fields: object) -> Order:
        """An order, ready unless said otherwise."""
        filled = {"status": OrderStatus.READY, "identifiers": (), "authorization_ids": (), "expires": LATER, **fields}
        order = Order(self.id("o"), account.id, **filled)
        self.orders[order.id] = order
        return order

    def authorization(self, account: Account, identifier: object, **fields: object) -> Authorization:
        """An authorization with two challenges, pending unless said otherwise."""
        filled = {"wildcard": False, "status": AuthorizationStatus.PENDING, "expires": LATER, **fields}
        filled.setdefault("challenges", (self.challenge(), self.challenge()))
        authorization = Authorization(self.id("z"), account.id, identifier, **filled)
        self.authorizations[authorization.id] = authorization
        return authorization

    def challenge(self, **fields: object) -> Challenge:
        """A challenge, pending unless said otherwise."""
        return Challenge(
            self.id("c"), ChallengeType.HTTP_01, "token", fields.pop("status", ChallengeStatus.PENDING), **fields
        )

    def send(self, path: str, body: bytes, media_type: str | None = JOSE) -> Reply:
        """Play one request."""
        return play(post(self.site, path, media_type, body, self, now=NOW), self.answer)

    def spend(self, nonce: str) -> bool:
        """Spend a nonce."""
        self.tried.append(nonce)
        fresh = nonce in self.nonces
        self.nonces.discard(nonce)
        return fresh

    def known_account(self, account_id: str) -> Account | None:
        """An account that was read lately."""
        return self.known.get(account_id)

    def post(
        self,
        path: str,
        payload: object = b"",
        *,
        account: Account | None = None,
        key: AccountKey | None = None,
        header: Mapping[str, object] | None = None,
    ) -> Reply:
        """Sign as an account, or with a bare key where there is none, and send."""
        key = key or account_key()
        who = {"jwk": key.jwk} if account is None else {"kid": self.site.account(account.id)}
        full = {"nonce": self.nonce(), "url": f"{self.site.url}/{path}", **who, **(header or {})}
        octets = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.send(path, key.request({name: value for name, value in full.items() if value is not None}, octets))

    def kinds(self) -> list[str]:
        """The names of the needs so far."""
        return [type(need).__name__ for need in self.asked]

    def answer(self, need: Need[object]) -> object:
        """The answer to one need."""
        self.asked.append(need)
        if type(need) in self.refusals:
            raise self.refusals[type(need)]
        match need:
            case needs.FindAccount(id=account_id):
                return self.accounts.get(account_id)
            case needs.FindAccountByKey(thumbprint):
                return next((each for each in self.accounts.values() if each.thumbprint == thumbprint), None)
            case needs.CreateAccount(key, thumbprint, contact):
                if self.race is not None:
                    return self.race, False
                account = Account(self.id("a"), self.site.pair_id, key, thumbprint, AccountStatus.VALID, contact, NOW)
                self.accounts[account.id] = account
                return account, True
            case needs.UpdateAccount(account_id, contact, deactivate):
                account = self.accounts[account_id]
                if contact is not None:
                    account = msgspec.structs.replace(account, contact=contact)
                if deactivate:
                    account = msgspec.structs.replace(account, status=AccountStatus.DEACTIVATED)
                self.accounts[account_id] = account
                return account
            case needs.CreateOrder(account, identifiers, not_before, not_after):
                ids = tuple(self.authorization(account, each).id for each in identifiers)
                return self.order(
                    account,
                    status=OrderStatus.PENDING,
                    identifiers=identifiers,
                    authorization_ids=ids,
                    not_before=not_before,
                    not_after=not_after,
                )
            case needs.FindOrder(id=order_id):
                return self.orders.get(order_id)
            case needs.ListOrders(_, cursor):
                return self.pages[cursor]
            case needs.FindAuthorization(id=authorization_id):
                return self.authorizations.get(authorization_id)
            case needs.DeactivateAuthorization(id=authorization_id):
                return msgspec.structs.replace(
                    self.authorizations[authorization_id], status=AuthorizationStatus.DEACTIVATED
                )
            case needs.BeginValidation(_, authorization, challenge_id):
                challenges = tuple(
                    msgspec.structs.replace(each, status=ChallengeStatus.PROCESSING)
                    if each.id == challenge_id
                    else each
                    for each in authorization.challenges
                )
                return msgspec.structs.replace(authorization, challenges=challenges)
            case needs.Finalize(_, order, csr):
                order = msgspec.structs.replace(
                    order, status=OrderStatus.VALID, certificate_id="cert-1", csr_hash=csr.sha256
                )
                self.orders[order.id] = order
                return order
            case needs.ReadChain(account_id, certificate_id):
                return self.chains.get((account_id, certificate_id))
            case _:
                raise AssertionError(f"no answer to {need!r}")


def body(reply: Reply) -> dict[str, object]:
    """A JSON body; no member of it, at any depth, is null (A56)."""

    def without_null(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert all(value is not None for _, value in pairs)
        return dict(pairs)

    found: dict[str, object] = json.loads(reply.body, object_pairs_hook=without_null)
    return found


def problem(reply: Reply, type_: str, status: int) -> str:
    """Check a problem document's form (A103) and give its detail."""
    document = body(reply)
    assert reply.media_type == "application/problem+json"
    assert reply.status == status == document["status"]
    assert document["type"] == f"urn:ietf:params:acme:error:{type_}"
    assert "identifier" not in document
    return str(document["detail"])


def headers(reply: Reply, name: str) -> list[str]:
    """All values of one header."""
    return [value for each, value in reply.headers if each == name]
